//! A sidecar under valgrind's callgrind, which counts what it executes.
//!
//! Valgrind translates the program and shows it a CPU of its own (AVX2 and AES, no AVX-512, no
//! VAES): cryptography takes the same paths on every x86-64 machine with AVX2, so that counts of one
//! binary can be compared across machines.

mod profile;

use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::ensure;
use tests::{process, tools};

#[cfg(test)]
pub(crate) use self::profile::Function;
pub(crate) use self::profile::Profile;

/// Longest time for one dump.
const LIMIT: Duration = Duration::from_secs(60);

/// Longest time for what only says its version.
const SOON: Duration = Duration::from_secs(30);

/// One process's counts.
#[derive(Debug)]
pub(crate) struct Callgrind {
    out: PathBuf,
    parts: u32,
}

impl Callgrind {
    /// Its dumps will be in `dir`, by this name.
    pub(crate) fn new(dir: &Path, name: &str) -> Self {
        Self { out: dir.join(name), parts: 0 }
    }

    /// What to start a program under.
    pub(crate) fn command(&self) -> Vec<String> {
        let valgrind = tools::find("valgrind", "valgrind");
        vec![
            valgrind.display().to_string(),
            "--tool=callgrind".to_owned(),
            "--dump-line=no".to_owned(),
            // The names that the linker knows.
            "--demangle=no".to_owned(),
            format!("--callgrind-out-file={}", self.out.display()),
        ]
    }

    /// What the process `pid` has executed since the last dump.
    ///
    /// # Errors
    /// When it does not answer, or has ended.
    pub(crate) async fn dump(&mut self, pid: u32) -> anyhow::Result<Profile> {
        let vgdb = tools::find("vgdb", "valgrind");
        let pid = format!("--pid={pid}");
        let output = process::run(&vgdb, [pid.as_str(), "dump"], &[], LIMIT).await;
        ensure!(output.code == Some(0), "vgdb {pid} dump: {}", output.stderr);
        self.parts += 1;
        let mut file = self.out.clone();
        file.as_mut_os_string().push(format!(".{}", self.parts));
        let text = std::fs::read_to_string(&file)?;
        std::fs::remove_file(&file)?;
        Profile::parse(&text)
    }
}

/// The compiler and the C library, whose code and names are in what is measured.
pub(crate) async fn made_with() -> anyhow::Result<String> {
    let mut versions = Vec::new();
    for (program, package) in [("rustc", "rustc"), ("ldd", "libc-bin")] {
        let output = process::run(&tools::find(program, package), ["--version"], &[], SOON).await;
        versions.extend(output.stdout.lines().next().map(ToOwned::to_owned));
    }
    ensure!(versions.len() == 2, "neither rustc nor ldd may be silent: {versions:?}");
    Ok(versions.join(", "))
}
