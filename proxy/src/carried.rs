//! A connection whose bytes are carried: how they are taken from it and given to it, and how it ends.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::{Buf, Bytes, BytesMut};
use socket2::SockRef;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio_util::either::Either;

use crate::fill::{Expected, Pace};

/// A connection that bytes are carried on.
pub trait Carried: Pieces + AsyncRead + AsyncWrite + Unpin {
    /// Ends it so that the other side sees a failure, not an orderly end: what was carried is not
    /// whole. Takes effect when it is dropped.
    fn reset(&mut self);

    /// Ends it in order when it is dropped, where dropping it does not do so by itself.
    fn end(&mut self);
}

/// Bytes in pieces that change hands: where both sides know them, nothing is copied.
pub trait Pieces {
    /// The next bytes; none at the end. Where they have to be put somewhere, that is `room`.
    ///
    /// # Errors
    /// The connection's.
    fn poll_take(
        &mut self,
        cx: &mut Context<'_>,
        pace: &mut Pace,
        room: &mut BytesMut,
    ) -> Poll<io::Result<Bytes>>;

    /// Takes at least one of `bytes`.
    ///
    /// # Errors
    /// The connection's.
    fn poll_give(&mut self, cx: &mut Context<'_>, bytes: &mut Bytes) -> Poll<io::Result<()>>;
}

/// [`Pieces::poll_take`] of a connection that is only read.
pub(crate) fn poll_read<I: AsyncRead + Unpin>(
    io: &mut I,
    cx: &mut Context<'_>,
    pace: &mut Pace,
    room: &mut BytesMut,
) -> Poll<io::Result<Bytes>> {
    ready!(pace.poll_fill(io, room, Expected::Anything, cx))?;
    Poll::Ready(Ok(room.split().freeze()))
}

/// [`Pieces::poll_give`] of a connection that is only written to.
pub(crate) fn poll_write<I: AsyncWrite + Unpin>(
    io: &mut I,
    cx: &mut Context<'_>,
    bytes: &mut Bytes,
) -> Poll<io::Result<()>> {
    match ready!(Pin::new(io).poll_write(cx, bytes))? {
        0 => Poll::Ready(Err(io::ErrorKind::WriteZero.into())),
        written => {
            bytes.advance(written);
            Poll::Ready(Ok(()))
        }
    }
}

impl Carried for TcpStream {
    fn reset(&mut self) {
        // Where that fails, the connection is gone already.
        let _ = SockRef::from(&*self).set_linger(Some(Duration::ZERO));
    }

    fn end(&mut self) {}
}

impl Pieces for TcpStream {
    fn poll_take(
        &mut self,
        cx: &mut Context<'_>,
        pace: &mut Pace,
        room: &mut BytesMut,
    ) -> Poll<io::Result<Bytes>> {
        poll_read(self, cx, pace, room)
    }

    fn poll_give(&mut self, cx: &mut Context<'_>, bytes: &mut Bytes) -> Poll<io::Result<()>> {
        poll_write(self, cx, bytes)
    }
}

impl Carried for Box<dyn Carried + Send> {
    fn reset(&mut self) {
        (**self).reset();
    }

    fn end(&mut self) {
        (**self).end();
    }
}

impl Pieces for Box<dyn Carried + Send> {
    fn poll_take(
        &mut self,
        cx: &mut Context<'_>,
        pace: &mut Pace,
        room: &mut BytesMut,
    ) -> Poll<io::Result<Bytes>> {
        (**self).poll_take(cx, pace, room)
    }

    fn poll_give(&mut self, cx: &mut Context<'_>, bytes: &mut Bytes) -> Poll<io::Result<()>> {
        (**self).poll_give(cx, bytes)
    }
}

impl<L: Carried, R: Carried> Carried for Either<L, R> {
    fn reset(&mut self) {
        match self {
            Self::Left(io) => io.reset(),
            Self::Right(io) => io.reset(),
        }
    }

    fn end(&mut self) {
        match self {
            Self::Left(io) => io.end(),
            Self::Right(io) => io.end(),
        }
    }
}

impl<L: Pieces, R: Pieces> Pieces for Either<L, R> {
    fn poll_take(
        &mut self,
        cx: &mut Context<'_>,
        pace: &mut Pace,
        room: &mut BytesMut,
    ) -> Poll<io::Result<Bytes>> {
        match self {
            Self::Left(io) => io.poll_take(cx, pace, room),
            Self::Right(io) => io.poll_take(cx, pace, room),
        }
    }

    fn poll_give(&mut self, cx: &mut Context<'_>, bytes: &mut Bytes) -> Poll<io::Result<()>> {
        match self {
            Self::Left(io) => io.poll_give(cx, bytes),
            Self::Right(io) => io.poll_give(cx, bytes),
        }
    }
}
