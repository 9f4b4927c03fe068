//! Connections to endpoints and to the application: one pool a worker.
//!
//! Towards another sidecar: HTTP/2 streams on pooled mutual-TLS connections. Towards the
//! application, or an endpoint outside of the mesh: its own HTTP version, in plaintext.

pub mod connect;
mod failure;
mod http1;
mod http2;
mod idle;
pub mod pool;
mod shared;
mod tunnels;

use std::sync::Arc;
use std::time::{Duration, Instant};

use model::endpoint::Endpoint;

pub(crate) use failure::of_upgrade;
pub(crate) use http1::Home;
pub use pool::{Answered, Pool};
pub use shared::StreamGuard;

/// What a response holds until its body has ended: its place on a shared connection, and its share
/// of the endpoint's load.
#[derive(Debug, Default)]
pub struct Lease {
    _stream: Option<StreamGuard>,
    _load: Option<LoadGuard>,
}

impl Lease {
    /// The lease of a response on a shared connection, or on one of its own.
    pub const fn new(stream: Option<StreamGuard>) -> Self {
        Self { _stream: stream, _load: None }
    }

    /// Adds the load of the endpoint that answers.
    pub fn with_load(mut self, load: LoadGuard) -> Self {
        self._load = Some(load);
        self
    }
}

/// A request under way at an endpoint; ended when dropped.
#[derive(Debug)]
pub struct LoadGuard {
    endpoint: Arc<Endpoint>,
    started: Instant,
    /// What it came to, once that is known: how long a good answer took.
    outcome: Option<Option<Duration>>,
}

impl LoadGuard {
    /// A request begins at `endpoint`.
    pub fn begin(endpoint: &Arc<Endpoint>, now: Instant) -> Self {
        endpoint.load.begin();
        Self { endpoint: Arc::clone(endpoint), started: now, outcome: None }
    }

    /// The endpoint answered well: its latency is learnt. A connection that was made meanwhile, at
    /// `connected`, is no part of it: the next request finds it there.
    pub fn answered(&mut self, connected: Option<Instant>) {
        let asked = connected.map_or(self.started, |connected| connected.max(self.started));
        self.outcome = Some(Some(asked.elapsed()));
    }

    /// It failed: nothing is learnt, for one that fails fast must not look like the fastest. What
    /// ejects it is told by whoever judges the attempt.
    pub fn failed(&mut self) {
        self.outcome = Some(None);
    }
}

impl Drop for LoadGuard {
    /// One that was waited for in vain is as slow as the wait was, if that was longer than thought:
    /// nobody judges it, and it must not look faster with every second that it is silent.
    fn drop(&mut self) {
        let now = Instant::now();
        let in_vain = || {
            let waited = now.saturating_duration_since(self.started);
            (waited > self.endpoint.load.latency(now)).then_some(waited)
        };
        self.endpoint.load.end(self.outcome.unwrap_or_else(in_vain), now);
    }
}

#[cfg(test)]
mod tests {
    use model::endpoint::EndpointKey;

    use super::*;

    #[test]
    fn one_who_is_waited_for_in_vain_gets_slower_and_one_who_fails_neither() {
        let now = Instant::now();
        let key = EndpointKey { address: [127, 0, 0, 1].into(), target: 80, mesh: None };
        let endpoint = Arc::new(Endpoint::new(key, "api", now));
        let second = Duration::from_secs(1);
        drop(LoadGuard::begin(&endpoint, now.checked_sub(second).unwrap()));
        let latency = || endpoint.load.latency(Instant::now());
        assert!(latency() > second / 2, "{:?}", latency());
        drop(LoadGuard::begin(&endpoint, Instant::now()));
        assert!(latency() > second / 2, "{:?}", latency());
        let mut slow = LoadGuard::begin(&endpoint, now.checked_sub(9 * second).unwrap());
        slow.failed();
        drop(slow);
        assert!(latency() < 2 * second, "{:?}", latency());
    }
}
