//! A connection that keeps its place among those that are open for as long as it lasts, whoever
//! carries it: a request may leave HTTP behind on it.

use std::io;
use std::ops::Deref;
use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::{Bytes, BytesMut};
use tokio::io::{AsyncRead, ReadBuf};
use tokio::net::TcpStream;

use crate::accept::Open;
use crate::carried::Pieces;
use crate::fill::Pace;
use crate::layer::{ends_pass, writes_pass};

/// A connection and its place.
#[derive(Debug)]
pub struct Placed<I> {
    io: I,
    _open: Open,
}

/// One that was accepted.
pub type Socket = Placed<TcpStream>;

impl<I> Placed<I> {
    /// `io`, which counts as `open`.
    pub(crate) const fn new(io: I, open: Open) -> Self {
        Self { io, _open: open }
    }
}

impl<I> Deref for Placed<I> {
    type Target = I;

    fn deref(&self) -> &I {
        &self.io
    }
}

impl<I: Pieces> Pieces for Placed<I> {
    fn poll_take(
        &mut self,
        cx: &mut Context<'_>,
        pace: &mut Pace,
        room: &mut BytesMut,
    ) -> Poll<io::Result<Bytes>> {
        self.io.poll_take(cx, pace, room)
    }

    fn poll_give(&mut self, cx: &mut Context<'_>, bytes: &mut Bytes) -> Poll<io::Result<()>> {
        self.io.poll_give(cx, bytes)
    }
}

impl<I: AsyncRead + Unpin> AsyncRead for Placed<I> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_read(cx, buf)
    }
}

ends_pass!(Placed);
writes_pass!(Placed);
