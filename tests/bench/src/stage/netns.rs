//! A network namespace that ends, with all that runs in it, with the value that stands for it.

use std::fs;
use std::io::Write;
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, ensure};
use tests::tools;

use super::mark;

/// Where `ip` keeps the names of namespaces.
const NAMES: &str = "/run/netns";

/// Longest wait for killed processes to be gone.
const GONE: Duration = Duration::from_secs(5);

/// A network namespace, with loopback up.
#[derive(Debug)]
pub(crate) struct Namespace {
    name: String,
}

impl Namespace {
    /// Makes an empty one.
    ///
    /// # Errors
    /// When that is not allowed here.
    pub(crate) fn create(name: &str) -> anyhow::Result<Self> {
        let name = mark::of_this_process() + &name.replace(['/', '@'], "_");
        ip(None, &format!("netns add {name}\n"))?;
        let namespace = Self { name };
        namespace.ip("link set lo up\n")?;
        Ok(namespace)
    }

    /// Its name, as `ip netns exec` wants it.
    pub(crate) fn name(&self) -> &str {
        &self.name
    }

    /// Runs lines of `ip` in it.
    ///
    /// # Errors
    /// When one fails.
    pub(crate) fn ip(&self, lines: &str) -> anyhow::Result<()> {
        ip(Some(&self.name), lines)
    }

    /// Ties two of them together: `(device, address/prefix)` of each end.
    ///
    /// # Errors
    /// When `ip` fails.
    pub(crate) fn join(
        &self,
        own: (&str, &str),
        other: &Self,
        its: (&str, &str),
    ) -> anyhow::Result<()> {
        let (here, there) = (self.name(), other.name());
        ip(
            None,
            &format!("link add {} netns {here} type veth peer {} netns {there}\n", own.0, its.0),
        )?;
        for (namespace, (device, address)) in [(self, own), (other, its)] {
            namespace.ip(&format!("addr add {address} dev {device}\nlink set {device} up\n"))?;
        }
        Ok(())
    }
}

impl Drop for Namespace {
    fn drop(&mut self) {
        remove(&self.name);
    }
}

/// Removes what a benchmark left that was killed.
pub(crate) fn sweep() {
    let dead = |dir: &Path| {
        let names = fs::read_dir(dir).into_iter().flatten().flatten();
        let names = names.filter_map(|entry| entry.file_name().into_string().ok());
        names.filter(|name| mark::is_of_the_dead(name)).collect::<Vec<_>>()
    };
    dead(Path::new(NAMES)).iter().for_each(|name| remove(name));
    let temporary = std::env::temp_dir();
    for name in dead(&temporary) {
        // What cannot be removed does not hinder.
        let _ = fs::remove_dir_all(temporary.join(name));
    }
}

fn ip(namespace: Option<&str>, lines: &str) -> anyhow::Result<()> {
    let inside = namespace.into_iter().flat_map(|name| ["-n", name]);
    let mut child = Command::new(tools::find("ip", "iproute2"))
        .args(inside.chain(["-batch", "-"]))
        .stdin(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .context("ip does not start")?;
    let mut stdin = child.stdin.take().context("ip has no input")?;
    stdin.write_all(lines.as_bytes())?;
    drop(stdin);
    let output = child.wait_with_output()?;
    let said = String::from_utf8_lossy(&output.stderr);
    ensure!(output.status.success(), "`ip` failed (in a container: is it privileged?):\n{said}");
    Ok(())
}

fn remove(name: &str) {
    let deadline = Instant::now() + GONE;
    while Instant::now() < deadline {
        let running = processes(name);
        if running.is_empty() {
            break;
        }
        for pid in running {
            // It may have ended by itself.
            let _ = rustix::process::kill_process(pid, rustix::process::Signal::KILL);
        }
        std::thread::sleep(Duration::from_millis(5));
    }
    let _ = Command::new(tools::find("ip", "iproute2")).args(["netns", "del", name]).status();
}

/// The processes in a namespace, but not those that have ended and are only waited for.
fn processes(name: &str) -> Vec<rustix::process::Pid> {
    let Ok(namespace) = fs::metadata(Path::new(NAMES).join(name)) else { return Vec::new() };
    let is_inside = |pid: &i32| {
        fs::metadata(format!("/proc/{pid}/ns/net"))
            .is_ok_and(|net| (net.dev(), net.ino()) == (namespace.dev(), namespace.ino()))
    };
    let entries = fs::read_dir("/proc").into_iter().flatten().flatten();
    let pids = entries.filter_map(|entry| entry.file_name().to_str()?.parse::<i32>().ok());
    pids.filter(is_inside).filter_map(rustix::process::Pid::from_raw).collect()
}
