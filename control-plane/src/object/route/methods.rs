//! `rules[].matches` of a GRPCRoute: a gRPC method is the path `/SERVICE/METHOD`.

use model::route::{Match, PathMatch, Pattern, RpcMatch};

use super::matches::{match_left_out, parse_headers};
use super::{Report, spec};
use crate::object::unsupported;
use crate::problem::Fault;

/// The longest name of a service or method (CRD, `maxLength`).
const LONGEST_NAME: usize = 1024;

/// One match of a GRPCRoute.
pub(super) fn parse_grpc(
    written: &spec::GrpcMatch,
    at: &str,
    report: &mut Report,
) -> Option<Match> {
    let any = Match::any();
    let path = match &written.method {
        Some(method) => parse_method(method, &format!("{at}.method"), report),
        None => Some(any.path),
    };
    let headers = parse_headers(&written.headers, at, report)?;
    Some(Match { path: path?, headers, ..Match::any() })
}

fn parse_method(written: &spec::MethodMatch, at: &str, report: &mut Report) -> Option<PathMatch> {
    // What is written empty is not written (CRD: no minLength, and the older texts' default).
    let given = |text: &'_ Option<String>| text.clone().filter(|text| !text.is_empty());
    let (service, method) = (given(&written.service), given(&written.method));
    if service.is_none() && method.is_none() {
        let message = "one or both of service and method must be written";
        report.refuse(Fault::invalid(at, message));
        return None;
    }
    let parsed = match written.kind.as_deref().unwrap_or("Exact") {
        "Exact" => exact(service, method, at),
        "RegularExpression" => match by_patterns(service, method, at) {
            Ok(path) => return Some(path),
            // An API server takes any text.
            Err(Fault { field, message, .. }) => {
                let message = format!("{message}: the match it stands in is left out");
                report.warn(unsupported(field, message));
                return None;
            }
        },
        other => {
            let served = "Exact or RegularExpression";
            report.warn(match_left_out(format!("{at}.type"), other, served));
            return None;
        }
    };
    report.accept(parsed)
}

fn exact(service: Option<String>, method: Option<String>, at: &str) -> Result<PathMatch, Fault> {
    check(service.as_deref(), is_service, &format!("{at}.service"))?;
    check(method.as_deref(), is_name, &format!("{at}.method"))?;
    Ok(match (service, method) {
        (Some(service), Some(method)) => PathMatch::Exact(format!("/{service}/{method}")),
        (Some(service), None) => PathMatch::Prefix(format!("/{service}")),
        (None, method) => {
            let exactly = |text: String| Pattern::exactly(&text);
            let method = method.map(exactly).transpose();
            let invalid = |error| Fault::invalid(format!("{at}.method"), format!("{error}"));
            PathMatch::Rpc(RpcMatch { service: None, method: method.map_err(invalid)? })
        }
    })
}

fn by_patterns(
    service: Option<String>,
    method: Option<String>,
    at: &str,
) -> Result<PathMatch, Fault> {
    let pattern = |text: Option<String>, field: String| {
        check(text.as_deref(), |_| true, &field)?;
        let parsed = text.map(|text| text.parse::<Pattern>()).transpose();
        parsed.map_err(|error| Fault::invalid(field, format!("{error}")))
    };
    Ok(PathMatch::Rpc(RpcMatch {
        service: pattern(service, format!("{at}.service"))?,
        method: pattern(method, format!("{at}.method"))?,
    }))
}

fn check(text: Option<&str>, valid: fn(&str) -> bool, field: &str) -> Result<(), Fault> {
    match text {
        Some(text) if text.len() > LONGEST_NAME => {
            Err(Fault::invalid(field, format!("is longer than {LONGEST_NAME} bytes")))
        }
        Some(text) if !valid(text) => {
            Err(Fault::invalid(field, format!("{text:?} has characters that no such name has")))
        }
        _ => Ok(()),
    }
}

/// A service with its package: names with dots between them, and perhaps one before (CRD, CEL).
fn is_service(text: &str) -> bool {
    text.strip_prefix('.').unwrap_or(text).split('.').all(is_name)
}

/// A letter or underscore, then digits too (CRD, CEL).
fn is_name(text: &str) -> bool {
    let mut bytes = text.bytes();
    bytes.next().is_some_and(|first| first.is_ascii_alphabetic() || first == b'_')
        && bytes.all(|byte| byte.is_ascii_alphanumeric() || byte == b'_')
}
