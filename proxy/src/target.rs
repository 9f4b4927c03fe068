//! Whom a message is for: read from a request that comes in, written into one that goes out.

use std::cell::RefCell;
use std::hash::BuildHasher;
use std::net::SocketAddr;
use std::sync::Arc;

use foldhash::fast::FixedState;
use http::header::HOST;
use http::request::Parts;
use http::uri::{PathAndQuery, Scheme};
use http::{HeaderValue, Request, Uri, Version};
use model::code::ErrorCode;
use model::host::Authority;

use crate::error::ProxyError;

/// Longest target of a request, in bytes.
const MAX_TARGET: usize = 16 * 1024;

/// How many texts a thread remembers what they name.
const LATELY: usize = 16;

/// The longest of them, in bytes: a name of DNS, a final dot and a port. A port may have many zeros.
const LONGEST: usize = 253 + 1 + 6;

/// Whom a request names.
#[derive(Debug)]
pub struct Wanted {
    /// As it was read.
    text: Box<str>,
    /// What it means.
    pub authority: Authority,
    /// The same in one spelling: the Host, or `:authority`, as the request goes on.
    pub host: HeaderValue,
}

impl Wanted {
    fn new(text: &str, authority: Authority) -> Self {
        // invariant: what was parsed as an authority is text that a header can hold.
        let host = HeaderValue::from_str(&authority.to_string());
        let host = host.unwrap_or_else(|_| HeaderValue::from_static(""));
        Self { text: text.into(), authority, host }
    }

    /// What `text` names. Most requests of a workload name the same few.
    fn read(text: &str) -> Result<Arc<Self>, ProxyError> {
        thread_local! {
            static SEEN: RefCell<[Option<Arc<Wanted>>; LATELY]> = const { RefCell::new([const { None }; LATELY]) };
        }
        // Who makes texts meet in one place only has them read again.
        let place = FixedState::default().hash_one(text) as usize % LATELY;
        SEEN.with_borrow_mut(|seen| {
            if let Some(wanted) = seen[place].as_ref().filter(|wanted| *wanted.text == *text) {
                return Ok(Arc::clone(wanted));
            }
            let authority = text.parse().map_err(|error| bad(format!("Host {text:?}: {error}")))?;
            let wanted = Arc::new(Self::new(text, authority));
            if text.len() <= LONGEST {
                seen[place] = Some(Arc::clone(&wanted));
            }
            Ok(wanted)
        })
    }
}

fn bad(detail: String) -> ProxyError {
    ProxyError::new(ErrorCode::BadRequest, detail)
}

/// What a request names: from an absolute-form target or `:authority`, else from its only Host
/// (RFC 9112 §3.2.2, RFC 9113 §8.3.1). HTTP/1.0 knows no Host: there it is the address that the
/// client connected to, where that is known.
///
/// # Errors
/// `bad_request` for none, two or a malformed one; `target_too_long`.
pub fn read(parts: &Parts, connected_to: Option<SocketAddr>) -> Result<Arc<Wanted>, ProxyError> {
    if parts.uri.path_and_query().is_some_and(|target| target.as_str().len() > MAX_TARGET) {
        let detail = format!("the target is longer than {MAX_TARGET} bytes");
        return Err(ProxyError::new(ErrorCode::TargetTooLong, detail));
    }
    if parts.uri.scheme().is_some_and(|scheme| !is_served(scheme, parts.version, connected_to)) {
        return Err(bad("only http:// targets can be forwarded; use CONNECT for https".into()));
    }
    let mut hosts = parts.headers.get_all(HOST).iter();
    let (host, second) = (hosts.next(), hosts.next());
    if second.is_some() {
        return Err(bad("more than one Host header".into()));
    }
    match (parts.uri.authority(), host, connected_to) {
        (Some(authority), ..) => Wanted::read(authority.as_str()),
        (None, Some(host), _) => {
            Wanted::read(host.to_str().map_err(|_| bad("the Host is not ASCII".into()))?)
        }
        (None, None, Some(at)) if parts.version == Version::HTTP_10 => {
            Ok(Arc::new(Wanted::new("", at.into())))
        }
        (None, None, _) => Err(bad("no Host header".into())),
    }
}

/// Whether a request of this scheme can be sent on in plaintext. A gateway that ended TLS may say
/// `https` in HTTP/2 of what it has in hand; a client that has a proxy fetch it means TLS.
fn is_served(scheme: &Scheme, version: Version, connected_to: Option<SocketAddr>) -> bool {
    let is_ended = version == Version::HTTP_2 && connected_to.is_some();
    *scheme == Scheme::HTTP || (*scheme == Scheme::HTTPS && is_ended)
}

/// Addresses a request: the path is its target, and its Host whom it is for, which HTTP/2 sends as
/// `:authority`.
pub fn write<B>(request: &mut Request<B>, uri: &Uri, host: &HeaderValue) {
    *request.uri_mut() = Uri::from(origin_form(uri));
    request.headers_mut().insert(HOST, host.clone());
}

/// The target without scheme and authority. An empty path is `/` (RFC 9112 §3.2.1).
fn origin_form(uri: &Uri) -> PathAndQuery {
    match uri.path_and_query() {
        Some(target) if target.as_str().starts_with('?') => {
            // invariant: a target is one after a slash too.
            PathAndQuery::from_maybe_shared(format!("/{}", target.as_str()))
                .unwrap_or_else(|_| PathAndQuery::from_static("/"))
        }
        Some(target) => target.clone(),
        None => PathAndQuery::from_static("/"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use http::Request;

    #[test]
    fn what_goes_on_is_a_path() {
        let cases = [
            ("http://api?x=1", "/?x=1"),
            ("http://api", "/"),
            ("http://api/a?b", "/a?b"),
            ("/a", "/a"),
            ("*", "*"),
        ];
        for (target, expected) in cases {
            let mut request = Request::new(());
            write(&mut request, &target.parse().unwrap(), &HeaderValue::from_static("api"));
            assert_eq!(request.uri().path_and_query().unwrap().as_str(), expected, "{target}");
        }
    }

    fn of(uri: &str, hosts: &[&str]) -> Result<String, ErrorCode> {
        let mut request = Request::get(uri);
        for host in hosts {
            request = request.header(HOST, *host);
        }
        let (parts, ()) = request.body(()).unwrap().into_parts();
        read(&parts, None).map(|found| found.authority.to_string()).map_err(|error| error.code)
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
    fn https_is_served_where_a_gateway_has_ended_it() {
        let at = Some("10.0.0.7:8080".parse().unwrap());
        let cases = [
            ("https://api/a", Version::HTTP_2, at, true),
            ("https://api/a", Version::HTTP_2, None, false),
            ("https://api/a", Version::HTTP_11, at, false),
            ("ftp://api/a", Version::HTTP_2, at, false),
        ];
        for (uri, version, connected_to, expected) in cases {
            let request = Request::get(uri).version(version).body(()).unwrap();
            let found = read(&request.into_parts().0, connected_to);
            assert_eq!(found.is_ok(), expected, "{uri} {version:?} {connected_to:?}");
        }
    }

    #[test]
    fn without_a_host_http_1_0_means_whom_it_connected_to() {
        let of = |version, connected_to: Option<&str>| {
            let request = Request::get("/a").version(version).body(()).unwrap();
            let connected_to = connected_to.map(|address| address.parse().unwrap());
            read(&request.into_parts().0, connected_to).map(|found| found.authority.to_string())
        };
        let at = Some("10.0.0.7:8080");
        assert_eq!(of(Version::HTTP_10, at).unwrap(), "10.0.0.7:8080");
        assert!(of(Version::HTTP_10, None).is_err());
        assert!(of(Version::HTTP_11, at).is_err());
    }

    #[test]
    fn what_was_read_lately_is_read_no_differently() {
        for _ in 0..3 {
            for number in 0..2 * LATELY {
                let read = of("/a", &[&format!("API{number}.shop.:80")]);
                assert_eq!(read, Ok(format!("api{number}.shop:80")));
                assert_eq!(of("/a", &["a b"]), Err(ErrorCode::BadRequest));
            }
        }
    }

    #[test]
    fn a_long_target_is_refused() {
        let long = format!("/{}", "a".repeat(MAX_TARGET));
        assert_eq!(of(&long, &["a"]), Err(ErrorCode::TargetTooLong));
    }
}
