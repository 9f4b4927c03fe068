//! The bounds of [`crate::frames`] in front of h2, and one on how long the other side may read
//! nothing.
//!
//! Nothing is copied or held back: frames are counted where they were read. Where they are too
//! many, h2 reads a head of fields without end in their place, which it answers with a GOAWAY of
//! ENHANCE_YOUR_CALM (RFC 9113 §7) as it would a real one.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::{Duration, Instant};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use crate::farewell::{FAREWELL, Farewell};
use crate::frames::Frames;
use crate::idle::Idle;

/// HEADERS of no fields, which do not end the head.
const OPEN: &[u8; 9] = &[0, 0, 0, 1, 0, 0, 0, 0, 1];

/// CONTINUATION of no fields, which does not end it either.
const NEVER_ENDING: &[u8; 9] = &[0, 0, 0, 9, 0, 0, 0, 0, 1];

/// How many of them are read at once.
const AT_ONCE: usize = 64;

/// One side of a connection in HTTP/2 whose other side is kept within bounds.
#[derive(Debug)]
pub struct Guard<I> {
    io: I,
    frames: Frames,
    unread: Idle,
    refused: bool,
    /// What h2 still has to read of the piece that it began.
    rest: &'static [u8],
    farewell: Farewell,
}

impl<I> Guard<I> {
    /// Bounds what is read from `io`, and fails when nothing could be written to it for `reader`.
    pub const fn new(io: I, frames: Frames, reader: Duration) -> Self {
        let unread = Idle::new(reader);
        Self { io, frames, unread, refused: false, rest: OPEN, farewell: Farewell::new() }
    }

    fn refuse(&mut self, what: &'static str) {
        tracing::debug!("connection ended: the other side sent too many {what}");
        self.refused = true;
        self.unread = Idle::new(FAREWELL);
    }

    /// What is read instead of the frames refused.
    fn refusal(&mut self, buf: &mut ReadBuf<'_>) {
        for _ in 0..AT_ONCE {
            let (now, later) = self.rest.split_at(self.rest.len().min(buf.remaining()));
            buf.put_slice(now);
            self.rest = if later.is_empty() { NEVER_ENDING } else { later };
        }
    }

    /// Counts what was written, or how long nothing was.
    fn wrote(
        &mut self,
        cx: &mut Context<'_>,
        polled: Poll<io::Result<usize>>,
    ) -> Poll<io::Result<usize>> {
        match &polled {
            Poll::Pending => return self.waited(cx).map(Err),
            Poll::Ready(Ok(bytes)) => self.frames.sent(*bytes),
            Poll::Ready(Err(_)) => {}
        }
        self.unread.moved();
        polled
    }

    fn waited(&mut self, cx: &mut Context<'_>) -> Poll<io::Error> {
        ready!(self.unread.poll(cx));
        let text = format!("the other side read nothing for {:?}", self.unread.limit());
        Poll::Ready(io::Error::new(io::ErrorKind::TimedOut, text))
    }
}

impl<I: AsyncRead + Unpin> AsyncRead for Guard<I> {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        let before = buf.filled().len();
        if !this.refused {
            ready!(Pin::new(&mut this.io).poll_read(cx, buf))?;
            let Err(excess) = this.frames.judge(&buf.filled()[before..], Instant::now()) else {
                return Poll::Ready(Ok(()));
            };
            this.refuse(excess.what);
            buf.set_filled(before + excess.good);
        }
        this.refusal(buf);
        Poll::Ready(Ok(()))
    }
}

impl<I: AsyncRead + AsyncWrite + Unpin> AsyncWrite for Guard<I> {
    fn poll_write(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        let polled = Pin::new(&mut this.io).poll_write(cx, buf);
        this.wrote(cx, polled)
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        let polled = Pin::new(&mut this.io).poll_write_vectored(cx, bufs);
        this.wrote(cx, polled)
    }

    fn is_write_vectored(&self) -> bool {
        self.io.is_write_vectored()
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        match Pin::new(&mut this.io).poll_flush(cx) {
            Poll::Pending => this.waited(cx).map(Err),
            ready => ready,
        }
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        match this.farewell.poll(cx, &mut this.io) {
            Poll::Pending => this.waited(cx).map(Err),
            ready => ready,
        }
    }
}
