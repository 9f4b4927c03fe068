//! A program, where it runs: in which namespace, on which processor, as whom.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use anyhow::{Context, ensure};
use tests::process::Process;
use tests::tools;

use super::netns::Namespace;

/// Before what else the machine does: on a busy one a run is then disturbed less. All peers, their
/// loads and their servers have the same. Where the kernel first shares time between sessions
/// (`CONFIG_SCHED_AUTOGROUP`), a process's niceness counts within its session only: so each gets a
/// session of its own, with the niceness of that.
const FIRST: &str = "echo -20 2>/dev/null >/proc/self/autogroup; exec nice -n -20 \"$@\"";

/// As whom a program runs. Whoever is not the sidecar is redirected.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum User {
    /// uid 0.
    Root,
    /// uid 65534: load and applications.
    Nobody,
    /// uid 1337.
    Sidecar,
}

impl User {
    /// The id, of the user and of its only group.
    pub(crate) fn id(self) -> u32 {
        match self {
            Self::Root => 0,
            Self::Nobody => 65_534,
            Self::Sidecar => 1337,
        }
    }
}

/// Which processor: load, servers and control planes share one, all proxies the other, so that
/// throughput at saturation says what the proxies cost.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Core {
    /// That of load and servers.
    Load,
    /// That of the proxies.
    Proxy,
}

impl Core {
    /// Its number.
    pub(crate) fn number(self) -> usize {
        match self {
            Self::Load => 0,
            Self::Proxy => 1,
        }
    }
}

/// A program with its arguments, before it is put somewhere.
#[derive(Debug, Clone)]
pub(crate) struct Program {
    path: PathBuf,
    args: Vec<String>,
    user: User,
    core: Core,
}

impl Program {
    /// A proxy: uid 1337, on the proxies' processor.
    pub(crate) fn proxy(path: impl Into<PathBuf>) -> Self {
        Self { path: path.into(), args: Vec::new(), user: User::Sidecar, core: Core::Proxy }
    }

    /// A server, a load or a control plane: nobody, on the other processor.
    pub(crate) fn app(path: impl Into<PathBuf>) -> Self {
        Self { path: path.into(), args: Vec::new(), user: User::Nobody, core: Core::Load }
    }

    /// A program of the `PATH`, as [`app`](Self::app), that Debian has in `package`.
    pub(crate) fn find(program: &str, package: &str) -> Self {
        Self::app(tools::find(program, package))
    }

    /// As root instead.
    pub(crate) fn root(mut self) -> Self {
        self.user = User::Root;
        self
    }

    /// Further arguments.
    pub(crate) fn args<S: Into<String>>(mut self, args: impl IntoIterator<Item = S>) -> Self {
        self.args.extend(args.into_iter().map(Into::into));
        self
    }

    /// Starts it; its output is `NAME.log` in `logs`.
    pub(crate) fn start(&self, namespace: &Namespace, logs: &Path, name: &str) -> Process {
        Process::start(name, logs, &tools::find("ip", "iproute2"), self.within(namespace), &[])
    }

    /// Runs it to its end, at most `limit` long, and returns what it printed.
    ///
    /// # Errors
    /// When it fails or does not end.
    pub(crate) fn run(&self, namespace: &Namespace, limit: Duration) -> anyhow::Result<String> {
        let limit = limit.as_secs_f64().to_string();
        let output = Command::new(tools::find("timeout", "coreutils"))
            .args(["--signal", "KILL", &limit])
            .arg(tools::find("ip", "iproute2"))
            .args(self.within(namespace))
            // As of what is started to stay: settings of the caller's are none of theirs.
            .env_clear()
            .envs(std::env::var_os("PATH").map(|path| ("PATH", path)))
            .stdin(Stdio::null())
            .output()
            .context("timeout does not start")?;
        let (said, cried) =
            (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
        ensure!(
            output.status.success(),
            "{} {:?}: {}\n{said}{cried}",
            self.path.display(),
            self.args,
            output.status
        );
        Ok(said.into_owned())
    }

    /// The arguments of `ip` that run it there.
    fn within(&self, namespace: &Namespace) -> Vec<String> {
        let (id, core) = (self.user.id().to_string(), self.core.number().to_string());
        let text = |path: &Path| path.to_string_lossy().into_owned();
        let mut args = vec!["netns".into(), "exec".into(), namespace.name().to_owned()];
        args.extend([text(&tools::find("taskset", "util-linux")), "-c".into(), core]);
        args.push(text(&tools::find("setsid", "util-linux")));
        args.extend(["sh", "-c", FIRST, "sh"].map(Into::into));
        args.push(text(&tools::find("setpriv", "util-linux")));
        args.extend(["--reuid", &id, "--regid", &id, "--clear-groups"].map(Into::into));
        // What the driver has started must not outlive it, also where it is killed.
        args.extend(["--pdeathsig", "KILL", "--"].map(Into::into));
        args.push(text(&self.path));
        args.extend(self.args.iter().cloned());
        args
    }
}
