//! The demo's processes: all children of this one, of the same binary.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::fs::{self, OpenOptions};
use std::io;
use std::path::PathBuf;
use std::process::Stdio;
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process};
use tokio::process::{Child, Command};

use super::error::DemoError;

/// How long the processes may take to leave when asked.
const PATIENCE: Duration = Duration::from_secs(3);

/// How much of a log an error shows.
const LAST_LINES: usize = 12;

/// The processes that run.
///
/// The kernel ends them with the *thread* that started them: [`Fleet::start`] is for the main
/// thread, which lives as long as the demo.
#[derive(Debug)]
pub(crate) struct Fleet {
    executable: PathBuf,
    logs: PathBuf,
    running: BTreeMap<String, Child>,
}

impl Fleet {
    /// No processes yet; their logs will be in the directory `logs`.
    pub(crate) fn new(logs: PathBuf) -> Result<Self, DemoError> {
        let executable = std::env::current_exe()
            .map_err(DemoError::system("find the program that runs at the moment"))?;
        Ok(Self { executable, logs, running: BTreeMap::new() })
    }

    /// Starts `pillion` with `args`, as the process of this name.
    pub(crate) fn start(&mut self, name: &str, args: Vec<OsString>) -> Result<(), DemoError> {
        let child = self.spawn(name, args).map_err(DemoError::system("start a process"))?;
        self.running.insert(name.to_owned(), child);
        Ok(())
    }

    fn spawn(&self, name: &str, args: Vec<OsString>) -> io::Result<Child> {
        let log = OpenOptions::new().create(true).append(true).open(self.log(name))?;
        let mut command = Command::new(&self.executable);
        command
            .args(["--die-with-parent", &std::process::id().to_string()])
            .args(args)
            .stdin(Stdio::null())
            .stdout(log.try_clone()?)
            .stderr(log)
            // Ctrl-C in the terminal is for the demo, which then ends its children in order.
            .process_group(0)
            .kill_on_drop(true);
        // What is set for this command is unknown to its children, or means something else.
        for (variable, _) in std::env::vars_os() {
            if variable.to_string_lossy().starts_with("PILLION_") {
                command.env_remove(variable);
            }
        }
        command.spawn()
    }

    /// Kills a process, as an out-of-memory killer would.
    pub(crate) async fn kill(&mut self, name: &str) -> Result<(), DemoError> {
        match self.running.remove(name) {
            Some(mut child) => child.kill().await.map_err(DemoError::system("kill a process")),
            None => Ok(()),
        }
    }

    /// Finds a process that ended although nobody asked it to.
    pub(crate) fn check(&mut self) -> Result<(), DemoError> {
        for (name, child) in &mut self.running {
            let status = child.try_wait().map_err(DemoError::system("look after a process"))?;
            if let Some(status) = status {
                let (name, how) = (name.clone(), status.to_string());
                let log = self.last_lines(&name);
                return Err(DemoError::Died { name, how, log });
            }
        }
        Ok(())
    }

    /// The end of a process's log.
    pub(crate) fn last_lines(&self, name: &str) -> String {
        let text = fs::read(self.log(name)).unwrap_or_default();
        let text = String::from_utf8_lossy(&text);
        let lines: Vec<_> = text.lines().collect();
        lines[lines.len().saturating_sub(LAST_LINES)..].join("\n")
    }

    /// Ends all processes: asks them, and kills those that do not leave in time.
    pub(crate) async fn stop(&mut self) {
        for child in self.running.values() {
            ask_to_leave(child);
        }
        let all_left = async {
            for child in self.running.values_mut() {
                // A child that cannot be waited for is killed below.
                let _ = child.wait().await;
            }
        };
        let _ = tokio::time::timeout(PATIENCE, all_left).await;
        for child in self.running.values_mut() {
            // It fails for those that have left.
            let _ = child.kill().await;
        }
        self.running.clear();
    }

    fn log(&self, name: &str) -> PathBuf {
        self.logs.join(format!("{}.log", name.replace(' ', "-")))
    }
}

fn ask_to_leave(child: &Child) {
    let pid = child.id().and_then(|pid| Pid::from_raw(pid.cast_signed()));
    if let Some(pid) = pid {
        // It may be leaving by itself.
        let _ = kill_process(pid, Signal::TERM);
    }
}
