//! Which files a directory holds, and how to tell that one has changed.

use std::collections::BTreeMap;
use std::fs::{self, Metadata};
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

/// How deep directories may be nested. Symbolic links are followed, so they may form a circle.
const DEEPEST: usize = 16;

/// What of a file changes whenever its content may have.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Stamp {
    device: u64,
    inode: u64,
    size: u64,
    modified: (i64, i64),
    changed: (i64, i64),
}

/// The files of a directory, by path relative to it.
#[derive(Debug, Default)]
pub(crate) struct Listing {
    pub(crate) files: BTreeMap<PathBuf, Stamp>,
    /// Directories that cannot be read, and why: nothing is known about what is below them.
    pub(crate) unreadable: Vec<(PathBuf, io::Error)>,
}

impl Listing {
    /// Whether nothing is known about what is at this path.
    pub(crate) fn is_unknown(&self, path: &Path) -> bool {
        self.unreadable.iter().any(|(dir, _)| path.starts_with(dir))
    }
}

impl Stamp {
    /// The stamp of a file, through symbolic links.
    pub(crate) fn of(path: &Path) -> io::Result<Self> {
        Ok(Self::from(&fs::metadata(path)?))
    }

    /// Whether both are of one file, whatever is in it.
    pub(crate) fn is_same_file(&self, other: Self) -> bool {
        (self.device, self.inode) == (other.device, other.inode)
    }

    /// How large the file is, in bytes.
    pub(crate) fn size(&self) -> u64 {
        self.size
    }
}

impl From<&Metadata> for Stamp {
    fn from(metadata: &Metadata) -> Self {
        Self {
            device: metadata.dev(),
            inode: metadata.ino(),
            size: metadata.size(),
            modified: (metadata.mtime(), metadata.mtime_nsec()),
            changed: (metadata.ctime(), metadata.ctime_nsec()),
        }
    }
}

/// Lists all files below `root` that hold objects: `*.yaml`, `*.yml` and `*.json`, but not the
/// hidden and temporary ones of editors and volume mounts.
pub(crate) fn list(root: &Path) -> Listing {
    let mut listing = Listing::default();
    walk(root, Path::new(""), 0, &mut listing);
    listing
}

fn walk(root: &Path, below: &Path, depth: usize, listing: &mut Listing) {
    let entries = fs::read_dir(root.join(below)).and_then(Iterator::collect::<io::Result<Vec<_>>>);
    let entries = match entries {
        Ok(entries) => entries,
        // Gone since it was listed: then so is all that was in it.
        Err(error) if error.kind() == io::ErrorKind::NotFound && depth > 0 => return,
        Err(error) => return listing.unreadable.push((below.into(), error)),
    };
    for name in entries.iter().map(fs::DirEntry::file_name) {
        let path = below.join(&name);
        if is_hidden(&path) {
            continue;
        }
        let metadata = match fs::metadata(root.join(&path)) {
            Ok(metadata) => metadata,
            // A link to nowhere, or a file that is gone again.
            Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
            Err(error) => {
                listing.unreadable.push((path, error));
                continue;
            }
        };
        if metadata.is_dir() && depth < DEEPEST {
            walk(root, &path, depth + 1, listing);
        } else if metadata.is_file() && holds_objects(&path) {
            listing.files.insert(path, Stamp::from(&metadata));
        }
    }
}

fn is_hidden(path: &Path) -> bool {
    let name = path.file_name().map(|name| name.to_string_lossy()).unwrap_or_default();
    name.starts_with(['.', '#']) || name.ends_with('~')
}

fn holds_objects(path: &Path) -> bool {
    let extension = path.extension().and_then(|extension| extension.to_str());
    matches!(extension, Some("yaml" | "yml" | "json"))
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

    use super::*;

    #[test]
    fn files_of_objects_are_found_through_links_and_all_else_is_left_out() {
        let dir = tempfile::tempdir().unwrap();
        let root = dir.path();
        fs::create_dir_all(root.join("sub/..2026")).unwrap();
        for name in ["a.yaml", "b.yml", "sub/c.json", "sub/..2026/d.yaml"] {
            fs::write(root.join(name), "x").unwrap();
        }
        for name in [".e.yaml", "f.txt", "g.yaml~", "#h.yaml", ".i.yaml.swp"] {
            fs::write(root.join(name), "x").unwrap();
        }
        symlink("..2026", root.join("sub/..data")).unwrap();
        symlink("..data/d.yaml", root.join("sub/d.yaml")).unwrap();
        symlink("nowhere.yaml", root.join("j.yaml")).unwrap();
        symlink("..", root.join("sub/circle")).unwrap();
        let listing = list(root);
        let short = |path: &&PathBuf| !path.to_string_lossy().contains("circle");
        let found: Vec<_> = listing.files.keys().filter(short).collect();
        let expected = ["a.yaml", "b.yml", "sub/c.json", "sub/d.yaml"];
        assert_eq!(found, expected.map(Path::new).iter().collect::<Vec<_>>());
        assert!(listing.unreadable.is_empty());
    }

    #[test]
    fn a_root_that_is_gone_is_unreadable_not_empty() {
        let dir = tempfile::tempdir().unwrap();
        let listing = list(&dir.path().join("gone"));
        assert_eq!(listing.unreadable.len(), 1);
    }

    #[test]
    fn a_stamp_follows_the_content() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("a.yaml");
        fs::write(&path, "x").unwrap();
        let before = Stamp::of(&path).unwrap();
        assert_eq!(before, Stamp::of(&path).unwrap());
        fs::write(&path, "xy").unwrap();
        assert_ne!(before, Stamp::of(&path).unwrap());
    }

    #[test]
    fn what_cannot_be_looked_at_is_not_gone() {
        let dir = tempfile::tempdir().unwrap();
        symlink("round.yaml", dir.path().join("round.yaml")).unwrap();
        symlink("nowhere", dir.path().join("dangling.yaml")).unwrap();
        let listing = list(dir.path());
        let unreadable: Vec<_> = listing.unreadable.iter().map(|(path, _)| path).collect();
        assert_eq!(unreadable, [Path::new("round.yaml")]);
        assert!(listing.files.is_empty());
    }
}
