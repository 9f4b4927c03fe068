//! What is done to headers at the border: hop-by-hop fields end here, and nobody but a sidecar
//! writes Pillion's own.

use http::header::{CONNECTION, CONTENT_LENGTH, Entry, HOST, HeaderName, TE, TRAILER};
use http::{HeaderMap, HeaderValue};
use model::headers::{ERROR, HOPS, PORT, PROTOCOL, RESERVED};

/// How often a request may go through the mesh.
pub const MAX_HOPS: u8 = 8;

/// What [`HOPS`] says, by how often a request has gone through the mesh.
const TIMES: [&str; MAX_HOPS as usize + 1] = ["0", "1", "2", "3", "4", "5", "6", "7", "8"];

/// Fields that `Connection` cannot take away: framing, routing and the end-to-end trailers.
static NOT_NOMINABLE: [HeaderName; 3] = [CONTENT_LENGTH, HOST, TRAILER];

/// What becomes of a field at the border.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Fate {
    /// It goes on.
    Passes,
    /// It ends here, and what it names too (RFC 9110 §7.6.1).
    Nominates,
    /// It ends here whether `Connection` names it or not.
    HopByHop,
    /// One value of it goes on.
    Te,
    /// What a sidecar says to another one.
    Ours,
    /// Only a sidecar may write it.
    Reserved,
}

impl Fate {
    fn of(name: &str) -> Self {
        // Most names are told by their first letter.
        match name {
            "connection" => Self::Nominates,
            "keep-alive"
            | "proxy-connection"
            | "http2-settings"
            | "proxy-authenticate"
            | "proxy-authorization"
            | "transfer-encoding"
            | "upgrade"
            | "expect" => Self::HopByHop,
            "te" => Self::Te,
            "x-pillion-port" | "x-pillion-protocol" | "x-pillion-hops" | "x-pillion-error" => {
                Self::Ours
            }
            _ if name.starts_with(['x', 'l']) && is_reserved(name) => Self::Reserved,
            _ => Self::Passes,
        }
    }
}

/// What fields said that only a sidecar writes.
#[derive(Debug, Default)]
pub struct Ours {
    /// How often the request has gone through the mesh.
    pub hops: u8,
    /// The port of the application that the request is for.
    pub port: Option<HeaderValue>,
    /// What the request's client speaks.
    pub protocol: Option<HeaderValue>,
    /// What the sidecar says that answers.
    pub error: Option<HeaderValue>,
}

impl Ours {
    fn take(headers: &mut HeaderMap) -> Self {
        Self {
            hops: take_hops(headers),
            port: headers.remove(PORT),
            protocol: headers.remove(PROTOCOL),
            error: headers.remove(ERROR),
        }
    }
}

/// Removes what ends at the border: what belongs to the connection that a message came on, and the
/// headers that only a sidecar may write. Most messages have little of that: one look at each name
/// is all that it costs.
pub fn strip(headers: &mut HeaderMap) -> Ours {
    let [mut nominates, mut hop_by_hop, mut te, mut ours, mut reserved] = [false; 5];
    for name in headers.keys() {
        match Fate::of(name.as_str()) {
            Fate::Passes => {}
            Fate::Nominates => nominates = true,
            Fate::HopByHop => hop_by_hop = true,
            Fate::Te => te = true,
            Fate::Ours => ours = true,
            Fate::Reserved => reserved = true,
        }
    }
    let ours = if ours { Ours::take(headers) } else { Ours::default() };
    if reserved {
        remove_all(headers, Fate::Reserved);
    }
    if nominates {
        for name in nominated(headers) {
            if !NOT_NOMINABLE.contains(&name) {
                headers.remove(name);
            }
        }
        headers.remove(CONNECTION);
    }
    if hop_by_hop {
        remove_all(headers, Fate::HopByHop);
    }
    if te {
        strip_te(headers);
    }
    ours
}

/// `te: trailers` is the one value that HTTP/2 allows, and gRPC needs it (RFC 9113 §8.2.2).
fn strip_te(headers: &mut HeaderMap) {
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

fn remove_all(headers: &mut HeaderMap, fate: Fate) {
    let goes = |name: &&HeaderName| Fate::of(name.as_str()) == fate;
    let going: Vec<HeaderName> = headers.keys().filter(goes).cloned().collect();
    for name in going {
        headers.remove(name);
    }
}

/// What the names of Pillion's own headers begin with, those to come included.
const OURS: &str = "x-pillion-";

/// Takes away how often a request has gone through the mesh, as its [`HOPS`] say; 0 where they say
/// nothing.
fn take_hops(headers: &mut HeaderMap) -> u8 {
    let Entry::Occupied(said) = headers.entry(HOPS) else { return 0 };
    let number = |value: HeaderValue| value.to_str().ok()?.parse().ok();
    let (_, values) = said.remove_entry_mult();
    values.filter_map(number).max().unwrap_or(0)
}

/// What [`HOPS`] says of a request that has gone through the mesh so often.
pub fn times(hops: u8) -> HeaderValue {
    match TIMES.get(usize::from(hops)) {
        Some(text) => HeaderValue::from_static(text),
        None => HeaderValue::from(u16::from(hops)),
    }
}

/// Whether only a sidecar may write a header, in any spelling that an application might take for
/// it: CGI and what came after it tell no `-` from a `_` (RFC 3875 §4.1.18), and some servers none
/// from any other character (`x.pillion.peer`).
fn is_reserved(name: &str) -> bool {
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
    headers.get(CONTENT_LENGTH).and_then(length_of)
}

/// The length that a field says.
pub fn length_of(content_length: &HeaderValue) -> Option<u64> {
    content_length.to_str().ok()?.parse().ok()
}

/// Whether a message is gRPC's, by its content type.
pub fn is_grpc(headers: &HeaderMap) -> bool {
    let kind = headers.get(http::header::CONTENT_TYPE).map(HeaderValue::as_bytes);
    // gRPC-Web is told apart by what follows: it has its status in its body.
    let rest = kind.and_then(|kind| kind.strip_prefix(b"application/grpc"));
    rest.is_some_and(|rest| rest.first().is_none_or(|next| matches!(next, b'+' | b';' | b' ')))
}

fn nominated(headers: &HeaderMap) -> Vec<HeaderName> {
    headers
        .get_all(CONNECTION)
        .iter()
        .flat_map(|value| value.as_bytes().split(|byte| *byte == b','))
        .filter_map(|name| HeaderName::from_bytes(name.trim_ascii()).ok())
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
        strip(&mut map);
        assert_eq!(names(&map), ["content-length", "host", "te", "x-kept"]);
        assert_eq!(map["te"], "trailers");
    }

    #[test]
    fn what_is_no_name_hides_none_of_the_others_that_are_nominated() {
        let mut map = headers(&[("connection", "\u{e4}, a b, x-mine"), ("x-mine", "1")]);
        strip(&mut map);
        assert!(map.is_empty(), "{map:?}");
    }

    #[test]
    fn what_a_sidecar_says_is_heard_though_connection_names_it() {
        let mut map = headers(&[
            ("connection", "x-pillion-error, x-pillion-port"),
            ("x-pillion-error", "a"),
            ("x-pillion-port", "80"),
            ("x-pillion-protocol", "h2"),
            ("x-pillion-hops", "2"),
        ]);
        let ours = strip(&mut map);
        assert_eq!((ours.error.unwrap(), ours.hops), (HeaderValue::from_static("a"), 2));
        assert_eq!(ours.port.unwrap(), "80");
        assert_eq!(ours.protocol.unwrap(), "h2");
        assert!(map.is_empty());
    }

    #[test]
    fn te_without_trailers_goes() {
        let mut map = headers(&[("te", "gzip")]);
        strip(&mut map);
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
        strip(&mut map);
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
            assert_eq!(strip(&mut headers(&fields)).hops, expected, "{values:?}");
        }
    }

    #[test]
    fn grpc_is_told_by_content_type() {
        for (value, expected) in [
            ("application/grpc", true),
            ("application/grpc+proto", true),
            ("application/grpc; charset=x", true),
            ("application/grpc-web+proto", false),
            ("text/plain", false),
        ] {
            assert_eq!(is_grpc(&headers(&[("content-type", value)])), expected);
        }
    }
}
