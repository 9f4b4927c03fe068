//! Heads of messages and their trailers (RFC 9113 §8): out of the fields of a block, and into one.

use bytes::{Bytes, BytesMut};
use http::header::{EXPECT, HOST};
use http::uri::{Authority, PathAndQuery, Scheme, Uri};
use http::{HeaderMap, HeaderName, HeaderValue, Method, Request, StatusCode, Version};

use super::hpack::{Encoder, Field, Pseudo};
use crate::server::MAX_HEAD;

/// The head of a response.
pub(super) type Response = http::Response<()>;

/// What a CONNECT asks for beside a tunnel (RFC 8441 §4); an extension of the request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Protocol(Bytes);

impl Protocol {
    /// Whether it is a WebSocket.
    pub(crate) fn is_websocket(&self) -> bool {
        &*self.0 == b"websocket"
    }
}

/// Fields that there is room for at once; more are rare.
const ORDINARY: usize = 12;

/// A block that unpacks to more than this is none that anybody needs.
const BOMB: usize = 8 * MAX_HEAD;

/// A message is not what RFC 9113 §8 wants it to be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Malformed;

/// The fields of one block.
#[derive(Debug, Default)]
pub(super) struct Fields {
    method: Option<Bytes>,
    scheme: Option<Bytes>,
    authority: Option<Bytes>,
    path: Option<Bytes>,
    protocol: Option<Bytes>,
    status: Option<Bytes>,
    map: HeaderMap,
    length: Option<u64>,
    size: usize,
    malformed: bool,
}

impl Fields {
    /// Adds a field that takes so many bytes, as RFC 7541 §4.1 counts them.
    pub(super) fn add(&mut self, field: Field, size: usize) {
        self.size = self.size.saturating_add(size);
        if self.is_too_large() {
            return;
        }
        let good = match field {
            Field::Regular(name, value) => self.regular(name, value),
            Field::Pseudo(which, value) => self.pseudo(which, value),
            Field::Malformed => false,
        };
        self.malformed |= !good;
    }

    /// Whether they are more than a head may have.
    pub(super) const fn is_too_large(&self) -> bool {
        self.size > MAX_HEAD
    }

    /// Whether whoever sent them wants to do harm.
    pub(super) const fn is_bomb(&self) -> bool {
        self.size > BOMB
    }

    /// The length that they say a body has.
    pub(super) const fn length(&self) -> Option<u64> {
        self.length
    }

    fn regular(&mut self, name: HeaderName, value: HeaderValue) -> bool {
        let good = match name.as_str() {
            // RFC 9113 §8.2.2.
            "connection" | "keep-alive" | "proxy-connection" | "transfer-encoding" | "upgrade" => {
                false
            }
            "te" => value.as_bytes().eq_ignore_ascii_case(b"trailers"),
            "content-length" => {
                let first = self.length.is_none();
                self.length = number(value.as_bytes());
                first && self.length.is_some()
            }
            _ => true,
        };
        if self.map.is_empty() {
            self.map.reserve(ORDINARY);
        }
        // invariant: MAX_HEAD bounds how many there are, well below what a map can hold.
        self.map.append(name, value);
        good
    }

    fn pseudo(&mut self, which: Pseudo, value: Bytes) -> bool {
        let place = match which {
            Pseudo::Method => &mut self.method,
            Pseudo::Scheme => &mut self.scheme,
            Pseudo::Authority => &mut self.authority,
            Pseudo::Path => &mut self.path,
            Pseudo::Protocol => &mut self.protocol,
            Pseudo::Status => &mut self.status,
        };
        let first = place.replace(value).is_none();
        first && self.map.is_empty()
    }

    /// The head of a request (RFC 9113 §8.3.1, RFC 8441 §4).
    pub(super) fn request(mut self) -> Result<Request<()>, Malformed> {
        if self.malformed || self.status.is_some() {
            return Err(Malformed);
        }
        let method = self.method.as_deref().ok_or(Malformed)?;
        let method = Method::from_bytes(method).map_err(|_| Malformed)?;
        let connect = method == Method::CONNECT;
        if self.protocol.is_some() && !connect {
            return Err(Malformed);
        }
        let uri = match (connect, self.protocol.is_some()) {
            (true, false) => self.authority_form()?,
            (true, true) => self.uri(true)?,
            (false, _) if self.name_host() => Uri::from(self.target()?),
            (false, _) => self.uri(false)?,
        };
        let mut request = Request::new(());
        *request.method_mut() = method;
        *request.uri_mut() = uri;
        *request.version_mut() = Version::HTTP_2;
        *request.headers_mut() = self.map;
        if let Some(protocol) = self.protocol {
            request.extensions_mut().insert(Protocol(protocol));
        }
        Ok(request)
    }

    fn authority_form(&self) -> Result<Uri, Malformed> {
        match (&self.authority, &self.scheme, &self.path) {
            (Some(authority), None, None) => Ok(Uri::from(parsed_authority(authority)?)),
            _ => Err(Malformed),
        }
    }

    /// Has the Host say what `:authority` does, where that is how to say it in HTTP/1.1 too: most
    /// requests have no other, and their target is a path like any.
    fn name_host(&mut self) -> bool {
        if self.scheme.as_deref() != Some(b"http") || self.map.contains_key(HOST) {
            return false;
        }
        let Some(authority) = self.authority.take() else { return false };
        // invariant: what comes out of a block is what a value can hold.
        let host = HeaderValue::from_maybe_shared(authority);
        self.map.insert(HOST, host.unwrap_or_else(|_| HeaderValue::from_static("")));
        true
    }

    /// The path (RFC 9113 §8.3.1).
    fn target(&self) -> Result<PathAndQuery, Malformed> {
        let path = self.path.clone().ok_or(Malformed)?;
        if !path.starts_with(b"/") && &*path != b"*" {
            return Err(Malformed);
        }
        PathAndQuery::from_maybe_shared(path).map_err(|_| Malformed)
    }

    fn uri(&self, needs_authority: bool) -> Result<Uri, Malformed> {
        let scheme = match self.scheme.as_deref().ok_or(Malformed)? {
            b"http" => Scheme::HTTP,
            b"https" => Scheme::HTTPS,
            other => Scheme::try_from(other).map_err(|_| Malformed)?,
        };
        let mut uri = http::uri::Parts::default();
        uri.path_and_query = Some(self.target()?);
        if let Some(authority) = &self.authority {
            uri.authority = Some(parsed_authority(authority)?);
            // A URI has no scheme without an authority.
            uri.scheme = Some(scheme);
        } else if needs_authority {
            return Err(Malformed);
        }
        Uri::from_parts(uri).map_err(|_| Malformed)
    }

    /// The head of a response (RFC 9113 §8.3.2).
    pub(super) fn response(self) -> Result<Response, Malformed> {
        let asks = self.method.is_some()
            || self.scheme.is_some()
            || self.authority.is_some()
            || self.path.is_some()
            || self.protocol.is_some();
        if self.malformed || asks {
            return Err(Malformed);
        }
        let status = StatusCode::from_bytes(self.status.as_deref().ok_or(Malformed)?);
        let status = status.map_err(|_| Malformed)?;
        // RFC 9113 §8.6.
        if status == StatusCode::SWITCHING_PROTOCOLS {
            return Err(Malformed);
        }
        let mut response = Response::new(());
        *response.status_mut() = status;
        *response.version_mut() = Version::HTTP_2;
        *response.headers_mut() = self.map;
        Ok(response)
    }

    /// Trailers, which have no pseudo-header (RFC 9113 §8.1).
    pub(super) fn trailers(self) -> Result<HeaderMap, Malformed> {
        let head = self.method.is_some()
            || self.scheme.is_some()
            || self.authority.is_some()
            || self.path.is_some()
            || self.protocol.is_some()
            || self.status.is_some();
        if self.malformed || head { Err(Malformed) } else { Ok(self.map) }
    }
}

/// Whether a request waits with its body for a 100 (RFC 9110 §10.1.1).
pub(super) fn expects(headers: &HeaderMap) -> bool {
    let expected = headers.get(EXPECT).map(HeaderValue::as_bytes);
    expected.is_some_and(|value| value.eq_ignore_ascii_case(b"100-continue"))
}

fn parsed_authority(authority: &Bytes) -> Result<Authority, Malformed> {
    Authority::from_maybe_shared(authority.clone()).map_err(|_| Malformed)
}

/// A number of decimal digits alone (RFC 9110 §8.6), which no recipient takes for a negative one.
fn number(digits: &[u8]) -> Option<u64> {
    let decimal = !digits.is_empty() && digits.iter().all(u8::is_ascii_digit);
    let number = decimal.then(|| std::str::from_utf8(digits).ok()?.parse().ok()).flatten();
    number.filter(|number| i64::try_from(*number).is_ok())
}

/// Writes the head of a request. Whom it is for is in its target or else in its Host.
pub(super) fn write_request<B>(encoder: &mut Encoder, request: &Request<B>, out: &mut BytesMut) {
    let (method, uri, headers) = (request.method(), request.uri(), request.headers());
    encoder.begin(out);
    encoder.pseudo(Pseudo::Method, method.as_str().as_bytes(), out);
    if *method != Method::CONNECT {
        let scheme = uri.scheme_str().unwrap_or("http");
        encoder.pseudo(Pseudo::Scheme, scheme.as_bytes(), out);
    }
    let named = uri.authority().map(|authority| authority.as_str().as_bytes());
    if let Some(authority) = named.or_else(|| Some(headers.get(HOST)?.as_bytes())) {
        encoder.pseudo(Pseudo::Authority, authority, out);
    }
    if *method != Method::CONNECT {
        let path = uri.path_and_query().map_or("/", PathAndQuery::as_str);
        encoder.pseudo(Pseudo::Path, path.as_bytes(), out);
    }
    for (name, value) in headers.iter().filter(|(name, _)| *name != HOST) {
        encoder.field(name, value, out);
    }
}

/// Writes the head of a response.
pub(super) fn write_response(encoder: &mut Encoder, response: &Response, out: &mut BytesMut) {
    encoder.begin(out);
    encoder.pseudo(Pseudo::Status, response.status().as_str().as_bytes(), out);
    write_fields(encoder, response.headers(), out);
}

/// Writes trailers.
pub(super) fn write_trailers(encoder: &mut Encoder, trailers: &HeaderMap, out: &mut BytesMut) {
    encoder.begin(out);
    write_fields(encoder, trailers, out);
}

fn write_fields(encoder: &mut Encoder, fields: &HeaderMap, out: &mut BytesMut) {
    for (name, value) in fields {
        encoder.field(name, value, out);
    }
}

#[cfg(test)]
mod tests {
    use super::super::hpack::Decoder;
    use super::*;

    /// Fields as a block without compression has them.
    fn fields(lines: &[(&str, &str)]) -> Fields {
        let mut block = Vec::new();
        for (name, value) in lines {
            let length = |text: &str| u8::try_from(text.len()).unwrap();
            block.extend([0, length(name)]);
            block.extend_from_slice(name.as_bytes());
            block.push(length(value));
            block.extend_from_slice(value.as_bytes());
        }
        let mut fields = Fields::default();
        let block = Bytes::from(block);
        Decoder::new(0).decode(&block, |field, size| fields.add(field, size)).unwrap();
        fields
    }

    /// A GET of `/x` at `api`, and what comes after its pseudo-headers.
    fn get<'a>(more: &[(&'a str, &'a str)]) -> Vec<(&'a str, &'a str)> {
        let head =
            [(":method", "GET"), (":scheme", "http"), (":path", "/x"), (":authority", "api")];
        [head.as_slice(), more].concat()
    }

    /// The target and the Host of a request, where it is one.
    fn read(lines: &[(&str, &str)]) -> Option<(String, Option<String>)> {
        let request = fields(lines).request().ok()?;
        let host = request.headers().get(HOST).map(|host| host.to_str().unwrap().to_owned());
        Some((request.uri().to_string(), host))
    }

    #[test]
    fn whom_a_request_is_for_is_its_host_unless_that_would_say_less() {
        let target = |uri: &str, host: Option<&str>| Some((uri.into(), host.map(str::to_owned)));
        assert_eq!(read(&get(&[])), target("/x", Some("api")));
        assert_eq!(read(&get(&[("host", "other")])), target("http://api/x", Some("other")));
        let with = |scheme| {
            [(":method", "GET"), (":scheme", scheme), (":path", "/x"), (":authority", "api")]
        };
        assert_eq!(read(&with("https")), target("https://api/x", None));
        assert_eq!(read(&get(&[])[..3]), target("/x", None));
        let connect = [(":method", "CONNECT"), (":authority", "api:80")];
        assert_eq!(read(&connect), target("api:80", None));
        let mut websocket = get(&[]);
        websocket[0] = (":method", "CONNECT");
        websocket.push((":protocol", "websocket"));
        assert_eq!(read(&websocket), target("http://api/x", None));
        let request = fields(&websocket).request().unwrap();
        assert!(request.extensions().get::<Protocol>().unwrap().is_websocket());
    }

    #[test]
    fn what_is_no_request() {
        for lines in [
            get(&[])[1..].to_vec(),
            [&get(&[])[..1], &get(&[])[2..]].concat(),
            [&get(&[])[..2], &get(&[])[3..]].concat(),
            get(&[(":authority", "api")]),
            get(&[(":status", "200")]),
            get(&[(":protocol", "websocket")]),
            get(&[("connection", "close")]),
            get(&[("te", "gzip")]),
            get(&[("content-length", "3"), ("content-length", "3")]),
            get(&[("content-length", "+3")]),
            get(&[("content-length", "")]),
            [&get(&[])[..3], &[("a", "b"), (":authority", "api")]].concat(),
            [(":method", "CONNECT"), (":authority", "api:80"), (":path", "/")].to_vec(),
            [(":method", "CONNECT")].to_vec(),
            [(":method", "GE T"), (":scheme", "http"), (":path", "/"), (":authority", "a")]
                .to_vec(),
            [(":method", "GET"), (":scheme", "http"), (":path", "x"), (":authority", "a")].to_vec(),
        ] {
            assert_eq!(read(&lines), None, "{lines:?}");
        }
        assert!(fields(&get(&[("te", "trailers"), ("content-length", "3")])).request().is_ok());
    }

    #[test]
    fn trailers_have_no_pseudo_header() {
        assert!(fields(&[("grpc-status", "0")]).trailers().is_ok());
        for name in [":path", ":status", ":method", ":protocol", ":authority", ":scheme"] {
            assert!(fields(&[("a", "b"), (name, "200")]).trailers().is_err(), "{name}");
            assert!(fields(&[(name, "200")]).trailers().is_err(), "{name}");
        }
    }
}
