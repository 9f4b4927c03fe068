//! A connection that is carried as bytes because it did not begin as HTTP, watched until its
//! first line is over: one that says HTTP after all is cut off before the application can read
//! it. So nobody can say to an application who it is by sending a request in two halves, and a
//! protocol that sends a word and waits for the answer is not kept waiting.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use tokio::io::{AsyncRead, ReadBuf};

use crate::layer::writes_pass;
use crate::relay::Carried;
use crate::sniff::{is_blank, is_space, is_token};

/// What a word of a request line that names HTTP begins with, after a space (RFC 9112 §2.3).
const NAME: &[u8; 5] = b"HTTP/";

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
    /// The last bytes, the newest at the end.
    last: [u8; NAME.len() + 1],
}

#[derive(Debug, Default, PartialEq, Eq)]
enum Part {
    #[default]
    Blank,
    Method,
    Rest,
}

/// What a byte makes of the line.
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
        match bytes.iter().map(|byte| line.next(*byte)).find(|verdict| *verdict != Verdict::Open) {
            None | Some(Verdict::Open) => {}
            Some(Verdict::Harmless) => self.line = None,
            Some(Verdict::Http) => {
                let reason = "HTTP on a connection that did not begin as HTTP";
                return Err(io::Error::new(io::ErrorKind::InvalidData, reason));
            }
        }
        Ok(())
    }
}

impl FirstLine {
    fn next(&mut self, byte: u8) -> Verdict {
        self.last.rotate_left(1);
        self.last[NAME.len()] = byte;
        self.part = match self.part {
            Part::Blank if is_blank(byte) => Part::Blank,
            Part::Blank | Part::Method if is_token(byte) => Part::Method,
            Part::Method if is_space(byte) => Part::Rest,
            Part::Blank | Part::Method => return Verdict::Harmless,
            Part::Rest if byte == b'\n' => return Verdict::Harmless,
            Part::Rest => Part::Rest,
        };
        let names_http = is_space(self.last[0]) && self.last[1..].eq_ignore_ascii_case(NAME);
        if self.part == Part::Rest && names_http { Verdict::Http } else { Verdict::Open }
    }
}

impl<I: Carried> Carried for Opaque<I> {
    fn reset(&mut self) {
        self.io.reset();
    }

    fn end(&mut self) {
        self.io.end();
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

    /// A reader that gives one part at each read.
    struct Parts(std::collections::VecDeque<Vec<u8>>);

    impl AsyncRead for Parts {
        fn poll_read(
            mut self: Pin<&mut Self>,
            _: &mut Context<'_>,
            buf: &mut ReadBuf<'_>,
        ) -> Poll<io::Result<()>> {
            if let Some(part) = self.0.pop_front() {
                buf.put_slice(&part);
            }
            Poll::Ready(Ok(()))
        }
    }

    #[tokio::test]
    async fn what_is_no_http_passes_whole() {
        let cases: [&[&[u8]]; 5] = [
            &[b"hello", b" world\r\n", b"GET / HTTP/1.1\r\n"],
            &[b"SET a bc", b"\r\nGET / HTTP/1.1\r\n"],
            &[b"\x16\x03\x01 HTTP/"],
            &[b"SET a http://b/HTTP/1\r\n"],
            &[b"\n\n", b"x"],
        ];
        for parts in cases {
            assert_eq!(read(parts).await, (parts.concat(), false));
        }
    }

    #[tokio::test]
    async fn a_request_in_two_halves_is_cut_before_its_line_is_whole() {
        let cases: [(&[&[u8]], &[u8]); 4] = [
            (&[b"get", b" / HTTP/1.1\r\nx-pillion-peer: me\r\n"], b"get"),
            (&[b"\r\n", b"A", b" / htt", b"p/1.1\r\n"], b"\r\nA / htt"),
            (&[b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"], b""),
            (&[b"X\t/ HTTP/1.0"], b""),
        ];
        for (parts, passed) in cases {
            assert_eq!(read(parts).await, (passed.to_vec(), true));
        }
    }
}
