//! What the sidecar does when the memory that it may use is nearly used up: it takes on nothing
//! new. Who is over the limit of a container is killed, with all that it carries.
//!
//! The kernel counts pages, sockets and what waits in them (cgroups, memory controller). That is
//! looked at here from time to time, where the sidecar has a group of its own.

use std::sync::atomic::{AtomicU8, Ordering};
use std::time::Duration;

use model::code::ErrorCode;
use prometheus::IntGauge;
use tokio::sync::Notify;
use tokio::time::sleep;

use self::group::{Group, Used};
use crate::error::ProxyError;

mod group;

/// Percent of the limit from which on connections wait in the kernel. Those there may still ask, so
/// that many that rest do not keep others from being served.
const NO_CONNECTIONS: u64 = 80;

/// Percent of the limit from which on requests are refused.
const NO_REQUESTS: u64 = 90;

/// By so many percent it must have got less before more is taken on.
const EASED: u64 = 5;

/// How often is looked, while less than half is used, and from there on.
const SELDOM: Duration = Duration::from_millis(500);
const OFTEN: Duration = Duration::from_millis(50);

/// How the memory stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
#[repr(u8)]
enum Level {
    Enough,
    NoConnections,
    NoRequests,
}

/// What is known of it, for all workers.
#[derive(Debug, Default)]
pub struct Memory {
    level: AtomicU8,
    eased: Notify,
}

impl Memory {
    /// Refuses a request or a tunnel while there is no room for it.
    ///
    /// # Errors
    /// `overload`.
    pub fn check(&self) -> Result<(), ProxyError> {
        if self.level.load(Ordering::Relaxed) < Level::NoRequests as u8 {
            return Ok(());
        }
        Err(ProxyError::new(ErrorCode::Overload, "the sidecar's memory is nearly used up"))
    }

    /// Resolves while there is room for another connection.
    pub async fn has_room(&self) {
        loop {
            let eased = self.eased.notified();
            if self.level.load(Ordering::Relaxed) < Level::NoConnections as u8 {
                return;
            }
            eased.await;
        }
    }

    /// Looks at what is used for as long as the sidecar lives; `pressure` shows what comes of it.
    pub async fn watch(&self, pressure: &IntGauge) {
        let Some(group) = Group::own() else { return };
        tracing::info!(limit = group.limit(), "memory is watched");
        let mut level = Level::Enough;
        loop {
            let Some(used) = group.used() else { return };
            let next = judge(level, used);
            if next != level {
                self.set(next);
                pressure.set(i64::from(next as u8));
                tell(next, used);
                level = next;
            }
            sleep(if used.percent() < 50 { SELDOM } else { OFTEN }).await;
        }
    }

    fn set(&self, level: Level) {
        self.level.store(level as u8, Ordering::Relaxed);
        if level < Level::NoConnections {
            self.eased.notify_waiters();
        }
    }
}

fn tell(level: Level, used: Used) {
    let Used { bytes, limit } = used;
    match level {
        Level::Enough => tracing::info!(used = bytes, limit, "there is enough memory again"),
        Level::NoConnections => {
            tracing::warn!(used = bytes, limit, "memory is nearly used up: connections wait");
        }
        Level::NoRequests => {
            tracing::warn!(used = bytes, limit, "memory is nearly used up: requests are refused");
        }
    }
}

/// How it stands now: what was reached stays until it is well below.
fn judge(before: Level, used: Used) -> Level {
    let percent = used.percent();
    let above =
        |bound: u64, level: Level| percent >= if before >= level { bound - EASED } else { bound };
    if above(NO_REQUESTS, Level::NoRequests) {
        Level::NoRequests
    } else if above(NO_CONNECTIONS, Level::NoConnections) {
        Level::NoConnections
    } else {
        Level::Enough
    }
}

#[cfg(test)]
mod tests {
    use futures_util::FutureExt;

    use super::*;

    #[test]
    fn what_was_reached_stays_until_it_is_well_below() {
        let steps = [
            (79, Level::Enough),
            (80, Level::NoConnections),
            (76, Level::NoConnections),
            (89, Level::NoConnections),
            (90, Level::NoRequests),
            (85, Level::NoRequests),
            (84, Level::NoConnections),
            (74, Level::Enough),
            (100, Level::NoRequests),
            (0, Level::Enough),
        ];
        let mut level = Level::Enough;
        for (bytes, expected) in steps {
            level = judge(level, Used { bytes, limit: 100 });
            assert_eq!(level, expected, "at {bytes}");
        }
    }

    #[test]
    fn connections_wait_and_requests_are_refused() {
        let memory = Memory::default();
        assert!(memory.check().is_ok() && memory.has_room().now_or_never().is_some());
        memory.set(Level::NoConnections);
        assert!(memory.check().is_ok());
        let mut waits = Box::pin(memory.has_room());
        assert!(waits.as_mut().now_or_never().is_none());
        memory.set(Level::NoRequests);
        assert_eq!(memory.check().unwrap_err().code, ErrorCode::Overload);
        memory.set(Level::Enough);
        assert!(waits.now_or_never().is_some(), "who waits is woken");
        assert!(memory.check().is_ok());
    }
}
