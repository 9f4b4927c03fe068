//! A network namespace that ends, with all that runs in it, with the value that stands for it.

use std::fs;
use std::io;
use std::net::{SocketAddr, TcpListener};
use std::os::fd::AsFd;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::Once;
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};
use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};
use tokio::io::AsyncWriteExt;

use crate::kept::MARK;
use crate::tools;

/// Where `ip` keeps the names of namespaces.
const NAMES: &str = "/run/netns";

/// Where `ip netns exec` finds the files of a namespace that stand in for those in `/etc`.
const FILES: &str = "/etc/netns";

/// What every name of ours begins with; the id of the process that made it follows.
const PREFIX: &str = "pillion-";

/// What the names of houses' temporary directories begin with; the id of the process follows.
pub(super) const DIRECTORIES: &str = "pillion-house-";

/// Longest wait for killed processes to be gone.
const GONE: Duration = Duration::from_secs(5);

static SWEEP: Once = Once::new();

/// A network namespace `pillion-PID-NUMBER-NAME`. Dropped, its processes are killed and it is
/// removed, also when the test panics; what a killed test left is removed by the next one.
#[derive(Debug)]
pub struct Namespace {
    name: String,
}

impl Namespace {
    /// The name of the namespace `name` of the house `house` of this process.
    pub(super) fn name_of(house: u32, name: &str) -> String {
        format!("{PREFIX}{}-{house}-{name}", std::process::id())
    }

    /// Makes an empty one, with loopback up.
    ///
    /// # Panics
    /// When that is not allowed here.
    pub(super) async fn create(name: String) -> Self {
        SWEEP.call_once(sweep);
        ip(None, &format!("netns add {name}\n")).await;
        let namespace = Self { name };
        ip(Some(&namespace.name), "link set lo up\n").await;
        namespace
    }

    /// Its name, as `ip netns exec` wants it.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Puts a file in the place of the one of this name in `/etc`, for what is started from now
    /// on. The namespace sees what is written to `file` later, if it is written in place.
    pub(super) fn replace_in_etc(&self, name: &str, file: &Path) {
        let dir = Path::new(FILES).join(&self.name);
        fs::create_dir_all(&dir).expect("a directory in /etc/netns");
        std::os::unix::fs::symlink(file, dir.join(name)).expect("a link in /etc/netns");
    }

    /// A listener in it for the test's own process. Whoever is there reaches it, and nobody else.
    ///
    /// # Panics
    /// When the address is none of the namespace's, or taken.
    pub(super) fn listen(&self, address: SocketAddr) -> TcpListener {
        let inside = fs::File::open(Path::new(NAMES).join(&self.name)).expect("a namespace");
        // A thread of its own enters the namespace, and ends; the socket stays where it was made.
        let thread = std::thread::spawn(move || {
            let kind = Some(LinkNameSpaceType::Network);
            move_into_link_name_space(inside.as_fd(), kind).expect("root may enter");
            TcpListener::bind(address).expect("a free address of the namespace")
        });
        thread.join().expect("a listener")
    }

    /// Kills every process in it but `spared`, and waits until they are gone.
    pub(super) fn kill_all_but(&self, spared: &[u32]) {
        kill_all(&self.name, spared);
    }
}

impl Drop for Namespace {
    fn drop(&mut self) {
        remove(&self.name);
    }
}

/// Runs lines of `ip`, all in one process, within `namespace`.
///
/// # Panics
/// When one fails.
pub(super) async fn ip(namespace: Option<&str>, lines: &str) {
    let inside = namespace.into_iter().flat_map(|name| ["-n", name]);
    let mut child = tokio::process::Command::from(Command::new(program()))
        .args(inside.chain(["-batch", "-"]))
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .kill_on_drop(true)
        .spawn()
        .expect("ip starts");
    let mut stdin = child.stdin.take().expect("it is piped");
    stdin.write_all(lines.as_bytes()).await.expect("ip reads");
    drop(stdin);
    let output = child.wait_with_output().await.expect("ip ends");
    assert!(
        output.status.success(),
        "`ip` failed in {namespace:?}; the house makes network namespaces, and in a container \
         that needs a privileged one:\n{}\nof\n{lines}",
        String::from_utf8_lossy(&output.stderr)
    );
}

/// The program `ip`.
pub(super) fn program() -> PathBuf {
    tools::find("ip", "iproute2")
}

/// Removes what tests left that were killed: their process is gone. The first house of a process
/// does that before all else.
pub fn sweep() {
    let names = [NAMES, FILES].iter().flat_map(|dir| entries(Path::new(dir)));
    names.filter(|name| is_of_the_dead(name, PREFIX)).for_each(|name| remove(&name));
    let temporary = std::env::temp_dir();
    let directories = entries(&temporary).filter(|name| is_of_the_dead(name, DIRECTORIES));
    for directory in directories.map(|name| temporary.join(name)) {
        if !directory.join(MARK).exists() {
            // Another process may be at it as well.
            let _ = fs::remove_dir_all(directory);
        }
    }
}

fn entries(dir: &Path) -> impl Iterator<Item = String> {
    let entries = fs::read_dir(dir).into_iter().flatten().flatten();
    entries.filter_map(|entry| entry.file_name().into_string().ok())
}

/// Whether a name is `PREFIX`, the id of a process that is no more, and the rest after a dash.
fn is_of_the_dead(name: &str, prefix: &str) -> bool {
    let maker = name.strip_prefix(prefix).and_then(|rest| rest.split_once('-'));
    let maker = maker.map(|(pid, _)| pid).filter(|pid| pid.bytes().all(|b| b.is_ascii_digit()));
    maker.is_some_and(|pid| !pid.is_empty() && !Path::new("/proc").join(pid).exists())
}

/// Removes a namespace as far as it is there: another process may be at it as well.
fn remove(name: &str) {
    kill_all(name, &[]);
    let _ = Command::new(program())
        .args(["netns", "del", name])
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .status();
    let _ = fs::remove_dir_all(Path::new(FILES).join(name));
}

fn kill_all(name: &str, spared: &[u32]) {
    let deadline = Instant::now() + GONE;
    loop {
        let running = processes(name).unwrap_or_default();
        let mut doomed = running.into_iter().filter(|pid| !spared.contains(pid)).peekable();
        if doomed.peek().is_none() || Instant::now() > deadline {
            return;
        }
        for pid in doomed {
            let pid = i32::try_from(pid).ok().and_then(Pid::from_raw);
            // It may have ended by itself.
            let _ = pid.map(|pid| kill_process(pid, Signal::KILL));
        }
        std::thread::sleep(Duration::from_millis(5));
    }
}

/// The processes whose network namespace is the one of this name; not those that have ended and
/// are only waited for, which have none.
fn processes(name: &str) -> io::Result<Vec<u32>> {
    let namespace = fs::metadata(Path::new(NAMES).join(name))?;
    let is_inside = |pid: &u32| {
        fs::metadata(format!("/proc/{pid}/ns/net"))
            .is_ok_and(|net| (net.dev(), net.ino()) == (namespace.dev(), namespace.ino()))
    };
    let entries = fs::read_dir("/proc")?.flatten();
    let pids = entries.filter_map(|entry| entry.file_name().to_str()?.parse().ok());
    Ok(pids.filter(is_inside).collect())
}
