//! Leaving: the one signal that all connections hear, and the count of what still runs.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::time::Duration;

use tokio::sync::watch;
use tokio::time::Instant;

/// How long nothing must have run before the sidecar leaves ahead of its deadline: time enough
/// for clients to hear that it is gone.
const QUIET: Duration = Duration::from_millis(500);

/// How long a client's idle connection of HTTP/1 is kept. On one that is used, the next response
/// says `Connection: close`; one that is closed unasked may lose a request that crosses.
const LINGER: Duration = Duration::from_secs(1);

/// How often the count is looked at.
const TICK: Duration = Duration::from_millis(50);

/// Shared by everything that serves.
#[derive(Debug, Clone)]
pub struct Drain(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    begun: watch::Sender<bool>,
    running: AtomicUsize,
    /// Grows with every connection, so that a short one between two looks is seen.
    seen: AtomicU64,
}

/// One connection that runs; gone when dropped.
#[derive(Debug)]
pub struct Running(Arc<Shared>);

impl Drop for Running {
    fn drop(&mut self) {
        self.0.running.fetch_sub(1, Ordering::Relaxed);
    }
}

impl Default for Drain {
    fn default() -> Self {
        Self(Arc::new(Shared {
            begun: watch::Sender::new(false),
            running: AtomicUsize::new(0),
            seen: AtomicU64::new(0),
        }))
    }
}

impl Drain {
    /// Counts a connection for as long as the guard lives.
    pub fn run(&self) -> Running {
        self.0.running.fetch_add(1, Ordering::Relaxed);
        self.0.seen.fetch_add(1, Ordering::Relaxed);
        Running(Arc::clone(&self.0))
    }

    /// Tells everything that serves to finish.
    pub fn begin(&self) {
        self.0.begun.send_replace(true);
    }

    /// Whether it has begun.
    pub fn has_begun(&self) -> bool {
        *self.0.begun.borrow()
    }

    /// Resolves when it begins.
    pub async fn begun(&self) {
        let mut begun = self.0.begun.subscribe();
        // The sender lives in `self`, so this ends only when the value is true.
        let _ = begun.wait_for(|begun| *begun).await;
    }

    /// Resolves when an idle connection of HTTP/1 is no longer waited for.
    pub async fn lingered(&self) {
        self.begun().await;
        tokio::time::sleep(LINGER).await;
    }

    /// Resolves when nothing has run for a moment, or at the deadline; says what still runs then.
    pub async fn finished(&self, deadline: Instant) -> usize {
        let mut quiet_since = Instant::now();
        let mut seen = self.0.seen.load(Ordering::Relaxed);
        loop {
            let now = Instant::now();
            let running = self.0.running.load(Ordering::Relaxed);
            let seen_now = self.0.seen.load(Ordering::Relaxed);
            if running > 0 || seen_now != seen {
                (quiet_since, seen) = (now, seen_now);
            }
            if now.duration_since(quiet_since) >= QUIET || now >= deadline {
                return running;
            }
            tokio::time::sleep(TICK).await;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn leaves_when_the_last_connection_has_gone() {
        let drain = Drain::default();
        let running = drain.run();
        let far = Instant::now() + Duration::from_secs(60);
        let finished = drain.finished(far);
        tokio::pin!(finished);
        let early = tokio::time::timeout(2 * QUIET, &mut finished).await;
        assert!(early.is_err(), "must not leave while a connection runs");
        drop(running);
        assert_eq!(finished.await, 0);
        assert!(Instant::now() < far);
    }

    #[tokio::test]
    async fn an_idle_connection_is_kept_for_a_moment() {
        let drain = Drain::default();
        drain.begin();
        let started = Instant::now();
        drain.lingered().await;
        assert!(started.elapsed() >= LINGER);
    }

    #[tokio::test]
    async fn leaves_at_the_deadline_and_says_what_runs() {
        let drain = Drain::default();
        let _running = drain.run();
        assert_eq!(drain.finished(Instant::now() + 2 * TICK).await, 1);
    }

    #[tokio::test]
    async fn all_hear_it_begin_even_late() {
        let drain = Drain::default();
        assert!(!drain.has_begun());
        drain.begin();
        drain.begun().await;
        assert!(drain.has_begun());
    }
}
