//! What a connection speaks, told from its first bytes. No timer decides anything here: the only
//! one closes a client that opened a connection and never says a thing.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bytes::{Buf, Bytes, BytesMut};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, ReadBuf};

/// What HTTP/2 with prior knowledge begins with (RFC 9113 §3.4).
const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

/// Longest method that counts as HTTP here, in bytes.
const LONGEST_METHOD: usize = 20;

/// What the first bytes say.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Spoken {
    /// A request line of HTTP/1.
    Http1,
    /// The preface of HTTP/2.
    Http2,
    /// Something else.
    Other,
}

/// Reads until the first bytes tell what is spoken, and gives them back with the connection.
///
/// # Errors
/// When the connection fails. One that closes before it said enough speaks [`Spoken::Other`].
pub async fn sniff<I: AsyncRead + Unpin>(mut io: I) -> io::Result<(Spoken, Prefixed<I>)> {
    let mut read = BytesMut::with_capacity(1024);
    loop {
        if let Some(spoken) = tell(&read) {
            return Ok((spoken, Prefixed { prefix: read.freeze(), io }));
        }
        if io.read_buf(&mut read).await? == 0 {
            return Ok((Spoken::Other, Prefixed { prefix: read.freeze(), io }));
        }
    }
}

/// What is spoken; `None` while more bytes are needed to tell.
fn tell(bytes: &[u8]) -> Option<Spoken> {
    let common = bytes.len().min(PREFACE.len());
    if bytes[..common] == PREFACE[..common] {
        return (common == PREFACE.len()).then_some(Spoken::Http2);
    }
    let method = bytes.iter().take_while(|b| b.is_ascii_uppercase() || **b == b'-').count();
    match bytes.get(method) {
        Some(b' ') if (1..=LONGEST_METHOD).contains(&method) => Some(Spoken::Http1),
        None if method <= LONGEST_METHOD => None,
        _ => Some(Spoken::Other),
    }
}

/// A connection of which some bytes were read already.
#[derive(Debug)]
pub struct Prefixed<I> {
    prefix: Bytes,
    io: I,
}

impl<I: AsyncRead + Unpin> AsyncRead for Prefixed<I> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        if self.prefix.has_remaining() {
            let bytes = self.prefix.remaining().min(buf.remaining());
            buf.put_slice(&self.prefix.split_to(bytes));
            return Poll::Ready(Ok(()));
        }
        ready!(Pin::new(&mut self.io).poll_read(cx, buf))?;
        Poll::Ready(Ok(()))
    }
}

impl<I: AsyncWrite + Unpin> AsyncWrite for Prefixed<I> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.io).poll_write(cx, buf)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.io).poll_write_vectored(cx, bufs)
    }

    fn is_write_vectored(&self) -> bool {
        self.io.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_shutdown(cx)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn first_bytes_tell_the_protocol() {
        let cases: [(&[u8], Option<Spoken>); 12] = [
            (b"", None),
            (b"P", None),
            (b"PRI * HT", None),
            (PREFACE, Some(Spoken::Http2)),
            (b"PRI * HTTP/1.1\r\n", Some(Spoken::Http1)),
            (b"GET", None),
            (b"GET / HTTP/1.1\r\n", Some(Spoken::Http1)),
            (b"M-SEARCH *", Some(Spoken::Http1)),
            (b"\x16\x03\x01\x02\x00", Some(Spoken::Other)),
            (b"get / HTTP/1.1", Some(Spoken::Other)),
            (b" GET /", Some(Spoken::Other)),
            (b"AVERYLONGWORDTHATISNOMETHOD", Some(Spoken::Other)),
        ];
        for (bytes, expected) in cases {
            assert_eq!(tell(bytes), expected, "{:?}", String::from_utf8_lossy(bytes));
        }
    }

    #[tokio::test]
    async fn the_bytes_read_are_not_lost() {
        let sent: &[u8] = b"GET /a HTTP/1.1\r\nhost: x\r\n\r\n";
        let (spoken, mut io) = sniff(sent).await.unwrap();
        let mut read = Vec::new();
        io.read_to_end(&mut read).await.unwrap();
        assert_eq!((spoken, read.as_slice()), (Spoken::Http1, sent));
    }

    #[tokio::test]
    async fn one_that_closes_early_is_no_http() {
        let (spoken, _) = sniff(&b"GE"[..]).await.unwrap();
        assert_eq!(spoken, Spoken::Other);
    }
}
