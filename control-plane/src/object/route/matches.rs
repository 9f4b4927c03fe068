//! `rules[].matches` of an HTTPRoute, and what those of a GRPCRoute have in common with them:
//! which requests a rule is for.

use http::{HeaderName, Method};
use model::route::{HeaderMatch, Match, PathMatch, QueryMatch};

use super::Report;
use super::spec;
use crate::object::unsupported;
use crate::problem::Fault;

/// The most matches of a rule, and headers or parameters of a match (CRD, `maxItems`).
const MOST_MATCHES: usize = 64;
const MOST_VALUES: usize = 16;

/// The longest path, and the longest values of a header and of a parameter (CRD, `maxLength`).
const LONGEST_PATH: usize = 1024;
const LONGEST_HEADER: usize = 4096;
const LONGEST_PARAMETER: usize = 1024;

/// What reads one match of a kind of route. `None` for a match with a part that cannot be
/// evaluated: without that part it would match more than was meant.
pub(super) type ParseMatch<M> = fn(&M, &str, &mut Report) -> Option<Match>;

/// The matches of the rule at `at`. Empty only when none of those written can be evaluated: then
/// nothing is known to be meant by the rule.
pub(super) fn parse<M>(
    written: &[M],
    parse_match: ParseMatch<M>,
    at: &str,
    report: &mut Report,
) -> Vec<Match> {
    if written.is_empty() {
        return vec![Match::any()];
    }
    if written.len() > MOST_MATCHES {
        let message = format!("{} matches; at most {MOST_MATCHES} are allowed", written.len());
        report.refuse(Fault::invalid(format!("{at}.matches"), message));
    }
    let one = |(index, one)| {
        let at = format!("{at}.matches[{index}]");
        parse_match(one, &at, report).filter(|_| !report.lacks_part_of(&at))
    };
    written.iter().enumerate().filter_map(one).collect()
}

/// One match of an HTTPRoute.
pub(super) fn parse_http(
    written: &spec::HttpMatch,
    at: &str,
    report: &mut Report,
) -> Option<Match> {
    let path = parse_path(written.path.as_ref(), at, report);
    let method = parse_method(written.method.as_deref(), at, report);
    let headers = parse_headers(&written.headers, at, report);
    let query = parse_values(&written.query_params, &format!("{at}.queryParams"), report);
    let (headers, query) = (headers?, query?);
    let mut query: Vec<QueryMatch> =
        query.into_iter().filter_map(|(at, one)| report.accept(parse_query(one, &at))).collect();
    keep_first(&mut query, |a, b| a.name == b.name);
    Some(Match { path: path?, method: method?, headers, query })
}

/// The headers of the match at `at`.
pub(super) fn parse_headers(
    written: &[spec::ValueMatch],
    at: &str,
    report: &mut Report,
) -> Option<Vec<HeaderMatch>> {
    let values = parse_values(written, &format!("{at}.headers"), report)?;
    let mut headers: Vec<HeaderMatch> =
        values.into_iter().filter_map(|(at, one)| report.accept(parse_header(one, &at))).collect();
    keep_first(&mut headers, |a, b| a.name == b.name);
    Some(headers)
}

/// Of equivalent names the first counts (HTTPHeaderMatch.name, HTTPQueryParamMatch.name).
fn keep_first<T>(items: &mut Vec<T>, same: impl Fn(&T, &T) -> bool) {
    let mut index = 0;
    while index < items.len() {
        let (before, rest) = items.split_at(index);
        if before.iter().any(|item| same(item, &rest[0])) {
            items.remove(index);
        } else {
            index += 1;
        }
    }
}

fn parse_path(
    written: Option<&spec::PathMatch>,
    at: &str,
    report: &mut Report,
) -> Option<PathMatch> {
    let kind = written.and_then(|path| path.kind.as_deref()).unwrap_or("PathPrefix");
    let value = written.and_then(|path| path.value.as_deref()).unwrap_or("/");
    if !matches!(kind, "PathPrefix" | "Exact") {
        report.warn(match_left_out(format!("{at}.path.type"), kind, "PathPrefix or Exact"));
        return None;
    }
    if let Some(wrong) = wrong_path(value) {
        report.refuse(Fault::invalid(format!("{at}.path.value"), format!("{value:?} {wrong}")));
        return None;
    }
    Some(match kind {
        "Exact" => PathMatch::Exact(value.into()),
        _ => PathMatch::Prefix(value.strip_suffix('/').unwrap_or(value).into()),
    })
}

/// What is wrong with a path, by the CRD's rules for HTTPPathMatch.
fn wrong_path(value: &str) -> Option<String> {
    const INSIDE: [&str; 6] = ["//", "/./", "/../", "%2f", "%2F", "#"];
    if !value.starts_with('/') {
        return Some("must begin with '/'".into());
    }
    if value.len() > LONGEST_PATH {
        return Some(format!("is longer than {LONGEST_PATH} bytes"));
    }
    if let Some(bad) = INSIDE.into_iter().find(|bad| value.contains(bad)) {
        return Some(format!("must not contain {bad:?}"));
    }
    if let Some(bad) = ["/..", "/."].into_iter().find(|bad| value.ends_with(bad)) {
        return Some(format!("must not end with {bad:?}"));
    }
    let message = "has characters that no path has: such a byte is written as % and two hex digits";
    (!has_only_path_characters(value)).then(|| message.into())
}

/// Those of RFC 3986 §3.3, with each `%` before two hex digits.
fn has_only_path_characters(value: &str) -> bool {
    let is_hex = |two: &str| two.bytes().all(|byte| byte.is_ascii_hexdigit());
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-/._~!$&'()*+,;=:@%".contains(&byte);
    value.bytes().all(plain)
        && value.split('%').skip(1).all(|after| after.get(..2).is_some_and(is_hex))
}

/// The inner `None` is any method, the outer one a match that is left out.
fn parse_method(written: Option<&str>, at: &str, report: &mut Report) -> Option<Option<Method>> {
    let known = ["GET", "HEAD", "POST", "PUT", "DELETE", "CONNECT", "OPTIONS", "TRACE", "PATCH"];
    match written {
        None => Some(None),
        Some(text) if known.contains(&text) => Method::from_bytes(text.as_bytes()).ok().map(Some),
        Some(text) => {
            report.warn(match_left_out(format!("{at}.method"), text, &known.join(", ")));
            None
        }
    }
}

/// The values to compare exactly, with their paths; `None` when one is of another type.
fn parse_values<'s>(
    written: &'s [spec::ValueMatch],
    at: &str,
    report: &mut Report,
) -> Option<Vec<(String, &'s spec::ValueMatch)>> {
    if written.len() > MOST_VALUES {
        let message = format!("{} entries; at most {MOST_VALUES} are allowed", written.len());
        report.refuse(Fault::invalid(at, message));
    }
    let mut values = Vec::new();
    for (index, one) in written.iter().enumerate() {
        let at = format!("{at}[{index}]");
        if let Some(kind) = one.kind.as_deref().filter(|kind| *kind != "Exact") {
            report.warn(match_left_out(format!("{at}.type"), kind, "Exact"));
            return None;
        }
        values.push((at, one));
    }
    Some(values)
}

fn parse_header(written: &spec::ValueMatch, at: &str) -> Result<HeaderMatch, Fault> {
    let name = header_name(written, at)?;
    Ok(HeaderMatch { name, value: value(written, LONGEST_HEADER, at)? })
}

/// The name of a parameter has the characters of a header's (CRD, HTTPHeaderName), and its own case.
fn parse_query(written: &spec::ValueMatch, at: &str) -> Result<QueryMatch, Fault> {
    header_name(written, at)?;
    let name = written.name.clone();
    Ok(QueryMatch { name, value: value(written, LONGEST_PARAMETER, at)? })
}

fn header_name(written: &spec::ValueMatch, at: &str) -> Result<HeaderName, Fault> {
    HeaderName::from_bytes(written.name.as_bytes()).map_err(|_| {
        let message = format!("{:?} has not the form of a header's name", written.name);
        Fault::invalid(format!("{at}.name"), message)
    })
}

fn value(written: &spec::ValueMatch, longest: usize, at: &str) -> Result<String, Fault> {
    if written.value.is_empty() || written.value.len() > longest {
        let message = format!("a value has 1 to {longest} bytes");
        return Err(Fault::invalid(format!("{at}.value"), message));
    }
    Ok(written.value.clone())
}

/// The fault of a match that has a part of a type or value that is not served.
pub(super) fn match_left_out(field: String, found: &str, served: &str) -> Fault {
    let message =
        format!("{found:?} is not served (only {served}): the match it stands in is left out");
    unsupported(field, message)
}
