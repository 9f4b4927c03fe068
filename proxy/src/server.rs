//! HTTP towards clients: hyper's server connections with the limits that all ports share.

use std::convert::Infallible;
use std::future::Future;
use std::time::Duration;

use http::header::CONNECTION;
use http::{HeaderValue, Method, Request, Response, StatusCode};
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};

use crate::bodiless::Bodiless;
use crate::body::Body;
use crate::drain::Drain;
use crate::received::Received;
use crate::relay::Carried;
use crate::resettable::Resettable;
use crate::sniff::Spoken;
use crate::streams::{self, Limits};
use crate::strict::{Strict, may_leave_http};

/// Largest head of a message, in bytes; the same on every hop.
pub const MAX_HEAD: usize = 128 * 1024;

/// Most fields of a head.
pub const MAX_FIELDS: usize = 256;

/// Longest time for a client to send a head (HTTP/1), and from accept to the first byte.
pub const HEAD_TIMEOUT: Duration = Duration::from_secs(10);

/// How long a client of HTTP/1 may keep a connection without a request: longer than most clients
/// do, for one that is closed as its next request is sent has lost it. What has begun has
/// [`HEAD_TIMEOUT`].
pub const KEEP_ALIVE: Duration = Duration::from_secs(300);

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

/// Time between PINGs on an HTTP/2 connection, and how long the answer may take.
pub const PING_INTERVAL: Duration = Duration::from_secs(10);
/// See [`PING_INTERVAL`].
pub const PING_TIMEOUT: Duration = Duration::from_secs(3);

/// What went wrong with a connection.
#[derive(Debug, thiserror::Error)]
pub enum ServeError {
    /// In HTTP/1.
    #[error(transparent)]
    Http1(#[from] hyper::Error),
    /// In HTTP/2.
    #[error(transparent)]
    Http2(#[from] h2::Error),
}

/// Serves what is `spoken`, until the client or the drain ends the connection. What is no HTTP
/// gets HTTP/1's 400.
///
/// # Errors
/// What went wrong with the connection.
pub async fn serve<I, H, F>(
    spoken: Spoken,
    io: I,
    drain: &Drain,
    handle: H,
) -> Result<(), ServeError>
where
    I: Carried + Send + 'static,
    H: Fn(Request<Received>) -> F,
    F: Future<Output = Response<Body>> + Send + 'static,
{
    match spoken {
        Spoken::Http2 => streams::serve(Limits::CLIENT, io, drain.begun(), handle).await?,
        Spoken::Http1 | Spoken::Other => http1(io, drain, handle).await?,
    }
    Ok(())
}

/// Serves HTTP/1 until the client or the drain ends the connection.
///
/// # Errors
/// What hyper says went wrong with the connection.
async fn http1<I, H, F>(io: I, drain: &Drain, handle: H) -> hyper::Result<()>
where
    I: Carried + Send + 'static,
    H: Fn(Request<Received>) -> F,
    F: Future<Output = Response<Body>>,
{
    let (io, reset) = Resettable::new(io);
    let service = service_fn(|mut request: Request<Incoming>| {
        let (last, connect) = (may_leave_http(&request), *request.method() == Method::CONNECT);
        if last {
            request.extensions_mut().insert(reset.clone());
        }
        let response = handle(request.map(Received::Http1));
        async move {
            let mut response = response.await;
            let last = last || drain.has_begun();
            if last && !leaves_http(response.status(), connect) {
                response.headers_mut().insert(CONNECTION, HeaderValue::from_static("close"));
            }
            Ok::<_, Infallible>(Bodiless::respond(response))
        }
    });
    let connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(KEEP_ALIVE)
        .max_headers(MAX_FIELDS)
        .max_header_size(MAX_HEAD)
        .max_buf_size(2 * MAX_HEAD)
        .serve_connection(TokioIo::new(Strict::new(io)), service)
        .with_upgrades();
    tokio::pin!(connection);
    tokio::select! {
        ended = connection.as_mut() => return ended,
        // Not at once: hyper would close an idle connection on which a request is on its way, and
        // a new one before its first request.
        () = drain.lingered() => connection.as_mut().graceful_shutdown(),
    }
    connection.await
}

/// Whether the bytes after a response are HTTP no more (RFC 9110 §9.3.6, §15.2.2).
fn leaves_http(status: StatusCode, connect: bool) -> bool {
    status == StatusCode::SWITCHING_PROTOCOLS || (connect && status.is_success())
}
