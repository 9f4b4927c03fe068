//! A connection, driven by the one task that polls it: it writes what there is, takes up what
//! comes, and ends in order.

use std::future::poll_fn;
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::{Duration, Instant};

use bytes::BytesMut;
use http::Request;
use tokio::io::{AsyncRead, AsyncWrite};

use super::bounds::{Bounds, Carries};
use super::error::{By, Error};
use super::frame::{Reason, kind};
use super::handles::{RecvStream, SendStream};
use super::open::Opener;
use super::receive::{Came, Fault, Receiver};
use super::state::{Shared, State};
use super::{Role, Settings};
use crate::farewell::{FAREWELL, Farewell};
use crate::fill::{Expected, LITTLE, Pace};
use crate::idle::Idle;
use crate::server::WRITE;

/// One side of a connection.
#[derive(Debug)]
pub(crate) struct Connection<I> {
    io: I,
    shared: Arc<Shared>,
    receiver: Receiver,
    read: BytesMut,
    pace: Pace,
    /// How long the other side has read nothing.
    unread: Idle,
    /// Boxed, for most connections do not end now.
    ending: Option<Box<Ending>>,
}

/// A request, with its body, and where it is answered.
pub(crate) type Accepted = (Request<RecvStream>, SendStream);

/// How a connection ends.
#[derive(Debug)]
struct Ending {
    /// With what, until that is told.
    error: Option<Error>,
    /// There is nobody left to be told.
    gone: bool,
    farewell: Farewell,
}

/// Notices whether the other side is still there.
#[derive(Debug)]
pub(crate) struct Watch(Arc<Shared>);

impl<I: AsyncRead + AsyncWrite + Unpin> Connection<I> {
    /// The side of a client, who may be read by nobody for as long as `reader`.
    pub(crate) fn client(io: I, settings: Settings, reader: Duration) -> (Opener, Self) {
        let bounds = Bounds::of_server(Instant::now());
        let connection = Self::new(Role::Client, io, settings, bounds, reader);
        (Opener::new(Arc::clone(&connection.shared)), connection)
    }

    /// The side of a server.
    pub(crate) fn server(io: I, settings: Settings, carries: Carries, reader: Duration) -> Self {
        let bounds = Bounds::of_client(Instant::now(), carries);
        Self::new(Role::Server, io, settings, bounds, reader)
    }

    fn new(role: Role, io: I, settings: Settings, bounds: Bounds, reader: Duration) -> Self {
        Self {
            io,
            shared: Shared::new(State::new(role, settings)),
            receiver: Receiver::new(role, settings, bounds),
            read: BytesMut::new(),
            // What one stream does not read keeps what came with it: no more than a frame.
            pace: Pace::bounded(WRITE),
            unread: Idle::new(reader),
            ending: None,
        }
    }

    /// Who notices whether the other side is still there.
    pub(crate) fn watch(&self) -> Watch {
        Watch(Arc::clone(&self.shared))
    }

    /// Serves what is under way, and has nothing begin after it.
    pub(crate) fn leave(&self) {
        self.shared.lock().leave();
    }

    /// Drives a client's side to its end.
    ///
    /// # Errors
    /// What went wrong with the connection.
    pub(crate) async fn run(mut self) -> Result<(), Error> {
        while self.accept().await?.is_some() {}
        Ok(())
    }

    /// The next request, which a client never gets; none at the end. Drives the connection.
    ///
    /// # Errors
    /// What went wrong with the connection.
    pub(crate) async fn accept(&mut self) -> Result<Option<Accepted>, Error> {
        poll_fn(|cx| self.poll_accept(cx)).await
    }

    fn poll_accept(&mut self, cx: &mut Context<'_>) -> Poll<Result<Option<Accepted>, Error>> {
        if self.ending.is_none() {
            match ready!(self.poll_open(cx)) {
                Ok(Some(request)) => return Poll::Ready(Ok(Some(request))),
                Ok(None) => self.end(None),
                Err(error) => self.end(Some(error)),
            }
        }
        self.poll_end(cx)
    }

    /// Goes on while the connection is open.
    fn poll_open(&mut self, cx: &mut Context<'_>) -> Poll<Result<Option<Accepted>, Error>> {
        let Self { io, shared, receiver, read, pace, unread, .. } = self;
        let mut guard = shared.lock();
        let state = &mut *guard;
        state.awake = true;
        let mut blocked = poll_write(io, state, receiver, unread, cx)?.is_pending();
        loop {
            let wanted = match receiver.take(state, read) {
                Ok(Came::Part(wanted)) => wanted,
                Ok(Came::Request(id, request)) => {
                    let handles = handles(shared, state, id, *request);
                    return Poll::Ready(Ok(Some(handles)));
                }
                Err(Fault(reason)) => {
                    state.writer.goaway(state.newest, reason);
                    return Poll::Ready(Err(Error::GoAway { by: By::Rules, reason }));
                }
            };
            if state.closing && state.is_idle() {
                return Poll::Ready(Ok(None));
            }
            if read.is_empty() {
                *read = BytesMut::new(); // nothing is kept until more comes
            }
            if state.writer.out.is_full() && !blocked {
                blocked = poll_write(io, state, receiver, unread, cx)?.is_pending();
            }
            let missing = wanted - read.len();
            let expected = match missing {
                0..=LITTLE => Expected::Anything,
                _ => Expected::Body(Some(missing as u64)),
            };
            match pace.poll_fill(io, read, expected, cx) {
                Poll::Ready(Ok(0)) if state.is_idle() => return Poll::Ready(Ok(None)),
                Poll::Ready(Ok(0)) => {
                    let end = io::Error::from(io::ErrorKind::UnexpectedEof);
                    return Poll::Ready(Err(end.into()));
                }
                Poll::Ready(Ok(_)) => state.heard = true,
                Poll::Ready(Err(error)) => return Poll::Ready(Err(error.into())),
                Poll::Pending => {
                    // What was answered meanwhile.
                    blocked = poll_write(io, state, receiver, unread, cx)?.is_pending();
                    state.rest(cx, blocked);
                    return Poll::Pending;
                }
            }
        }
    }

    /// Ends the connection: its streams now, its bytes when the other side has what there is.
    fn end(&mut self, error: Option<Error>) {
        let mut state = self.shared.lock();
        state.fail(&error.clone().unwrap_or_else(over));
        let gone = matches!(error, Some(Error::Io { .. }));
        if error.is_some() {
            self.unread = Idle::new(FAREWELL);
        } else if matches!(state.role, Role::Client) {
            state.writer.goaway(0, Reason::NO_ERROR);
        }
        self.ending = Some(Box::new(Ending { error, gone, farewell: Farewell::new() }));
    }

    fn poll_end(&mut self, cx: &mut Context<'_>) -> Poll<Result<Option<Accepted>, Error>> {
        let Self { io, shared, receiver, unread, ending, .. } = self;
        let Some(ending) = ending else { return Poll::Ready(Ok(None)) };
        if !ending.gone {
            let written = poll_write(io, &mut shared.lock(), receiver, unread, cx);
            // One who cannot be told is gone.
            ending.gone = ready!(written).is_err();
        }
        // Nor does it matter how he leaves.
        let _ = ready!(ending.farewell.poll(cx, io));
        Poll::Ready(ending.error.take().map_or(Ok(None), Err))
    }
}

impl<I> Drop for Connection<I> {
    fn drop(&mut self) {
        self.shared.lock().fail(&over());
    }
}

/// What a stream is told whose connection is driven no more.
fn over() -> Error {
    io::Error::from(io::ErrorKind::ConnectionAborted).into()
}

/// The handles of a request that has come.
fn handles(shared: &Arc<Shared>, state: &State, id: u32, request: Request<()>) -> Accepted {
    let incoming = state.streams.get(&id).map(|stream| &stream.incoming);
    let (over, left) = incoming.map_or((true, None), |incoming| (incoming.ended, incoming.left));
    let receive = RecvStream::new(Arc::clone(shared), id, over, left);
    (request.map(|()| receive), SendStream::new(Arc::clone(shared), id))
}

/// Writes what there is, and gives whoever waits his turn; resolves when nothing is left.
fn poll_write<I: AsyncWrite + Unpin>(
    io: &mut I,
    state: &mut State,
    receiver: &mut Receiver,
    unread: &mut Idle,
    cx: &mut Context<'_>,
) -> Poll<io::Result<()>> {
    loop {
        state.take_turns();
        let before = state.writer.out.length();
        if before == 0 {
            break;
        }
        let polled = state.writer.out.poll_write(cx, io)?;
        let written = before - state.writer.out.length();
        if written > 0 {
            receiver.bounds.sent(written);
            unread.moved();
        }
        if polled.is_pending() {
            return waited(unread, cx);
        }
    }
    match Pin::new(io).poll_flush(cx) {
        Poll::Pending => waited(unread, cx),
        flushed => flushed,
    }
}

/// Fails when the other side was waited for too long.
fn waited(unread: &mut Idle, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
    ready!(unread.poll(cx));
    let text = format!("the other side read nothing for {:?}", unread.limit());
    Poll::Ready(Err(io::Error::new(io::ErrorKind::TimedOut, text)))
}

impl Watch {
    /// Asks the other side for a sign of life.
    pub(crate) fn ask(&self) {
        let mut state = self.0.lock();
        state.heard = false;
        state.writer.frame(kind::PING, 0, 0, *b"pillion.");
        state.stir();
    }

    /// Whether anything came since.
    pub(crate) fn has_heard(&self) -> bool {
        self.0.lock().heard
    }
}
