//! An HTTPRoute or a GRPCRoute, decoded rule by rule: what this version cannot do costs the rule it
//! stands in, never the whole route.

mod matches;
mod methods;
mod parents;
mod rule;
mod spec;

use model::name::Label;
use model::route::{Match, Retry, Timeouts};
use serde::de::DeserializeOwned;
use serde_json::Value;

use crate::object::age::Age;
use crate::object::{Outcome, meta, strict};
use crate::problem::{Cause, Fault};
use matches::ParseMatch;
pub use parents::Parent;
pub(crate) use parents::is_service;
use spec::Document;

/// The most rules of a route, and matches of all its rules (CRD, `maxItems` and CEL).
const MOST_RULES: usize = 16;
const MOST_MATCHES: usize = 128;

/// A route as its object says it; references are not resolved yet.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Route {
    /// Its kind.
    pub kind: Kind,
    /// Its namespace.
    pub namespace: Label,
    /// Its name.
    pub name: String,
    /// Its place among routes: older first; one without a written creationTimestamp comes after
    /// all that have one. Nothing but the object counts, so a restart changes no order.
    pub age: Age,
    /// The Services that it is attached to.
    pub parents: Vec<Parent>,
    /// Its rules, without those that cannot be served.
    pub rules: Vec<Rule>,
    /// Whether it has rules, and none of them can be served: then traffic flows as without it.
    pub left_out: bool,
}

/// The kinds of routes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// An HTTPRoute.
    Http,
    /// A GRPCRoute.
    Grpc,
}

/// One rule, with its references as they are written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rule {
    /// Its name.
    pub name: Option<String>,
    /// The path of its field, for what is said of it.
    pub field: String,
    /// Its matches, never empty.
    pub matches: Vec<Match>,
    /// What it does.
    pub action: Action,
    /// Its timeouts.
    pub timeouts: Timeouts,
    /// Its retries.
    pub retry: Option<Retry>,
}

/// What a rule does.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Action {
    /// Forwards to one of the backends.
    Forward(Vec<BackendRef>),
    /// Asks for something that this version does not do.
    Unsupported(String),
}

/// One weighted reference of a rule.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BackendRef {
    /// Its weight.
    pub weight: u32,
    /// The path of its field, for problems found when it is resolved.
    pub field: String,
    /// What it refers to.
    pub target: Reference,
}

/// What a backend reference refers to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Reference {
    /// A Service and its port.
    Service {
        /// The namespace: the route's where the reference has none.
        namespace: Label,
        /// The name.
        name: Label,
        /// The port.
        port: u16,
    },
    /// Something that can be no backend, and why.
    Invalid(String),
}

/// Parses an HTTPRoute that the fields `unread` have been taken out of.
pub(crate) fn parse_http(value: &Value, unread: &[String]) -> Outcome<Route> {
    parse(value, unread, Kind::Http, matches::parse_http)
}

/// The same of a GRPCRoute.
pub(crate) fn parse_grpc(value: &Value, unread: &[String]) -> Outcome<Route> {
    parse(value, unread, Kind::Grpc, methods::parse_grpc)
}

fn parse<M: DeserializeOwned>(
    value: &Value,
    unread: &[String],
    kind: Kind,
    parse_match: ParseMatch<M>,
) -> Outcome<Route> {
    let document: Document<M> = strict::read(value, "")?;
    let namespace = meta::namespace(document.metadata.namespace.as_deref())?;
    let mut report = Report { unread: unread.to_vec(), ..Report::default() };
    let parents = parents::parse(&document.spec.parent_refs, &namespace, &mut report);
    if !document.spec.hostnames.is_empty() {
        let message = "ignored: a route of a Service is found by the Service's address";
        report.warn(Fault::new(Cause::Ignored, "spec.hostnames", message));
    }
    // The CRD's default: one rule that matches everything, and forwards to nothing.
    let written = document.spec.rules.unwrap_or_else(|| vec![spec::Rule::default()]);
    check_rules(&written, kind, &mut report);
    let parse = |(index, rule)| {
        let at = format!("spec.rules[{index}]");
        rule::parse(rule, parse_match, &namespace, &at, &mut report)
    };
    let rules: Vec<Rule> = written.iter().enumerate().filter_map(parse).collect();
    let route = Route {
        kind,
        namespace,
        name: document.metadata.name.unwrap_or_default(),
        age: Age::of(document.metadata.creation_timestamp),
        parents,
        left_out: rules.is_empty() && !written.is_empty(),
        rules,
    };
    report.outcome(route)
}

/// What is found on the way through a route: faults that refuse it, and warnings.
#[derive(Debug, Default)]
struct Report {
    /// The paths of fields that have been taken out.
    unread: Vec<String>,
    faults: Vec<Fault>,
    warnings: Vec<Fault>,
}

impl Report {
    fn refuse(&mut self, fault: Fault) {
        self.faults.push(fault);
    }

    fn warn(&mut self, fault: Fault) {
        self.warnings.push(fault);
    }

    /// Whether a part of what is at this path has been taken out.
    fn lacks_part_of(&self, at: &str) -> bool {
        let within = |field: &String| field.strip_prefix(at).is_some_and(|f| f.starts_with('.'));
        self.unread.iter().any(within)
    }

    /// The value of a result; its fault refuses the route.
    fn accept<T>(&mut self, result: Result<T, Fault>) -> Option<T> {
        result.map_err(|fault| self.refuse(fault)).ok()
    }

    fn outcome<T>(self, value: T) -> Outcome<T> {
        if self.faults.is_empty() { Ok((value, self.warnings)) } else { Err(self.faults) }
    }
}

/// The rules of the CRD that concern all rules together.
fn check_rules<M>(written: &[spec::Rule<M>], kind: Kind, report: &mut Report) {
    if written.len() > MOST_RULES {
        let message = format!("{} rules; at most {MOST_RULES} are allowed", written.len());
        report.refuse(Fault::invalid("spec.rules", message));
    }
    if written.iter().map(|rule| rule.matches.len()).sum::<usize>() > MOST_MATCHES {
        let message = format!("more than {MOST_MATCHES} matches in all rules together");
        report.refuse(Fault::invalid("spec.rules", message));
    }
    for (index, rule) in written.iter().enumerate() {
        if rule.name.is_some() && written[..index].iter().any(|before| before.name == rule.name) {
            let field = format!("spec.rules[{index}].name");
            report.refuse(Fault::invalid(field, "another rule has the same name"));
        }
        if kind == Kind::Grpc {
            refuse_http_only(rule, index, report);
        }
    }
}

/// A GRPCRoute has neither timeouts nor retries in any version of the standard: the time is the
/// client's, in `grpc-timeout`.
fn refuse_http_only<M>(rule: &spec::Rule<M>, index: usize, report: &mut Report) {
    let written = [("timeouts", rule.timeouts.is_some()), ("retry", rule.retry.is_some())];
    for (field, _) in written.into_iter().filter(|(_, is_written)| *is_written) {
        let message = "unknown field: only an HTTPRoute has it";
        let field = format!("spec.rules[{index}].{field}");
        report.refuse(Fault::new(Cause::UnknownField, field, message));
    }
}

#[cfg(test)]
mod grpc_tests;
#[cfg(test)]
mod tests;
