//! What a connection speaks, told from its first bytes. No timer decides anything here: the only
//! one closes a client that opened a connection and never says a thing.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bytes::{Buf, Bytes, BytesMut};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, ReadBuf};

/// What HTTP/2 with prior knowledge begins with (RFC 9113 §3.4).
const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

/// What the third word of a request line of HTTP/1 begins with.
const VERSION: &[u8] = b"HTTP/1.";

/// Longest method that counts as HTTP here, in bytes.
const LONGEST_METHOD: usize = 64;

/// Longest line that is read before it is taken for something else, in bytes.
const LONGEST_LINE: usize = 64 * 1024;

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
pub async fn sniff<I: AsyncRead + Unpin>(io: I) -> io::Result<(Spoken, Prefixed<I>)> {
    sniff_on(BytesMut::with_capacity(1024), io).await
}

/// As [`sniff`], where some bytes were `read` from the connection already.
///
/// # Errors
/// As [`sniff`].
pub async fn sniff_on<I: AsyncRead + Unpin>(
    mut read: BytesMut,
    mut io: I,
) -> io::Result<(Spoken, Prefixed<I>)> {
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
    tell_http1(bytes)
}

/// Whether this begins with `METHOD SP target SP HTTP/1.` (RFC 9112 §3): other protocols in text
/// (`PUB subject 5`, `GET key`) begin with words like methods, but not with such a line.
fn tell_http1(bytes: &[u8]) -> Option<Spoken> {
    let line_ends = bytes.iter().position(|b| *b == b'\n');
    let line = &bytes[..line_ends.unwrap_or(bytes.len())];
    let mut words = line.splitn(3, |b| *b == b' ');
    let method = words.next().unwrap_or_default();
    let is_method = |b: &u8| b.is_ascii_uppercase() || *b == b'-';
    if method.len() > LONGEST_METHOD || !method.iter().all(is_method) || line.len() > LONGEST_LINE {
        return Some(Spoken::Other);
    }
    match (words.next(), words.next()) {
        (Some(_), _) if method.is_empty() => Some(Spoken::Other),
        (Some(b""), Some(_)) => Some(Spoken::Other),
        (_, Some(version)) if version.starts_with(VERSION) => Some(Spoken::Http1),
        (_, Some(version)) if !VERSION.starts_with(version) => Some(Spoken::Other),
        _ if line_ends.is_some() => Some(Spoken::Other),
        _ => None,
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
        let cases: [(&[u8], Option<Spoken>); 20] = [
            (b"", None),
            (b"P", None),
            (b"PRI * HT", None),
            (PREFACE, Some(Spoken::Http2)),
            (b"PRI * HTTP/1.1\r\n", Some(Spoken::Http1)),
            (b"GET", None),
            (b"GET /a", None),
            (b"GET /a HTT", None),
            (b"GET / HTTP/1.1\r\n", Some(Spoken::Http1)),
            (b"M-SEARCH * HTTP/1.0\r\n", Some(Spoken::Http1)),
            (b"GET key\r\n", Some(Spoken::Other)),
            (b"PUB subject 5\r\nhello\r\n", Some(Spoken::Other)),
            (b"SET a bc", Some(Spoken::Other)),
            (b"CONNECT\n", Some(Spoken::Other)),
            (b"AMQP\0\0\x09\x01", Some(Spoken::Other)),
            (b"\x16\x03\x01\x02\x00", Some(Spoken::Other)),
            (b"get / HTTP/1.1", Some(Spoken::Other)),
            (b" GET / HTTP/1.1", Some(Spoken::Other)),
            (b"GET  HTTP/1.1\r\n", Some(Spoken::Other)),
            (&[b'A'; LONGEST_METHOD + 1], Some(Spoken::Other)),
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
