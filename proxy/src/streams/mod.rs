//! HTTP/2 towards clients, on h2 itself: each request is a stream with a task of its own, and a
//! CONNECT that is granted becomes a [`Tunnel`].

pub(crate) mod keepalive;
mod respond;
pub(crate) mod send;

use std::future::{Future, poll_fn};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use bytes::Bytes;
use h2::server::{Builder, SendResponse};
use h2::{Reason, RecvStream};
use http::{Method, Request, Response};
use http_body::Body as _;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::sync::{Notify, oneshot};
use tokio::time::timeout;

use crate::body::Body;
use crate::frames::{Carries, Frames};
use crate::guard::Guard;
use crate::headers;
use crate::rarely::Rarely;
use crate::received::{Received, Stream};
use crate::server::{
    CONNECTION_WINDOW, FRAME, MAX_HEAD, MAX_STREAMS, MESH_FRAME, READER_TIMEOUT, SEND_BUFFER,
    STREAM_WINDOW,
};
use crate::tunnel::Tunnel;
use crate::upload::{self, Patience};

/// How long a client of a sidecar that leaves may take for its first request, before its connection
/// is told to end. One that is told at once tries again and again, and never gets to ask.
const FIRST: Duration = Duration::from_secs(1);

/// Streams of one connection that may end because the peer broke their rules (RFC 9113 §5.4.2).
const MAX_ERROR_RESETS: usize = 1_000;

/// What one connection may cost, and what may be asked for on it.
#[derive(Debug, Clone, Copy)]
pub struct Limits {
    /// How long a client may take nothing of a response, or of the connection.
    reader: Duration,
    /// How long it may send nothing of a body before the response begins.
    body: Duration,
    /// Whose requests it carries.
    carries: Carries,
    /// Its largest frame, in bytes.
    frame: u32,
    /// How many requests it may reset before they are looked at.
    unseen_resets: usize,
    /// Whether a stream may become a WebSocket (RFC 8441).
    websocket: bool,
}

impl Limits {
    /// For a client that speaks for itself.
    pub const CLIENT: Self = Self {
        reader: READER_TIMEOUT,
        body: upload::IDLE,
        carries: Carries::Own,
        frame: FRAME,
        unseen_resets: MAX_STREAMS as usize,
        websocket: true,
    };

    /// For another sidecar, which carries the requests of many.
    pub const SIDECAR: Self = Self {
        carries: Carries::Many,
        frame: MESH_FRAME,
        unseen_resets: 3 * MAX_STREAMS as usize,
        websocket: false,
        ..Self::CLIENT
    };
}

/// Serves HTTP/2 until the client ends the connection, or until `leave` resolves and what runs
/// then has finished.
///
/// # Errors
/// What went wrong with the connection.
pub async fn serve<I, L, H, F>(limits: Limits, io: I, leave: L, handle: H) -> Result<(), h2::Error>
where
    I: AsyncRead + AsyncWrite + Unpin,
    L: Future<Output = ()>,
    H: Fn(Request<Received>) -> F,
    F: Future<Output = Response<Body>> + Send + 'static,
{
    let frames = Frames::of_client(Instant::now(), limits.carries);
    let guarded = Guard::new(io, frames, limits.reader);
    let mut connection = settings(limits).handshake::<_, Bytes>(guarded).await?;
    let mut lost = Rarely::new(keepalive::lost(connection.ping_pong()));
    let first = Notify::new();
    let mut leave = Rarely::new(async {
        leave.await;
        // Late is as good as asked.
        let _ = timeout(FIRST, first.notified()).await;
    });
    let (mut asked, mut leaving) = (false, false);
    loop {
        tokio::select! {
            biased;
            accepted = connection.accept() => match accepted {
                None => return Ok(()),
                Some(accepted) => {
                    let (request, respond) = accepted?;
                    let (request, open) = open(request, limits);
                    tokio::spawn(answer(handle(request), respond, open));
                    if !std::mem::replace(&mut asked, true) {
                        first.notify_one();
                    }
                }
            },
            () = &mut leave, if !leaving => {
                leaving = true;
                connection.graceful_shutdown();
            }
            () = &mut lost => return Err(Reason::CANCEL.into()),
        }
    }
}

fn settings(limits: Limits) -> Builder {
    let mut settings = Builder::new();
    settings
        .max_concurrent_streams(MAX_STREAMS)
        .max_pending_accept_reset_streams(limits.unseen_resets)
        .max_local_error_reset_streams(Some(MAX_ERROR_RESETS))
        .initial_window_size(STREAM_WINDOW)
        .initial_connection_window_size(CONNECTION_WINDOW)
        .max_frame_size(limits.frame)
        .max_header_list_size(MAX_HEAD as u32)
        .max_send_buffer_size(SEND_BUFFER);
    if limits.websocket {
        settings.enable_connect_protocol();
    }
    settings
}

/// What is to be known of a stream while its request is handled.
struct Open {
    patience: Option<Patience>,
    reader: Duration,
    /// Of a CONNECT: what it becomes when it is granted.
    tunnel: Option<(RecvStream, oneshot::Sender<Tunnel>)>,
}

/// The stream of a CONNECT, once it is granted; an extension of the request.
#[derive(Debug, Clone)]
pub struct OnTunnel(Arc<Mutex<Option<oneshot::Receiver<Tunnel>>>>);

impl OnTunnel {
    /// Resolves when the response that grants the CONNECT was sent; `None` when it was not, or
    /// when another one waits for it.
    pub async fn granted(self) -> Option<Tunnel> {
        let waited = self.0.lock().unwrap_or_else(PoisonError::into_inner).take();
        waited?.await.ok()
    }
}

/// The request as it is handled. One that is a CONNECT has no body: all on its stream is the
/// tunnel's.
fn open(request: Request<RecvStream>, limits: Limits) -> (Request<Received>, Open) {
    let (mut parts, stream) = request.into_parts();
    let mut open = Open { patience: None, reader: limits.reader, tunnel: None };
    if parts.method == Method::CONNECT {
        let (tell, told) = oneshot::channel();
        parts.extensions.insert(OnTunnel(Arc::new(Mutex::new(Some(told)))));
        open.tunnel = Some((stream, tell));
        return (Request::from_parts(parts, Received::Nothing), open);
    }
    let body = Received::Http2(Stream::new(stream, headers::content_length(&parts.headers)));
    // The body of gRPC is a conversation, in which both sides may be silent for as long as they
    // like; any other is expected to come in one go.
    if !body.is_end_stream() && !headers::is_grpc(&parts.headers) {
        let patience = Patience::new(limits.body);
        parts.extensions.insert(patience.clone());
        open.patience = Some(patience);
    }
    (Request::from_parts(parts, body), open)
}

/// Answers the request of a stream, unless the client wants no answer any more.
async fn answer<F>(handled: F, mut respond: SendResponse<Bytes>, open: Open)
where
    F: Future<Output = Response<Body>>,
{
    // What is reset by the time that it is looked at is not begun.
    let response = tokio::select! {
        biased;
        _ = poll_fn(|cx| respond.poll_reset(cx)) => return,
        response = handled => response,
    };
    if let Some(patience) = open.patience {
        patience.answered.set();
    }
    let sent = match open.tunnel {
        Some((receive, tell)) if response.status().is_success() => {
            grant(respond, response, receive, tell)
        }
        _ => respond::send(respond, response, open.reader).await,
    };
    if let Err(error) = sent {
        tracing::debug!(%error, "a response was not sent whole");
    }
}

fn grant(
    mut respond: SendResponse<Bytes>,
    response: Response<Body>,
    receive: RecvStream,
    tell: oneshot::Sender<Tunnel>,
) -> Result<(), h2::Error> {
    let send = respond.send_response(response.map(drop), false)?;
    // Whoever granted it may be gone, and the stream goes with him.
    let _ = tell.send(Tunnel::new(send, receive));
    Ok(())
}

#[cfg(test)]
mod tests;
