//! What a message must be before anything is done with it, beyond what [`crate::http1`] and
//! [`crate::http2`] have judged already. Ambiguous messages end here; none is repaired.

use http::header::{
    AUTHORIZATION, CONTENT_ENCODING, CONTENT_LENGTH, CONTENT_RANGE, CONTENT_TYPE, COOKIE, HOST,
    HeaderName, SET_COOKIE, TRAILER,
};
use http::request::Parts;
use http::{HeaderMap, Method, Uri, Version};
use model::code::ErrorCode;

use crate::error::ProxyError;
use crate::headers;
use crate::server::MAX_FIELDS;

/// Longest method, in bytes.
const MAX_METHOD: usize = 64;

/// Most fields of trailers.
const MAX_TRAILERS: usize = 64;

/// Largest trailers, in bytes of names and values.
const MAX_TRAILERS_SIZE: usize = 16 * 1024;

/// What must be known before a body, so that it is never taken from after it (RFC 9110 §6.5.1):
/// framing, routing, authentication, and how to read the body.
static NO_TRAILERS: [HeaderName; 9] = [
    CONTENT_LENGTH,
    TRAILER,
    HOST,
    AUTHORIZATION,
    COOKIE,
    SET_COOKIE,
    CONTENT_TYPE,
    CONTENT_ENCODING,
    CONTENT_RANGE,
];

/// Judges the head of a request.
///
/// # Errors
/// `bad_request`, `head_too_large` for more fields than [`MAX_FIELDS`], or `method_not_allowed`.
pub fn request(parts: &Parts) -> Result<(), ProxyError> {
    let bad = |detail: &'static str| Err(ProxyError::new(ErrorCode::BadRequest, detail));
    if parts.headers.len() > MAX_FIELDS {
        let detail = format!("the head has more than {MAX_FIELDS} fields");
        return Err(ProxyError::new(ErrorCode::HeadTooLarge, detail));
    }
    if parts.method.as_str().len() > MAX_METHOD {
        return bad("the method is longer than 64 bytes");
    }
    // One that asks for a protocol which no stream can be switched to (RFC 8441 §4).
    if parts.method == Method::CONNECT {
        let detail = "the only :protocol of a CONNECT is websocket";
        return Err(ProxyError::new(ErrorCode::MethodNotAllowed, detail));
    }
    if !is_target(&parts.method, &parts.uri) {
        return bad("the target is neither a path nor an http:// URI");
    }
    let body_expected = [Method::POST, Method::PUT, Method::PATCH].contains(&parts.method);
    let unknown_length = || !parts.headers.contains_key(CONTENT_LENGTH);
    if parts.version == Version::HTTP_10 && body_expected && unknown_length() {
        return bad("a body in HTTP/1.0 needs a Content-Length"); // RFC 1945 §7.2.2
    }
    Ok(())
}

/// Whether a target has one of the forms that a request other than CONNECT may have: origin-form,
/// absolute-form, or `*` for OPTIONS (RFC 9112 §3.2, RFC 9113 §8.3.1).
fn is_target(method: &Method, uri: &Uri) -> bool {
    let path = uri.path();
    let authority_form = uri.authority().is_some() && uri.scheme().is_none();
    !authority_form && (path.starts_with('/') || (path == "*" && method == Method::OPTIONS))
}

/// Whether a path has segments that whoever reads it may take for the place of the one before
/// (RFC 3986 §5.2.4), however they are written.
pub fn has_dot_segments(path: &str) -> bool {
    let begins = |pair: &[u8]| matches!(pair, b"/." | b"/%");
    path.as_bytes().windows(2).any(begins) && path.split('/').any(is_dots)
}

/// `.` or `..`, where each dot may be `%2e` and parameters may follow.
fn is_dots(segment: &str) -> bool {
    let name = segment.split(';').next().unwrap_or_default();
    let after = |rest: &str| match rest.strip_prefix('.') {
        Some(_) => Some(1),
        None if rest.get(..3).is_some_and(|dot| dot.eq_ignore_ascii_case("%2e")) => Some(3),
        None => None,
    };
    let Some(first) = after(name) else { return false };
    let rest = &name[first..];
    rest.is_empty() || after(rest).is_some_and(|second| rest.len() == second)
}

/// Leaves of trailers what may come after a body; says whether they are within their bounds.
pub fn trailers(fields: &mut HeaderMap) -> bool {
    let size: usize = fields.iter().map(|(name, value)| name.as_str().len() + value.len()).sum();
    let fits = fields.len() <= MAX_TRAILERS && size <= MAX_TRAILERS_SIZE;
    headers::strip(fields);
    for name in &NO_TRAILERS {
        fields.remove(name);
    }
    fits
}

#[cfg(test)]
mod tests {
    use http::{HeaderValue, Request};

    use super::*;

    fn judged(request: http::request::Builder) -> Option<ErrorCode> {
        let (parts, ()) = request.body(()).unwrap().into_parts();
        super::request(&parts).err().map(|error| error.code)
    }

    #[test]
    fn targets_have_one_of_the_forms() {
        let cases = [
            ("GET", "/a", None),
            ("GET", "http://a/b", None),
            ("GET", "http://a", None),
            ("OPTIONS", "*", None),
            ("GET", "*", Some(ErrorCode::BadRequest)),
            ("GET", "a:80", Some(ErrorCode::BadRequest)),
            ("GET", "a", Some(ErrorCode::BadRequest)),
        ];
        for (method, target, expected) in cases {
            let request = Request::builder().method(method).uri(target);
            assert_eq!(judged(request), expected, "{method} {target}");
        }
    }

    #[test]
    fn dots_are_found_however_they_are_written() {
        for path in ["/.", "/..", "/a/../b", "/a/./b", "/%2e%2E/b", "/a/.%2e", "/..;a/b", "/%2e"] {
            assert!(has_dot_segments(path), "{path}");
        }
        for path in ["/", "/a..b", "/...", "/.well-known/x", "/a/%2f", "/%2eé", "/.%2e.", "*"] {
            assert!(!has_dot_segments(path), "{path}");
        }
    }

    #[test]
    fn heads_have_bounds() {
        let many = |fields: usize| {
            (0..fields).fold(Request::get("/"), |request, _| request.header("a", "b"))
        };
        assert_eq!(judged(many(MAX_FIELDS)), None);
        assert_eq!(judged(many(MAX_FIELDS + 1)), Some(ErrorCode::HeadTooLarge));
        let method = |length| Request::builder().method("A".repeat(length).as_str());
        assert_eq!(judged(method(MAX_METHOD)), None);
        assert_eq!(judged(method(MAX_METHOD + 1)), Some(ErrorCode::BadRequest));
    }

    #[test]
    fn trailers_bring_nothing_that_was_needed_before() {
        let names = ["host", "content-length", "x-pillion-peer", "authorization", "grpc-status"];
        let mut fields: HeaderMap = names
            .iter()
            .map(|name| (HeaderName::from_static(name), HeaderValue::from_static("1")))
            .collect();
        assert!(trailers(&mut fields));
        assert_eq!(fields.keys().map(HeaderName::as_str).collect::<Vec<_>>(), ["grpc-status"]);
    }
}
