//! The body of a message, out of the bytes of its connection (RFC 9112 §6, §7). Pure: bytes in,
//! frames out.

use std::mem::MaybeUninit;

use bytes::{Buf, Bytes, BytesMut};
use http::{HeaderMap, HeaderName, HeaderValue};
use http_body::Frame;

use super::lines::{Ends, Lines, trimmed};
use crate::server::{MAX_FIELDS, MAX_HEAD};

/// Longest line between chunks, and most bytes of chunk extensions in a message.
const MAX_CHUNK_LINE: usize = 16 * 1024;

/// Most hexadecimal digits of a chunk's size.
const MAX_SIZE_DIGITS: usize = 16;

/// Reads one body.
#[derive(Debug)]
pub(super) enum Decoder {
    /// So many bytes are left.
    Length(u64),
    /// Chunks, and trailers after them.
    Chunked(Chunks),
    /// All bytes until the connection ends.
    UntilClose,
    /// Nothing is left.
    Over,
}

/// How far a chunked body was read.
#[derive(Debug, Default)]
pub(super) struct Chunks {
    part: Part,
    /// Bytes of chunk extensions so far.
    extensions: usize,
    lines: Lines,
}

#[derive(Debug, Default)]
enum Part {
    #[default]
    Size,
    /// So many bytes of a chunk.
    Data(u64),
    DataEnd,
    Trailers,
}

/// Why a body cannot be read any further.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum BadBody {
    /// It is malformed, or could be read in two ways.
    Malformed,
    /// Its trailers are too large, or too many.
    Trailers,
}

impl Decoder {
    /// Of so many bytes, at least one.
    pub(super) const fn length(length: u64) -> Self {
        Self::Length(length)
    }

    /// Of chunks.
    pub(super) fn chunked() -> Self {
        Self::Chunked(Chunks::default())
    }

    /// Of all that comes.
    pub(super) const fn until_close() -> Self {
        Self::UntilClose
    }

    /// The bytes that are left, where that is known.
    pub(super) const fn left(&self) -> Option<u64> {
        match self {
            Self::Length(left) => Some(*left),
            Self::Over => Some(0),
            Self::Chunked(_) | Self::UntilClose => None,
        }
    }

    /// Whether the body has ended.
    pub(super) const fn is_over(&self) -> bool {
        matches!(self, Self::Over)
    }

    /// Whether the body may end with the connection.
    pub(super) const fn may_end(&self) -> bool {
        matches!(self, Self::UntilClose | Self::Over)
    }

    /// Takes the next piece of the body from `read`; `None` while it is not there, or when the
    /// body is over.
    pub(super) fn decode(&mut self, read: &mut BytesMut) -> Result<Option<Frame<Bytes>>, BadBody> {
        match self {
            Self::Over => Ok(None),
            Self::UntilClose => Ok(take(read, u64::MAX).map(Frame::data)),
            Self::Length(left) => {
                let data = take(read, *left);
                *left -= data.as_ref().map_or(0, |data| data.len() as u64);
                if *left == 0 {
                    *self = Self::Over;
                }
                Ok(data.map(Frame::data))
            }
            Self::Chunked(chunks) => {
                let Some(piece) = chunks.decode(read)? else { return Ok(None) };
                if let Piece::Last(trailers) = piece {
                    *self = Self::Over;
                    return Ok(Some(trailers).filter(|all| !all.is_empty()).map(Frame::trailers));
                }
                Ok(piece.data().map(Frame::data))
            }
        }
    }
}

enum Piece {
    Data(Bytes),
    Last(HeaderMap),
}

impl Piece {
    fn data(self) -> Option<Bytes> {
        match self {
            Self::Data(data) => Some(data),
            Self::Last(_) => None,
        }
    }
}

impl Chunks {
    fn decode(&mut self, read: &mut BytesMut) -> Result<Option<Piece>, BadBody> {
        loop {
            match &mut self.part {
                Part::Size => {
                    let Some(size) = self.size(read)? else { return Ok(None) };
                    self.part = if size == 0 { Part::Trailers } else { Part::Data(size) };
                }
                Part::Data(left) => {
                    let Some(data) = take(read, *left) else { return Ok(None) };
                    *left -= data.len() as u64;
                    if *left == 0 {
                        self.part = Part::DataEnd;
                    }
                    return Ok(Some(Piece::Data(data)));
                }
                Part::DataEnd => {
                    let common = read.len().min(2);
                    if read[..common] != b"\r\n"[..common] {
                        return Err(BadBody::Malformed);
                    }
                    if common < 2 {
                        return Ok(None);
                    }
                    read.advance(2);
                    self.part = Part::Size;
                }
                Part::Trailers => return Ok(self.trailers(read)?.map(Piece::Last)),
            }
        }
    }

    /// `1*HEXDIG [ chunk-ext ]` (§7.1), without the whitespace that old senders pad it with.
    fn size(&mut self, read: &mut BytesMut) -> Result<Option<u64>, BadBody> {
        let Some(feed) = memchr::memchr(b'\n', read) else {
            return if read.len() > MAX_CHUNK_LINE { Err(BadBody::Malformed) } else { Ok(None) };
        };
        let line = trimmed(read, 0..feed, Ends::Strictly).map_err(|_| BadBody::Malformed)?;
        let digits = line.iter().take_while(|byte| byte.is_ascii_hexdigit()).count();
        let (size, extension) = line.split_at(digits);
        self.extensions += extension.len();
        let fits = (1..=MAX_SIZE_DIGITS).contains(&digits) && self.extensions <= MAX_CHUNK_LINE;
        if !fits || extension.first().is_some_and(|byte| *byte != b';') {
            return Err(BadBody::Malformed);
        }
        let size = std::str::from_utf8(size).ok().and_then(|s| u64::from_str_radix(s, 16).ok());
        // As far as signed arithmetic can hold it, which many origins use.
        let size = size.filter(|size| i64::try_from(*size).is_ok()).ok_or(BadBody::Malformed)?;
        read.advance(feed + 1);
        Ok(Some(size))
    }

    /// The trailers (§7.1.2), once they are there whole.
    fn trailers(&mut self, read: &mut BytesMut) -> Result<Option<HeaderMap>, BadBody> {
        let end = self.lines.end(read, Ends::Strictly).map_err(|_| BadBody::Malformed)?;
        let Some(end) = end.filter(|end| *end <= MAX_HEAD) else {
            return if read.len() > MAX_HEAD { Err(BadBody::Trailers) } else { Ok(None) };
        };
        let block = read.split_to(end).freeze();
        if block.len() == 2 {
            return Ok(Some(HeaderMap::new()));
        }
        fields(&block).map(Some)
    }
}

fn fields(block: &Bytes) -> Result<HeaderMap, BadBody> {
    let mut fields = [const { MaybeUninit::uninit() }; MAX_FIELDS];
    let mut parsed = httparse::Request::new(&mut []);
    // httparse has no uninitialised form for fields alone: a request line of our own goes before.
    let head = [b"GET / HTTP/1.1\r\n", &**block].concat();
    parsed.parse_with_uninit_headers(&head, &mut fields).map_err(|error| match error {
        httparse::Error::TooManyHeaders => BadBody::Trailers,
        _ => BadBody::Malformed,
    })?;
    let mut trailers = HeaderMap::with_capacity(parsed.headers.len());
    for field in parsed.headers {
        let name = HeaderName::from_bytes(field.name.as_bytes());
        let value = HeaderValue::from_bytes(field.value);
        let (Ok(name), Ok(value)) = (name, value) else { return Err(BadBody::Malformed) };
        trailers.append(name, value);
    }
    Ok(trailers)
}

/// At most so many of the bytes that are there.
fn take(read: &mut BytesMut, most: u64) -> Option<Bytes> {
    let bytes = usize::try_from(most).map_or(read.len(), |most| most.min(read.len()));
    (bytes > 0).then(|| read.split_to(bytes).freeze())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The data of a chunked body, its trailers, and what is left after it.
    type Body = (Vec<u8>, Vec<(String, String)>, Vec<u8>);

    fn decode(bytes: &[u8], at_once: usize) -> Result<Option<Body>, BadBody> {
        let (mut read, mut decoder) = (BytesMut::new(), Decoder::chunked());
        let (mut data, mut trailers) = (Vec::new(), Vec::new());
        let mut pieces = bytes.chunks(at_once);
        loop {
            while let Some(frame) = decoder.decode(&mut read)? {
                match frame.into_data() {
                    Ok(piece) => data.extend_from_slice(&piece),
                    Err(frame) => {
                        for (name, value) in &frame.into_trailers().expect("trailers") {
                            trailers.push((name.to_string(), value.to_str().unwrap().to_owned()));
                        }
                    }
                }
            }
            if decoder.is_over() {
                let rest = pieces.flatten().copied();
                return Ok(Some((data, trailers, read.iter().copied().chain(rest).collect())));
            }
            let Some(piece) = pieces.next() else { return Ok(None) };
            read.extend_from_slice(piece);
        }
    }

    fn chunked(bytes: &[u8]) -> Result<Option<Body>, BadBody> {
        let at_once = decode(bytes, bytes.len());
        assert_eq!(decode(bytes, 1), at_once, "{}", bytes.escape_ascii());
        at_once
    }

    #[test]
    fn chunks_and_trailers_are_read_and_no_more() {
        let body = b"A;x=y\r\n0123\n\r6789\r\n1\r\na\r\n0\r\na: b\r\na: c\r\n\r\nGET /";
        let (data, trailers, rest) = chunked(body).unwrap().expect("all of it");
        assert_eq!((data.as_slice(), rest.as_slice()), (&b"0123\n\r6789a"[..], &b"GET /"[..]));
        let text = |text: &str| ("a".to_owned(), text.to_owned());
        assert_eq!(trailers, [text("b"), text("c")]);
        assert_eq!(chunked(b"0\r\n\r\n").unwrap().expect("all of it"), Default::default());
    }

    #[test]
    fn what_could_be_read_in_two_ways_is_refused() {
        let cases: [&[u8]; 16] = [
            b"5 \r\n",
            b" 5\r\n",
            b"\r\n",
            b"0x5\r\n",
            b"+5\r\n",
            b"5\n",
            b"1;a\n",
            b"1;a\rb\r\n",
            b"1\r\nab\r\n",
            b"1\r\na\n",
            b"00000000000000005\r\n",
            b"8000000000000000\r\n",
            b"0\n\n",
            b"0\r\n\n",
            b"0\r\nGET / HTTP/1.1\r\n\r\n",
            b"0\r\n a: b\r\n\r\n",
        ];
        for case in cases {
            assert_eq!(chunked(case), Err(BadBody::Malformed), "{}", case.escape_ascii());
        }
    }

    #[test]
    fn a_body_that_is_cut_never_ends() {
        for body in ["5", "5\r\nab", "5\r\nabcde\r\n", "0\r\n", "0\r\na: b\r\n"] {
            assert_eq!(chunked(body.as_bytes()), Ok(None), "{body:?}");
        }
        let mut decoder = Decoder::length(2);
        assert!(decoder.decode(&mut BytesMut::from("a")).unwrap().is_some());
        assert!(!decoder.is_over() && !decoder.may_end());
        assert!(Decoder::until_close().may_end());
    }

    #[test]
    fn extensions_are_bounded_over_the_whole_message() {
        let chunk = format!("1;{}\r\na\r\n", "x".repeat(8 * 1024 - 2));
        let all = |chunks: usize| decode(chunk.repeat(chunks).as_bytes(), 1000);
        assert_eq!(all(2), Ok(None));
        assert_eq!(all(3), Err(BadBody::Malformed));
        let endless = format!("1;{}", "x".repeat(MAX_CHUNK_LINE));
        assert_eq!(decode(endless.as_bytes(), 1000), Err(BadBody::Malformed));
    }

    #[test]
    fn trailers_are_bounded() {
        let trailers = |fields: usize| format!("0\r\n{}\r\n", "a: b\r\n".repeat(fields));
        assert!(decode(trailers(MAX_FIELDS).as_bytes(), 1000).unwrap().is_some());
        let many = decode(trailers(MAX_FIELDS + 1).as_bytes(), 1000);
        assert_eq!(many, Err(BadBody::Trailers));
        let large = format!("0\r\na: {}", "b".repeat(MAX_HEAD));
        assert_eq!(decode(large.as_bytes(), 1000), Err(BadBody::Trailers));
    }
}
