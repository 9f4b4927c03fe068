//! The files of a directory as they were when all in them was good, so that a control plane that
//! starts over a broken one does not take away what was in force.

use std::cell::Cell;
use std::fs::{self, DirBuilder};
use std::io;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};

use crate::source::listing;

/// The directory in the state directory; hidden, so that it is no source itself.
const NAME: &str = ".last-good";

/// Where they are kept, by their paths.
#[derive(Debug)]
pub(super) struct Kept {
    dir: PathBuf,
    /// Whether it has been told that they cannot be kept.
    told: Cell<bool>,
}

impl Kept {
    /// Those of a state directory.
    pub(super) fn new(state_dir: &Path) -> Self {
        Self { dir: state_dir.join(NAME), told: Cell::new(false) }
    }

    /// Keeps a file. Where that cannot be it is told once, and costs nothing but the next start.
    pub(super) fn keep(&self, path: &Path, text: &str) {
        if self.recall(path).as_deref() != Some(text)
            && let Err(error) = self.replace(path, text)
            && !self.told.replace(true)
        {
            let file = path.display();
            tracing::warn!(%file, %error, "files are not kept in --state-dir for the next start");
        }
    }

    /// A file as it was kept.
    pub(super) fn recall(&self, path: &Path) -> Option<String> {
        fs::read_to_string(self.dir.join(path)).ok()
    }

    /// Forgets a file that is gone.
    pub(super) fn forget(&self, path: &Path) {
        match fs::remove_file(self.dir.join(path)) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                tracing::warn!(file = %path.display(), %error, "its last good state cannot be removed");
            }
            _ => {}
        }
    }

    /// Forgets those that are not to stay.
    pub(super) fn retain(&self, stays: impl Fn(&Path) -> bool) {
        let kept = listing::list(&self.dir).files;
        kept.keys().filter(|path| !stays(path)).for_each(|path| self.forget(path));
    }

    /// At once or not at all. The state directory may not be there yet, and is private.
    fn replace(&self, path: &Path, text: &str) -> io::Result<()> {
        let path = self.dir.join(path);
        let fresh = path.with_extension("fresh");
        let mut private = DirBuilder::new();
        private.recursive(true).mode(0o700);
        path.parent().map_or(Ok(()), |dir| private.create(dir))?;
        fs::write(&fresh, text)?;
        fs::rename(fresh, path)
    }
}
