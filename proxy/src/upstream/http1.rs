//! HTTP/1.1 connections: one request at a time on each, kept open between them.

use std::fmt;
use std::net::SocketAddr;
use std::sync::{Arc, Weak};
use std::time::{Duration, Instant};

use http::{Request, Response};
use hyper::body::Incoming;
use hyper::client::conn::http1::{self, SendRequest};
use hyper_util::rt::TokioIo;

use super::failure::{self, Used};
use super::pool::{Peer, Shared, lock};
use super::{Connection, connect};
use crate::body::RequestBody;
use crate::error::ProxyError;
use crate::server::{MAX_FIELDS, MAX_HEAD};

/// Idle connections kept to one peer.
const MAX_IDLE: usize = 128;

/// How long an idle connection is kept.
const MAX_IDLE_TIME: Duration = Duration::from_secs(60);

/// How long a connection may take to become idle after its response has ended: the request's
/// body may still be on its way.
const SETTLE: Duration = Duration::from_secs(10);

/// The idle connections to one peer, the one used last at the end.
#[derive(Default)]
pub(super) struct Idle(Vec<(SendRequest<RequestBody>, Instant)>);

impl fmt::Debug for Idle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Idle").field(&self.0.len()).finish()
    }
}

impl Idle {
    fn take(&mut self) -> Option<SendRequest<RequestBody>> {
        while let Some((sender, _)) = self.0.pop() {
            if sender.is_ready() {
                return Some(sender);
            }
        }
        None
    }

    fn give(&mut self, sender: SendRequest<RequestBody>) {
        if self.0.len() < MAX_IDLE {
            self.0.push((sender, Instant::now()));
        }
    }

    /// Closes what has been idle for long; says whether anything is left.
    pub(super) fn sweep(&mut self, now: Instant) -> bool {
        self.0.retain(|(sender, since)| {
            !sender.is_closed() && now.saturating_duration_since(*since) < MAX_IDLE_TIME
        });
        !self.0.is_empty()
    }
}

/// A connection that carries a response, and the pool that it may go back to.
pub struct Returnable {
    sender: SendRequest<RequestBody>,
    peer: Peer,
    pool: Weak<Shared>,
}

impl fmt::Debug for Returnable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Returnable").field("peer", &self.peer).finish_non_exhaustive()
    }
}

impl Returnable {
    /// Puts the connection back, as soon as its request has been sent whole.
    pub(super) fn give_back(mut self) {
        if self.sender.is_ready() {
            self.put();
        } else if !self.sender.is_closed() {
            tokio::spawn(async move {
                if let Ok(Ok(())) = tokio::time::timeout(SETTLE, self.sender.ready()).await {
                    self.put();
                }
            });
        }
    }

    fn put(self) {
        if let Some(pool) = self.pool.upgrade() {
            lock(&pool.http1).entry(self.peer).or_default().give(self.sender);
        }
    }
}

/// Sends a request on an idle connection, or on a new one.
pub(super) async fn send(
    shared: &Arc<Shared>,
    peer: &Peer,
    address: SocketAddr,
    mut request: Request<RequestBody>,
) -> Result<(Response<Incoming>, Connection), ProxyError> {
    let mut used = Used::Again;
    loop {
        let idle = lock(&shared.http1).get_mut(peer).and_then(Idle::take);
        let mut sender = match idle {
            Some(sender) => sender,
            None => {
                used = Used::First;
                open(shared, peer, address).await?
            }
        };
        match sender.try_send_request(request).await {
            Ok(response) => {
                let pool = Arc::downgrade(shared);
                let returnable = Returnable { sender, peer: peer.clone(), pool };
                return Ok((response, Connection::Http1(returnable)));
            }
            // Closed before a byte was written: the next connection, or a new one, takes it.
            Err(mut failed) => match failed.take_message() {
                Some(unsent) if used == Used::Again => request = unsent,
                _ => return Err(failure::of_request(failed.error(), peer, used)),
            },
        }
    }
}

async fn open(
    shared: &Arc<Shared>,
    peer: &Peer,
    address: SocketAddr,
) -> Result<SendRequest<RequestBody>, ProxyError> {
    let io = connect::tcp(address, shared.mesh.config.connect_timeout).await?;
    let (sender, connection) = http1::Builder::new()
        .max_headers(MAX_FIELDS)
        .max_header_size(MAX_HEAD)
        .max_buf_size(2 * MAX_HEAD)
        .handshake(TokioIo::new(io))
        .await
        .map_err(|error| failure::of_request(&error, peer, Used::First))?;
    // The request on the connection hears how it ended; nobody else asks.
    tokio::spawn(async move { drop(connection.with_upgrades().await) });
    Ok(sender)
}
