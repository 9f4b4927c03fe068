//! The objects of a directory, read anew where files changed.
//!
//! All of it is plain calls with `now` passed in; [`super::watch`] decides when to call.

mod kept;

use std::collections::{BTreeMap, HashMap};
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Instant;

use self::kept::Kept;
use super::document::{self, Contents};
use super::listing::{self, Listing, Stamp};
use super::touch::{Touch, Unrest};
use super::{Batch, Event};
use crate::object::{Entry, Key};
use crate::problem::{Cause, Fault, Origin, Problem};

/// The largest file that is read, in bytes.
const LARGEST_FILE: u64 = 16 << 20;

/// A directory and what it said last.
#[derive(Debug)]
pub struct Directory {
    root: PathBuf,
    /// For the next start.
    kept: Option<Kept>,
    files: BTreeMap<PathBuf, File>,
    /// Files that differ from what was read of them.
    unrest: HashMap<PathBuf, Unrest>,
    /// What is in force, and the file that it comes from: of two with the same object, the one
    /// that was there first.
    objects: BTreeMap<Key, (PathBuf, Arc<Entry>)>,
    /// The problems that the last batch told of.
    told: Vec<Problem>,
    /// Whether [`Event::Synced`] has been told.
    synced: bool,
}

/// One file as it was read last.
#[derive(Debug, Default)]
struct File {
    stamp: Option<Stamp>,
    /// Its objects, with the last good state of those that are broken now.
    entries: BTreeMap<Key, Arc<Entry>>,
    problems: Vec<Problem>,
}

/// What a look at the directory gave.
#[derive(Debug)]
pub struct Scan {
    /// The changes and problems, when there is something to tell.
    pub batch: Option<Batch>,
    /// When to look again, because a file was still changing.
    pub again_at: Option<Instant>,
}

impl Directory {
    /// A directory of which nothing has been read yet.
    pub fn new(root: impl Into<PathBuf>) -> Self {
        Self {
            root: root.into(),
            kept: None,
            files: BTreeMap::new(),
            unrest: HashMap::new(),
            objects: BTreeMap::new(),
            told: Vec::new(),
            synced: false,
        }
    }

    /// Keeps what is good in this state directory, and takes from there what is broken at the start.
    #[must_use]
    pub fn kept_in(self, state_dir: &Path) -> Self {
        Self { kept: Some(Kept::new(state_dir)), ..self }
    }

    /// Where it is.
    pub fn root(&self) -> &Path {
        &self.root
    }

    /// The file system told something of a file; the path is relative to the root.
    pub(crate) fn touched(&mut self, path: &Path, touch: Touch, now: Instant) {
        let unrest = self.unrest.entry(path.into()).or_insert_with(|| Unrest::new(now));
        unrest.touch(touch, now);
    }

    /// Looks at all files and reads those that have changed and come to rest.
    ///
    /// The first look reads everything at once: nothing is in force yet that half a file could
    /// harm, and what is still being written is read again when it is done.
    pub fn scan(&mut self, now: Instant) -> Scan {
        let listing = listing::list(&self.root);
        let mut again_at = None;
        for (path, stamp) in self.changed(&listing, now) {
            let Some(deadline) = self.reload(&path, stamp, now) else { continue };
            again_at = Some(again_at.map_or(deadline, |at: Instant| at.min(deadline)));
        }
        let first = !std::mem::replace(&mut self.synced, true);
        let mut events = self.settle();
        if first {
            events.push(Event::Synced);
            self.forget_the_gone(&listing);
        }
        let problems = self.problems(&listing);
        let news = !events.is_empty() || problems != self.told;
        self.told.clone_from(&problems);
        Scan { batch: news.then_some(Batch { events, problems }), again_at }
    }

    /// The files that are not, or may not be, as they were read; sorted, so that of two files
    /// with the same object that come together the first by path wins.
    fn changed(&mut self, listing: &Listing, now: Instant) -> Vec<(PathBuf, Option<Stamp>)> {
        let mut changed: BTreeMap<PathBuf, Option<Stamp>> = BTreeMap::new();
        for (path, stamp) in &listing.files {
            let same = self.files.get(path).is_some_and(|file| file.stamp == Some(*stamp));
            if !same || self.unrest.contains_key(path) {
                changed.insert(path.clone(), Some(*stamp));
            }
        }
        for path in self.files.keys().filter(|path| !listing.files.contains_key(*path)) {
            if !listing.is_unknown(path) {
                changed.insert(path.clone(), None);
            }
        }
        self.unrest.retain(|path, _| changed.contains_key(path));
        for (path, stamp) in &changed {
            let unrest = self.unrest.entry(path.clone());
            unrest.or_insert_with(|| Unrest::new(now)).seen(*stamp, now);
        }
        changed.into_iter().collect()
    }

    /// Reads one changed file, or says when to try again.
    fn reload(&mut self, path: &Path, stamp: Option<Stamp>, now: Instant) -> Option<Instant> {
        let unrest = *self.unrest.get(path)?;
        if self.synced && unrest.readable_at() > now {
            return Some(unrest.readable_at());
        }
        let (file, good) = match self.read(path, stamp) {
            Ok(Some(read)) => read,
            Ok(None) => return Some(unrest.readable_at().max(now)),
            Err(message) => {
                self.unreadable(path, message);
                return None;
            }
        };
        let before = self.files.get(path);
        let lost =
            before.is_some_and(|f| f.entries.keys().any(|key| !file.entries.contains_key(key)));
        if self.synced && lost && unrest.believed_at() > now {
            return Some(unrest.believed_at());
        }
        self.unrest.remove(path);
        match stamp {
            Some(_) => self.files.insert(path.into(), file),
            None => self.files.remove(path),
        };
        match (&self.kept, good) {
            (Some(kept), Some(good)) => kept.keep(path, &good),
            (Some(kept), None) if stamp.is_none() => kept.forget(path),
            _ => {}
        }
        None
    }

    /// Keeps what the file said, with this problem. Without a stamp it is tried again and again.
    fn unreadable(&mut self, path: &Path, message: String) {
        self.unrest.remove(path);
        let origin = Origin::of_file(&*path.to_string_lossy(), 0);
        let recalled = || Self::recalled(self.kept.as_ref(), path).unwrap_or_default();
        let file = self.files.entry(path.into()).or_insert_with(recalled);
        file.stamp = None;
        file.problems = vec![Problem::of_file(Cause::Unreadable, origin, message)];
    }

    /// The file's new state, and its text if all of it is good; `None` when it changed while it was
    /// read.
    ///
    /// # Errors
    /// Why it cannot be read.
    fn read(
        &self,
        path: &Path,
        stamp: Option<Stamp>,
    ) -> Result<Option<(File, Option<String>)>, String> {
        let Some(stamp) = stamp else { return Ok(Some((File::default(), None))) };
        if stamp.size() > LARGEST_FILE {
            return Err(format!("larger than {LARGEST_FILE} bytes; what it said last stays"));
        }
        let full = self.root.join(path);
        let text = fs::read_to_string(&full)
            .map_err(|error| format!("cannot be read: {error}; what it said last stays"))?;
        if Stamp::of(&full).ok() != Some(stamp) {
            return Ok(None);
        }
        let contents = document::read(&path.to_string_lossy().into(), &text);
        if contents.refused.is_empty() {
            return Ok(Some((File::new(Some(stamp), contents, None), Some(text))));
        }
        let before = self.files.get(path);
        let recalled =
            if before.is_none() { Self::recalled(self.kept.as_ref(), path) } else { None };
        Ok(Some((File::new(Some(stamp), contents, before.or(recalled.as_ref())), None)))
    }

    /// What the file said when all of it was good, before this process.
    fn recalled(kept: Option<&Kept>, path: &Path) -> Option<File> {
        let text = kept?.recall(path)?;
        Some(File::new(None, document::read(&path.to_string_lossy().into(), &text), None))
    }

    /// Files that have gone while nobody looked are as good as removed.
    fn forget_the_gone(&self, listing: &Listing) {
        if let Some(kept) = &self.kept {
            kept.retain(|path| listing.files.contains_key(path) || listing.is_unknown(path));
        }
    }

    /// Brings what is in force up to what the files say, and returns the difference.
    fn settle(&mut self) -> Vec<Event> {
        let mut claims: BTreeMap<&Key, Vec<&PathBuf>> = BTreeMap::new();
        for (path, file) in &self.files {
            file.entries.keys().for_each(|key| claims.entry(key).or_default().push(path));
        }
        let mut next = BTreeMap::new();
        for (key, paths) in claims {
            let owner = self.objects.get(key).map(|(owner, _)| owner);
            let owner = owner.filter(|owner| paths.contains(owner)).unwrap_or(paths[0]);
            let entry = &self.files[owner].entries[key];
            next.insert(key.clone(), (owner.clone(), entry.clone()));
        }
        let mut events: Vec<Event> = self
            .objects
            .keys()
            .filter(|key| !next.contains_key(*key))
            .cloned()
            .map(Event::Delete)
            .collect();
        for (key, (_, entry)) in &next {
            if self.objects.get(key).is_none_or(|(_, before)| before != entry) {
                events.push(Event::Upsert(Arc::clone(entry)));
            }
        }
        self.objects = next;
        events
    }

    /// All problems there are now.
    fn problems(&self, listing: &Listing) -> Vec<Problem> {
        let directories = listing.unreadable.iter().map(|(path, error)| {
            let file = self.root.join(path);
            let message = format!("the directory cannot be read: {error}; what it said last stays");
            Problem::of_file(
                Cause::Unreadable,
                Origin::of_file(&*file.to_string_lossy(), 0),
                message,
            )
        });
        let files = self.files.values().flat_map(|file| file.problems.iter().cloned());
        directories.chain(files).chain(self.duplicates()).collect()
    }

    /// Objects that stand in a file which is not the one that counts.
    fn duplicates(&self) -> impl Iterator<Item = Problem> {
        let all =
            self.files.iter().flat_map(|(path, file)| file.entries.iter().map(move |e| (path, e)));
        all.filter_map(|(path, (key, entry))| {
            let (_, in_force) = self.objects.get(key).filter(|(owner, _)| owner != path)?;
            let message = format!(
                "the same object stands at {} too, which counts; this one is left out",
                in_force.origin
            );
            let fault = Fault::new(Cause::Duplicate, "", message);
            Some(fault.of(Some(key.clone()), entry.origin.clone()))
        })
    }
}

impl File {
    /// What the file says now, and of what is broken in it, what it said `before`.
    fn new(stamp: Option<Stamp>, contents: Contents, before: Option<&Self>) -> Self {
        let Contents { entries, refused, problems } = contents;
        let mut entries: BTreeMap<Key, Arc<Entry>> =
            entries.into_iter().map(|entry| (entry.key.clone(), Arc::new(entry))).collect();
        for (key, entry) in before.iter().flat_map(|before| &before.entries) {
            if refused.iter().any(|meant| meant.covers(key)) && !entries.contains_key(key) {
                entries.insert(key.clone(), entry.clone());
            }
        }
        Self { stamp, entries, problems }
    }
}

#[cfg(test)]
mod tests;
