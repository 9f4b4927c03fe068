//! What a connection speaks, told from its first bytes. No timer decides anything here: those there
//! are close a client that opened a connection and never says a thing, or half of one.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bytes::{Buf, Bytes, BytesMut};
use tokio::io::{AsyncRead, AsyncReadExt, ReadBuf};
use tokio::time::{Instant, timeout_at};

use crate::carried::Pieces;
use crate::fill::Pace;
use crate::layer::{ends_pass, writes_pass};
use crate::server::HEAD_TIMEOUT;

/// What HTTP/2 with prior knowledge begins with (RFC 9113 §3.4).
const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

/// The methods of RFC 9110 §9.3 and RFC 5789, and the first word of HTTP/2's preface.
const METHODS: [&[u8]; 10] = [
    b"GET", b"HEAD", b"POST", b"PUT", b"DELETE", b"CONNECT", b"OPTIONS", b"TRACE", b"PATCH", b"PRI",
];

/// Longest line that is read to its end, in bytes; [`crate::http1`] judges a longer one.
const LONGEST_LINE: usize = 8 * 1024;

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
/// As [`sniff`]; one that does not go on with its first line is late.
pub async fn sniff_on<I: AsyncRead + Unpin>(
    mut read: BytesMut,
    mut io: I,
) -> io::Result<(Spoken, Prefixed<I>)> {
    let mut late_at = None;
    loop {
        if let Some(spoken) = tell(&read) {
            return Ok((spoken, Prefixed::new(read, io)));
        }
        if !may_become_http(&read) || more(&mut io, &mut read, &mut late_at).await? == 0 {
            return Ok((Spoken::Other, Prefixed::new(read, io)));
        }
    }
}

/// Reads on. Who has begun to speak may not take longer than a head may.
async fn more<I: AsyncRead + Unpin>(
    io: &mut I,
    read: &mut BytesMut,
    late_at: &mut Option<Instant>,
) -> io::Result<usize> {
    if read.is_empty() {
        return io.read_buf(read).await;
    }
    let late_at = late_at.get_or_insert_with(|| Instant::now() + HEAD_TIMEOUT);
    timeout_at(*late_at, io.read_buf(read)).await?
}

/// Whether it is worth waiting for the rest of the first line: it begins with a method that is in
/// use. A protocol that says another word and waits for its answer is not kept waiting; should
/// its line name HTTP after all, [`crate::opaque`] cuts it off.
fn may_become_http(bytes: &[u8]) -> bool {
    let word = &bytes[bytes.iter().take_while(|byte| is_blank(**byte)).count()..];
    let begins = |method: &&[u8]| match word.split_at_checked(method.len()) {
        None => method.starts_with(word),
        Some((first, rest)) => first == *method && rest.first().is_none_or(|byte| is_space(*byte)),
    };
    bytes.is_empty() || (!word.is_empty() && METHODS.iter().any(begins))
}

/// What is spoken; `None` while more bytes are needed to tell.
fn tell(bytes: &[u8]) -> Option<Spoken> {
    let common = bytes.len().min(PREFACE.len());
    if bytes[..common] == PREFACE[..common] {
        return (common == PREFACE.len()).then_some(Spoken::Http2);
    }
    tell_http1(bytes)
}

/// Whether the first line is a request line of HTTP/1, or what an application might take for one
/// (RFC 9112 §2.2, §3): that is for [`crate::http1`] to refuse, for where nobody looks into the bytes a client
/// could say itself who it is. Other protocols in text (`PUB subject 5`, `GET key`) begin with words
/// like methods, but their first line does not name HTTP.
fn tell_http1(bytes: &[u8]) -> Option<Spoken> {
    let blank = bytes.iter().take_while(|byte| is_blank(**byte)).count();
    let rest = &bytes[blank..];
    let line_ends = rest.iter().position(|byte| *byte == b'\n');
    let line = &rest[..line_ends.unwrap_or(rest.len())];
    let method = line.iter().take_while(|byte| is_token(**byte)).count();
    let after = line.get(method).is_none_or(|byte| is_space(*byte) || *byte == b'\r');
    let names_http = |word: &[u8]| is_space(word[0]) && word[1..].eq_ignore_ascii_case(b"HTTP/");
    if !after || (method == 0 && !line.is_empty()) {
        Some(Spoken::Other)
    } else if line.windows(6).any(names_http) || bytes.len() > LONGEST_LINE {
        Some(Spoken::Http1)
    } else {
        line_ends.map(|_| Spoken::Other)
    }
}

/// Whether what a server says at first is HTTP/2's SETTINGS, which it may send before its client's
/// preface (RFC 9113 §3.4): the word is still the client's then.
pub(crate) fn is_settings(said: &[u8]) -> bool {
    const SETTINGS: u8 = 4;
    const SETTING: u32 = 6;
    let &[a, b, c, kind, flags, 0, 0, 0, 0, ..] = said else { return false };
    let length = u32::from_be_bytes([0, a, b, c]);
    kind == SETTINGS && flags == 0 && length.is_multiple_of(SETTING)
}

/// What lenient parsers skip before a request line (RFC 9112 §2.2).
pub(crate) const fn is_blank(byte: u8) -> bool {
    is_space(byte) || matches!(byte, b'\r' | b'\n')
}

/// What lenient parsers split words at.
pub(crate) const fn is_space(byte: u8) -> bool {
    matches!(byte, b' ' | b'\t' | 0x0b | 0x0c | 0x1c..=0x1f | 0x85 | 0xa0)
}

/// What a method is made of (RFC 9110 §5.6.2).
pub(crate) const fn is_token(byte: u8) -> bool {
    byte.is_ascii_alphanumeric()
        || matches!(byte, b'!' | b'#'..=b'\'' | b'*' | b'+' | b'-' | b'.' | b'^'..=b'`' | b'|' | b'~')
}

/// A connection of which some bytes were read already.
#[derive(Debug)]
pub struct Prefixed<I> {
    prefix: BytesMut,
    io: I,
}

impl<I> Prefixed<I> {
    /// `io` after `read` was read from it.
    pub const fn new(read: BytesMut, io: I) -> Self {
        Self { prefix: read, io }
    }

    /// What was read and is not taken yet, and the connection.
    pub(crate) fn into_parts(self) -> (BytesMut, I) {
        (self.prefix, self.io)
    }
}

impl<I: Pieces> Pieces for Prefixed<I> {
    fn poll_take(
        &mut self,
        cx: &mut Context<'_>,
        pace: &mut Pace,
        room: &mut BytesMut,
    ) -> Poll<io::Result<Bytes>> {
        if self.prefix.has_remaining() {
            return Poll::Ready(Ok(std::mem::take(&mut self.prefix).freeze()));
        }
        self.io.poll_take(cx, pace, room)
    }

    fn poll_give(&mut self, cx: &mut Context<'_>, bytes: &mut Bytes) -> Poll<io::Result<()>> {
        self.io.poll_give(cx, bytes)
    }
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
            if self.prefix.is_empty() {
                self.prefix = BytesMut::new(); // nothing is kept for what was taken
            }
            return Poll::Ready(Ok(()));
        }
        ready!(Pin::new(&mut self.io).poll_read(cx, buf))?;
        Poll::Ready(Ok(()))
    }
}

ends_pass!(Prefixed);
writes_pass!(Prefixed);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn first_bytes_tell_the_protocol() {
        let cases: [(&[u8], Option<Spoken>); 28] = [
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
            (b"SET a bc", None),
            (b"SET a bc\r\n", Some(Spoken::Other)),
            (b"SET a http://b/HTTP/1\r\n", Some(Spoken::Other)),
            (b"{\"a\"", Some(Spoken::Other)),
            (b"SSH-2.0-x\r\n", Some(Spoken::Other)),
            (b"*1\r\n$4\r\nPING\r\n", Some(Spoken::Other)),
            (b"\r\n\nGET / HTTP/1.1\r\n", Some(Spoken::Http1)),
            (b"GET\t/ HTTP/1.1\r\n", Some(Spoken::Http1)),
            (b"GET /a b http/1.1", Some(Spoken::Http1)),
            (b"CONNECT\n", Some(Spoken::Other)),
            (b"AMQP\0\0\x09\x01", Some(Spoken::Other)),
            (b"\x16\x03\x01\x02\x00", Some(Spoken::Other)),
            (b"get / HTTP/1.1", Some(Spoken::Http1)),
            (b" GET / HTTP/1.1", Some(Spoken::Http1)),
            (b"GET  HTTP/1.1\r\n", Some(Spoken::Http1)),
            (&[b'A'; LONGEST_LINE + 1], Some(Spoken::Http1)),
        ];
        for (bytes, expected) in cases {
            assert_eq!(tell(bytes), expected, "{:?}", String::from_utf8_lossy(bytes));
        }
    }

    #[test]
    fn a_server_of_http2_is_told_from_one_that_speaks_first() {
        assert!(is_settings(&[0, 0, 6, 4, 0, 0, 0, 0, 0, 0, 3, 0, 0, 0, 100]));
        assert!(is_settings(&[0, 0, 0, 4, 0, 0, 0, 0, 0]));
        let others: [&[u8]; 5] = [
            b"220 mail.example ESMTP\r\n",
            b"\x4a\0\0\0\x0a10.11.6-MariaDB",
            &[0, 0, 6, 4, 0, 0, 0, 0],
            &[0, 0, 5, 4, 0, 0, 0, 0, 0],
            &[0, 0, 0, 4, 1, 0, 0, 0, 0],
        ];
        for said in others {
            assert!(!is_settings(said), "{said:?}");
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
    async fn a_word_that_is_no_method_is_not_waited_for() {
        for (word, waits) in [
            ("hello", false),
            ("PING", false),
            ("SET a bc", false),
            ("\n", false),
            ("", true),
            ("P", true),
            ("GET", true),
            ("GET key", true),
            ("GETTING", false),
        ] {
            assert_eq!(may_become_http(word.as_bytes()), waits, "{word:?}");
        }
        let (mut client, server) = tokio::io::duplex(64);
        tokio::io::AsyncWriteExt::write_all(&mut client, b"PING").await.unwrap();
        let (spoken, _) = sniff(server).await.unwrap();
        assert_eq!(spoken, Spoken::Other, "while the client waits for its answer");
    }

    #[tokio::test]
    async fn half_a_line_is_waited_for_as_long_as_a_head_is() {
        let (mut client, server) = tokio::io::duplex(64);
        let (_silent, quiet) = tokio::io::duplex(64);
        tokio::io::AsyncWriteExt::write_all(&mut client, b"GET /").await.unwrap();
        let limit = HEAD_TIMEOUT + HEAD_TIMEOUT / 2;
        let (half, none) = tokio::join!(
            tokio::time::timeout(limit, sniff(server)),
            tokio::time::timeout(limit, sniff(quiet))
        );
        assert_eq!(half.unwrap().unwrap_err().kind(), io::ErrorKind::TimedOut);
        assert!(none.is_err(), "one that has not begun is whoever waits for it to bound");
    }

    #[tokio::test]
    async fn one_that_closes_early_is_no_http() {
        let (spoken, _) = sniff(&b"GE"[..]).await.unwrap();
        assert_eq!(spoken, Spoken::Other);
    }
}
