//! The files of a run: copies of the binaries, what the servers serve, configurations and logs.
//! They lie where uid 1337 and nobody can read them, which a checkout may not allow.

use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use anyhow::Context;
use tempfile::TempDir;

use super::certs::Certs;
use super::mark;

/// MiB of the files that are downloaded and uploaded.
pub(crate) const BIG: [u64; 2] = [256, 1024];

/// The directory of a run, which is gone at its end.
#[derive(Debug)]
pub(crate) struct Files {
    dir: TempDir,
    /// For the proxies that are not ours.
    pub(crate) certs: Certs,
}

impl Files {
    /// Makes it; the bench's own binaries are taken from beside the driver.
    ///
    /// # Errors
    /// When a file cannot be written.
    pub(crate) fn make() -> anyhow::Result<Self> {
        let dir = tempfile::Builder::new().prefix(&mark::of_this_process()).tempdir()?;
        open_to_all(dir.path())?;
        for part in ["bin", "www", "www/big"] {
            fs::create_dir(dir.path().join(part))?;
            open_to_all(&dir.path().join(part))?;
        }
        let certs = Certs::make(&dir.path().join("certs"))?;
        let files = Self { dir, certs };
        let own = std::env::current_exe()?;
        let beside = own.parent().context("the driver lies in no directory")?;
        for name in ["floor", "app"] {
            copy(&beside.join(format!("bench-{name}")), &files.bin(name))?;
        }
        // Sparse files: zeroes cost no disk, and nobody on the way compresses.
        for mib in BIG {
            fs::File::create(files.www().join("big").join(mib.to_string()))?.set_len(mib << 20)?;
        }
        Ok(files)
    }

    /// A binary of our own.
    pub(crate) fn bin(&self, name: &str) -> PathBuf {
        self.dir.path().join("bin").join(name)
    }

    /// What nginx serves.
    pub(crate) fn www(&self) -> PathBuf {
        self.dir.path().join("www")
    }

    /// A new directory for the files and logs of a topology, which all may write to.
    ///
    /// # Errors
    /// When it cannot be made.
    pub(crate) fn topology(&self, name: &str) -> anyhow::Result<PathBuf> {
        let dir = self.dir.path().join(name.replace(['/', '@'], "_"));
        fs::create_dir(&dir)?;
        fs::set_permissions(&dir, Permissions::from_mode(0o777))?;
        Ok(dir)
    }

    /// Keeps everything under another name, which nobody sweeps away, and returns it.
    ///
    /// # Errors
    /// When it cannot be renamed.
    pub(crate) fn keep(self) -> anyhow::Result<PathBuf> {
        let dir = self.dir.keep();
        let kept = dir.with_file_name(format!("pillion-kept-bench-{}", std::process::id()));
        fs::rename(dir, &kept)?;
        Ok(kept)
    }
}

/// Copies a binary to where everybody may run it.
///
/// # Errors
/// When it is not there.
pub(crate) fn copy(from: &Path, to: &Path) -> anyhow::Result<()> {
    fs::copy(from, to).with_context(|| format!("no binary {}: build it", from.display()))?;
    Ok(fs::set_permissions(to, Permissions::from_mode(0o755))?)
}

/// The text with each `<name>` replaced by its value.
pub(crate) fn fill(text: &str, values: &[(&str, String)]) -> String {
    values
        .iter()
        .fold(text.to_owned(), |text, (name, value)| text.replace(&format!("<{name}>"), value))
}

fn open_to_all(dir: &Path) -> anyhow::Result<()> {
    Ok(fs::set_permissions(dir, Permissions::from_mode(0o755))?)
}
