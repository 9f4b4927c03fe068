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

pub use pool::Pool;
pub use shared::StreamGuard;

/// What a response holds until its body has ended: its connection, and its share of the
/// endpoint's load.
#[derive(Debug)]
pub struct Lease {
    connection: Connection,
    load: Option<LoadGuard>,
}

/// The connection that a response comes on.
#[derive(Debug)]
pub enum Connection {
    /// A stream of a shared connection; the place is free again when this is dropped.
    Http2(StreamGuard),
    /// A connection of its own, to be used again if the response was read whole.
    Http1(http1::Returnable),
    /// A connection that carries nothing else.
    Own,
}

impl Lease {
    /// The lease of a response on `connection`.
    pub const fn new(connection: Connection) -> Self {
        Self { connection, load: None }
    }

    /// Adds the load of the endpoint that answers.
    pub fn with_load(mut self, load: LoadGuard) -> Self {
        self.load = Some(load);
        self
    }

    /// The response was read whole: the connection may carry another request.
    pub fn release(self) {
        if let Connection::Http1(returnable) = self.connection {
            returnable.give_back();
        }
    }
}

/// A request under way at an endpoint; ended when dropped.
#[derive(Debug)]
pub struct LoadGuard {
    endpoint: Arc<Endpoint>,
    started: Instant,
    latency: Option<Duration>,
}

impl LoadGuard {
    /// A request begins at `endpoint`.
    pub fn begin(endpoint: &Arc<Endpoint>) -> Self {
        endpoint.load.begin();
        Self { endpoint: Arc::clone(endpoint), started: Instant::now(), latency: None }
    }

    /// The endpoint answered well: its latency is learnt. A failure's is not, for an endpoint
    /// that fails fast must not look like the fastest.
    pub fn answered(&mut self) {
        self.latency = Some(self.started.elapsed());
    }
}

impl Drop for LoadGuard {
    fn drop(&mut self) {
        self.endpoint.load.end(self.latency, Instant::now());
    }
}
