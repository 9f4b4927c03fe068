//! Ways in which API servers misbehave.

use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicI64, Ordering};
use std::time::{Duration, SystemTime};

use serde_json::Value;
use tokio::sync::watch;

use super::failure::Failure;

/// What to do wrong from now on.
#[derive(Debug)]
pub struct Faults {
    /// Failures for the next requests of a resource (any, when none is named).
    planned: Mutex<Vec<Planned>>,
    streaming_lists_fail: AtomicBool,
    /// What the client is told that it may not do, as `VERB RESOURCE`.
    denied: Mutex<Vec<String>>,
    /// How many seconds the clock is ahead.
    clock: AtomicI64,
    /// Every watch that is open heeds the newest; the number makes two alike different.
    interrupt: watch::Sender<(u64, Interrupt)>,
}

#[derive(Debug)]
struct Planned {
    resource: Option<String>,
    failure: Failure,
    left: usize,
}

/// What ends a watch.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Interrupt {
    /// The connection breaks.
    Break,
    /// The server ends the response.
    End,
    /// An ERROR event with 410.
    Expire,
}

impl Default for Faults {
    fn default() -> Self {
        let (interrupt, _) = watch::channel((0, Interrupt::End));
        Self {
            planned: Mutex::default(),
            streaming_lists_fail: AtomicBool::default(),
            denied: Mutex::default(),
            clock: AtomicI64::default(),
            interrupt,
        }
    }
}

impl Faults {
    /// Fails the next `times` requests of a resource, or of any.
    pub fn fail(&self, resource: Option<&str>, times: usize, failure: Failure) {
        let resource = resource.map(ToOwned::to_owned);
        self.planned.lock().unwrap().push(Planned { resource, failure, left: times });
    }

    /// Fails and denies no more, and knows the time.
    pub fn clear(&self) {
        self.planned.lock().unwrap().clear();
        self.denied.lock().unwrap().clear();
        self.streaming_lists_fail.store(false, Ordering::Relaxed);
        self.clock.store(0, Ordering::Relaxed);
    }

    /// Refuses streaming lists with 500, as with etcd before 3.5.13.
    pub fn refuse_streaming_lists(&self) {
        self.streaming_lists_fail.store(true, Ordering::Relaxed);
    }

    /// Says that nobody may do this, as `create tokenreviews` wherever it is asked of, or as
    /// `create configmaps in shop` and `create clusterroles in all namespaces`.
    pub fn deny(&self, what: &str) {
        self.denied.lock().unwrap().push(what.into());
    }

    /// Whether what a review asks about is denied.
    pub(super) fn denies(&self, attributes: &Value) -> bool {
        let text = |name: &str| attributes[name].as_str().unwrap_or_default();
        let what = format!("{} {}", text("verb"), text("resource"));
        let place = Some(text("namespace")).filter(|name| !name.is_empty());
        let there = format!("{what} in {}", place.unwrap_or("all namespaces"));
        self.denied.lock().unwrap().iter().any(|denied| *denied == what || *denied == there)
    }

    /// Has the answers say a time that is so many seconds ahead of the true one, or behind it.
    pub fn shift_clock(&self, seconds: i64) {
        self.clock.store(seconds, Ordering::Relaxed);
    }

    /// The time that an answer must say, where it is not the true one.
    pub(super) fn date(&self) -> Option<SystemTime> {
        let seconds = self.clock.load(Ordering::Relaxed);
        let apart = Duration::from_secs(seconds.unsigned_abs());
        let now = SystemTime::now();
        (seconds != 0).then(|| if seconds > 0 { now + apart } else { now - apart })
    }

    /// Breaks the connection of every watch.
    pub fn break_watches(&self) {
        self.interrupt(Interrupt::Break);
    }

    /// Ends every watch in order, as a real server does after some minutes.
    pub fn end_watches(&self) {
        self.interrupt(Interrupt::End);
    }

    /// Tells every watch that what it wants is forgotten: 410 Gone, in-band.
    pub fn expire_watches(&self) {
        self.interrupt(Interrupt::Expire);
    }

    fn interrupt(&self, interrupt: Interrupt) {
        self.interrupt.send_modify(|(number, now)| (*number, *now) = (*number + 1, interrupt));
    }

    /// The interrupts from now on.
    pub(super) fn interrupts(&self) -> watch::Receiver<(u64, Interrupt)> {
        self.interrupt.subscribe()
    }

    /// The failure that this request must meet, if any.
    pub(super) fn of_request(&self, resource: &str) -> Option<Failure> {
        let mut planned = self.planned.lock().unwrap();
        let applies = |plan: &&mut Planned| {
            plan.left > 0 && plan.resource.as_deref().is_none_or(|name| name == resource)
        };
        let plan = planned.iter_mut().find(applies)?;
        plan.left -= 1;
        Some(plan.failure.clone())
    }

    /// The failure of a streaming list, if it must fail.
    pub(super) fn of_streaming_list(&self) -> Option<Failure> {
        let message = "storage feature RequestWatchProgress is disabled";
        self.streaming_lists_fail.load(Ordering::Relaxed).then(|| Failure::internal(message))
    }
}
