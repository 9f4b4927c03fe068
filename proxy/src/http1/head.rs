//! Heads of requests and responses, and what they say of the body (RFC 9112 §2 to §6).
//!
//! A request that could be read in two ways is refused (a bare CR or LF, whitespace before a colon, a
//! folded line, a length beside a coding): what stands behind the sidecar might read it the other
//! way. Responses are read as a recipient may read them, but for their framing.

use std::mem::MaybeUninit;

use bytes::{Bytes, BytesMut};
use http::header::{CONNECTION, CONTENT_LENGTH, EXPECT, HeaderName, TRANSFER_ENCODING};
use http::{HeaderMap, HeaderValue, Method, Request, Response, StatusCode, Uri, Version};

use super::decode::Decoder;
use super::lines::{Ends, Lines};
use crate::server::{MAX_FIELDS, MAX_HEAD};

/// Longest target that is parsed, in bytes; the ones that are served are shorter.
const MAX_TARGET: usize = 64 * 1024 - 2;

/// The head of a request.
#[derive(Debug)]
pub(super) struct Asked {
    pub(super) request: Request<()>,
    /// How its body is read; `None` where it has none.
    pub(super) body: Option<Decoder>,
    /// Whether the client keeps the connection for another request.
    pub(super) keep_alive: bool,
    /// Whether it waits for word before it sends the body (RFC 9110 §10.1.1).
    pub(super) expects: bool,
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

impl BadHead {
    /// What a client is told.
    pub(super) const fn status(self) -> StatusCode {
        match self {
            Self::Malformed => StatusCode::BAD_REQUEST,
            Self::TooLarge => StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE,
            Self::LongTarget => StatusCode::URI_TOO_LONG,
            Self::Version => StatusCode::HTTP_VERSION_NOT_SUPPORTED,
        }
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
    let (headers, framing) = fields_of(&head, parsed.headers, version)?;
    let method = Method::from_bytes(method.as_bytes()).map_err(|_| BadHead::Malformed)?;
    let body = match framing.decoder()? {
        Some(_) if method == Method::CONNECT => return Err(BadHead::Malformed),
        body => body,
    };
    let keep_alive = keep_alive(&headers, version);
    let expects = version == Version::HTTP_11
        && headers.get(EXPECT).is_some_and(|value| is(value, b"100-continue"));
    let mut request = Request::new(());
    *request.uri_mut() = target_of(&head, target)?;
    *request.method_mut() = method;
    *request.version_mut() = version;
    *request.headers_mut() = headers;
    Ok(Some(Asked { request, body, keep_alive, expects }))
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
    let (headers, framing) = fields_of(&head, parsed.headers, version)?;
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
    let keep_alive = !closes && keep_alive(&headers, version);
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

/// The fields without a copy of their values, and what they say of the body.
fn fields_of(
    head: &Bytes,
    fields: &[httparse::Header<'_>],
    version: Version,
) -> Result<(HeaderMap, Framing), BadHead> {
    let mut headers = HeaderMap::with_capacity(fields.len() + ADDED);
    let mut framing = Framing::default();
    for field in fields {
        let name =
            HeaderName::from_bytes(field.name.as_bytes()).map_err(|_| BadHead::Malformed)?;
        let value = HeaderValue::from_maybe_shared(head.slice_ref(field.value))
            .map_err(|_| BadHead::Malformed)?;
        if name == CONTENT_LENGTH {
            if framing.length(&value)? {
                continue; // said twice, it is passed on once
            }
        } else if name == TRANSFER_ENCODING {
            framing.coding(&value, version)?;
        }
        headers.append(name, value);
    }
    Ok((headers, framing))
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

fn keep_alive(headers: &HeaderMap, version: Version) -> bool {
    let says = |option: &[u8]| {
        let mut values = headers.get_all(CONNECTION).iter();
        values.any(|value| {
            let mut options = value.as_bytes().split(|byte| *byte == b',');
            options.any(|said| said.trim_ascii().eq_ignore_ascii_case(option))
        })
    };
    match version {
        Version::HTTP_10 => says(b"keep-alive") && !says(b"close"),
        _ => !says(b"close"),
    }
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
