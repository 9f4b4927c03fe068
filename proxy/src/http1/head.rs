//! Heads of requests and responses, and what they say of the body (RFC 9112 §2 to §6).
//!
//! A request that could be read in two ways is refused (a bare CR or LF, whitespace before a colon, a
//! folded line, a length beside a coding): what stands behind the sidecar might read it the other
//! way. Responses are read as a recipient may read them, but for their framing.

use std::mem::MaybeUninit;

use bytes::{Bytes, BytesMut};
use http::header::{
    CONNECTION, CONTENT_LENGTH, EXPECT, HeaderName, TE, TRANSFER_ENCODING, UPGRADE,
};
use http::uri::PathAndQuery;
use http::{HeaderMap, HeaderValue, Method, Request, Response, StatusCode, Uri, Version};
use model::code::ErrorCode;

use super::decode::Decoder;
use super::lines::{Ends, Lines};
use crate::error::ProxyError;
use crate::server::{MAX_FIELDS, MAX_HEAD};

/// Longest target that is parsed, in bytes; the ones that are served are shorter.
const MAX_TARGET: usize = 64 * 1024 - 2;

/// The head of a request.
#[derive(Debug)]
pub(super) struct Asked {
    pub(super) request: Request<()>,
    /// How its body is read; `None` where it has none.
    pub(super) body: Option<Decoder>,
    pub(super) notes: Notes,
}

/// What the fields of a head say of the connection.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Notes {
    /// The sender keeps it for another request.
    pub(super) keep_alive: bool,
    /// It waits for word before it sends the body (RFC 9110 §10.1.1).
    pub(super) expects: bool,
    /// It takes trailers (RFC 9110 §10.1.4).
    pub(super) trailers: bool,
    /// HTTP may end with the answer, for it asks for an upgrade; to `h2c` none is granted.
    pub(super) upgrade: bool,
}

/// The head of a response.
#[derive(Debug)]
pub(super) struct Answered {
    pub(super) response: Response<()>,
    /// How its body is read; `None` where it has none.
    pub(super) body: Option<Decoder>,
    /// Whether the server keeps the connection for another request.
    pub(super) keep_alive: bool,
}

/// Why a head is not read.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(crate) enum BadHead {
    #[error("the head is malformed, or could be read in two ways")]
    Malformed,
    #[error("the head is larger than 128 KiB, or has more than 256 fields")]
    TooLarge,
    #[error("the target is too long")]
    LongTarget,
    #[error("the version is neither HTTP/1.0 nor HTTP/1.1")]
    Version,
}

/// What the client of such a request is told.
impl From<BadHead> for ProxyError {
    fn from(bad: BadHead) -> Self {
        let code = match bad {
            BadHead::Malformed => ErrorCode::BadRequest,
            BadHead::TooLarge => ErrorCode::HeadTooLarge,
            BadHead::LongTarget => ErrorCode::TargetTooLong,
            BadHead::Version => ErrorCode::VersionUnsupported,
        };
        Self::new(code, bad.to_string())
    }
}

/// Takes a request's head from `read`, once it is there whole.
pub(super) fn request(read: &mut BytesMut, lines: &mut Lines) -> Result<Option<Asked>, BadHead> {
    while read.starts_with(b"\r\n") {
        let _ = read.split_to(2); // §2.2: an empty line before a request is passed over
        *lines = Lines::default();
    }
    let Some(head) = whole(read, lines, Ends::Strictly)? else { return Ok(None) };
    let mut fields = [const { MaybeUninit::uninit() }; MAX_FIELDS];
    let mut parsed = httparse::Request::new(&mut []);
    parsed.parse_with_uninit_headers(&head, &mut fields)?;
    let (Some(method), Some(target), Some(version)) = (parsed.method, parsed.path, parsed.version)
    else {
        return Err(BadHead::Malformed);
    };
    let version = version_of(version);
    let (headers, framing, notes) = fields_of(&head, parsed.headers, version)?;
    let method = Method::from_bytes(method.as_bytes()).map_err(|_| BadHead::Malformed)?;
    let body = match framing.decoder()? {
        Some(_) if method == Method::CONNECT => return Err(BadHead::Malformed),
        body => body,
    };
    let mut request = Request::new(());
    let uri = target_of(&head, target)?;
    let of_server = method == Method::OPTIONS && is_server_alone(&uri, target);
    *request.uri_mut() = if of_server { server_of(uri)? } else { uri };
    *request.method_mut() = method;
    *request.version_mut() = version;
    *request.headers_mut() = headers;
    Ok(Some(Asked { request, body, notes }))
}

/// Takes a response's head from `read`, once it is there whole; `asked` is the method of its
/// request.
pub(super) fn response(
    read: &mut BytesMut,
    lines: &mut Lines,
    asked: &Method,
) -> Result<Option<Answered>, BadHead> {
    let Some(head) = whole(read, lines, Ends::Leniently)? else { return Ok(None) };
    let mut fields = [const { MaybeUninit::uninit() }; MAX_FIELDS];
    let mut parsed = httparse::Response::new(&mut []);
    let config = httparse::ParserConfig::default();
    config.parse_response_with_uninit_headers(&mut parsed, &head, &mut fields)?;
    let (Some(code), Some(version)) = (parsed.code, parsed.version) else {
        return Err(BadHead::Malformed);
    };
    let version = version_of(version);
    let status = StatusCode::from_u16(code).map_err(|_| BadHead::Malformed)?;
    let (headers, framing, notes) = fields_of(&head, parsed.headers, version)?;
    let bodiless = status.is_informational()
        || [StatusCode::NO_CONTENT, StatusCode::NOT_MODIFIED].contains(&status)
        || asked == Method::HEAD;
    let unframed = framing == Framing::default();
    let body = match framing.decoder()? {
        _ if bodiless => None,
        None if unframed => Some(Decoder::until_close()), // §6.3, rule 8
        framed => framed,
    };
    let closes = matches!(body, Some(Decoder::UntilClose));
    let keep_alive = !closes && notes.keep_alive;
    let mut response = Response::new(());
    *response.status_mut() = status;
    *response.version_mut() = version;
    *response.headers_mut() = headers;
    Ok(Some(Answered { response, body, keep_alive }))
}

fn whole(read: &mut BytesMut, lines: &mut Lines, ends: Ends) -> Result<Option<Bytes>, BadHead> {
    match lines.end(read, ends) {
        Ok(Some(end)) if end <= MAX_HEAD => Ok(Some(read.split_to(end).freeze())),
        Ok(None) if read.len() <= MAX_HEAD => Ok(None),
        Ok(_) => Err(BadHead::TooLarge),
        Err(_) => Err(BadHead::Malformed),
    }
}

const fn version_of(minor: u8) -> Version {
    if minor == 0 { Version::HTTP_10 } else { Version::HTTP_11 }
}

/// The target without a copy. A fragment is for the client alone (RFC 9110 §4.2.5).
fn target_of(head: &Bytes, target: &str) -> Result<Uri, BadHead> {
    if target.len() > MAX_TARGET {
        return Err(BadHead::LongTarget);
    }
    if memchr::memchr(b'#', target.as_bytes()).is_some() {
        return Err(BadHead::Malformed);
    }
    Uri::from_maybe_shared(head.slice_ref(target.as_bytes())).map_err(|_| BadHead::Malformed)
}

/// Whether a target is in absolute-form, with neither path nor query.
fn is_server_alone(uri: &Uri, target: &str) -> bool {
    let (Some(scheme), Some(authority)) = (uri.scheme(), uri.authority()) else { return false };
    target.len() == scheme.as_str().len() + "://".len() + authority.as_str().len()
}

/// The asterisk-form of what OPTIONS asks of a server as a whole (RFC 9112 §3.2.4), and of which.
fn server_of(uri: Uri) -> Result<Uri, BadHead> {
    let mut parts = uri.into_parts();
    parts.path_and_query = Some(PathAndQuery::from_static("*"));
    Uri::from_parts(parts).map_err(|_| BadHead::Malformed)
}

/// The fields without a copy of their values, and what they say of the body.
fn fields_of(
    head: &Bytes,
    fields: &[httparse::Header<'_>],
    version: Version,
) -> Result<(HeaderMap, Framing, Notes), BadHead> {
    let mut headers = HeaderMap::with_capacity(fields.len() + ADDED);
    let mut framing = Framing::default();
    let mut notes = Notes { keep_alive: version == Version::HTTP_11, ..Notes::default() };
    let mut close = false;
    for field in fields {
        let name = HeaderName::from_bytes(field.name.as_bytes()).map_err(|_| BadHead::Malformed)?;
        let value = HeaderValue::from_maybe_shared(head.slice_ref(field.value))
            .map_err(|_| BadHead::Malformed)?;
        if name == CONTENT_LENGTH {
            if framing.length(&value)? {
                continue; // said twice, it is passed on once
            }
        } else if name == TRANSFER_ENCODING {
            framing.coding(&value, version)?;
        } else if name == CONNECTION {
            close |= names(&value, b"close");
            notes.keep_alive |= names(&value, b"keep-alive");
        } else if name == TE {
            notes.trailers |= names(&value, b"trailers");
        } else if name == UPGRADE {
            notes.upgrade |= !is(&value, b"h2c");
        } else if name == EXPECT {
            notes.expects |= version == Version::HTTP_11 && is(&value, b"100-continue");
        }
        headers.append(name, value);
    }
    notes.keep_alive &= !close;
    Ok((headers, framing, notes))
}

/// Room for the fields that are added to a message on its way.
const ADDED: usize = 6;

/// What a head says of the length of its body.
#[derive(Debug, Default, PartialEq, Eq)]
struct Framing {
    length: Option<u64>,
    chunked: bool,
}

impl Framing {
    /// Notes a length; says whether it was known already.
    fn length(&mut self, value: &HeaderValue) -> Result<bool, BadHead> {
        let length = parse_length(value.as_bytes()).ok_or(BadHead::Malformed)?;
        match self.length.replace(length) {
            Some(other) if other != length => Err(BadHead::Malformed),
            other => Ok(other.is_some()),
        }
    }

    /// Notes a coding: the only one is `chunked`, which HTTP/1.0 does not know (§6.1).
    fn coding(&mut self, value: &HeaderValue, version: Version) -> Result<(), BadHead> {
        if self.chunked || version == Version::HTTP_10 || !is(value, b"chunked") {
            return Err(BadHead::Malformed);
        }
        self.chunked = true;
        Ok(())
    }

    /// How the body is read (§6.3), where there is one.
    fn decoder(&self) -> Result<Option<Decoder>, BadHead> {
        match (self.length, self.chunked) {
            (Some(_), true) => Err(BadHead::Malformed),
            (None | Some(0), false) => Ok(None),
            (Some(length), false) => Ok(Some(Decoder::length(length))),
            (None, true) => Ok(Some(Decoder::chunked())),
        }
    }
}

/// `1*DIGIT` (RFC 9110 §8.6), as far as signed arithmetic can hold it, which many origins use.
fn parse_length(value: &[u8]) -> Option<u64> {
    if value.is_empty() || !value.iter().all(u8::is_ascii_digit) {
        return None;
    }
    let length = std::str::from_utf8(value).ok()?.parse().ok()?;
    i64::try_from(length).is_ok().then_some(length)
}

/// Whether a list of options has this one.
fn names(value: &HeaderValue, option: &[u8]) -> bool {
    let mut options = value.as_bytes().split(|byte| *byte == b',');
    options.any(|said| said.trim_ascii().eq_ignore_ascii_case(option))
}

fn is(value: &HeaderValue, text: &[u8]) -> bool {
    value.as_bytes().eq_ignore_ascii_case(text)
}

impl From<httparse::Error> for BadHead {
    fn from(error: httparse::Error) -> Self {
        match error {
            httparse::Error::TooManyHeaders => Self::TooLarge,
            httparse::Error::Version => Self::Version,
            _ => Self::Malformed,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn asked(head: &[u8]) -> Result<Option<Asked>, BadHead> {
        request(&mut BytesMut::from(head), &mut Lines::default())
    }

    /// What a head gets, read at once; read byte by byte, it must be no other verdict.
    fn refused(head: &[u8]) -> Option<BadHead> {
        let (mut read, mut lines) = (BytesMut::new(), Lines::default());
        let one_by_one = head.iter().find_map(|byte| {
            read.extend_from_slice(&[*byte]);
            request(&mut read, &mut lines).err()
        });
        let at_once = asked(head).err();
        assert_eq!(one_by_one, at_once, "{}", head.escape_ascii());
        at_once
    }

    #[test]
    fn one_request_follows_another() {
        let heads: [&[u8]; 4] = [
            b"GET / HTTP/1.1\r\n\r\n",
            b"\r\nGET /a?b HTTP/1.1\r\nhost: a\r\n\r\n",
            b"PUT * HTTP/1.0\r\nContent-Length:5 \r\ncontent-length: 05\r\n\r\n",
            b"CONNECT a:1 HTTP/1.1\r\nupgrade: h2c\r\n\r\n",
        ];
        let (mut read, mut lines) = (BytesMut::from(&*heads.concat()), Lines::default());
        for head in heads {
            assert_eq!(refused(head), None, "{}", head.escape_ascii());
            assert!(request(&mut read, &mut lines).unwrap().is_some());
        }
        assert!(read.is_empty());
        let twice = asked(heads[2]).unwrap().unwrap();
        assert_eq!(twice.body.and_then(|body| body.left()), Some(5));
        assert_eq!(twice.request.headers().get_all(CONTENT_LENGTH).iter().count(), 1);
    }

    #[test]
    fn what_could_be_read_in_two_ways_is_refused() {
        let cases: [&[u8]; 24] = [
            b"GET / HTTP/1.1\n",
            b"GET  / HTTP/1.1\r\n\r\n",
            b"GET /#a HTTP/1.1\r\n\r\n",
            b"GET /\r\n\r\n",
            b"GET / HTTP/1.1 \r\n\r\n",
            b"GET / HTTP/1.1\r\na: b\rc: d\r\n",
            b"GET / HTTP/1.1\r\n a: b\r\n\r\n",
            b"GET / HTTP/1.1\r\na: b\r\n c\r\n\r\n",
            b"GET / HTTP/1.1\r\na : b\r\n\r\n",
            b"GET / HTTP/1.1\r\n: b\r\n\r\n",
            b"GET / HTTP/1.1\r\na\r\n\r\n",
            b"GET / HTTP/1.1\r\na: b\0\r\n\r\n",
            b"GET / HTTP/1.1\r\ncontent-length:\r\n\r\n",
            b"GET / HTTP/1.1\r\ncontent-length: +5\r\n\r\n",
            b"GET / HTTP/1.1\r\ncontent-length: 5, 5\r\n\r\n",
            b"GET / HTTP/1.1\r\ncontent-length: 9223372036854775808\r\n\r\n",
            b"GET / HTTP/1.1\r\ncontent-length: 5\r\ncontent-length: 6\r\n\r\n",
            b"GET / HTTP/1.1\r\ntransfer-encoding: chunked\r\ntransfer-encoding: chunked\r\n\r\n",
            b"GET / HTTP/1.1\r\ntransfer-encoding: gzip, chunked\r\n\r\n",
            b"GET / HTTP/1.1\r\ncontent-length: 5\r\ntransfer-encoding: chunked\r\n\r\n",
            b"GET / HTTP/1.1\r\ncontent-length: 0\r\ntransfer-encoding: chunked\r\n\r\n",
            b"GET / HTTP/1.0\r\ntransfer-encoding: chunked\r\n\r\n",
            b"CONNECT a:1 HTTP/1.1\r\ncontent-length: 5\r\n\r\n",
            b"CONNECT a:1 HTTP/1.1\r\ntransfer-encoding: chunked\r\n\r\n",
        ];
        for case in cases {
            assert_eq!(refused(case), Some(BadHead::Malformed), "{}", case.escape_ascii());
        }
        assert_eq!(refused(b"GET / HTTP/1.2\r\n\r\n"), Some(BadHead::Version));
    }

    #[test]
    fn options_of_a_server_as_a_whole_name_no_path() {
        let target = |line: &str| {
            let asked = asked(format!("{line} HTTP/1.1\r\nhost: a\r\n\r\n").as_bytes());
            let uri = asked.unwrap().unwrap().request.uri().clone();
            (uri.authority().map(ToString::to_string), uri.path_and_query().unwrap().to_string())
        };
        let api = || Some("api:8080".into());
        assert_eq!(target("OPTIONS http://api:8080"), (api(), "*".into()));
        assert_eq!(target("OPTIONS http://api:8080/"), (api(), "/".into()));
        assert_eq!(target("OPTIONS http://api:8080?a"), (api(), "/?a".into()));
        assert_eq!(target("GET http://api:8080"), (api(), "/".into()));
        assert_eq!(target("OPTIONS *"), (None, "*".into()));
        assert_eq!(target("OPTIONS /://a"), (None, "/://a".into()));
    }

    #[test]
    fn heads_have_bounds() {
        let large = |bytes: usize| {
            let head = "GET / HTTP/1.1\r\na: \r\n\r\n";
            head.replace("a: ", &format!("a: {}", "b".repeat(bytes - head.len())))
        };
        assert!(asked(large(MAX_HEAD).as_bytes()).unwrap().is_some());
        assert_eq!(asked(large(MAX_HEAD + 1).as_bytes()).unwrap_err(), BadHead::TooLarge);
        let endless = [b"GET / HTTP/1.1\r\na: ".as_slice(), &[b'b'; MAX_HEAD]].concat();
        assert_eq!(asked(&endless).unwrap_err(), BadHead::TooLarge);
        let many = |fields: usize| format!("GET / HTTP/1.1\r\n{}\r\n", "a: b\r\n".repeat(fields));
        assert!(asked(many(MAX_FIELDS).as_bytes()).unwrap().is_some());
        assert_eq!(asked(many(MAX_FIELDS + 1).as_bytes()).unwrap_err(), BadHead::TooLarge);
    }

    #[test]
    fn a_head_says_what_becomes_of_the_connection() {
        let notes = |version: &str, fields: &str| {
            asked(format!("GET / HTTP/{version}\r\n{fields}\r\n").as_bytes())
                .unwrap()
                .unwrap()
                .notes
        };
        for (version, fields, keep_alive) in [
            ("1.1", "", true),
            ("1.1", "connection: Close\r\n", false),
            ("1.1", "connection: te, close\r\nconnection: keep-alive\r\n", false),
            ("1.0", "", false),
            ("1.0", "connection: Keep-Alive\r\n", true),
        ] {
            assert_eq!(notes(version, fields).keep_alive, keep_alive, "{version} {fields}");
        }
        assert!(notes("1.1", "expect: 100-Continue\r\n").expects);
        assert!(!notes("1.0", "expect: 100-continue\r\n").expects);
        assert!(!notes("1.1", "expect: 100-continue, x\r\n").expects);
        assert!(notes("1.1", "te: gzip, trailers\r\n").trailers);
        assert!(notes("1.1", "upgrade: websocket\r\n").upgrade);
        assert!(!notes("1.1", "upgrade: H2C\r\n").upgrade);
    }

    fn answered(method: Method, head: &str) -> Result<Answered, BadHead> {
        let mut read = BytesMut::from(head.as_bytes());
        response(&mut read, &mut Lines::default(), &method).map(|head| head.expect("all of it"))
    }

    #[test]
    fn a_response_says_how_its_body_ends() {
        let left = |head: &str| {
            let answered = answered(Method::GET, &format!("HTTP/1.1 {head}\r\n\r\n")).unwrap();
            (answered.body.map(|body| body.left()), answered.keep_alive)
        };
        assert_eq!(left("200 OK\r\ncontent-length: 5"), (Some(Some(5)), true));
        assert_eq!(left("200 OK\r\ncontent-length: 0"), (None, true));
        assert_eq!(left("200 OK\r\ntransfer-encoding: Chunked"), (Some(None), true));
        assert_eq!(left("200 OK"), (Some(None), false), "it ends with the connection");
        assert_eq!(left("204 No Content"), (None, true));
        assert_eq!(left("304 Not Modified\r\ncontent-length: 5"), (None, true));
        let head = answered(Method::HEAD, "HTTP/1.1 200 OK\ncontent-length: 5\n\n").unwrap();
        assert!(head.body.is_none() && head.keep_alive);
    }

    #[test]
    fn a_response_that_is_framed_in_two_ways_is_refused() {
        for fields in [
            "content-length: 5\r\ncontent-length: 6",
            "content-length: 5, 5",
            "content-length: 5\r\ntransfer-encoding: chunked",
            "transfer-encoding: gzip, chunked",
        ] {
            let head = format!("HTTP/1.1 200 OK\r\n{fields}\r\n\r\n");
            assert_eq!(answered(Method::GET, &head).unwrap_err(), BadHead::Malformed, "{fields}");
        }
        assert!(answered(Method::GET, "HTTP/1.1 99999 OK\r\n\r\n").is_err());
    }
}
