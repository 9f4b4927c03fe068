//! One rule of a route: its action, timeouts and retries.

use std::time::Duration;

use http::StatusCode;
use model::name::Label;
use model::route::{Retry, Timeouts};
use serde_json::Value;

use super::matches::ParseMatch;
use super::{Action, BackendRef, Reference, Report, Rule, matches, spec};
use crate::object::{label, port, unsupported};
use crate::problem::{Cause, Fault};

/// The most backends of a rule (CRD, `maxItems`).
const MOST_BACKENDS: usize = 16;

/// The most weight of a backend (CRD, `maximum`).
const MOST_WEIGHT: i64 = 1_000_000;

/// How often a rule with `retry` and without `attempts` is tried again: the standard leaves it to
/// the implementation.
const DEFAULT_ATTEMPTS: u32 = 1;

/// The rule at `at`; `None` when none of its matches can be evaluated.
pub(super) fn parse<M>(
    written: &spec::Rule<M>,
    parse_match: ParseMatch<M>,
    own: &Label,
    at: &str,
    report: &mut Report,
) -> Option<Rule> {
    let matches = matches::parse(&written.matches, parse_match, at, report);
    let backends = parse_backends(&written.backend_refs, own, at, report);
    let action = match first_filter(&written.filters, at) {
        Some((fault, reason)) => {
            report.warn(fault);
            Action::Unsupported(reason)
        }
        None => Action::Forward(backends),
    };
    if written.session_persistence.is_some() {
        let field = format!("{at}.sessionPersistence");
        report.warn(unsupported(field, "not served: requests are balanced freely"));
    }
    let timeouts = parse_timeouts(written.timeouts.as_ref(), at);
    let timeouts = report.accept(timeouts).unwrap_or_default();
    let retry = written.retry.as_ref().map(|retry| parse_retry(retry, at)).transpose();
    let retry = report.accept(retry).flatten();
    if matches.is_empty() {
        return None;
    }
    let (name, field) = (written.name.clone(), at.to_owned());
    Some(Rule { name, field, matches, action, timeouts, retry })
}

/// A filter MUST NOT be skipped (HTTPRouteRule.filters): a rule with one that is not served is
/// answered with an error.
fn first_filter(filters: &[Value], at: &str) -> Option<(Fault, String)> {
    let kind = filters.first()?.get("type").and_then(Value::as_str).unwrap_or("without type");
    let message =
        format!("the filter {kind} is not served: requests that match this rule get an error");
    Some((unsupported(format!("{at}.filters[0]"), message), format!("filter {kind}")))
}

fn parse_backends(
    written: &[spec::BackendRef],
    own: &Label,
    at: &str,
    report: &mut Report,
) -> Vec<BackendRef> {
    if written.len() > MOST_BACKENDS {
        let message = format!("{} backends; at most {MOST_BACKENDS} are allowed", written.len());
        report.refuse(Fault::invalid(format!("{at}.backendRefs"), message));
    }
    let mut backends = Vec::new();
    for (index, one) in written.iter().enumerate() {
        let parsed = parse_backend(one, own, format!("{at}.backendRefs[{index}]"));
        let Some((backend, cause)) = report.accept(parsed) else { continue };
        if let (Reference::Invalid(reason), Some(cause)) = (&backend.target, cause) {
            let message = format!("{reason}: its share of requests gets an error");
            report.warn(Fault::new(cause, &backend.field, message));
        }
        backends.push(backend);
    }
    backends
}

/// The backend, and what to report when it is an invalid one.
fn parse_backend(
    written: &spec::BackendRef,
    own: &Label,
    field: String,
) -> Result<(BackendRef, Option<Cause>), Fault> {
    let weight = written.weight.unwrap_or(1);
    if !(0..=MOST_WEIGHT).contains(&weight) {
        let message = format!("{weight} is no weight (0 to {MOST_WEIGHT})");
        return Err(Fault::invalid(format!("{field}.weight"), message));
    }
    let (target, cause) = parse_reference(written, own, &field)?;
    let weight = u32::try_from(weight).unwrap_or_default();
    Ok((BackendRef { weight, field, target }, cause.filter(|_| weight > 0)))
}

fn parse_reference(
    written: &spec::BackendRef,
    own: &Label,
    field: &str,
) -> Result<(Reference, Option<Cause>), Fault> {
    let invalid = |reason: String, cause| Ok((Reference::Invalid(reason), Some(cause)));
    let group = written.group.as_deref().unwrap_or_default();
    let kind = written.kind.as_deref().unwrap_or("Service");
    if !matches!(group, "" | "core") || kind != "Service" {
        return invalid(format!("InvalidKind: {kind} is no Service"), Cause::Unresolved);
    }
    let Some(number) = written.port else {
        return Err(Fault::invalid(format!("{field}.port"), "missing: a Service needs its port"));
    };
    let number = port(number, || format!("{field}.port"))?;
    // An API server takes any name; of some there can be no Service.
    let no_service =
        |fault: Fault| invalid(format!("BackendNotFound: {}", fault.message), Cause::Unresolved);
    let name = match label(&written.name, || format!("{field}.name")) {
        Ok(name) => name,
        Err(fault) => return no_service(fault),
    };
    let namespace = match written.namespace.as_deref().filter(|namespace| !namespace.is_empty()) {
        None => own.clone(),
        Some(namespace) => match label(namespace, || format!("{field}.namespace")) {
            Ok(namespace) => namespace,
            Err(fault) => return no_service(fault),
        },
    };
    if !written.filters.is_empty() {
        let reason = "UnsupportedValue: filters of a backendRef are not served".into();
        return invalid(reason, Cause::Unsupported);
    }
    Ok((Reference::Service { namespace, name, port: number }, None))
}

fn parse_timeouts(written: Option<&spec::Timeouts>, at: &str) -> Result<Timeouts, Fault> {
    let Some(written) = written else { return Ok(Timeouts::default()) };
    let field = format!("{at}.timeouts.request");
    let request = duration(written.request.as_deref(), &field)?;
    let field = format!("{at}.timeouts.backendRequest");
    let backend_request = duration(written.backend_request.as_deref(), &field)?;
    if let (Some(request), Some(each)) = (request, backend_request)
        && each > request
    {
        return Err(Fault::invalid(field, "must not be longer than timeouts.request"));
    }
    Ok(Timeouts { request, backend_request })
}

/// A duration; zero is none (HTTPRouteTimeouts: `0s` disables).
fn duration(written: Option<&str>, field: &str) -> Result<Option<Duration>, Fault> {
    let Some(text) = written else { return Ok(None) };
    let duration =
        model::duration::parse(text).map_err(|error| Fault::invalid(field, format!("{error}")))?;
    Ok(Some(duration).filter(|duration| !duration.is_zero()))
}

fn parse_retry(written: &spec::Retry, at: &str) -> Result<Retry, Fault> {
    let mut codes = Vec::new();
    for (index, code) in written.codes.iter().enumerate() {
        codes.push(status(*code, || format!("{at}.retry.codes[{index}]"))?);
    }
    let attempts = match written.attempts {
        None => DEFAULT_ATTEMPTS,
        Some(attempts) => u32::try_from(attempts).map_err(|_| {
            let message = format!("{attempts} is no number of attempts");
            Fault::invalid(format!("{at}.retry.attempts"), message)
        })?,
    };
    let backoff = duration(written.backoff.as_deref(), &format!("{at}.retry.backoff"))?;
    Ok(Retry { codes, attempts, backoff })
}

/// A response code that may be tried again: 400 to 599 (HTTPRouteRetryStatusCode).
fn status(code: i64, field: impl FnOnce() -> String) -> Result<StatusCode, Fault> {
    let code16 = u16::try_from(code).ok().filter(|code| (400..=599).contains(code));
    code16
        .and_then(|code| StatusCode::from_u16(code).ok())
        .ok_or_else(|| Fault::invalid(field(), format!("{code} is not a status of 400 to 599")))
}
