//! Leaving: the signals that all connections and all listeners hear, and the count of what still
//! runs.
//!
//! At first everything new is still served, for whoever uses the sidecar may leave later than it
//! does. Under steady load that would never end, so that the last of the time belongs to what runs
//! then: what comes is refused, and a client knows that it was never sent.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use tokio::sync::watch;
use tokio::time::Instant;

use crate::rarely::Rarely;

/// How long nothing must have run before the sidecar leaves ahead of its deadline: time enough
/// for clients to hear that it is gone.
const QUIET: Duration = Duration::from_millis(500);

/// How much of the time before the deadline is for what runs, and nothing new is accepted: half of
/// it where that is shorter.
const LAST: Duration = Duration::from_secs(5);

/// How long a connection of HTTP/1 within another one may rest, which it would hold up.
const LINGER: Duration = Duration::from_secs(1);

/// How often the count is looked at.
const TICK: Duration = Duration::from_millis(50);

/// Shared by everything that serves.
#[derive(Debug, Clone)]
pub struct Drain {
    shared: Arc<Shared>,
    /// For what is carried on a connection that is counted itself.
    within: bool,
}

#[derive(Debug)]
struct Shared {
    begun: watch::Sender<bool>,
    closing: watch::Sender<bool>,
    listening: AtomicUsize,
    running: AtomicUsize,
    resting: AtomicUsize,
    /// Grows with every connection, so that a short one between two looks is seen.
    seen: AtomicU64,
}

/// One connection that runs; gone when dropped.
#[derive(Debug)]
pub struct Running(Arc<Shared>);

/// A listener that accepts; gone when dropped.
#[derive(Debug)]
pub struct Listening(Arc<Shared>);

impl Drop for Listening {
    fn drop(&mut self) {
        self.0.listening.fetch_sub(1, Ordering::Release);
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        self.0.running.fetch_sub(1, Ordering::Relaxed);
    }
}

/// A connection of HTTP/1 between its requests, which does not hold up the end. It is not closed
/// for that: a client may be sending the next request, which would be lost, while an answer to it
/// can say `Connection: close`. It goes with the process; one that is carried on another connection
/// goes after a moment.
pub(crate) struct Rest<'a, F> {
    drain: &'a Drain,
    /// Resolves when resting begins to matter; `None` when it has.
    leave: Option<Rarely<F>>,
    resting: Option<Resting<'a>>,
}

/// Counts a connection among those that rest instead of those that run.
struct Resting<'a>(&'a Shared);

impl<F: Future<Output = ()>> Rest<'_, F> {
    /// There is nothing to do now; resolves when that is the end.
    pub(crate) fn poll(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        if let Some(leave) = &mut self.leave {
            ready!(Pin::new(leave).poll(cx));
            self.leave = None;
        }
        if self.drain.within {
            return Poll::Ready(());
        }
        self.resting.get_or_insert_with(|| Resting::new(&self.drain.shared));
        Poll::Pending
    }

    /// There is something.
    pub(crate) fn over(&mut self) {
        self.resting = None;
    }
}

impl<'a> Resting<'a> {
    fn new(shared: &'a Shared) -> Self {
        shared.resting.fetch_add(1, Ordering::Relaxed);
        shared.running.fetch_sub(1, Ordering::Relaxed);
        Self(shared)
    }
}

impl Drop for Resting<'_> {
    fn drop(&mut self) {
        self.0.running.fetch_add(1, Ordering::Relaxed);
        self.0.seen.fetch_add(1, Ordering::Relaxed);
        self.0.resting.fetch_sub(1, Ordering::Relaxed);
    }
}

impl Default for Drain {
    fn default() -> Self {
        let shared = Arc::new(Shared {
            begun: watch::Sender::new(false),
            closing: watch::Sender::new(false),
            listening: AtomicUsize::new(0),
            running: AtomicUsize::new(0),
            resting: AtomicUsize::new(0),
            seen: AtomicU64::new(0),
        });
        Self { shared, within: false }
    }
}

impl Drain {
    /// Counts a connection for as long as the guard lives.
    pub fn run(&self) -> Running {
        self.shared.running.fetch_add(1, Ordering::Relaxed);
        self.shared.seen.fetch_add(1, Ordering::Relaxed);
        Running(Arc::clone(&self.shared))
    }

    /// Counts a listener for as long as the guard lives. What it has accepted must be counted
    /// before that ends.
    pub fn listen(&self) -> Listening {
        self.shared.listening.fetch_add(1, Ordering::Relaxed);
        Listening(Arc::clone(&self.shared))
    }

    /// Tells everything that serves to finish.
    pub fn begin(&self) {
        self.shared.begun.send_replace(true);
    }

    /// Whether it has begun.
    pub fn has_begun(&self) -> bool {
        *self.shared.begun.borrow()
    }

    /// Resolves when it begins.
    pub async fn begun(&self) {
        is_true(&self.shared.begun).await;
    }

    /// For a connection that is carried on another one, which runs for as long.
    pub(crate) fn within(&self) -> Self {
        Self { shared: Arc::clone(&self.shared), within: true }
    }

    /// For a connection that runs, and has nothing to do from time to time.
    pub(crate) fn rest(&self) -> Rest<'_, impl Future<Output = ()>> {
        let leave = async {
            self.begun().await;
            if self.within {
                tokio::time::sleep(LINGER).await;
            }
        };
        Rest { drain: self, leave: Some(Rarely::new(leave)), resting: None }
    }

    /// Resolves when listeners are to close.
    pub async fn closing(&self) {
        is_true(&self.shared.closing).await;
    }

    /// Resolves when nothing has run for a moment, or at the deadline; says what still runs then.
    /// Shortly before the deadline the listeners are told to close, and it resolves as soon as no
    /// connection is left.
    pub async fn finished(&self, deadline: Instant) -> usize {
        let mut quiet_since = Instant::now();
        let closing_at = deadline - LAST.min((deadline - quiet_since) / 2);
        let mut seen = self.shared.seen.load(Ordering::Relaxed);
        loop {
            let now = Instant::now();
            if now >= closing_at {
                self.shared.closing.send_replace(true);
            }
            // First the listeners: what the last of them has accepted is counted by then.
            let closed = self.shared.listening.load(Ordering::Acquire) == 0;
            let running = self.shared.running.load(Ordering::Relaxed);
            let resting = self.shared.resting.load(Ordering::Relaxed);
            let seen_now = self.shared.seen.load(Ordering::Relaxed);
            if running > 0 || seen_now != seen {
                (quiet_since, seen) = (now, seen_now);
            }
            let quiet = now.duration_since(quiet_since) >= QUIET;
            if quiet || (closed && running + resting == 0) || now >= deadline {
                return running;
            }
            tokio::time::sleep(TICK).await;
        }
    }
}

async fn is_true(signal: &watch::Sender<bool>) {
    // The sender outlives the borrow, so this ends only when the value is true.
    let _ = signal.subscribe().wait_for(|value| *value).await;
}

#[cfg(test)]
mod tests {
    use std::future::poll_fn;

    use super::*;

    #[tokio::test]
    async fn leaves_when_the_last_connection_has_gone() {
        let drain = Drain::default();
        let _listening = drain.listen();
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
    async fn under_steady_load_the_last_of_the_time_is_for_what_runs() {
        let drain = Drain::default();
        let (listening, running) = (drain.listen(), drain.run());
        let started = Instant::now();
        let finished = drain.finished(started + 20 * TICK);
        tokio::pin!(finished);
        tokio::select! {
            _ = &mut finished => panic!("must not leave while something runs"),
            () = drain.closing() => {}
        }
        assert!(started.elapsed() >= 10 * TICK, "{:?}", started.elapsed());
        drop(running);
        let early = tokio::time::timeout(3 * TICK, &mut finished).await;
        assert!(early.is_err(), "must not leave while connections may be accepted");
        drop(listening);
        assert_eq!(finished.await, 0);
    }

    #[tokio::test]
    async fn a_connection_that_rests_holds_nothing_up_and_one_that_is_used_again_does() {
        let drain = Drain::default();
        let _listening = drain.listen();
        let _running = drain.run();
        let mut rest = drain.rest();
        let poll = async |rest: &mut Rest<'_, _>| {
            assert!(poll_fn(|cx| Poll::Ready(rest.poll(cx))).await.is_pending());
        };
        poll(&mut rest).await;
        drain.begin();
        poll(&mut rest).await;
        rest.over();
        let far = Instant::now() + Duration::from_secs(60);
        let finished = drain.finished(far);
        tokio::pin!(finished);
        let early = tokio::time::timeout(2 * QUIET, &mut finished).await;
        assert!(early.is_err(), "must not leave while a request runs");
        poll(&mut rest).await;
        assert_eq!(finished.await, 0);
        assert!(Instant::now() < far);
    }

    #[tokio::test]
    async fn one_within_another_ends_when_it_has_rested_for_a_moment() {
        let drain = Drain::default();
        let within = drain.within();
        let mut rest = within.rest();
        drain.begin();
        let started = Instant::now();
        poll_fn(|cx| rest.poll(cx)).await;
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
