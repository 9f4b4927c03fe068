//! Watches the directory: a thread that looks whenever the file system tells of a change, and
//! now and then in any case, for not every file system tells (NFS, links out of the directory).

use std::io;
use std::path::Path;
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::thread;
use std::time::{Duration, Instant};

use notify::event::{AccessKind, AccessMode, CreateKind, ModifyKind, RenameMode};
use notify::{EventKind, RecommendedWatcher, RecursiveMode, Watcher};
use tokio::sync::mpsc;

use super::Batch;
use super::directory::Directory;
use super::listing::Stamp;
use super::touch::Touch;

/// How often the directory is looked at when nothing is told.
const POLL: Duration = Duration::from_secs(1);

/// The least time between two looks.
const PAUSE: Duration = Duration::from_millis(20);

type Told = notify::Result<notify::Event>;

/// Starts the thread; it ends when the receiver of the batches is gone.
///
/// # Errors
/// When no thread can be made.
pub fn spawn(directory: Directory, batches: mpsc::Sender<Batch>) -> io::Result<()> {
    let work = move || watch(directory, &batches);
    thread::Builder::new().name("source".into()).spawn(work).map(drop)
}

fn watch(mut directory: Directory, batches: &mpsc::Sender<Batch>) {
    let (tell, told) = channel();
    let mut watched = Watched::default();
    loop {
        watched.renew(directory.root(), &tell);
        let scan = directory.scan(Instant::now());
        if let Some(batch) = scan.batch
            && batches.blocking_send(batch).is_err()
        {
            return;
        }
        if batches.is_closed() {
            return;
        }
        wait(&mut directory, &told, scan.again_at);
    }
}

/// The watch of the directory that is there now; another one may take its place.
#[derive(Default)]
struct Watched {
    watcher: Option<RecommendedWatcher>,
    root: Option<Stamp>,
}

impl Watched {
    /// Watches anew when the directory is not the one that was watched.
    fn renew(&mut self, root: &Path, tell: &std::sync::mpsc::Sender<Told>) {
        let now = Stamp::of(root).ok();
        if self.watcher.is_some() && same_directory(self.root, now) {
            return;
        }
        let tell = tell.clone();
        let watcher = notify::recommended_watcher(move |event| {
            // The thread that listens ends with the process.
            let _ = tell.send(event);
        });
        let watching = watcher.and_then(|mut watcher| {
            watcher.watch(root, RecursiveMode::Recursive)?;
            Ok(watcher)
        });
        if let Err(error) = &watching
            && self.root != now
        {
            tracing::warn!(%error, "cannot watch the directory; it is read every second instead");
        }
        (self.watcher, self.root) = (watching.ok(), now);
    }
}

fn same_directory(watched: Option<Stamp>, now: Option<Stamp>) -> bool {
    match (watched, now) {
        (Some(watched), Some(now)) => watched.is_same_file(now),
        (None, None) => true,
        _ => false,
    }
}

/// Waits for the next look and takes in what is told meanwhile.
fn wait(directory: &mut Directory, told: &Receiver<Told>, again_at: Option<Instant>) {
    let now = Instant::now();
    let until = again_at.map_or(now + POLL, |at| at.clamp(now + PAUSE, now + POLL));
    match told.recv_timeout(until.saturating_duration_since(now)) {
        Ok(first) => {
            take_in(directory, first);
            // One change is often told in several parts.
            thread::sleep(PAUSE);
            told.try_iter().for_each(|event| take_in(directory, event));
        }
        Err(RecvTimeoutError::Timeout) => {}
        // Nothing is told without a watcher.
        Err(RecvTimeoutError::Disconnected) => thread::sleep(until - now),
    }
}

fn take_in(directory: &mut Directory, told: Told) {
    let Ok(event) = told else { return };
    let Some(touch) = touch(event.kind) else { return };
    let root = directory.root().to_path_buf();
    for path in event.paths.iter().filter_map(|path| path.strip_prefix(&root).ok()) {
        directory.touched(path, touch, Instant::now());
    }
}

/// What an event says of the files that it names; `None` for those that say nothing of content.
fn touch(kind: EventKind) -> Option<Touch> {
    match kind {
        EventKind::Access(AccessKind::Close(AccessMode::Write))
        | EventKind::Modify(ModifyKind::Name(RenameMode::To | RenameMode::Both)) => {
            Some(Touch::Closed)
        }
        EventKind::Modify(ModifyKind::Data(_)) | EventKind::Create(CreateKind::File) => {
            Some(Touch::Written)
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use std::fs::{self, OpenOptions};
    use std::io::Write;

    use super::*;
    use crate::object::Object;
    use crate::source::Event;

    /// Longer than any change may take on a busy machine.
    const PATIENCE: Duration = Duration::from_secs(20);

    struct Scene {
        dir: tempfile::TempDir,
        batches: Receiver<Batch>,
    }

    impl Scene {
        fn new() -> Self {
            let dir = tempfile::tempdir().unwrap();
            let (sender, mut receiver) = mpsc::channel(16);
            let (forward, batches) = channel();
            fs::write(dir.path().join("a.yaml"), services(80)).unwrap();
            spawn(Directory::new(dir.path()), sender).unwrap();
            thread::spawn(move || {
                while let Some(batch) = receiver.blocking_recv() {
                    if forward.send(batch).is_err() {
                        return;
                    }
                }
            });
            let scene = Self { dir, batches };
            assert_eq!(scene.next_ports(), [80, 80]);
            scene
        }

        /// The first ports of all Services that the next batch with events tells of.
        fn next_ports(&self) -> Vec<u16> {
            loop {
                let batch = self.batches.recv_timeout(PATIENCE).expect("a change comes through");
                let ports: Vec<u16> = batch.events.iter().filter_map(port).collect();
                if !ports.is_empty() {
                    return ports;
                }
            }
        }

        /// The most that a change by `change` may take is a second; it must be seen whole.
        fn assert_seen_whole(&self, port: u16, change: impl FnOnce(&Path)) {
            change(&self.dir.path().join("a.yaml"));
            let done = Instant::now();
            assert_eq!(self.next_ports(), [port, port], "both at once");
            assert!(done.elapsed() < Duration::from_secs(5), "{:?}", done.elapsed());
        }
    }

    fn port(event: &Event) -> Option<u16> {
        let Event::Upsert(entry) = event else { return None };
        let Object::Service(service) = &entry.object else { return None };
        Some(service.ports[0].number)
    }

    fn services(port: u16) -> String {
        let one = |name: &str| {
            format!(
                "---\napiVersion: v1\nkind: Service\nmetadata:\n  name: {name}\nspec:\n  \
                 ports:\n  - port: {port}\n"
            )
        };
        one("a") + &one("b")
    }

    #[test]
    fn a_file_that_is_replaced_is_seen_whole() {
        let scene = Scene::new();
        scene.assert_seen_whole(81, |path| {
            let fresh = path.with_file_name("fresh.tmp");
            fs::write(&fresh, services(81)).unwrap();
            fs::rename(fresh, path).unwrap();
        });
    }

    #[test]
    fn a_file_that_is_rewritten_slowly_is_seen_whole() {
        let scene = Scene::new();
        scene.assert_seen_whole(82, |path| {
            let mut file = OpenOptions::new().write(true).truncate(true).open(path).unwrap();
            for part in services(82).as_bytes().chunks(40) {
                file.write_all(part).unwrap();
                thread::sleep(Duration::from_millis(60));
            }
        });
    }

    #[test]
    fn a_file_that_is_removed_and_put_back_at_once_loses_nothing() {
        let scene = Scene::new();
        scene.assert_seen_whole(83, |path| {
            fs::remove_file(path).unwrap();
            thread::sleep(Duration::from_millis(100));
            fs::write(path, services(83)).unwrap();
        });
        while let Ok(batch) = scene.batches.recv_timeout(Duration::from_millis(50)) {
            let gone = batch.events.iter().any(|event| matches!(event, Event::Delete(_)));
            assert!(!gone, "{batch:?}");
        }
    }

    #[test]
    fn a_directory_that_is_replaced_is_watched_again() {
        let scene = Scene::new();
        let root = scene.dir.path();
        let other = root.with_extension("other");
        fs::create_dir(&other).unwrap();
        fs::write(other.join("a.yaml"), services(84)).unwrap();
        fs::remove_dir_all(root).unwrap();
        fs::rename(&other, root).unwrap();
        assert_eq!(scene.next_ports(), [84, 84]);
        fs::write(root.join("a.yaml"), services(85)).unwrap();
        assert_eq!(scene.next_ports(), [85, 85]);
    }
}
