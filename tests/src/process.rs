//! A child process that ends with the value that stands for it.

use std::ffi::OsStr;
use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::Duration;

use rustix::process::{Pid, Resource, Rlimit, Signal, getrlimit, kill_process, prlimit, setrlimit};

use crate::poll;

/// Lines of a process's log that are printed when a test fails.
const TAIL: usize = 60;

/// What a log says of a panic: no test may pass with one.
const DEFECTS: [&str; 2] = ["panicked at", "please report it"];

/// A running child. Its output goes to a file; dropped, it is killed by its id and, when the
/// test has failed, the end of its log is printed.
#[derive(Debug)]
pub struct Process {
    name: String,
    child: Child,
    log: PathBuf,
}

impl Process {
    /// Starts `program`. Its output is appended to `NAME.log` in `logs`. Of the environment it
    /// gets what every program needs and `environment`.
    ///
    /// # Panics
    /// When it cannot be started.
    pub fn start<S: AsRef<OsStr>>(
        name: &str,
        logs: &Path,
        program: &Path,
        args: impl IntoIterator<Item = S>,
        environment: &[(&str, &str)],
    ) -> Self {
        let log = logs.join(format!("{name}.log"));
        let file = File::options().create(true).append(true).open(&log).expect("a log file");
        let child = command(program, environment)
            .args(args)
            .stdout(file.try_clone().expect("a second handle"))
            .stderr(file)
            .spawn()
            .unwrap_or_else(|error| panic!("cannot start {}: {error}", program.display()));
        Self { name: name.to_owned(), child, log }
    }

    /// The process's id.
    pub fn id(&self) -> u32 {
        self.child.id()
    }

    /// What it has written so far, to standard output and standard error.
    pub fn log(&self) -> String {
        std::fs::read_to_string(&self.log).unwrap_or_default()
    }

    /// How it ended, if it has.
    pub fn ended(&mut self) -> Option<ExitStatus> {
        self.child.try_wait().expect("a child can be asked for its status")
    }

    /// Sends a signal. A process that has ended already gets none.
    pub fn signal(&mut self, signal: Signal) {
        if self.ended().is_none() {
            let pid = Pid::from_child(&self.child);
            kill_process(pid, signal).unwrap_or_else(|error| panic!("{}: {error}", self.name));
        }
    }

    /// The CPU time that it has used, in the kernel's ticks of 10 ms.
    ///
    /// # Panics
    /// When it has ended.
    pub fn cpu_ticks(&self) -> u64 {
        let stat = std::fs::read_to_string(format!("/proc/{}/stat", self.id())).expect("it runs");
        // The name before may have spaces; user and system time are the 14th and 15th field.
        let (_, after) = stat.rsplit_once(')').expect("a name");
        let fields = after.split_whitespace().skip(11).take(2);
        fields.map(|ticks| ticks.parse::<u64>().expect("ticks")).sum()
    }

    /// How many descriptors it has open.
    ///
    /// # Panics
    /// When it has ended.
    pub fn descriptors(&self) -> usize {
        std::fs::read_dir(format!("/proc/{}/fd", self.id())).expect("it runs").count()
    }

    /// The memory of its own that is in RAM (`VmRSS`), in bytes.
    ///
    /// # Panics
    /// When it has ended.
    pub fn resident(&self) -> usize {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.id()));
        let status = status.expect("it runs");
        let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
        let kibibytes = line.and_then(|line| line.trim().strip_suffix(" kB")).expect("kB");
        1024 * kibibytes.parse::<usize>().expect("a number")
    }

    /// Bounds the number of its descriptors from now on; those above stay open. A privileged test
    /// may raise the bound as well.
    ///
    /// # Panics
    /// When the kernel refuses.
    pub fn limit_descriptors(&self, most: u64) {
        let limit = Rlimit { current: Some(most), maximum: Some(most) };
        let pid = Pid::from_child(&self.child);
        prlimit(Some(pid), Resource::Nofile, limit).expect("a limit that is allowed");
    }

    /// `kill -9`, and waits until it is gone.
    pub fn kill(&mut self) {
        self.signal(Signal::KILL);
        self.child.wait().expect("a child can be waited for");
    }

    /// Waits for its end.
    ///
    /// # Panics
    /// When it still runs after `limit`.
    pub async fn wait(&mut self, limit: Duration) -> ExitStatus {
        let what = format!("the end of {}", self.name);
        poll::until(&what, limit, async || self.ended().ok_or("it runs")).await
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        // Whatever happens here, the test's own failure is what counts.
        let _ = self.child.kill();
        let _ = self.child.wait();
        let log = self.log();
        let defect = log.lines().find(|line| DEFECTS.iter().any(|word| line.contains(word)));
        if std::thread::panicking() {
            let lines: Vec<&str> = log.lines().collect();
            let tail = lines[lines.len().saturating_sub(TAIL)..].join("\n");
            eprintln!("--- end of the log of {} ({} lines)\n{tail}", self.name, lines.len());
        } else if let Some(defect) = defect {
            panic!("{} has panicked: {defect}", self.name);
        }
    }
}

/// Lets the test's own process have as many descriptors, where it may have fewer.
///
/// # Panics
/// When it is not allowed to.
pub fn raise_own_descriptors(least: u64) {
    let now = getrlimit(Resource::Nofile);
    if now.current.is_some_and(|most| most < least) {
        let maximum = now.maximum.map(|most| most.max(least));
        let limit = Rlimit { current: Some(least), maximum };
        setrlimit(Resource::Nofile, limit).expect("a limit that is allowed");
    }
}

/// What a short-lived program did.
#[derive(Debug)]
pub struct Output {
    /// The exit code; `None` where a signal ended it.
    pub code: Option<i32>,
    /// Standard output.
    pub stdout: String,
    /// Standard error.
    pub stderr: String,
}

/// Runs a program to its end with nothing on standard input.
///
/// # Panics
/// When it cannot be started or runs longer than `limit`; then it is killed.
pub async fn run<S: AsRef<OsStr>>(
    program: &Path,
    args: impl IntoIterator<Item = S>,
    environment: &[(&str, &str)],
    limit: Duration,
) -> Output {
    let mut command = tokio::process::Command::from(command(program, environment));
    command.args(args).stdout(Stdio::piped()).stderr(Stdio::piped()).kill_on_drop(true);
    let what = format!("{command:?}");
    let output = match tokio::time::timeout(limit, command.output()).await {
        Ok(output) => output.unwrap_or_else(|error| panic!("cannot start {what}: {error}")),
        Err(_) => panic!("{what} still runs after {limit:?}"),
    };
    Output {
        code: output.status.code(),
        stdout: String::from_utf8_lossy(&output.stdout).into_owned(),
        stderr: String::from_utf8_lossy(&output.stderr).into_owned(),
    }
}

/// The test's own settings (`PILLION_BIN_DIR`) and proxies are none of its children's business.
fn command(program: &Path, environment: &[(&str, &str)]) -> Command {
    let mut command = Command::new(program);
    command.env_clear().stdin(Stdio::null());
    let keep = ["PATH", "HOME", "LANG", "TMPDIR", "USER"];
    command.envs(keep.iter().filter_map(|name| Some((name, std::env::var_os(name)?))));
    command.env("RUST_BACKTRACE", "1").envs(environment.iter().copied());
    command
}
