//! HTTP/2 towards clients: each request is a stream with a task of its own, and a CONNECT that is
//! granted becomes a [`Tunnel`].

pub(crate) mod keepalive;
mod respond;
pub(crate) mod send;

use std::future::{Future, poll_fn};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use futures_util::FutureExt;
use http::{Method, Request, Response};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::sync::{Notify, oneshot};
use tokio::task::yield_now;
use tokio::time::timeout;

use crate::body::Body;
use crate::headers;
use crate::http2::{self, Carries, Connection, Reason, RecvStream, SendStream, Settings};
use crate::rarely::Rarely;
use crate::received::Received;
use crate::server::{FRAME, MESH_FRAME, PING_TIMEOUT, READER_TIMEOUT};
use crate::tunnel::Tunnel;
use crate::upload::{self, Patience};

/// How long a client of a sidecar that leaves may take for its first request, before its connection
/// is told to end. One that is told at once tries again and again, and never gets to ask.
const FIRST: Duration = Duration::from_secs(1);

/// After so many requests from one connection those that it has begun get their turn: a client that
/// takes back what it asks for could have hundreds read at once, each with a task of its own.
const AT_ONCE: u32 = 32;

/// What one connection may cost, and what may be asked for on it.
#[derive(Debug, Clone, Copy)]
pub struct Limits {
    /// How long a client may take nothing of a response, or of the connection.
    reader: Duration,
    /// How long it may leave a PING unanswered: one that reads slowly has all before it to read, and
    /// one that is gone is in no hurry to be missed.
    answer: Duration,
    /// How long it may send nothing of a body before the response begins.
    body: Duration,
    /// Whose requests it carries.
    carries: Carries,
    /// Its largest frame, in bytes.
    frame: u32,
    /// Whether a stream may become a WebSocket (RFC 8441).
    websocket: bool,
}

impl Limits {
    /// For a client that speaks for itself.
    pub const CLIENT: Self = Self {
        reader: READER_TIMEOUT,
        answer: READER_TIMEOUT,
        body: upload::IDLE,
        carries: Carries::Own,
        frame: FRAME,
        websocket: true,
    };

    /// For another sidecar, which carries the requests of many.
    pub const SIDECAR: Self = Self {
        answer: PING_TIMEOUT,
        carries: Carries::Many,
        frame: MESH_FRAME,
        websocket: false,
        ..Self::CLIENT
    };

    const fn settings(self) -> Settings {
        Settings { websocket: self.websocket, ..Settings::with_frames(self.frame) }
    }
}

/// Serves HTTP/2 until the client ends the connection, or until `leave` resolves and what runs
/// then has finished.
///
/// # Errors
/// What went wrong with the connection.
pub fn serve<I, L, H, F>(
    limits: Limits,
    io: I,
    leave: L,
    handle: H,
) -> impl Future<Output = Result<(), http2::Error>>
where
    I: AsyncRead + AsyncWrite + Unpin,
    L: Future<Output = ()>,
    H: Fn(Request<Received>) -> F,
    F: Future<Output = Response<Body>> + Send + 'static,
{
    // Not in the future, which would hold each twice: as it was given, and where it is used.
    let mut connection = Connection::server(io, limits.settings(), limits.carries, limits.reader);
    let mut lost = Rarely::new(keepalive::lost(connection.watch(), limits.answer));
    let first = Arc::new(Notify::new());
    let begun = Arc::clone(&first);
    let mut leave = Rarely::new(leave.then(|()| {
        // Boxed, for most connections need no room for it. Late is as good as asked.
        Box::pin(async move { drop(timeout(FIRST, begun.notified()).await) })
    }));
    let (mut asked, mut leaving, mut in_a_row) = (false, false, 0);
    async move {
        loop {
            tokio::select! {
                biased;
                accepted = connection.accept() => match accepted? {
                    None => return Ok(()),
                    Some((request, respond)) => {
                        let (request, open) = open(request, limits);
                        // Boxed, for a task is copied more than once on its way to its place and out of it.
                        tokio::spawn(Box::pin(answer(handle(request), respond, open)));
                        if !std::mem::replace(&mut asked, true) {
                            first.notify_one();
                        }
                        in_a_row += 1;
                    }
                },
                () = &mut leave, if !leaving => {
                    leaving = true;
                    connection.leave();
                }
                () = &mut lost => return Err(http2::Error::reset(Reason::CANCEL)),
            }
            // Not where the request is, for which the future would have room for ever.
            if in_a_row == AT_ONCE {
                in_a_row = 0;
                yield_now().await;
            }
        }
    }
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
    let over = stream.is_over();
    let body = if over { Received::Nothing } else { Received::Http2(stream) };
    // The body of gRPC is a conversation, in which both sides may be silent for as long as they
    // like; any other is expected to come in one go.
    if !over && !headers::is_grpc(&parts.headers) {
        let patience = Patience::new(limits.body);
        parts.extensions.insert(patience.clone());
        open.patience = Some(patience);
    }
    (Request::from_parts(parts, body), open)
}

/// Answers the request of a stream, unless the client wants no answer any more.
async fn answer<F>(handled: F, mut respond: SendStream, open: Open)
where
    F: Future<Output = Response<Body>>,
{
    // What is reset by the time that it is looked at is not begun.
    let response = tokio::select! {
        biased;
        _ = poll_fn(|cx| respond.poll_failed(cx)) => return,
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
    mut respond: SendStream,
    response: Response<Body>,
    receive: RecvStream,
    tell: oneshot::Sender<Tunnel>,
) -> Result<(), http2::Error> {
    respond.respond(&response.map(drop), false)?;
    // Whoever granted it may be gone, and the stream goes with him.
    let _ = tell.send(Tunnel::new(respond, receive));
    Ok(())
}

#[cfg(test)]
mod tests;
