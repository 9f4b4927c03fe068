//! The idle HTTP/1.1 connections to one peer, and how long the peer keeps them: a request on one
//! that the peer is just about to close may be lost, and only some may be sent again.

use std::fmt;
use std::task::{Context, Waker};
use std::time::{Duration, Instant};

use crate::http1::Connection;

/// Idle connections kept to one peer.
const MAX_IDLE: usize = 128;

/// How long an idle connection is kept to a peer of which nothing is known.
const MAX_IDLE_TIME: Duration = Duration::from_secs(60);

/// A peer that closes a connection sooner does it for another reason than its idleness.
const SHORTEST_TIMEOUT: Duration = Duration::from_secs(1);

/// How long it is believed what a peer's timeout was.
const MEMORY: Duration = Duration::from_secs(600);

/// The idle connections to one peer, the one used last at the end.
#[derive(Default)]
pub(super) struct Idle {
    connections: Vec<Kept>,
    timeout: Option<Timeout>,
}

struct Kept {
    connection: Connection,
    since: Instant,
}

/// How long the peer keeps idle connections, and when that was learnt.
#[derive(Debug, Clone, Copy)]
struct Timeout {
    limit: Duration,
    learnt: Instant,
}

impl fmt::Debug for Idle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Idle")
            .field("connections", &self.connections.len())
            .field("timeout", &self.timeout)
            .finish()
    }
}

impl Idle {
    /// The connection used last, unless the peer is about to close it.
    pub(super) fn take(&mut self, now: Instant) -> Option<Connection> {
        let mut nobody = Context::from_waker(Waker::noop());
        while let Some(mut kept) = self.connections.pop() {
            if now.saturating_duration_since(kept.since) >= self.longest(now) {
                // Those below it are idle for longer yet.
                self.connections.clear();
            } else if !kept.connection.is_spent(&mut nobody) {
                return Some(kept.connection);
            }
        }
        None
    }

    /// Keeps a connection, whose peer may have said for how long it does (`Keep-Alive`); `watcher`
    /// is woken when it can be used no more.
    pub(super) fn give(
        &mut self,
        mut connection: Connection,
        said: Option<Duration>,
        now: Instant,
        watcher: &Waker,
    ) {
        if let Some(timeout) = said {
            self.learn(timeout, now);
        }
        let spent = connection.is_spent(&mut Context::from_waker(watcher));
        if !spent && self.connections.len() < MAX_IDLE {
            self.connections.push(Kept { connection, since: now });
        }
    }

    /// Drops what the peer has closed, and learns from it after how long it did.
    pub(super) fn watch(&mut self, now: Instant, cx: &mut Context<'_>) {
        for mut kept in std::mem::take(&mut self.connections) {
            if kept.connection.is_spent(cx) {
                self.learn(now.saturating_duration_since(kept.since), now);
            } else {
                self.connections.push(kept);
            }
        }
    }

    /// Closes what has been idle for long; says whether anything is left.
    pub(super) fn sweep(&mut self, now: Instant) -> bool {
        let longest = self.longest(now);
        for kept in std::mem::take(&mut self.connections) {
            if now.saturating_duration_since(kept.since) < longest {
                self.connections.push(kept);
            } else {
                kept.connection.close();
            }
        }
        !self.connections.is_empty() || self.believed(now).is_some()
    }

    fn learn(&mut self, timeout: Duration, now: Instant) {
        let shorter = self.believed(now).is_none_or(|known| timeout <= known);
        if shorter && timeout >= SHORTEST_TIMEOUT {
            self.timeout = Some(Timeout { limit: timeout, learnt: now });
        }
    }

    fn believed(&self, now: Instant) -> Option<Duration> {
        let timeout = self.timeout?;
        (now.saturating_duration_since(timeout.learnt) < MEMORY).then_some(timeout.limit)
    }

    /// How long a connection may be idle to be used again: a fifth less than the peer keeps it, so
    /// that a request that is on its way arrives before.
    fn longest(&self, now: Instant) -> Duration {
        let shorter = |timeout: Duration| (timeout - timeout / 5).min(MAX_IDLE_TIME);
        self.believed(now).map_or(MAX_IDLE_TIME, shorter)
    }
}

/// The timeout that a response announces (`Keep-Alive: timeout=5`), in whole seconds.
pub(super) fn announced(value: &str) -> Option<Duration> {
    let timeout = value.split(',').find_map(|part| part.trim().strip_prefix("timeout="))?;
    timeout.trim_matches('"').parse().ok().map(Duration::from_secs)
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    #[test]
    fn the_shortest_timeout_is_believed_for_a_while() {
        let (mut idle, now) = (Idle::default(), Instant::now());
        assert_eq!(idle.longest(now), MAX_IDLE_TIME);
        idle.learn(5 * SECOND, now);
        assert_eq!(idle.longest(now), 4 * SECOND);
        idle.learn(20 * SECOND, now);
        assert_eq!(idle.longest(now), 4 * SECOND, "a longer one says nothing");
        idle.learn(SECOND / 2, now);
        assert_eq!(idle.longest(now), 4 * SECOND, "closed for another reason");
        assert_eq!(idle.longest(now + MEMORY), MAX_IDLE_TIME);
    }

    #[test]
    fn what_a_response_announces_is_read() {
        assert_eq!(announced("timeout=5"), Some(5 * SECOND));
        assert_eq!(announced("max=100, timeout=7"), Some(7 * SECOND));
        assert_eq!(announced("timeout=x"), None);
        assert_eq!(announced("max=5"), None);
        let (mut idle, now) = (Idle::default(), Instant::now());
        idle.learn(announced(&format!("timeout={}", u64::MAX)).unwrap(), now);
        assert_eq!(idle.longest(now), MAX_IDLE_TIME, "whatever it says");
    }
}
