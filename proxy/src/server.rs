//! HTTP towards clients: hyper's server connections with the limits that all ports share.

use std::convert::Infallible;
use std::future::Future;
use std::time::{Duration, Instant};

use http::header::CONNECTION;
use http::{HeaderValue, Method, Request, Response, StatusCode};
use http_body::Body as _;
use hyper::body::Incoming;
use hyper::server::conn::{http1, http2};
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::io::{AsyncRead, AsyncWrite};

use crate::body::Body;
use crate::drain::Drain;
use crate::frames::{Carries, Frames};
use crate::guard::Guard;
use crate::headers;
use crate::stall::Streams;
use crate::strict::{Strict, may_leave_http};
use crate::upload::{self, Patience};

/// Largest head of a message, in bytes; the same on every hop.
pub const MAX_HEAD: usize = 128 * 1024;

/// Most fields of a head.
pub const MAX_FIELDS: usize = 256;

/// Longest time for a client to send a head (HTTP/1), and from accept to the first byte.
pub const HEAD_TIMEOUT: Duration = Duration::from_secs(10);

/// Streams that a peer may open at the same time on one HTTP/2 connection.
pub const MAX_STREAMS: u32 = 100;

/// How much one HTTP/2 stream may send ahead of its reader, in bytes.
pub const STREAM_WINDOW: u32 = 256 * 1024;

/// How much all streams of a connection may: every stream can fill its window, so that one slow
/// reader never stops its neighbours.
pub const CONNECTION_WINDOW: u32 = MAX_STREAMS * STREAM_WINDOW;

/// How much of a stream may be ready to be sent and not sent, in bytes.
pub const SEND_BUFFER: usize = 64 * 1024;

/// How long a client may take nothing of a response in HTTP/2, or of the whole connection.
pub const READER_TIMEOUT: Duration = Duration::from_secs(300);

/// Streams of one connection that may end because the peer broke their rules (RFC 9113 §5.4.2).
const MAX_ERROR_RESETS: usize = 1_000;

/// Time between PINGs on an HTTP/2 connection, and how long the answer may take.
pub const PING_INTERVAL: Duration = Duration::from_secs(10);
/// See [`PING_INTERVAL`].
pub const PING_TIMEOUT: Duration = Duration::from_secs(3);

/// Serves HTTP/1 until the client or the drain ends the connection.
///
/// # Errors
/// What hyper says went wrong with the connection.
pub async fn http1<I, H, F>(io: I, drain: &Drain, handle: H) -> hyper::Result<()>
where
    I: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    H: Fn(Request<Incoming>) -> F,
    F: Future<Output = Response<Body>>,
{
    let service = service_fn(|request| {
        let (last, connect) = (may_leave_http(&request), *request.method() == Method::CONNECT);
        let response = handle(request);
        async move {
            let mut response = response.await;
            if last && !leaves_http(response.status(), connect) {
                response.headers_mut().insert(CONNECTION, HeaderValue::from_static("close"));
            }
            Ok::<_, Infallible>(response)
        }
    });
    let connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HEAD_TIMEOUT)
        .max_headers(MAX_FIELDS)
        .max_header_size(MAX_HEAD)
        .max_buf_size(2 * MAX_HEAD)
        .serve_connection(TokioIo::new(Strict::new(io)), service)
        .with_upgrades();
    tokio::pin!(connection);
    tokio::select! {
        ended = connection.as_mut() => return ended,
        () = drain.begun() => connection.as_mut().graceful_shutdown(),
    }
    connection.await
}

/// Serves HTTP/2 until the client ends the connection, or until `leave` resolves and what runs
/// then has finished.
///
/// # Errors
/// What hyper says went wrong with the connection.
pub async fn http2<I, L, H, F>(io: I, leave: L, handle: H) -> hyper::Result<()>
where
    L: Future<Output = ()>,
    I: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    H: Fn(Request<Incoming>) -> F,
    F: Future<Output = Response<Body>> + Send + 'static,
{
    http2_within(Limits::CLIENT, io, leave, handle).await
}

/// As [`http2`], on a connection on which another sidecar carries the requests of many.
///
/// # Errors
/// What hyper says went wrong with the connection.
pub async fn http2_of_sidecar<I, L, H, F>(io: I, leave: L, handle: H) -> hyper::Result<()>
where
    L: Future<Output = ()>,
    I: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    H: Fn(Request<Incoming>) -> F,
    F: Future<Output = Response<Body>> + Send + 'static,
{
    http2_within(Limits::SIDECAR, io, leave, handle).await
}

/// What one connection in HTTP/2 may cost.
#[derive(Debug, Clone, Copy)]
struct Limits {
    /// How long a client may take nothing of a response, or of the connection.
    reader: Duration,
    /// How long it may send nothing of a body before the response begins.
    body: Duration,
    /// Whose requests it carries.
    carries: Carries,
    /// How many requests it may reset before they are looked at.
    unseen_resets: usize,
}

impl Limits {
    const CLIENT: Self = Self {
        reader: READER_TIMEOUT,
        body: upload::IDLE,
        carries: Carries::Own,
        unseen_resets: MAX_STREAMS as usize,
    };
    const SIDECAR: Self =
        Self { carries: Carries::Many, unseen_resets: 3 * MAX_STREAMS as usize, ..Self::CLIENT };
}

async fn http2_within<I, L, H, F>(limits: Limits, io: I, leave: L, handle: H) -> hyper::Result<()>
where
    L: Future<Output = ()>,
    I: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    H: Fn(Request<Incoming>) -> F,
    F: Future<Output = Response<Body>> + Send + 'static,
{
    let service = service_fn(|mut request: Request<Incoming>| {
        let patience = waits_for_body(&request).then(|| Patience::new(limits.body));
        let answered = patience.as_ref().map(|patience| patience.answered.clone());
        if let Some(patience) = patience {
            request.extensions_mut().insert(patience);
        }
        let response = handle(request);
        async move {
            let response = response.await;
            if let Some(answered) = answered {
                answered.set();
            }
            Ok::<_, Infallible>(response)
        }
    });
    let frames = Frames::of_client(Instant::now(), limits.carries);
    let io = TokioIo::new(Guard::new(io, frames, limits.reader));
    let connection = http2::Builder::new(Streams { reader: limits.reader })
        .timer(TokioTimer::new())
        .max_concurrent_streams(MAX_STREAMS)
        .max_pending_accept_reset_streams(limits.unseen_resets)
        .max_local_error_reset_streams(MAX_ERROR_RESETS)
        .initial_stream_window_size(STREAM_WINDOW)
        .initial_connection_window_size(CONNECTION_WINDOW)
        .max_header_list_size(MAX_HEAD as u32)
        .max_send_buf_size(SEND_BUFFER)
        .keep_alive_interval(PING_INTERVAL)
        .keep_alive_timeout(PING_TIMEOUT)
        .serve_connection(io, service);
    tokio::pin!(connection);
    tokio::select! {
        ended = connection.as_mut() => return ended,
        () = leave => connection.as_mut().graceful_shutdown(),
    }
    connection.await
}

/// Whether the body of a request is expected to come in one go. That of gRPC is a conversation,
/// in which both sides may be silent for as long as they like.
fn waits_for_body(request: &Request<Incoming>) -> bool {
    !request.body().is_end_stream() && !headers::is_grpc(request.headers())
}

/// Whether the bytes after a response are HTTP no more (RFC 9110 §9.3.6, §15.2.2).
fn leaves_http(status: StatusCode, connect: bool) -> bool {
    status == StatusCode::SWITCHING_PROTOCOLS || (connect && status.is_success())
}

#[cfg(test)]
mod tests;
