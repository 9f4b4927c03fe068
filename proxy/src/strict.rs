//! The letter of RFC 9112 in front of hyper: bytes of a client that two readers could take for
//! different messages never reach it. hyper is lenient where the RFC permits it (a bare LF, a
//! Content-Length beside a Transfer-Encoding) and keeps no trace of what it overlooked.
//!
//! Nothing is copied or held back: the bytes are judged where they were read. What is wrong in a
//! head is replaced with a byte that hyper answers with 400; what is wrong in a body ends it.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use http::header::UPGRADE;
use http::{Method, Request};
use tokio::io::{AsyncRead, ReadBuf};

use crate::framing::Framing;
use crate::idle::Idle;
use crate::layer::writes_pass;
use crate::server::HEAD_TIMEOUT;

/// What hyper reads in place of a bad head; it is allowed nowhere in one.
const POISON: &[u8] = b"\0\r\n\r\n";

/// A client's connection whose requests are judged as they are read.
#[derive(Debug)]
pub struct Strict<I> {
    io: I,
    framing: Framing,
    refused: bool,
    head: Idle,
}

impl<I> Strict<I> {
    /// Judges what is read from `io`, from the first byte of a request on.
    pub fn new(io: I) -> Self {
        Self { io, framing: Framing::default(), refused: false, head: Idle::new(HEAD_TIMEOUT) }
    }

    /// Nothing has come: a head that has begun must be whole in time, and nothing else is in a
    /// hurry here. A client that keeps its connection for the next request has not begun one.
    fn wait(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        if !self.framing.is_in_head() {
            return Poll::Pending;
        }
        ready!(self.head.poll(cx));
        let late = format!("a head that is not whole after {HEAD_TIMEOUT:?}");
        Poll::Ready(Err(io::Error::new(io::ErrorKind::TimedOut, late)))
    }

    /// What is read instead of the bytes refused.
    fn refusal(&self, buf: &mut ReadBuf<'_>) -> io::Result<()> {
        if self.framing.is_in_body() {
            return Err(io::Error::new(
                io::ErrorKind::InvalidData,
                "the chunked body is malformed",
            ));
        }
        buf.put_slice(&POISON[..POISON.len().min(buf.remaining())]);
        Ok(())
    }
}

/// Whether HTTP may end with the answer to `request`. Such a request is the last one of its
/// connection: what follows it is not judged, so that it must never be read as HTTP.
pub fn may_leave_http<B>(request: &Request<B>) -> bool {
    let mut upgrades = request.headers().get_all(UPGRADE).iter();
    request.method() == Method::CONNECT || upgrades.any(|value| leaves_http(value.as_bytes()))
}

/// Whether an upgrade to this may be granted; to `h2c` none is.
pub(crate) fn leaves_http(protocol: &[u8]) -> bool {
    !protocol.eq_ignore_ascii_case(b"h2c")
}

impl<I: AsyncRead + Unpin> AsyncRead for Strict<I> {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        if this.refused {
            return Poll::Ready(this.refusal(buf));
        }
        let before = buf.filled().len();
        match Pin::new(&mut this.io).poll_read(cx, buf) {
            Poll::Pending => return this.wait(cx),
            Poll::Ready(read) => read?,
        }
        let judged = this.framing.judge(&buf.filled()[before..]);
        if !this.framing.is_in_head() {
            this.head.moved();
        }
        let Err(good) = judged else { return Poll::Ready(Ok(())) };
        this.refused = true;
        buf.set_filled(before + good);
        if good > 0 { Poll::Ready(Ok(())) } else { Poll::Ready(this.refusal(buf)) }
    }
}

writes_pass!(Strict);

#[cfg(test)]
mod tests {
    use tokio::io::AsyncReadExt;

    use super::*;

    async fn read(sent: &[u8]) -> (Vec<u8>, io::Result<usize>) {
        let mut strict = Strict::new(sent).take(200);
        let mut read = Vec::new();
        let ended = strict.read_to_end(&mut read).await;
        (read, ended)
    }

    #[tokio::test]
    async fn what_is_good_passes_unchanged() {
        let sent = b"POST / HTTP/1.1\r\nhost: a\r\ntransfer-encoding: chunked\r\n\r\n0\r\n\r\n";
        assert_eq!(read(sent).await.0, sent);
    }

    #[tokio::test]
    async fn a_bad_head_never_ends() {
        let (read, _) = read(b"GET / HTTP/1.1\r\nhost: a\n\r\n").await;
        assert!(read.starts_with(b"GET / HTTP/1.1\r\nhost: a\0\r\n"), "{read:?}");
    }

    #[tokio::test]
    async fn a_bad_body_breaks() {
        let head = b"POST / HTTP/1.1\r\ntransfer-encoding: chunked\r\n\r\n";
        let (read, ended) = read(&[head, b"1;a\n\r\n".as_slice()].concat()).await;
        assert_eq!(read, [head, b"1;a".as_slice()].concat());
        assert_eq!(ended.unwrap_err().kind(), io::ErrorKind::InvalidData);
    }
}
