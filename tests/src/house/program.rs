//! A program that runs inside of a pod, and as whom.

use std::path::{Path, PathBuf};

use crate::bins::workspace;
use crate::tools;

use super::namespace;

/// A command that can be started in any pod.
#[derive(Debug, Clone)]
pub struct Program {
    path: PathBuf,
    args: Vec<String>,
    environment: Vec<(String, String)>,
    user: User,
}

/// As whom a program runs. Whoever is not the sidecar is redirected.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum User {
    /// uid 0.
    Root,
    /// uid 65534: applications, unless they say otherwise.
    Nobody,
    /// uid 1337.
    Sidecar,
}

impl User {
    /// The id, of the user and of its only group.
    pub fn id(self) -> u32 {
        match self {
            Self::Root => 0,
            Self::Nobody => 65_534,
            Self::Sidecar => 1337,
        }
    }
}

impl Program {
    /// The program at `path`, as nobody.
    pub fn at(path: impl Into<PathBuf>) -> Self {
        Self { path: path.into(), args: Vec::new(), environment: Vec::new(), user: User::Nobody }
    }

    /// A program of the `PATH` that Debian has in `package`.
    ///
    /// # Panics
    /// When it is not installed.
    pub fn find(program: &str, package: &str) -> Self {
        Self::at(tools::find(program, package))
    }

    /// curl, which says nothing but the answer.
    pub fn curl(args: &[&str]) -> Self {
        Self::find("curl", "curl").args(["--silent", "--show-error", "--max-time", "20"]).args(args)
    }

    /// The harness's own helper (`src/bin/peer`), which Cargo builds beside the tests.
    ///
    /// # Panics
    /// When it is not there: the tests were not started by Cargo.
    pub fn peer(args: &[&str]) -> Self {
        let tests = std::env::current_exe().expect("a test knows itself");
        let beside = tests.parent().and_then(Path::parent).expect("target/debug/deps/e2e");
        let path = beside.join("peer");
        assert!(path.is_file(), "no helper {}: start the tests by Cargo", path.display());
        Self::at(path).args(args)
    }

    /// Where it is.
    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    /// Further arguments.
    pub fn args<S: AsRef<str>>(mut self, args: impl IntoIterator<Item = S>) -> Self {
        self.args.extend(args.into_iter().map(|arg| arg.as_ref().to_owned()));
        self
    }

    /// A variable of its environment.
    pub fn env(mut self, name: &str, value: &str) -> Self {
        self.environment.push((name.to_owned(), value.to_owned()));
        self
    }

    /// As whom it runs.
    pub fn user(mut self, user: User) -> Self {
        self.user = user;
        self
    }

    /// The command that runs it within a namespace, for which the caller must be root.
    pub(super) fn within(&self, namespace: &str, home: &Path) -> Command {
        let id = self.user.id().to_string();
        let setpriv = tools::find("setpriv", "util-linux");
        let mut args: Vec<String> = ["netns", "exec", namespace].map(Into::into).to_vec();
        args.extend(opened(&self.path));
        args.push(text(&setpriv));
        args.extend(["--reuid", &id, "--regid", &id, "--clear-groups"].map(Into::into));
        if self.user != User::Root {
            args.extend(["--no-new-privs", "--inh-caps=-all"].map(Into::into));
        }
        args.extend(["--".to_owned(), text(&self.path)]);
        args.extend(self.args.iter().cloned());
        let mut environment = vec![("HOME".to_owned(), text(home))];
        environment.extend(self.environment.iter().cloned());
        Command { program: namespace::program(), args, environment }
    }
}

/// What is really started.
#[derive(Debug)]
pub(super) struct Command {
    pub(super) program: PathBuf,
    pub(super) args: Vec<String>,
    pub(super) environment: Vec<(String, String)>,
}

impl Command {
    /// Variables beside what every program gets.
    pub(super) fn environment(&self) -> Vec<(&str, &str)> {
        self.environment.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect()
    }
}

/// A checkout below a directory that only root may enter (`/root` of a container) would be out of
/// reach for those who are not root. `ip netns exec` gives each command its own view of the file
/// system: there, and only there, the closed directory is replaced by one that holds the checkout
/// alone and that all may enter.
fn opened(program: &Path) -> Vec<String> {
    const OPEN: &str = "set -e; \
        stage=$(mktemp -d); mount --bind \"$2\" \"$stage\"; \
        mount -t tmpfs -o mode=755 none \"$1\"; mkdir -p \"$2\"; mount --bind \"$stage\" \"$2\"; \
        umount \"$stage\"; rmdir \"$stage\"; shift 2; exec \"$@\"";
    let checkout = workspace();
    let Some(closed) = closed_above(checkout).filter(|_| program.starts_with(checkout)) else {
        return Vec::new();
    };
    let words = ["sh", "-c", OPEN, "sh"].map(Into::into);
    words.into_iter().chain([text(closed), text(checkout)]).collect()
}

/// The topmost directory above `path` that only its owner may enter.
fn closed_above(path: &Path) -> Option<&Path> {
    use std::os::unix::fs::PermissionsExt;
    let mode = |dir: &Path| std::fs::metadata(dir).map_or(0, |meta| meta.permissions().mode());
    path.ancestors().filter(|dir| mode(dir) & 0o001 == 0).last()
}

fn text(path: &Path) -> String {
    path.to_str().expect("a path in UTF-8").to_owned()
}
