//! Whom a message is for: read from a request that comes in, written into one that goes out.

use std::net::SocketAddr;

use http::header::HOST;
use http::request::Parts;
use http::uri::{self, PathAndQuery, Scheme};
use http::{HeaderValue, Request, Uri, Version};
use model::code::ErrorCode;
use model::host::Authority;

use crate::body::RequestBody;
use crate::error::ProxyError;

/// Longest target of a request, in bytes.
const MAX_TARGET: usize = 16 * 1024;

/// What a request names: from an absolute-form target or `:authority`, else from its only Host
/// (RFC 9112 §3.2.2, RFC 9113 §8.3.1). HTTP/1.0 knows no Host: there it is the address that the
/// client connected to, where that is known.
///
/// # Errors
/// `bad_request` for none, two or a malformed one; `target_too_long`.
pub fn read(parts: &Parts, connected_to: Option<SocketAddr>) -> Result<Authority, ProxyError> {
    if parts.uri.path_and_query().is_some_and(|target| target.as_str().len() > MAX_TARGET) {
        let detail = format!("the target is longer than {MAX_TARGET} bytes");
        return Err(ProxyError::new(ErrorCode::TargetTooLong, detail));
    }
    let bad = |detail: String| ProxyError::new(ErrorCode::BadRequest, detail);
    if parts.uri.scheme().is_some_and(|scheme| *scheme != Scheme::HTTP) {
        return Err(bad("only http:// targets can be forwarded; use CONNECT for https".into()));
    }
    let mut hosts = parts.headers.get_all(HOST).iter();
    let (host, second) = (hosts.next(), hosts.next());
    if second.is_some() {
        return Err(bad("more than one Host header".into()));
    }
    let text = match (parts.uri.authority(), host, connected_to) {
        (Some(authority), ..) => authority.as_str(),
        (None, Some(host), _) => host.to_str().map_err(|_| bad("the Host is not ASCII".into()))?,
        (None, None, Some(at)) if parts.version == Version::HTTP_10 => {
            return Ok(at.into());
        }
        (None, None, _) => return Err(bad("no Host header".into())),
    };
    text.parse().map_err(|error| bad(format!("Host {text:?}: {error}")))
}

/// The Host, or `:authority`, of the request of `parts` as it goes on: what was understood, in one
/// spelling.
pub fn host(parts: &Parts, wanted: &Authority) -> HeaderValue {
    if let Some(host) = parts.headers.get(HOST).filter(|_| parts.uri.authority().is_none())
        && host.to_str().is_ok_and(|text| wanted.is_written(text))
    {
        return host.clone();
    }
    // invariant: what was parsed as an authority is text that a header can hold.
    HeaderValue::from_str(&wanted.to_string()).unwrap_or_else(|_| HeaderValue::from_static(""))
}

/// Addresses a request: in its target for HTTP/2, in origin-form with a Host for HTTP/1.1.
///
/// # Errors
/// `bad_request` when target and host make no URI.
pub fn write(
    request: &mut Request<RequestBody>,
    uri: &Uri,
    host: &HeaderValue,
    http2: bool,
) -> Result<(), ProxyError> {
    let path = || PathAndQuery::from_static("/");
    let mut target = uri::Parts::default();
    target.path_and_query = Some(uri.path_and_query().cloned().unwrap_or_else(path));
    let bad = |error: String| ProxyError::new(ErrorCode::BadRequest, error);
    if http2 {
        request.headers_mut().remove(HOST);
        *request.version_mut() = Version::HTTP_2;
        target.scheme = Some(Scheme::HTTP);
        let authority = uri::Authority::try_from(host.as_bytes());
        target.authority = Some(authority.map_err(|error| bad(error.to_string()))?);
    } else {
        request.headers_mut().insert(HOST, host.clone());
        *request.version_mut() = Version::HTTP_11;
    }
    *request.uri_mut() = Uri::from_parts(target).map_err(|error| bad(error.to_string()))?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use http::Request;

    fn of(uri: &str, hosts: &[&str]) -> Result<String, ErrorCode> {
        let mut request = Request::get(uri);
        for host in hosts {
            request = request.header(HOST, *host);
        }
        let (parts, ()) = request.body(()).unwrap().into_parts();
        read(&parts, None).map(|found| found.to_string()).map_err(|error| error.code)
    }

    #[test]
    fn the_target_wins_over_the_host() {
        assert_eq!(of("http://api.shop:8080/a", &["other"]), Ok("api.shop:8080".into()));
        assert_eq!(of("/a", &["api.shop"]), Ok("api.shop".into()));
    }

    #[test]
    fn ambiguous_hosts_are_refused() {
        let cases: [(&str, &[&str]); 6] = [
            ("/a", &[]),
            ("/a", &["a", "b"]),
            ("http://a/", &["a", "a"]),
            ("/a", &["a,b"]),
            ("/a", &["user@a"]),
            ("https://a/", &[]),
        ];
        for (uri, hosts) in cases {
            assert_eq!(of(uri, hosts), Err(ErrorCode::BadRequest), "{uri} {hosts:?}");
        }
    }

    #[test]
    fn without_a_host_http_1_0_means_whom_it_connected_to() {
        let of = |version, connected_to: Option<&str>| {
            let request = Request::get("/a").version(version).body(()).unwrap();
            let connected_to = connected_to.map(|address| address.parse().unwrap());
            read(&request.into_parts().0, connected_to).map(|found| found.to_string())
        };
        let at = Some("10.0.0.7:8080");
        assert_eq!(of(Version::HTTP_10, at).unwrap(), "10.0.0.7:8080");
        assert!(of(Version::HTTP_10, None).is_err());
        assert!(of(Version::HTTP_11, at).is_err());
    }

    #[test]
    fn a_long_target_is_refused() {
        let long = format!("/{}", "a".repeat(MAX_TARGET));
        assert_eq!(of(&long, &["a"]), Err(ErrorCode::TargetTooLong));
    }
}
