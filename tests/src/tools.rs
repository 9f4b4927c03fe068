//! Programs of other people that some tests need. What is missing fails the test with a sentence
//! that says what to install; nothing is skipped.

use std::path::{Path, PathBuf};

use crate::bins::workspace;
use crate::process;

/// A program of the `PATH`, of where Debian keeps what is for root, or of what `tests/run` unpacked below `target/tools`.
///
/// # Panics
/// When it is in none; the message names the Debian `package` that has it.
pub fn find(program: &str, package: &str) -> PathBuf {
    let path = std::env::var_os("PATH").unwrap_or_default();
    std::env::split_paths(&path)
        .chain(["/usr/sbin", "/sbin"].map(PathBuf::from))
        .chain([workspace().join("target/tools/usr/bin")])
        .map(|dir| dir.join(program))
        .find(|candidate| candidate.is_file())
        .unwrap_or_else(|| {
            panic!("this test needs `{program}`: run tests/run, which installs what is missing, or `apt-get install {package}`")
        })
}

/// What `kubectl kustomize` makes of a directory: YAML documents.
///
/// # Panics
/// When it makes nothing of it, or has something to say against it.
pub async fn kustomize(directory: &Path) -> String {
    let kubectl = find("kubectl", "kubernetes-client");
    let args = ["kustomize", directory.to_str().expect("a path in UTF-8")];
    let output = process::run(&kubectl, args, &[], std::time::Duration::from_secs(60)).await;
    assert_eq!((output.code, output.stderr.as_str()), (Some(0), ""), "{}", directory.display());
    output.stdout
}

/// A Python with Flask from PyPI, in a virtual environment below `target/`, made once.
///
/// # Panics
/// When it cannot be made; the message has what pip said.
pub async fn python_with_flask() -> PathBuf {
    python_with("flask", &find("python3", "python3-venv"), &["flask"], "flask").await
}

/// A Python with `packages` from PyPI, in a virtual environment of this name below `target/`, made
/// by the Python at `system` if `modules` cannot be imported yet.
///
/// # Panics
/// When it cannot be made; the message has what pip said.
pub async fn python_with(name: &str, system: &Path, packages: &[&str], modules: &str) -> PathBuf {
    let dir = workspace().join("target/tools").join(name);
    let python = dir.join("bin/python");
    let import = format!("import {modules}");
    if !python.is_file() || run(&python, &["-c", &import]).await.code != Some(0) {
        let args = ["-m", "venv", "--clear", dir.to_str().expect("a path in UTF-8")];
        must(system, &args, "apt-get install python3-venv").await;
        let args = [&["-m", "pip", "install", "--quiet"], packages].concat();
        must(&python, &args, "pip must reach PyPI").await;
    }
    python
}

async fn must(program: &Path, args: &[&str], remedy: &str) {
    let output = run(program, args).await;
    assert_eq!(
        output.code,
        Some(0),
        "{} {args:?} failed ({remedy}):\n{}{}",
        program.display(),
        output.stdout,
        output.stderr
    );
}

async fn run(program: &Path, args: &[&str]) -> process::Output {
    let settings: Vec<(String, String)> = std::env::vars()
        .filter(|(name, _)| name.starts_with("PIP_") || name.starts_with("SSL_"))
        .collect();
    let settings: Vec<(&str, &str)> =
        settings.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect();
    process::run(program, args, &settings, std::time::Duration::from_secs(180)).await
}
