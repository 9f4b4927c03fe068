//! A connection that hyper owns. It gives it away boxed, and drops it whole or not: what is dropped
//! ends in order, unless whoever has it then says that it failed.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use crate::layer::writes_pass;
use crate::relay::Carried;

/// A connection that ends in order when it is dropped, or is reset if somebody said so.
#[derive(Debug)]
pub(crate) struct Resettable<I: Carried> {
    io: I,
    reset: Reset,
}

/// Says how a connection ends.
#[derive(Debug, Clone, Default)]
pub(crate) struct Reset(Arc<AtomicBool>);

impl Reset {
    /// In failure.
    pub(crate) fn set(&self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

impl<I: Carried> Resettable<I> {
    /// `io`, and what says how it ends.
    pub(crate) fn new(io: I) -> (Self, Reset) {
        let reset = Reset::default();
        (Self { io, reset: reset.clone() }, reset)
    }
}

impl<I: Carried> Drop for Resettable<I> {
    fn drop(&mut self) {
        if self.reset.0.load(Ordering::Relaxed) {
            self.io.reset();
        } else {
            self.io.end();
        }
    }
}

/// What is left of it in other hands, with the word on its end.
#[derive(Debug)]
pub(crate) struct Told<I> {
    io: I,
    reset: Reset,
}

impl<I> Told<I> {
    /// `io`, below which is the connection that `reset` belongs to.
    pub(crate) const fn new(io: I, reset: Reset) -> Self {
        Self { io, reset }
    }
}

impl<I: AsyncRead + AsyncWrite + Unpin> Carried for Told<I> {
    fn reset(&mut self) {
        self.reset.set();
    }

    fn end(&mut self) {}
}

impl<I: AsyncRead + Unpin> AsyncRead for Told<I> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_read(cx, buf)
    }
}

writes_pass!(Told);

impl<I: Carried> AsyncRead for Resettable<I> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_read(cx, buf)
    }
}

writes_pass!(Resettable, Carried);

#[cfg(test)]
mod tests {
    use tokio::io::AsyncReadExt;
    use tokio::net::{TcpListener, TcpStream};

    use super::*;

    #[tokio::test]
    async fn what_is_dropped_ends_as_was_said() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        for fails in [true, false] {
            let mut client = TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
            let (io, reset) = Resettable::new(listener.accept().await.unwrap().0);
            let mut told = Told::new(Box::new(io), reset);
            if fails {
                told.reset();
            }
            drop(told);
            let ended = client.read(&mut [0]).await.map_err(|error| error.kind());
            let expected = if fails { Err(io::ErrorKind::ConnectionReset) } else { Ok(0) };
            assert_eq!(ended, expected);
        }
    }
}
