//! Whether a request is what a match asks for.

use http::header::COOKIE;
use http::{HeaderMap, Method};

use crate::route::{HeaderMatch, Match, PathMatch, QueryMatch, RpcMatch};

impl Match {
    /// Whether all parts of the match hold for a request.
    pub(super) fn holds(
        &self,
        method: &Method,
        path: &str,
        query: Option<&str>,
        headers: &HeaderMap,
    ) -> bool {
        path_holds(&self.path, path)
            && self.method.as_ref().is_none_or(|wanted| wanted == method)
            && self.headers.iter().all(|wanted| header_holds(wanted, headers))
            && self.query.iter().all(|wanted| query_holds(wanted, query))
    }
}

fn path_holds(wanted: &PathMatch, path: &str) -> bool {
    match wanted {
        PathMatch::Exact(exact) => path == exact,
        // An empty prefix holds for `*` too, the target of a server-wide OPTIONS.
        PathMatch::Prefix(prefix) => {
            let rest = path.strip_prefix(prefix.as_str());
            rest.is_some_and(|rest| prefix.is_empty() || rest.is_empty() || rest.starts_with('/'))
        }
        PathMatch::Rpc(rpc) => rpc_holds(rpc, path),
    }
}

/// A call is `/SERVICE/METHOD` (gRPC over HTTP/2, "Requests"); anything else is none.
fn rpc_holds(wanted: &RpcMatch, path: &str) -> bool {
    let call = path.strip_prefix('/').and_then(|call| call.split_once('/'));
    call.is_some_and(|(service, method)| {
        wanted.service.as_ref().is_none_or(|pattern| pattern.holds(service))
            && wanted.method.as_ref().is_none_or(|pattern| pattern.holds(method))
    })
}

/// Repeated lines of a header count as one, joined by a comma (RFC 9110 §5.3); those of a cookie, as
/// HTTP/2 has them, by `; ` (RFC 9113 §8.2.3).
fn header_holds(wanted: &HeaderMatch, headers: &HeaderMap) -> bool {
    let mut lines = headers.get_all(&wanted.name).iter().map(|line| line.as_bytes());
    let Some(first) = lines.next() else { return false };
    let between: &[u8] = if wanted.name == COOKIE { b"; " } else { b"," };
    let rest = lines.fold(wanted.value.as_bytes().strip_prefix(first), |rest, line| {
        rest?.strip_prefix(between)?.strip_prefix(line)
    });
    rest.is_some_and(<[u8]>::is_empty)
}

/// Of a repeated parameter the first counts; one without `=` has an empty value. Names and
/// values are compared as the application would read them (`application/x-www-form-urlencoded`,
/// URL Standard §5.1): `+` is a space, `%xx` a byte, and a `%` without two hex digits is itself.
fn query_holds(wanted: &QueryMatch, query: Option<&str>) -> bool {
    let mut pairs = query.unwrap_or_default().split('&');
    let first = pairs.find_map(|pair| {
        let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
        decoded(name).eq(wanted.name.bytes()).then_some(value)
    });
    first.is_some_and(|value| decoded(value).eq(wanted.value.bytes()))
}

fn decoded(text: &str) -> impl Iterator<Item = u8> {
    let mut rest = text.as_bytes();
    std::iter::from_fn(move || {
        let (&byte, after) = rest.split_first()?;
        let escaped = if byte == b'%' { after.split_first_chunk().and_then(hex) } else { None };
        let (byte, after) = match escaped {
            Some((byte, after)) => (byte, after),
            None if byte == b'+' => (b' ', after),
            None => (byte, after),
        };
        rest = after;
        Some(byte)
    })
}

/// A byte of two hex digits, with what follows them.
fn hex<'a>((digits, after): (&[u8; 2], &'a [u8])) -> Option<(u8, &'a [u8])> {
    let [high, low] = digits.map(|digit| char::from(digit).to_digit(16));
    // invariant: two hex digits make a byte.
    Some(((high? << 4 | low?) as u8, after))
}

#[cfg(test)]
pub(super) mod tests {
    use http::{HeaderName, HeaderValue};

    use super::*;

    /// A match from a line: an optional method, a path (`=` before an exact one, `~` before the
    /// patterns of a gRPC service and method, with `|` between them), and after it headers (`name:value`) and query parameters (`name=value`).
    pub(in crate::route) fn wanted(line: &str) -> Match {
        let mut wanted = Match::any();
        for (place, word) in line.split(' ').enumerate() {
            if let Some(path) = word.strip_prefix("=/") {
                wanted.path = PathMatch::Exact(format!("/{path}"));
            } else if let Some((service, method)) =
                word.strip_prefix("~/").and_then(|rpc| rpc.split_once('|'))
            {
                let pattern = |text: &str| (!text.is_empty()).then(|| text.parse().unwrap());
                let (service, method) = (pattern(service), pattern(method));
                wanted.path = PathMatch::Rpc(RpcMatch { service, method });
            } else if word.starts_with('/') {
                wanted.path = PathMatch::Prefix(word.trim_end_matches('/').into());
            } else if let Some((name, value)) = word.split_once(':') {
                let name: HeaderName = name.parse().unwrap();
                wanted.headers.push(HeaderMatch { name, value: value.into() });
            } else if let Some((name, value)) = word.split_once('=') {
                wanted.query.push(QueryMatch { name: name.into(), value: value.into() });
            } else {
                assert_eq!(place, 0, "a method comes first: {line}");
                wanted.method = Some(word.parse().unwrap());
            }
        }
        wanted
    }

    /// A request from a line: a method, a target and headers.
    pub(in crate::route) fn request(line: &str) -> (Method, &str, Option<&str>, HeaderMap) {
        let mut words = line.split(' ');
        let method = words.next().unwrap().parse().unwrap();
        let target = words.next().unwrap();
        let (path, query) = target.split_once('?').map_or((target, None), |(p, q)| (p, Some(q)));
        let mut headers = HeaderMap::new();
        for (name, value) in words.map(|word| word.split_once(':').unwrap()) {
            let name: HeaderName = name.parse().unwrap();
            headers.append(name, HeaderValue::from_str(value).unwrap());
        }
        (method, path, query, headers)
    }

    /// Whether one match holds for requests.
    fn check(line: &str, cases: &[(&str, bool)]) {
        let wanted = wanted(line);
        for (line, holds) in cases {
            let (method, path, query, headers) = request(line);
            assert_eq!(wanted.holds(&method, path, query, &headers), *holds, "{wanted:?} {line}");
        }
    }

    #[test]
    fn paths() {
        // the table of PathMatchPathPrefix in httproute_types.go, and some more
        for prefix in ["/abc", "/abc/"] {
            check(
                prefix,
                &[
                    ("GET /abc", true),
                    ("GET /abc/", true),
                    ("GET /abc/def", true),
                    ("GET /abc?d=/e", true),
                    ("GET /abcd", false),
                    ("GET /ABC", false),
                    ("GET /ab", false),
                    ("GET /x/abc", false),
                    ("GET /%61bc", false),
                ],
            );
        }
        check("=/abc", &[("GET /abc", true), ("GET /abc?x", true), ("GET /abc/", false)]);
        check("=/", &[("GET /", true), ("GET /a", false)]);
        check("/", &[("GET /", true), ("GET /a", true), ("OPTIONS *", true)]);
    }

    #[test]
    fn grpc_methods() {
        let cases = [
            ("POST /shop.Cart/GetAll", true),
            ("POST /shop.Cart/Get", false),
            ("POST /shop.Carts/GetAll", false),
            ("POST /a.shop.Cart/GetAll", false),
            ("POST /SHOP.Cart/GetAll", false),
            ("POST /shop.Cart", false),
            ("OPTIONS *", false),
        ];
        check("~/shop[.]Cart|Get.+", &cases);
        check("~/|Get", &[("POST /any/Get", true), ("POST /any/Put", false)]);
        check("~/a[.].*|", &[("POST /a.b/Get", true), ("POST /b.a/Get", false)]);
    }

    #[test]
    fn methods_and_headers() {
        check("POST /", &[("POST /", true), ("GET /", false), ("post /", false)]);
        check(
            "/ Version:two color:blue,green",
            &[
                ("GET / version:two color:blue,green", true),
                ("GET / COLOR:blue VERSION:two color:green", true),
                ("GET / version:two color:green color:blue", false),
                ("GET / version:two color:blue", false),
                ("GET / version:two color:blue,green color:red", false),
                ("GET / version:Two color:blue,green", false),
                ("GET / version:two", false),
                ("GET /", false),
            ],
        );
    }

    #[test]
    fn the_crumbs_of_a_cookie_are_one_line() {
        let wanted = HeaderMatch { name: COOKIE, value: "a=1; c=2".into() };
        let of = |lines: &[&'static str]| {
            let line = |line: &&'static str| (COOKIE, HeaderValue::from_static(line));
            header_holds(&wanted, &lines.iter().map(line).collect())
        };
        assert!(of(&["a=1; c=2"]));
        assert!(of(&["a=1", "c=2"]));
        assert!(!of(&["c=2", "a=1"]));
        assert!(!of(&["a=1,c=2"]));
    }

    #[test]
    fn queries() {
        check(
            "/ animal=whale",
            &[
                ("GET /?animal=whale", true),
                ("GET /?x=y&&animal=whale&z", true),
                ("GET /?animal=whale&animal=dog", true),
                ("GET /?animal=dog&animal=whale", false),
                ("GET /?an%69mal=%77hale", true),
                ("GET /?ANIMAL=whale", false),
                ("GET /?animal=Whale", false),
                ("GET /?animal=whaledolphin", false),
                ("GET /?animal", false),
                ("GET /animal=whale", false),
                ("GET /", false),
            ],
        );
        let query = |value: &str| QueryMatch { name: "q".into(), value: value.into() };
        let cases = [
            ("q=a+b", "a b"),
            ("q=a%20b", "a b"),
            ("q=a%2Bb", "a+b"),
            ("q=1%2b1%3D2", "1+1=2"),
            ("q=1=2", "1=2"),
            ("q=%c3%a4", "ä"),
            ("q=100%", "100%"),
            ("q=%zz%4", "%zz%4"),
            ("q=%+1", "% 1"),
            ("q", ""),
            ("q=", ""),
        ];
        for (text, value) in cases {
            assert!(query_holds(&query(value), Some(text)), "{text}");
            assert!(!query_holds(&query("other"), Some(text)), "{text}");
        }
    }
}
