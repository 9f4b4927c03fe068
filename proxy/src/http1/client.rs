//! The client's side of a connection: one request at a time. Whoever waits for the response drives
//! it; the response's body has the connection until it ends.

use std::future::poll_fn;
use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bytes::{Bytes, BytesMut};
use http::{Response, StatusCode};
use http_body::{Body, Frame, SizeHint};
use tokio::net::TcpStream;
use tokio_util::either::Either;

use super::decode::Decoder;
use super::head::{self, Answered, BadHead};
use super::lines::Lines;
use super::pipe::{Feed, Wants, pipe};
use super::sending::{Sending, Stopped};
use crate::body::BodyError;
use crate::carried::Carried;
use crate::fill::{Expected, Pace};
use crate::received::Received;
use crate::sniff::Prefixed;
use crate::tunnel::Tunnel;
use crate::upstream::{Home, StreamGuard};

/// Most interim responses (1xx) before the response.
const MAX_INTERIM: u32 = 64;

/// A connection to an application: a stream of its sidecar's, or straight.
pub(crate) type Dialled = Either<Tunnel, TcpStream>;

/// A connection that carries a request, or is idle.
pub(crate) struct Connection {
    io: Dialled,
    read: BytesMut,
    pace: Pace,
    lines: Lines,
    /// Its place on the connection that it is a stream of.
    stream: Option<StreamGuard>,
}

/// What came of a request.
pub(crate) enum Answer {
    /// A response.
    Response(Response<Received>),
    /// The switch to another protocol that was asked for, and the connection.
    Switch(Response<()>, Prefixed<Dialled>),
}

/// Why there is no response.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Failure {
    /// The connection was closed before a byte of the request could be sent on it: here it is, for
    /// another.
    #[error("the connection is closed")]
    Unsent(Box<Sending>),
    /// The request's body broke off.
    #[error("{0}")]
    Body(BodyError),
    /// The connection ended before the response.
    #[error("{0}")]
    Lost(io::Error),
    /// What came is no response in HTTP/1, or none that may be passed on.
    #[error("{0}")]
    Bad(&'static str),
    /// The head of the response is none.
    #[error("{0}")]
    Head(#[from] BadHead),
}

/// The body of a response, and the connection that it comes on.
pub struct Download {
    connection: Option<Connection>,
    decoder: Decoder,
    /// Where the connection goes after it, if it is kept.
    home: Option<Home>,
}

impl Connection {
    /// One that carries nothing yet.
    pub(crate) fn new(io: Dialled, stream: Option<StreamGuard>) -> Self {
        let (read, pace) = (BytesMut::new(), Pace::default());
        Self { io, read, pace, lines: Lines::default(), stream }
    }

    /// Whether an idle one can carry nothing any more: it has ended, or says what nobody asked for.
    /// Otherwise the task of `cx` is woken when that changes.
    pub(crate) fn is_spent(&mut self, cx: &mut Context<'_>) -> bool {
        self.pace.poll_fill(&mut self.io, &mut self.read, Expected::Head, cx).is_ready()
    }

    /// Ends an idle one in order.
    pub(crate) fn close(mut self) {
        self.io.end();
    }

    /// Sends a request and waits for the head of its response. A connection that can carry another
    /// request afterwards goes `home`.
    pub(crate) async fn send(
        mut self,
        mut sending: Sending,
        home: Option<Home>,
    ) -> Result<Answer, Failure> {
        let answered = self.answered(&mut sending).await?;
        let Answered { response, body, keep_alive } = answered;
        if response.status() == StatusCode::SWITCHING_PROTOCOLS {
            if !sending.upgrade {
                return Err(Failure::Bad("it switches protocols and was not asked to"));
            }
            return Ok(Answer::Switch(response, Prefixed::new(self.read, self.io)));
        }
        let home = home.filter(|_| keep_alive).map(|home| home.heard(&response));
        let received = match body {
            None => {
                self.settle(home.filter(|_| sending.is_sent()));
                Received::Nothing
            }
            Some(decoder) if sending.is_sent() => {
                Received::Http1(Box::new(Download { connection: Some(self), decoder, home }))
            }
            Some(decoder) => {
                let (feed, body) = pipe(decoder.left());
                tokio::spawn(self.carry_on(sending, decoder, feed, home));
                Received::Piped(body)
            }
        };
        Ok(Answer::Response(response.map(|()| received)))
    }

    /// The head of the response, while the request is sent.
    async fn answered(&mut self, sending: &mut Sending) -> Result<Answered, Failure> {
        let mut interim = 0;
        let mut cut_off = None;
        poll_fn(|cx| {
            if cut_off.is_none()
                && let Poll::Ready(Err(stopped)) = sending.poll_send(cx, &mut self.io)
            {
                match stopped {
                    // One that reads no further may have said why.
                    Stopped::Lost(error) => cut_off = Some(error),
                    Stopped::Unsent => {
                        let sending = Box::new(std::mem::take(sending));
                        return Poll::Ready(Err(Failure::Unsent(sending)));
                    }
                    Stopped::Body(error) => return Poll::Ready(Err(Failure::Body(error))),
                    Stopped::WrongLength => {
                        let what = "the body has another length than its head says";
                        return Poll::Ready(Err(Failure::Bad(what)));
                    }
                }
            }
            loop {
                match head::response(&mut self.read, &mut self.lines, &sending.method)? {
                    Some(head) if is_interim(&head) => {
                        interim += 1;
                        if interim > MAX_INTERIM {
                            let what = "it sends interim responses without end";
                            return Poll::Ready(Err(Failure::Bad(what)));
                        }
                        continue;
                    }
                    Some(head) => return Poll::Ready(Ok(head)),
                    None => {}
                }
                let lost = match ready!(self.pace.poll_fill(
                    &mut self.io,
                    &mut self.read,
                    Expected::Head,
                    cx
                )) {
                    Ok(1..) => continue,
                    Ok(0) if self.read.is_empty() => "the connection was closed before a response",
                    Ok(0) => {
                        return Poll::Ready(Err(Failure::Bad("its response ends in the head")));
                    }
                    Err(error) => return Poll::Ready(Err(Failure::Lost(error))),
                };
                let lost = || io::Error::new(io::ErrorKind::UnexpectedEof, lost);
                return Poll::Ready(Err(Failure::Lost(cut_off.take().unwrap_or_else(lost))));
            }
        })
        .await
    }

    /// Goes on sending the request while the response is read, in a task of its own: the one need
    /// not wait for the other.
    async fn carry_on(
        mut self,
        mut sending: Sending,
        mut decoder: Decoder,
        feed: Feed,
        home: Option<Home>,
    ) {
        let mut broken = false;
        poll_fn(|cx| {
            if !broken
                && !sending.is_sent()
                && let Poll::Ready(Err(stopped)) = sending.poll_send(cx, &mut self.io)
            {
                match stopped {
                    // One that reads no further goes on answering.
                    Stopped::Lost(_) | Stopped::Unsent => broken = true,
                    // He waits for what does not come: both sides end here.
                    Stopped::Body(_) | Stopped::WrongLength => return Poll::Ready(()),
                }
            }
            self.poll_feed(cx, &mut decoder, &feed)
        })
        .await;
        let whole = sending.is_sent() && decoder.is_over();
        self.settle(home.filter(|_| whole));
    }

    /// Gives the reader of the response what it wants; resolves when there is no more.
    fn poll_feed(&mut self, cx: &mut Context<'_>, decoder: &mut Decoder, feed: &Feed) -> Poll<()> {
        while ready!(feed.poll_wants(cx)) == Wants::More {
            match ready!(self.poll_body(cx, decoder)) {
                None => {
                    feed.end();
                    break;
                }
                Some(piece) => {
                    let last = piece.is_err() || decoder.is_over();
                    feed.give(piece, last);
                    if last {
                        break;
                    }
                }
            }
        }
        Poll::Ready(())
    }

    /// The next piece of the response's body.
    fn poll_body(
        &mut self,
        cx: &mut Context<'_>,
        decoder: &mut Decoder,
    ) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        loop {
            match decoder.decode(&mut self.read) {
                Ok(Some(frame)) => return Poll::Ready(Some(Ok(frame))),
                Ok(None) if decoder.is_over() => return Poll::Ready(None),
                Ok(None) => {}
                Err(bad) => return Poll::Ready(Some(Err(bad.into()))),
            }
            let expected = Expected::Body(decoder.left());
            match ready!(self.pace.poll_fill(&mut self.io, &mut self.read, expected, cx)) {
                Ok(1..) => {}
                Ok(0) if decoder.may_end() => *decoder = Decoder::Over,
                Ok(0) | Err(_) => return Poll::Ready(Some(Err(BodyError::Cut))),
            }
        }
    }

    /// What becomes of the connection after its response: more than that must not have come.
    fn settle(mut self, home: Option<Home>) {
        match home {
            Some(home) if self.read.is_empty() => {
                self.read = BytesMut::new();
                home.give(self);
            }
            _ => self.close(),
        }
    }
}

fn is_interim(head: &Answered) -> bool {
    let status = head.response.status();
    status.is_informational() && status != StatusCode::SWITCHING_PROTOCOLS
}

impl Body for Download {
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        let this = self.get_mut();
        let Some(connection) = &mut this.connection else { return Poll::Ready(None) };
        let piece = ready!(connection.poll_body(cx, &mut this.decoder));
        let broken = matches!(piece, Some(Err(_)));
        if (broken || this.decoder.is_over())
            && let Some(connection) = this.connection.take()
        {
            connection.settle(this.home.take().filter(|_| !broken));
        }
        Poll::Ready(piece)
    }

    fn is_end_stream(&self) -> bool {
        self.connection.is_none()
    }

    fn size_hint(&self) -> SizeHint {
        self.decoder.left().map_or_else(SizeHint::default, SizeHint::with_exact)
    }
}

impl std::fmt::Debug for Download {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Download").field("decoder", &self.decoder).finish_non_exhaustive()
    }
}

impl std::fmt::Debug for Connection {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Connection").field("stream", &self.stream).finish_non_exhaustive()
    }
}
