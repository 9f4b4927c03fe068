//! A connection that is carried as bytes because it did not begin as HTTP, watched until its
//! first line is over: one that says HTTP after all is cut off before the application can read
//! it. So nobody can say to an application who it is by sending a request in two halves, and a
//! protocol that sends a word and waits for the answer is not kept waiting.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bytes::{Bytes, BytesMut};
use memchr::memchr2_iter;
use tokio::io::{AsyncRead, ReadBuf};

use crate::carried::Pieces;
use crate::fill::Pace;
use crate::layer::{ends_pass, writes_pass};
use crate::server::MAX_HEAD;
use crate::sniff::{is_blank, is_space, is_token};

/// What a word of a request line that names HTTP begins with (RFC 9112 §2.3), before its slash.
const NAME: &[u8; 4] = b"HTTP";

/// A connection and what its first line has said so far.
#[derive(Debug)]
pub struct Opaque<I> {
    io: I,
    /// `None` once the first line cannot become a request line any more.
    line: Option<FirstLine>,
}

/// The first line as far as it has come.
#[derive(Debug, Default)]
struct FirstLine {
    part: Part,
    /// The last bytes of what came before, the newest at the end: room for a space and the name.
    last: [u8; NAME.len() + 1],
    length: usize,
}

#[derive(Debug, Default, PartialEq, Eq)]
enum Part {
    #[default]
    Blank,
    Method,
    Rest,
}

/// What bytes make of the line.
#[derive(Debug, PartialEq, Eq)]
enum Verdict {
    Open,
    Harmless,
    Http,
}

impl<I> Opaque<I> {
    /// Watches the first line of `io`.
    pub fn new(io: I) -> Self {
        Self { io, line: Some(FirstLine::default()) }
    }

    fn watch(&mut self, bytes: &[u8]) -> io::Result<()> {
        let Some(line) = &mut self.line else { return Ok(()) };
        match line.go_on(bytes) {
            Verdict::Open => {}
            Verdict::Harmless => self.line = None,
            Verdict::Http => {
                let reason = "HTTP on a connection that did not begin as HTTP";
                return Err(io::Error::new(io::ErrorKind::InvalidData, reason));
            }
        }
        Ok(())
    }
}

impl FirstLine {
    fn go_on(&mut self, bytes: &[u8]) -> Verdict {
        let verdict = self.judge(bytes);
        self.last = self.before(bytes, bytes.len());
        self.length += bytes.len();
        // No application reads a longer one.
        if verdict == Verdict::Open && self.length > MAX_HEAD { Verdict::Harmless } else { verdict }
    }

    fn judge(&mut self, bytes: &[u8]) -> Verdict {
        let mut at = 0;
        if self.part == Part::Blank {
            at += length(&bytes[at..], is_blank);
            match bytes.get(at) {
                None => return Verdict::Open,
                Some(byte) if is_token(*byte) => self.part = Part::Method,
                Some(_) => return Verdict::Harmless,
            }
        }
        if self.part == Part::Method {
            at += length(&bytes[at..], is_token);
            match bytes.get(at) {
                None => return Verdict::Open,
                Some(byte) if is_space(*byte) => self.part = Part::Rest,
                Some(_) => return Verdict::Harmless,
            }
        }
        for found in memchr2_iter(b'\n', b'/', &bytes[at..]).map(|found| at + found) {
            if bytes[found] == b'\n' {
                return Verdict::Harmless;
            }
            let [space, name @ ..] = self.before(bytes, found);
            if is_space(space) && name.eq_ignore_ascii_case(NAME) {
                return Verdict::Http;
            }
        }
        Verdict::Open
    }

    /// The last bytes before the one `at` this place of those that came now.
    fn before(&self, bytes: &[u8], at: usize) -> [u8; NAME.len() + 1] {
        let mut last = self.last;
        let now = &bytes[at.saturating_sub(last.len())..at];
        last.rotate_left(now.len());
        let kept = last.len() - now.len();
        last[kept..].copy_from_slice(now);
        last
    }
}

/// How many bytes at the beginning are such ones.
fn length(bytes: &[u8], is_one: impl Fn(u8) -> bool) -> usize {
    bytes.iter().position(|byte| !is_one(*byte)).unwrap_or(bytes.len())
}

impl<I: Pieces> Pieces for Opaque<I> {
    fn poll_take(
        &mut self,
        cx: &mut Context<'_>,
        pace: &mut Pace,
        room: &mut BytesMut,
    ) -> Poll<io::Result<Bytes>> {
        let bytes = ready!(self.io.poll_take(cx, pace, room))?;
        self.watch(&bytes)?;
        Poll::Ready(Ok(bytes))
    }

    fn poll_give(&mut self, cx: &mut Context<'_>, bytes: &mut Bytes) -> Poll<io::Result<()>> {
        self.io.poll_give(cx, bytes)
    }
}

impl<I: AsyncRead + Unpin> AsyncRead for Opaque<I> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = buf.filled().len();
        ready!(Pin::new(&mut self.io).poll_read(cx, buf))?;
        if let Err(error) = self.watch(&buf.filled()[before..]) {
            buf.set_filled(before);
            return Poll::Ready(Err(error));
        }
        Poll::Ready(Ok(()))
    }
}

ends_pass!(Opaque);
writes_pass!(Opaque);

#[cfg(test)]
mod tests {
    use tokio::io::AsyncReadExt;

    use super::*;

    async fn read(parts: &[&[u8]]) -> (Vec<u8>, bool) {
        let parts = Parts(parts.iter().map(|part| part.to_vec()).collect());
        let mut opaque = Opaque::new(parts);
        let mut read = Vec::new();
        let cut = opaque.read_to_end(&mut read).await.is_err();
        (read, cut)
    }

    /// A reader that gives one part at each read, or what there is room for.
    struct Parts(std::collections::VecDeque<Vec<u8>>);

    impl AsyncRead for Parts {
        fn poll_read(
            mut self: Pin<&mut Self>,
            _: &mut Context<'_>,
            buf: &mut ReadBuf<'_>,
        ) -> Poll<io::Result<()>> {
            if let Some(mut part) = self.0.pop_front() {
                let rest = part.split_off(part.len().min(buf.remaining()));
                buf.put_slice(&part);
                if !rest.is_empty() {
                    self.0.push_front(rest);
                }
            }
            Poll::Ready(Ok(()))
        }
    }

    #[tokio::test]
    async fn what_is_no_http_passes_whole() {
        let long = vec![b'a'; MAX_HEAD + 1];
        let cases: [&[&[u8]]; 6] = [
            &[&long, b"a HTTP/1.1"],
            &[b"hello", b" world\r\n", b"GET / HTTP/1.1\r\n"],
            &[b"SET a bc", b"\r\nGET / HTTP/1.1\r\n"],
            &[b"\x16\x03\x01 HTTP/"],
            &[b"SET a http://b/HTTP/1\r\n"],
            &[b"\n\n", b"x"],
        ];
        for parts in cases {
            assert!(read(parts).await == (parts.concat(), false), "{} parts", parts.len());
        }
    }

    #[tokio::test]
    async fn a_request_in_two_halves_is_cut_before_its_line_is_whole() {
        let cases: [(&[&[u8]], &[u8]); 6] = [
            (&[b"get", b" / HTTP/1.1\r\nx-pillion-peer: me\r\n"], b"get"),
            (&[b"X", b" ", b"a/b", b" ", b"H", b"T", b"T", b"P", b"/"], b"X a/b HTTP"),
            (&[b"get http", b"/ http/"], b"get http"),
            (&[b"\r\n", b"A", b" / htt", b"p/1.1\r\n"], b"\r\nA / htt"),
            (&[b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"], b""),
            (&[b"X\t/ HTTP/1.0"], b""),
        ];
        for (parts, passed) in cases {
            assert_eq!(read(parts).await, (passed.to_vec(), true));
        }
    }
}
