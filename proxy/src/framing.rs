//! Where the messages of an HTTP/1 connection begin and end (RFC 9112 §6), and whether anybody
//! could see it otherwise. Pure: bytes in, a verdict out.

use std::borrow::Cow;

use crate::server::MAX_HEAD;
use crate::strict::leaves_http;

/// Longest line between chunks, and most bytes of chunk extensions in a message.
const MAX_CHUNK_LINE: usize = 16 * 1024;

/// Most hexadecimal digits of a chunk's size.
const MAX_SIZE_DIGITS: usize = 16;

/// Reads one direction of a connection.
#[derive(Debug, Default)]
pub struct Framing {
    part: Part,
    /// The line that has begun and not ended yet.
    line: Vec<u8>,
    head: Head,
}

/// Which part of a message comes next.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
enum Part {
    #[default]
    RequestLine,
    Field,
    /// So many bytes of a body.
    Bytes(u64),
    ChunkSize,
    /// So many bytes of a chunk.
    Chunk(u64),
    ChunkEnd,
    Trailer,
    /// Something that may be no HTTP.
    Anything,
}

/// What the head said of the framing, and what the body has used up.
#[derive(Debug, Default)]
struct Head {
    length: Option<u64>,
    chunked: bool,
    connect: bool,
    last: bool,
    extensions: usize,
}

/// More than one reading, or none, is possible.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Ambiguous;

type Verdict<T> = Result<T, Ambiguous>;

impl Framing {
    /// Whether a chunked body is being read.
    pub const fn is_in_body(&self) -> bool {
        matches!(self.part, Part::ChunkSize | Part::Chunk(_) | Part::ChunkEnd | Part::Trailer)
    }

    /// Whether a head has begun and is not whole yet.
    pub const fn is_in_head(&self) -> bool {
        match self.part {
            Part::RequestLine => !self.line.is_empty(),
            Part::Field => true,
            _ => false,
        }
    }

    /// Goes on with the bytes that came.
    ///
    /// # Errors
    /// How many of them are good, where the others are not.
    pub fn judge(&mut self, bytes: &[u8]) -> Result<(), usize> {
        let mut at = 0;
        while at < bytes.len() {
            let rest = &bytes[at..];
            at += match self.part {
                Part::Anything => return Ok(()),
                Part::Bytes(left) => self.skip(left, rest.len(), Part::Bytes, Self::next_message),
                Part::Chunk(left) => self
                    .skip(left, rest.len(), Part::Chunk, |framing| framing.part = Part::ChunkEnd),
                _ => match rest.iter().position(|byte| *byte == b'\n') {
                    Some(end) => {
                        self.end_line(&rest[..end]).map_err(|Ambiguous| at + end)?;
                        end + 1
                    }
                    None => {
                        self.keep(rest).map_err(|Ambiguous| at)?;
                        rest.len()
                    }
                },
            };
        }
        Ok(())
    }

    /// Counts bytes that nobody looks into; `then` follows the last one.
    fn skip(
        &mut self,
        left: u64,
        come: usize,
        part: fn(u64) -> Part,
        then: fn(&mut Self),
    ) -> usize {
        let skipped = usize::try_from(left).map_or(come, |left| left.min(come));
        self.part = part(left - skipped as u64);
        if skipped as u64 == left {
            then(self);
        }
        skipped
    }

    /// Keeps the beginning of a line.
    fn keep(&mut self, bytes: &[u8]) -> Verdict<()> {
        if self.line.len() <= MAX_HEAD {
            self.line.extend_from_slice(bytes);
        }
        let bounded = matches!(self.part, Part::ChunkSize | Part::ChunkEnd);
        if bounded && self.line.len() > MAX_CHUNK_LINE { Err(Ambiguous) } else { Ok(()) }
    }

    /// Judges the line that `end` completes: it ends in CR LF, and has no other CR (§2.2).
    fn end_line(&mut self, end: &[u8]) -> Verdict<()> {
        if self.line.len() > MAX_HEAD && !self.is_in_body() {
            self.line = Vec::new();
            return Ok(()); // longer than any head may be: hyper answers with 431
        }
        let line = if self.line.is_empty() {
            Cow::Borrowed(end)
        } else {
            self.keep(end)?;
            Cow::Owned(std::mem::take(&mut self.line))
        };
        let line =
            line.strip_suffix(b"\r").filter(|line| !line.contains(&b'\r')).ok_or(Ambiguous)?;
        self.part = match self.part {
            Part::RequestLine if line.is_empty() => Part::RequestLine,
            Part::RequestLine => {
                self.head = Head { connect: is_connect(line)?, ..Head::default() };
                Part::Field
            }
            Part::Field if line.is_empty() => return self.end_head(),
            Part::Field => {
                self.head.field(line)?;
                Part::Field
            }
            Part::ChunkSize => match self.head.chunk_size(line)? {
                0 => Part::Trailer,
                size => Part::Chunk(size),
            },
            Part::ChunkEnd if line.is_empty() => Part::ChunkSize,
            Part::Trailer if line.is_empty() => {
                self.next_message();
                return Ok(());
            }
            Part::Trailer => {
                split_field(line)?;
                Part::Trailer
            }
            _ => return Err(Ambiguous),
        };
        Ok(())
    }

    /// What follows the head (§6.3): never a length and chunks, and no body for a CONNECT.
    fn end_head(&mut self) -> Verdict<()> {
        let Head { length, chunked, connect, .. } = self.head;
        match (length, chunked) {
            (Some(_), true) => return Err(Ambiguous),
            (Some(1..), _) | (_, true) if connect => return Err(Ambiguous),
            (_, true) => self.part = Part::ChunkSize,
            (Some(length @ 1..), _) => self.part = Part::Bytes(length),
            _ => self.next_message(),
        }
        Ok(())
    }

    fn next_message(&mut self) {
        let last = self.head.connect || self.head.last;
        self.part = if last { Part::Anything } else { Part::RequestLine };
    }
}

impl Head {
    fn field(&mut self, line: &[u8]) -> Verdict<()> {
        let (name, value) = split_field(line)?;
        if name.eq_ignore_ascii_case(b"content-length") {
            let length = parse_length(value)?;
            if self.length.replace(length).is_some_and(|other| other != length) {
                return Err(Ambiguous);
            }
        } else if name.eq_ignore_ascii_case(b"transfer-encoding") {
            if self.chunked || !value.eq_ignore_ascii_case(b"chunked") {
                return Err(Ambiguous);
            }
            self.chunked = true;
        } else if name.eq_ignore_ascii_case(b"upgrade") {
            self.last |= leaves_http(value);
        }
        Ok(())
    }

    /// `1*HEXDIG [ chunk-ext ]` (§7.1), without the whitespace that old senders pad it with.
    fn chunk_size(&mut self, line: &[u8]) -> Verdict<u64> {
        let digits = line.iter().take_while(|byte| byte.is_ascii_hexdigit()).count();
        let (size, extension) = line.split_at(digits);
        self.extensions += extension.len();
        let fits = (1..=MAX_SIZE_DIGITS).contains(&digits) && self.extensions <= MAX_CHUNK_LINE;
        if !fits || extension.first().is_some_and(|byte| *byte != b';') {
            return Err(Ambiguous);
        }
        let size = std::str::from_utf8(size).map_err(|_| Ambiguous)?;
        u64::from_str_radix(size, 16).ok().filter(is_length).ok_or(Ambiguous)
    }
}

/// Whether the request line (§3) is that of a CONNECT: three words with one space between them,
/// and no fragment, which hyper would drop from the target.
fn is_connect(line: &[u8]) -> Verdict<bool> {
    let mut words = line.split(|byte| *byte == b' ');
    match (words.next(), words.next(), words.next(), words.next()) {
        (Some(method), Some(target), Some(_), None) if !target.contains(&b'#') => {
            Ok(method == b"CONNECT")
        }
        _ => Err(Ambiguous),
    }
}

/// Name and value of a field line (§5); a line that begins with whitespace is folded (§5.2), and
/// whitespace before the colon is what some take for a part of the name (§5.1).
fn split_field(line: &[u8]) -> Verdict<(&[u8], &[u8])> {
    let colon = line.iter().position(|byte| *byte == b':').ok_or(Ambiguous)?;
    let (name, value) = (&line[..colon], &line[colon + 1..]);
    if name.is_empty() || name.iter().any(|byte| *byte <= b' ') {
        return Err(Ambiguous);
    }
    Ok((name, value.trim_ascii()))
}

fn parse_length(value: &[u8]) -> Verdict<u64> {
    if value.is_empty() || !value.iter().all(u8::is_ascii_digit) {
        return Err(Ambiguous);
    }
    let text = std::str::from_utf8(value).map_err(|_| Ambiguous)?;
    text.parse().ok().filter(is_length).ok_or(Ambiguous)
}

/// Whether signed arithmetic can hold it, as many origins do.
fn is_length(length: &u64) -> bool {
    i64::try_from(*length).is_ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// How many bytes are good, read at once; read one by one, it must be no other verdict.
    fn good(bytes: &[u8]) -> Option<usize> {
        let verdict = Framing::default().judge(bytes).err();
        let mut framing = Framing::default();
        let one_by_one = bytes.iter().all(|byte| framing.judge(&[*byte]).is_ok());
        assert_eq!(one_by_one, verdict.is_none(), "{}", bytes.escape_ascii());
        verdict
    }

    #[test]
    fn one_message_follows_another() {
        let requests: [&[u8]; 7] = [
            b"GET / HTTP/1.1\r\n\r\n",
            b"\r\nGET / HTTP/1.1\r\na: b\r\n\r\n",
            b"PUT / HTTP/1.1\r\ncontent-length: 5\r\n\r\n1\n2\r\n",
            b"PUT / HTTP/1.1\r\nContent-Length:5 \r\ncontent-length: 05\r\n\r\nabcde",
            b"PUT / HTTP/1.1\r\nTransfer-Encoding: Chunked\r\n\r\nA;x=y\r\n0123\n\r6789\r\n0\r\n\r\n",
            b"PUT / HTTP/1.1\r\ntransfer-encoding: chunked\r\n\r\n0\r\na: b\r\n\r\n",
            b"GET / HTTP/1.1\r\nupgrade: h2c\r\n\r\n",
        ];
        for request in requests {
            assert_eq!(good(request), None, "{}", request.escape_ascii());
            assert_eq!(good(&requests.concat()), None);
        }
        assert!(good(&[requests.concat(), b"nonsense\r\n".to_vec()].concat()).is_some());
    }

    #[test]
    fn what_is_ambiguous_is_refused_where_its_line_ends() {
        let cases: [&[u8]; 20] = [
            b"GET / HTTP/1.1\n",
            b"GET  / HTTP/1.1\r\n",
            b"GET /#a HTTP/1.1\r\n",
            b"GET /\r\n",
            b"GET / HTTP/1.1\r\na: b\rc: d\r\n",
            b"GET / HTTP/1.1\r\n a: b\r\n",
            b"GET / HTTP/1.1\r\na : b\r\n",
            b"GET / HTTP/1.1\r\n: b\r\n",
            b"GET / HTTP/1.1\r\ncontent-length: +5\r\n",
            b"GET / HTTP/1.1\r\ncontent-length: 9223372036854775808\r\n",
            b"GET / HTTP/1.1\r\ncontent-length: 5\r\ncontent-length: 6\r\n",
            b"GET / HTTP/1.1\r\ntransfer-encoding: chunked\r\ntransfer-encoding: chunked\r\n",
            b"GET / HTTP/1.1\r\ntransfer-encoding: gzip, chunked\r\n",
            b"GET / HTTP/1.1\r\ncontent-length: 5\r\ntransfer-encoding: chunked\r\n\r\n",
            b"GET / HTTP/1.1\r\ntransfer-encoding: chunked\r\n\r\n5 \r\n",
            b"GET / HTTP/1.1\r\ntransfer-encoding: chunked\r\n\r\n0x5\r\n",
            b"GET / HTTP/1.1\r\ntransfer-encoding: chunked\r\n\r\n1;a\n",
            b"GET / HTTP/1.1\r\ntransfer-encoding: chunked\r\n\r\n1\r\nab\r\n",
            b"GET / HTTP/1.1\r\ntransfer-encoding: chunked\r\n\r\n0\r\nGET / HTTP/1.1\r\n",
            b"CONNECT a:1 HTTP/1.1\r\ncontent-length: 5\r\n\r\n",
        ];
        for case in cases {
            assert_eq!(good(case), Some(case.len() - 1), "{}", case.escape_ascii());
        }
    }

    #[test]
    fn after_a_tunnel_nothing_is_judged() {
        for head in ["CONNECT a:1 HTTP/1.1\r\n", "GET / HTTP/1.1\r\nupgrade: websocket\r\n"] {
            assert_eq!(good(format!("{head}\r\n\x01\n\n").as_bytes()), None, "{head}");
        }
    }

    #[test]
    fn extensions_are_bounded_over_the_whole_message() {
        let chunk = format!("1;{}\r\na\r\n", "x".repeat(8 * 1024 - 2));
        let head = "GET / HTTP/1.1\r\ntransfer-encoding: chunked\r\n\r\n";
        assert_eq!(good(format!("{head}{}", chunk.repeat(2)).as_bytes()), None);
        assert!(good(format!("{head}{}", chunk.repeat(3)).as_bytes()).is_some());
    }
}
