//! HTTP/1.1 connections: one request at a time on each, kept open between them.

use std::sync::{Arc, Weak};
use std::time::{Duration, Instant};

use http::header::HeaderName;
use http::{Request, Response};

use super::failure::{self, Used};
use super::idle;
use super::pool::{Answered, Peer, Shared, lock};
use crate::body::RequestBody;
use crate::error::ProxyError;
use crate::http1::{Answer, Connection, Failure, Sending};

const KEEP_ALIVE: HeaderName = HeaderName::from_static("keep-alive");

/// The pool that a connection goes back to once its response was read.
#[derive(Debug)]
pub(crate) struct Home {
    pool: Weak<Shared>,
    peer: Peer,
    /// How long the peer says that it keeps the connection.
    announced: Option<Duration>,
}

impl Home {
    /// Notes what the response says of the connection.
    pub(crate) fn heard(mut self, response: &Response<()>) -> Self {
        let keeps = response.headers().get(KEEP_ALIVE).and_then(|value| value.to_str().ok());
        self.announced = keeps.and_then(idle::announced);
        self
    }

    /// Takes the connection back, ready for another request.
    pub(crate) fn give(self, connection: Connection) {
        if let Some(pool) = self.pool.upgrade() {
            let mut peers = lock(&pool.http1);
            let idle = peers.entry(self.peer).or_default();
            idle.give(connection, self.announced, Instant::now(), pool.watcher());
        }
    }
}

/// Sends a request on an idle connection, or on a new one.
pub(super) async fn send(
    shared: &Arc<Shared>,
    peer: &Peer,
    request: &mut Request<RequestBody>,
) -> Result<Answered, ProxyError> {
    let mut connected = None;
    let mut sending = Sending::new(request);
    loop {
        let idle = lock(&shared.http1).get_mut(peer).and_then(|idle| idle.take(Instant::now()));
        let (connection, used) = match idle {
            Some(kept) => (kept, Used::Again),
            None => {
                let opened = Box::pin(open(shared, peer)).await?;
                connected = Some(Instant::now());
                (opened, Used::First)
            }
        };
        let home = Home { pool: Arc::downgrade(shared), peer: peer.clone(), announced: None };
        match connection.send(sending, Some(home)).await {
            Ok(Answer::Response(response)) => {
                return Ok(Answered { response, stream: None, connected });
            }
            // Closed before a byte was sent: the next connection, or a new one, takes it.
            Err(Failure::Unsent(unsent)) if used == Used::Again => sending = *unsent,
            Ok(Answer::Switch(..)) => {
                let failure = Failure::Bad("it switches protocols and was not asked to");
                return Err(failure::of_http1(&failure, peer, used));
            }
            Err(failure) => return Err(failure::of_http1(&failure, peer, used)),
        }
    }
}

async fn open(shared: &Arc<Shared>, peer: &Peer) -> Result<Connection, ProxyError> {
    let (io, stream) = shared.dial(peer).await?;
    Ok(Connection::new(io, stream))
}
