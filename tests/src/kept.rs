//! A temporary directory that a failed test leaves behind.

use std::path::Path;

use tempfile::TempDir;

/// The file that tells what a failed test left on purpose from what a killed one left.
pub(crate) const MARK: &str = "kept";

/// A directory that is removed with this value, but outlives a failed test, for whoever looks for
/// the reason.
#[derive(Debug)]
pub(crate) struct Kept(Option<TempDir>);

impl Kept {
    /// Makes one below the system's directory for temporary files.
    pub(crate) fn new(prefix: &str) -> Self {
        let dir = tempfile::Builder::new().prefix(prefix).tempdir();
        Self(Some(dir.unwrap_or_else(|error| panic!("a temporary directory: {error}"))))
    }

    /// Where it is.
    pub(crate) fn path(&self) -> &Path {
        self.0.as_ref().expect("kept until the end").path()
    }
}

impl Drop for Kept {
    fn drop(&mut self) {
        if std::thread::panicking()
            && let Some(dir) = self.0.take()
        {
            // Best effort: without the mark it may be removed as what a killed test left.
            let _ = std::fs::write(dir.path().join(MARK), "");
            eprintln!("--- the mesh's files and whole logs stay in {}", dir.keep().display());
        }
    }
}
