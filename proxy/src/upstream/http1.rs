//! HTTP/1.1 connections: one request at a time on each, kept open between them.

use std::fmt;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Weak};
use std::time::{Duration, Instant};

use http::header::{CONTENT_LENGTH, COOKIE, HeaderName, TRANSFER_ENCODING};
use http::{HeaderMap, HeaderValue, Request, Response};
use http_body::Body as _;
use hyper::body::Incoming;
use hyper::client::conn::TrySendError;
use hyper::client::conn::http1::{self, SendRequest};
use hyper_util::rt::TokioIo;
use model::code::ErrorCode;
use tokio::sync::Notify;

use super::Connection;
use super::failure::{self, Used};
use super::idle::{self, Closed};
use super::pool::{Peer, Shared, lock};
use crate::body::RequestBody;
use crate::edge;
use crate::error::ProxyError;
use crate::server::{MAX_FIELDS, MAX_HEAD};

/// How long a connection may take to become idle after its response has ended: the request's
/// body may still be on its way.
const SETTLE: Duration = Duration::from_secs(10);

/// Most interim responses (1xx) before the response.
const MAX_INTERIM: u32 = 64;

const KEEP_ALIVE: HeaderName = HeaderName::from_static("keep-alive");

/// A connection that carries a response, and the pool that it may go back to.
pub struct Returnable {
    sender: SendRequest<RequestBody>,
    closed: Closed,
    /// How long the peer says that it keeps the connection.
    announced: Option<Duration>,
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
            let mut peers = lock(&pool.http1);
            let idle = peers.entry(self.peer).or_default();
            idle.give(self.sender, self.closed, self.announced, Instant::now());
        }
    }
}

/// Sends a request on an idle connection, or on a new one.
pub(super) async fn send(
    shared: &Arc<Shared>,
    peer: &Peer,
    mut request: Request<RequestBody>,
) -> Result<(Response<Incoming>, Connection), ProxyError> {
    prepare(&mut request);
    let mut used = Used::Again;
    loop {
        let now = Instant::now();
        let idle = lock(&shared.http1).get_mut(peer).and_then(|idle| idle.take(now));
        let (mut sender, closed) = match idle {
            Some(kept) => kept,
            None => {
                used = Used::First;
                open(shared, peer).await?
            }
        };
        match answered(&mut sender, peer, request).await? {
            Ok(response) => {
                let (peer, pool) = (peer.clone(), Arc::downgrade(shared));
                let announced = announced(&response);
                let returnable = Returnable { sender, closed, announced, peer, pool };
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

/// What HTTP/1.1 wants otherwise than HTTP/2: cookies in one field (RFC 9113 §8.2.3), and framing
/// for a body of unknown length, which hyper would leave out of a GET.
fn prepare(request: &mut Request<RequestBody>) {
    let framed = request.body().is_end_stream() || request.headers().contains_key(CONTENT_LENGTH);
    let headers = request.headers_mut();
    if !framed {
        headers.insert(TRANSFER_ENCODING, HeaderValue::from_static("chunked"));
    }
    join_cookies(headers);
}

fn join_cookies(headers: &mut HeaderMap) {
    let crumbs: Vec<&[u8]> = headers.get_all(COOKIE).iter().map(HeaderValue::as_bytes).collect();
    if crumbs.len() < 2 {
        return;
    }
    // invariant: values joined with what a value may hold are a value.
    if let Ok(joined) = HeaderValue::from_bytes(&crumbs.join(b"; ".as_slice())) {
        headers.insert(COOKIE, joined);
    }
}

type Sent = Result<Response<Incoming>, TrySendError<Request<RequestBody>>>;

/// Sends the request and judges what comes back; interim responses end here, and are counted.
async fn answered(
    sender: &mut SendRequest<RequestBody>,
    peer: &Peer,
    mut request: Request<RequestBody>,
) -> Result<Sent, ProxyError> {
    let fail = |what: &str| ProxyError::new(ErrorCode::UpstreamProtocol, format!("{peer}: {what}"));
    let (too_many, counted) = (Arc::new(Notify::new()), AtomicU32::new(0));
    let notify = Arc::clone(&too_many);
    hyper::ext::on_informational(&mut request, move |_| {
        if counted.fetch_add(1, Ordering::Relaxed) == MAX_INTERIM {
            notify.notify_one();
        }
    });
    let sent = tokio::select! {
        biased;
        () = too_many.notified() => return Err(fail("it sends interim responses without end")),
        sent = sender.try_send_request(request) => sent,
    };
    if let Ok(response) = &sent {
        edge::response(response).map_err(fail)?;
    }
    Ok(sent)
}

async fn open(
    shared: &Arc<Shared>,
    peer: &Peer,
) -> Result<(SendRequest<RequestBody>, Closed), ProxyError> {
    let (io, stream) = shared.dial(peer).await?;
    let (sender, connection) = http1::Builder::new()
        .max_headers(MAX_FIELDS)
        .max_header_size(MAX_HEAD)
        .max_buf_size(2 * MAX_HEAD)
        .handshake(TokioIo::new(io))
        .await
        .map_err(|error| failure::of_request(&error, peer, Used::First))?;
    let closed = Closed::default();
    let told = Arc::clone(&closed);
    tokio::spawn(async move {
        // The request on the connection hears how it ended; nobody else asks.
        drop(connection.with_upgrades().await);
        // Only this task tells it.
        let _ = told.set(Instant::now());
        drop(stream);
    });
    Ok((sender, closed))
}

/// How long the peer says that it keeps the connection open.
fn announced(response: &Response<Incoming>) -> Option<Duration> {
    idle::announced(response.headers().get(KEEP_ALIVE)?.to_str().ok()?)
}
