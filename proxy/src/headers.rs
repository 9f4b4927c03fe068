//! What is done to headers at the border: hop-by-hop fields end here, and nobody but a sidecar
//! writes Pillion's own.

use http::header::{
    CONNECTION, CONTENT_LENGTH, EXPECT, HOST, HeaderName, PROXY_AUTHENTICATE, PROXY_AUTHORIZATION,
    TE, TRAILER, TRANSFER_ENCODING, UPGRADE,
};
use http::{HeaderMap, HeaderValue};
use model::headers::{HOPS, RESERVED};

/// Fields that end at each hop whether `Connection` names them or not (RFC 9110 §7.6.1).
static HOP_BY_HOP: [HeaderName; 9] = [
    CONNECTION,
    HeaderName::from_static("keep-alive"),
    HeaderName::from_static("proxy-connection"),
    HeaderName::from_static("http2-settings"),
    PROXY_AUTHENTICATE,
    PROXY_AUTHORIZATION,
    TRANSFER_ENCODING,
    UPGRADE,
    EXPECT,
];

/// How often a request may go through the mesh.
pub const MAX_HOPS: u8 = 8;

/// What [`HOPS`] says of a request that goes on, by how often it has gone through the mesh before.
const GOES_ON: [&str; MAX_HOPS as usize] = ["1", "2", "3", "4", "5", "6", "7", "8"];

/// Fields that `Connection` cannot take away: framing, routing and the end-to-end trailers.
static NOT_NOMINABLE: [HeaderName; 3] = [CONTENT_LENGTH, HOST, TRAILER];

/// Removes what belongs to the connection that a message came on (RFC 9110 §7.6.1).
pub fn strip_hop_by_hop(headers: &mut HeaderMap) {
    for name in nominated(headers) {
        if !NOT_NOMINABLE.contains(&name) && !RESERVED.contains(&name) {
            headers.remove(name);
        }
    }
    remove_all(headers, |name| HOP_BY_HOP.contains(name));
    // `te: trailers` is the one value that HTTP/2 allows, and gRPC needs it (RFC 9113 §8.2.2).
    let Some(te) = headers.get(TE) else { return };
    if names_trailers(te) {
        headers.insert(TE, HeaderValue::from_static("trailers"));
    } else {
        headers.remove(TE);
    }
}

fn names_trailers(te: &HeaderValue) -> bool {
    te.to_str()
        .is_ok_and(|te| te.split(',').any(|coding| coding.trim().eq_ignore_ascii_case("trailers")))
}

/// Most messages have none of the fields that go: one look at each name is all that costs.
fn remove_all(headers: &mut HeaderMap, goes: impl Fn(&HeaderName) -> bool) {
    if headers.keys().any(&goes) {
        let going: Vec<HeaderName> = headers.keys().filter(|name| goes(name)).cloned().collect();
        for name in going {
            headers.remove(name);
        }
    }
}

/// What the names of Pillion's own headers begin with, those to come included.
const OURS: &str = "x-pillion-";

/// Removes the headers that only a sidecar may write, in any spelling an application might take
/// for them: CGI and what came after it tell no `-` from a `_` (RFC 3875 §4.1.18), and some
/// servers none from any other character (`x.pillion.peer`).
pub fn strip_reserved(headers: &mut HeaderMap) {
    remove_all(headers, |name| is_reserved(name.as_str()));
}

/// How often a request has gone through the mesh, as its [`HOPS`] say; 0 where they say nothing.
pub fn hops(headers: &HeaderMap) -> u8 {
    let number = |value: &HeaderValue| value.to_str().ok()?.parse().ok();
    headers.get_all(HOPS).iter().filter_map(number).max().unwrap_or(0)
}

/// What [`HOPS`] says of a request that has gone through the mesh so often, and once more now.
pub fn one_more(hops: u8) -> HeaderValue {
    match GOES_ON.get(usize::from(hops)) {
        Some(text) => HeaderValue::from_static(text),
        None => HeaderValue::from(u16::from(hops) + 1),
    }
}

fn is_reserved(name: &str) -> bool {
    // Most names are told by their first letter.
    if !name.starts_with(['x', 'l']) {
        return false;
    }
    let is_other = |reserved: &HeaderName| {
        name.len() == reserved.as_str().len() && begins_alike(name, reserved.as_str())
    };
    begins_alike(name, OURS) || RESERVED.iter().any(is_other)
}

/// Whether a name begins with `prefix`, where every character that is neither letter nor digit
/// counts as `-`.
fn begins_alike(name: &str, prefix: &str) -> bool {
    let same = |(a, b): (u8, u8)| a == b || (b == b'-' && !a.is_ascii_alphanumeric());
    name.len() >= prefix.len() && name.bytes().zip(prefix.bytes()).all(same)
}

/// The present second, for a response that does not say when it was made (RFC 9110 §6.6.1).
pub fn date() -> HeaderValue {
    let text = httpdate::fmt_http_date(std::time::SystemTime::now());
    // invariant: a date is ASCII.
    HeaderValue::from_str(&text).unwrap_or_else(|_| HeaderValue::from_static(""))
}

/// The length that a message says its body has.
pub fn content_length(headers: &HeaderMap) -> Option<u64> {
    headers.get(CONTENT_LENGTH)?.to_str().ok()?.parse().ok()
}

/// Whether a message is gRPC's, by its content type.
pub fn is_grpc(headers: &HeaderMap) -> bool {
    headers
        .get(http::header::CONTENT_TYPE)
        .is_some_and(|value| value.as_bytes().starts_with(b"application/grpc"))
}

fn nominated(headers: &HeaderMap) -> Vec<HeaderName> {
    headers
        .get_all(CONNECTION)
        .iter()
        .filter_map(|value| value.to_str().ok())
        .flat_map(|value| value.split(','))
        .filter_map(|name| name.trim().parse().ok())
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn headers(fields: &[(&str, &str)]) -> HeaderMap {
        fields
            .iter()
            .map(|(name, value)| {
                (name.parse::<HeaderName>().unwrap(), HeaderValue::from_str(value).unwrap())
            })
            .collect()
    }

    fn names(headers: &HeaderMap) -> Vec<&str> {
        let mut names: Vec<_> = headers.keys().map(HeaderName::as_str).collect();
        names.sort_unstable();
        names
    }

    #[test]
    fn hop_by_hop_fields_and_those_nominated_end_here() {
        let mut map = headers(&[
            ("connection", "close, x-mine, content-length, host"),
            ("x-mine", "1"),
            ("content-length", "5"),
            ("host", "a"),
            ("keep-alive", "timeout=5"),
            ("upgrade", "h2c"),
            ("http2-settings", "x"),
            ("te", "gzip, trailers"),
            ("x-kept", "1"),
        ]);
        strip_hop_by_hop(&mut map);
        assert_eq!(names(&map), ["content-length", "host", "te", "x-kept"]);
        assert_eq!(map["te"], "trailers");
    }

    #[test]
    fn te_without_trailers_goes() {
        let mut map = headers(&[("te", "gzip")]);
        strip_hop_by_hop(&mut map);
        assert!(map.is_empty());
    }

    #[test]
    fn reserved_headers_go_in_every_spelling() {
        let mut map = headers(&[
            ("x-pillion-peer", "spiffe://a/b"),
            ("x_pillion_peer", "spiffe://a/b"),
            ("x.pillion~peer", "spiffe://a/b"),
            ("x-pillion_anything", "1"),
            ("l5d-client-id", "x"),
            ("l5d_client_id", "x"),
            ("x-forwarded-client-cert", "x"),
            ("x_forwarded-client.cert", "x"),
            ("l5d-client-identity", "kept"),
            ("x-forwarded-for", "1.2.3.4"),
            ("xapillion-peer", "kept"),
        ]);
        map.append("x-pillion-peer", HeaderValue::from_static("spiffe://c/d"));
        strip_reserved(&mut map);
        assert_eq!(names(&map), ["l5d-client-identity", "x-forwarded-for", "xapillion-peer"]);
    }

    #[test]
    fn the_most_hops_count() {
        let cases: [(&[&str], u8); 6] = [
            (&[], 0),
            (&["3"], 3),
            (&["3", "7"], 7),
            (&["x"], 0),
            (&["-1", "2"], 2),
            (&["999"], 0),
        ];
        for (values, expected) in cases {
            let fields: Vec<_> = values.iter().map(|value| ("x-pillion-hops", *value)).collect();
            assert_eq!(hops(&headers(&fields)), expected, "{values:?}");
        }
    }

    #[test]
    fn grpc_is_told_by_content_type() {
        for (value, expected) in
            [("application/grpc", true), ("application/grpc+proto", true), ("text/plain", false)]
        {
            assert_eq!(is_grpc(&headers(&[("content-type", value)])), expected);
        }
    }
}
