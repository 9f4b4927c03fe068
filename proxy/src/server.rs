//! HTTP towards clients, and the limits that all ports share.

use std::future::Future;
use std::io;
use std::time::Duration;

use http::{Request, Response};

use crate::body::Body;
use crate::carried::Carried;
use crate::drain::Drain;
use crate::http1::{self, BadHead};
use crate::http2;
use crate::received::Received;
use crate::sniff::{Prefixed, Spoken};
use crate::streams::{self, Limits};

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

/// How much is written at once. With the four records of TLS around it, it fits into what the kernel
/// hands to the network in one piece: as many whole packets as 64 KiB hold, at any usual MTU.
pub const WRITE: usize = 61 * 1024;

/// How much one HTTP/2 stream may send ahead of its reader, in bytes: four frames.
pub const STREAM_WINDOW: u32 = 4 * MESH_FRAME;

/// How much all streams of a connection may: every stream can fill its window, so that one slow
/// reader never stops its neighbours.
pub const CONNECTION_WINDOW: u32 = MAX_STREAMS * STREAM_WINDOW;

/// Largest frame of HTTP/2 (RFC 9113 §6.5.2), in bytes: as the RFC has it by default.
pub const FRAME: u32 = 16 * 1024;

/// Largest frame between sidecars: with its head it is one [`WRITE`].
pub const MESH_FRAME: u32 = (WRITE - http2::HEAD) as u32;

/// How long a client may take nothing of a response in HTTP/2, or of the whole connection.
pub const READER_TIMEOUT: Duration = Duration::from_secs(300);

/// Time between PINGs on an HTTP/2 connection, and how long the answer may take.
pub const PING_INTERVAL: Duration = Duration::from_secs(10);
/// See [`PING_INTERVAL`].
pub const PING_TIMEOUT: Duration = Duration::from_secs(3);

/// What went wrong with a connection.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ServeError {
    /// In HTTP/1.
    #[error(transparent)]
    Http1(#[from] io::Error),
    /// In HTTP/2.
    #[error(transparent)]
    Http2(#[from] http2::Error),
}

/// Serves what is `spoken`, until the client or the drain ends the connection. Of a head of HTTP/1
/// that cannot be read, as of what is no HTTP, `refuse` makes the answer.
///
/// # Errors
/// What went wrong with the connection.
pub(crate) async fn serve<I, H, F, R>(
    spoken: Spoken,
    io: Prefixed<I>,
    drain: &Drain,
    handle: H,
    refuse: R,
) -> Result<(), ServeError>
where
    I: Carried + Send + 'static,
    H: Fn(Request<Received>) -> F,
    F: Future<Output = Response<Body>> + Send + 'static,
    R: Fn(BadHead) -> Response<Body>,
{
    // Each boxed, so that none has room for what the other needs.
    match spoken {
        Spoken::Http2 => {
            let handle = |request| Box::pin(handle(request));
            Box::pin(streams::serve(Limits::CLIENT, io, drain.begun(), handle)).await?;
        }
        Spoken::Http1 | Spoken::Other => Box::pin(http1::serve(io, drain, handle, refuse)).await?,
    }
    Ok(())
}
