//! The demo as it is run by people: real processes, and none of them left behind.

#![allow(clippy::unwrap_used)] // tests fail by panicking

use std::fs;
use std::io::{BufRead, BufReader};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;
use tempfile::TempDir;

/// A demo on addresses of its own, with a temporary directory of its own.
struct Demo {
    child: Child,
    base: &'static str,
    temp: TempDir,
}

impl Demo {
    fn start(base: &'static str, args: &[&str]) -> Self {
        let temp = tempfile::tempdir().unwrap();
        let child = Command::new(env!("CARGO_BIN_EXE_pillion"))
            // A test that fails ends its thread, and with that the demo.
            .args(["--die-with-parent", &std::process::id().to_string()])
            .args(["demo", "--base-address", &format!("{base}0")])
            .args(args)
            .env("TMPDIR", temp.path())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        Self { child, base, temp }
    }

    /// Reads progress up to the line with `part`.
    fn wait_for(&mut self, part: &str) {
        let mut lines = BufReader::new(self.child.stderr.as_mut().unwrap()).lines();
        let found = lines.by_ref().map_while(Result::ok).any(|line| line.contains(part));
        assert!(found, "the demo ended without saying {part:?}");
    }

    fn send(&self, signal: Signal) {
        let pid = Pid::from_raw(self.child.id().cast_signed()).unwrap();
        kill_process(pid, signal).unwrap();
    }

    /// Processes that have one of the demo's addresses among their arguments.
    fn children(&self) -> Vec<String> {
        let pids = fs::read_dir("/proc")
            .unwrap()
            .filter_map(|entry| entry.ok()?.file_name().to_str()?.parse::<u32>().ok());
        let others = pids.filter(|pid| *pid != self.child.id());
        let lines =
            others.filter_map(|pid| fs::read_to_string(format!("/proc/{pid}/cmdline")).ok());
        lines.filter(|line| line.contains(self.base)).collect()
    }

    fn is_tidy(&self) -> bool {
        fs::read_dir(self.temp.path()).unwrap().count() == 0
    }
}

#[test]
fn every_request_succeeds_over_mutual_tls_although_a_replica_is_killed() {
    let demo = Demo::start("127.0.62.", &["--for", "8s", "--json"]);
    let (base, temp) = (demo.base, demo.temp);
    let output = demo.child.wait_with_output().unwrap();
    let progress = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{progress}");
    for part in ["api-1 killed", "api-1 started again", &format!("curl -x http://{base}1:15001")] {
        assert!(progress.contains(part), "{part:?} in {progress}");
    }
    let summary: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(summary["failures"], 0, "{summary:#}");
    assert_eq!(summary["mtls_share"], 1.0, "{summary:#}");
    assert!(summary["requests"].as_u64().unwrap() > 200, "{summary:#}");
    assert!(summary["retries"].as_u64().unwrap() > 0, "one replica fails: {summary:#}");
    for service in ["web", "api", "data", "echo"] {
        assert!(summary["services"][service]["requests"].as_u64().unwrap() > 0, "{summary:#}");
        assert_eq!(summary["services"][service]["mtls_share"], 1.0, "{summary:#}");
    }
    assert_eq!(fs::read_dir(temp.path()).unwrap().count(), 0, "nothing is left behind");
}

#[test]
fn ctrl_c_ends_a_demo_without_end_and_leaves_nothing_behind() {
    let mut demo = Demo::start("127.0.63.", &[]);
    demo.wait_for("sent, 0 failed");
    assert_eq!(demo.children().len(), 16, "{:#?}", demo.children());
    demo.send(Signal::INT);
    let status = demo.child.wait().unwrap();
    assert_eq!(demo.children(), [""; 0]);
    assert!(demo.is_tidy());
    // Right after the start the client has not sent enough to call it a success.
    assert!(status.code().is_some(), "{status}");
}

#[test]
fn sigterm_while_the_mesh_starts_leaves_nothing_behind() {
    let mut demo = Demo::start("127.0.64.", &["--for", "1m"]);
    demo.wait_for("starting 7 applications");
    demo.send(Signal::TERM);
    let status = demo.child.wait().unwrap();
    assert_eq!(status.code(), Some(143));
    assert_eq!(demo.children(), [""; 0]);
    assert!(demo.is_tidy());
}

#[test]
fn children_go_with_a_demo_that_is_killed() {
    let mut demo = Demo::start("127.0.65.", &["--for", "1m"]);
    demo.wait_for("starting 8 sidecars");
    assert!(!demo.children().is_empty());
    demo.send(Signal::KILL);
    demo.child.wait().unwrap();
    let patience = Instant::now() + Duration::from_secs(5);
    while !demo.children().is_empty() {
        assert!(Instant::now() < patience, "left behind: {:#?}", demo.children());
        std::thread::sleep(Duration::from_millis(50));
    }
}
