//! Messages as they are written: heads, and bodies framed anew (RFC 9112 §6, §7).

use bytes::Bytes;
use http::header::{CONNECTION, CONTENT_LENGTH, COOKIE, DATE, HOST, HeaderName};
use http::{HeaderValue, Request, Response, StatusCode, Version};
use http_body::{Body, Frame};

use crate::headers::{content_length, date, length_of};
use crate::out::Out;

/// How a body is framed on its way out.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) enum Encoder {
    /// There is none.
    #[default]
    Nothing,
    /// So many bytes are still to come.
    Length(u64),
    /// In chunks; whether trailers may follow them.
    Chunked { trailers: bool },
    /// As bytes until the connection ends.
    UntilClose,
}

/// A body does not have the length that its head says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct WrongLength;

/// What is to be known of a request to answer it.
#[derive(Debug, Clone, Copy)]
pub(super) struct Asked {
    pub(super) version: Version,
    /// Its method is HEAD.
    pub(super) head: bool,
    /// The client takes trailers (RFC 9110 §10.1.4).
    pub(super) trailers: bool,
    /// HTTP may end with the response: a CONNECT, or an upgrade.
    pub(super) connect: bool,
}

/// The field of a body whose length is not known (RFC 9112 §7.1).
const CHUNKED: &[u8] = b"transfer-encoding: chunked\r\n";

/// Writes the head of a request. The fields stay as they are, for another attempt may be sent to
/// somebody else: cookies are joined here (RFC 9113 §8.2.3), and a body of unknown length is framed.
pub(super) fn request<B: Body>(out: &mut Out, request: &Request<B>) -> Encoder {
    let target = request.uri().path_and_query().map_or("/", |target| target.as_str());
    out.reserve(128 + target.len() + 48 * request.headers().len());
    out.text(request.method().as_str().as_bytes());
    out.text(b" ");
    out.text(target.as_bytes());
    out.text(b" HTTP/1.1\r\n");
    if let Some(host) = request.headers().get(HOST) {
        field(out, &HOST, host); // first, as RFC 9110 §7.2 wants it
    }
    let (mut length, mut cookies) = (None, false);
    for (name, value) in request.headers() {
        if *name == HOST {
            continue;
        } else if *name == COOKIE {
            cookies = true;
            continue;
        } else if *name == CONTENT_LENGTH {
            length = Some(value);
        }
        field(out, name, value);
    }
    if cookies {
        joined(out, request.headers().get_all(COOKIE).iter());
    }
    let framed = length.is_some() || request.body().is_end_stream();
    if !framed {
        out.text(CHUNKED);
    }
    out.text(b"\r\n");
    match length.and_then(length_of) {
        Some(length) => Encoder::Length(length),
        None if framed => Encoder::Nothing,
        None => Encoder::Chunked { trailers: true },
    }
}

/// Writes cookies as one field (RFC 9113 §8.2.3).
fn joined<'a>(out: &mut Out, crumbs: impl Iterator<Item = &'a HeaderValue>) {
    for (number, crumb) in crumbs.enumerate() {
        out.text(if number == 0 { b"cookie: " } else { b"; " });
        out.text(crumb.as_bytes());
    }
    out.text(b"\r\n");
}

/// Writes the head of a response; `close` if it is the last one on the connection. What it says of
/// its body's framing is decided here, by its body and by what was asked.
pub(super) fn response<B: Body>(
    out: &mut Out,
    response: &Response<B>,
    asked: Asked,
    close: bool,
) -> Encoder {
    let (status, headers) = (response.status(), response.headers());
    let encoder = encoder(response, asked);
    out.reserve(128 + 48 * headers.len());
    out.text(if asked.version == Version::HTTP_10 { b"HTTP/1.0 " } else { b"HTTP/1.1 " });
    out.text(status.as_str().as_bytes());
    out.text(b" ");
    out.text(status.canonical_reason().unwrap_or_default().as_bytes());
    out.text(b"\r\n");
    let drops_length = !keeps_length(status, asked) || matches!(encoder, Encoder::Chunked { .. });
    let (mut says_length, mut dated) = (false, false);
    for (name, value) in headers {
        let is_length = *name == CONTENT_LENGTH;
        says_length |= is_length;
        dated |= *name == DATE;
        if !(drops_length && is_length) {
            field(out, name, value);
        }
    }
    match encoder {
        Encoder::Chunked { .. } => out.text(CHUNKED),
        Encoder::Length(length) if !says_length => {
            out.text(b"content-length: ");
            out.text(length.to_string().as_bytes());
            out.text(b"\r\n");
        }
        _ => {}
    }
    if !dated {
        field(out, &DATE, &date());
    }
    if close || matches!(encoder, Encoder::UntilClose) {
        field(out, &CONNECTION, &HeaderValue::from_static("close"));
    } else if asked.version == Version::HTTP_10 {
        field(out, &CONNECTION, &HeaderValue::from_static("keep-alive"));
    }
    out.text(b"\r\n");
    encoder
}

/// Whether a length in the head may stand: not beside a switch to something else or a 204
/// (RFC 9110 §8.6).
fn keeps_length(status: StatusCode, asked: Asked) -> bool {
    let connected = asked.connect && status.is_success();
    !(status.is_informational() || status == StatusCode::NO_CONTENT || connected)
}

fn encoder<B: Body>(response: &Response<B>, asked: Asked) -> Encoder {
    let (status, body) = (response.status(), response.body());
    if asked.head || status == StatusCode::NOT_MODIFIED || !keeps_length(status, asked) {
        return Encoder::Nothing;
    }
    let exact = || if body.is_end_stream() { Some(0) } else { body.size_hint().exact() };
    match content_length(response.headers()).or_else(exact) {
        Some(length) => Encoder::Length(length),
        None if asked.version == Version::HTTP_10 => Encoder::UntilClose,
        None => Encoder::Chunked { trailers: asked.trailers },
    }
}

fn field(out: &mut Out, name: &HeaderName, value: &HeaderValue) {
    out.text(name.as_str().as_bytes());
    out.text(b": ");
    out.text(value.as_bytes());
    out.text(b"\r\n");
}

impl Encoder {
    /// Whether the body ends with the last of its bytes, and that is written.
    pub(super) const fn is_over(self) -> bool {
        matches!(self, Self::Nothing | Self::Length(0))
    }

    /// Writes a piece of the body.
    pub(super) fn frame(&mut self, out: &mut Out, frame: Frame<Bytes>) -> Result<(), WrongLength> {
        match frame.into_data() {
            Ok(data) if data.is_empty() => Ok(()),
            Ok(data) => self.data(out, data),
            Err(frame) => {
                if let (Self::Chunked { trailers: true }, Ok(trailers)) =
                    (*self, frame.into_trailers())
                {
                    out.text(b"0\r\n");
                    trailers.iter().for_each(|(name, value)| field(out, name, value));
                    out.text(b"\r\n");
                    *self = Self::Nothing;
                }
                Ok(())
            }
        }
    }

    fn data(&mut self, out: &mut Out, data: Bytes) -> Result<(), WrongLength> {
        match self {
            Self::Nothing => Ok(()), // an answer to HEAD
            Self::Length(left) => {
                *left = left.checked_sub(data.len() as u64).ok_or(WrongLength)?;
                out.data(data);
                Ok(())
            }
            Self::Chunked { .. } => {
                out.text(format!("{:x}\r\n", data.len()).as_bytes());
                out.data(data);
                out.text(b"\r\n");
                Ok(())
            }
            Self::UntilClose => {
                out.data(data);
                Ok(())
            }
        }
    }

    /// Writes the end of the body.
    pub(super) fn end(&mut self, out: &mut Out) -> Result<(), WrongLength> {
        match *self {
            Self::Length(1..) => return Err(WrongLength),
            Self::Chunked { .. } => out.text(b"0\r\n\r\n"),
            Self::Nothing | Self::Length(0) | Self::UntilClose => {}
        }
        *self = Self::Nothing;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use http::Version;
    use http_body::SizeHint;

    use super::*;
    use crate::body::Body as Answer;

    const ASKED: Asked =
        Asked { version: Version::HTTP_11, head: false, trailers: true, connect: false };

    fn written(response_: &Response<Answer>, asked: Asked) -> (String, Encoder) {
        let mut out = Out::default();
        let encoder = response(&mut out, response_, asked, false);
        (out.into_text(), encoder)
    }

    fn answer(status: u16, fields: &[(&'static str, &'static str)]) -> Response<Answer> {
        let mut answer = Response::new(Answer::full(Bytes::from_static(b"12345")));
        *answer.status_mut() = StatusCode::from_u16(status).unwrap();
        for (name, value) in [("date", "now")].iter().chain(fields) {
            answer.headers_mut().append(*name, HeaderValue::from_static(value));
        }
        answer
    }

    #[test]
    fn a_response_says_its_length_where_it_may() {
        let length = "content-length";
        let cases = [
            (ASKED, 200, &[][..], Some("5"), Encoder::Length(5)),
            (ASKED, 200, &[(length, "5")], Some("5"), Encoder::Length(5)),
            (ASKED, 204, &[(length, "5")], None, Encoder::Nothing),
            (ASKED, 304, &[(length, "9")], Some("9"), Encoder::Nothing),
            (Asked { head: true, ..ASKED }, 200, &[(length, "9")], Some("9"), Encoder::Nothing),
            (Asked { connect: true, ..ASKED }, 200, &[(length, "9")], None, Encoder::Nothing),
            (ASKED, 101, &[(length, "9")], None, Encoder::Nothing),
        ];
        for (asked, status, fields, said, framing) in cases {
            let (head, encoder) = written(&answer(status, fields), asked);
            let values = |field| head.lines().filter_map(move |line| line.strip_prefix(field));
            let found: Vec<_> = values("content-length: ").collect();
            let said = Vec::from_iter(said);
            assert_eq!((found, encoder), (said, framing), "{status} {fields:?}: {head}");
            assert_eq!(Vec::from_iter(values("date: ")), ["now"], "{head}");
            assert!(!head.contains("chunked"), "{head}");
        }
    }

    /// A body of unknown length.
    struct Endless;

    impl Body for Endless {
        type Data = Bytes;
        type Error = std::convert::Infallible;

        fn poll_frame(
            self: std::pin::Pin<&mut Self>,
            _: &mut std::task::Context<'_>,
        ) -> std::task::Poll<Option<Result<Frame<Bytes>, Self::Error>>> {
            std::task::Poll::Pending
        }

        fn size_hint(&self) -> SizeHint {
            SizeHint::default()
        }
    }

    #[test]
    fn without_a_length_there_are_chunks_or_the_end_of_the_connection() {
        let mut out = Out::default();
        let framing = response(&mut out, &Response::new(Endless), ASKED, false);
        assert_eq!(framing, Encoder::Chunked { trailers: true });
        assert!(out.into_text().contains("transfer-encoding: chunked\r\n"));
        let old = Asked { version: Version::HTTP_10, ..ASKED };
        let mut out = Out::default();
        assert_eq!(response(&mut out, &Response::new(Endless), old, false), Encoder::UntilClose);
        let head = out.into_text();
        assert!(head.contains("connection: close\r\n") && !head.contains("keep-alive"), "{head}");
        assert!(!head.contains("chunked"));
    }

    /// The head of a request with these fields and this body.
    fn asked<B: Body>(body: B, fields: &[(&'static str, &'static str)]) -> (String, Encoder) {
        let mut asked = Request::new(body);
        for (name, value) in fields {
            asked.headers_mut().append(*name, HeaderValue::from_static(value));
        }
        let mut out = Out::default();
        let encoder = request(&mut out, &asked);
        (out.into_text(), encoder)
    }

    #[test]
    fn a_request_has_one_field_of_cookies_and_its_host_first() {
        let fields = [("cookie", "a=1"), ("a", "b"), ("cookie", "c=2"), ("host", "x")];
        let (head, framing) = asked(Answer::empty(), &fields);
        assert_eq!(head, "GET / HTTP/1.1\r\nhost: x\r\na: b\r\ncookie: a=1; c=2\r\n\r\n");
        assert_eq!(framing, Encoder::Nothing);
    }

    #[test]
    fn the_body_of_a_request_is_framed_by_its_length_or_in_chunks() {
        let (head, framing) = asked(Endless, &[]);
        assert_eq!(head, "GET / HTTP/1.1\r\ntransfer-encoding: chunked\r\n\r\n");
        assert_eq!(framing, Encoder::Chunked { trailers: true });
        let (head, framing) = asked(Endless, &[("content-length", "3")]);
        assert_eq!(head, "GET / HTTP/1.1\r\ncontent-length: 3\r\n\r\n");
        assert_eq!(framing, Encoder::Length(3));
    }

    #[test]
    fn a_body_is_framed_and_never_longer_or_shorter_than_its_head_says() {
        let data = |text: &'static str| Frame::data(Bytes::from_static(text.as_bytes()));
        let mut out = Out::default();
        let mut chunks = Encoder::Chunked { trailers: true };
        chunks.frame(&mut out, data("0123456789abcdef")).unwrap();
        chunks.frame(&mut out, data("")).unwrap();
        let trailers = [(CONNECTION, HeaderValue::from_static("x"))].into_iter().collect();
        chunks.frame(&mut out, Frame::trailers(trailers)).unwrap();
        assert_eq!(out.into_text(), "10\r\n0123456789abcdef\r\n0\r\nconnection: x\r\n\r\n");
        assert!(chunks.is_over());

        let mut out = Out::default();
        let mut length = Encoder::Length(5);
        length.frame(&mut out, data("123")).unwrap();
        assert_eq!(length.end(&mut out), Err(WrongLength));
        assert_eq!(length.frame(&mut out, data("456")), Err(WrongLength));
    }
}
