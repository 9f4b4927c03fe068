//! An HTTPRoute, decoded rule by rule: what this version cannot do costs the rule it stands in,
//! never the whole route.

mod matches;
mod parents;
mod rule;
mod spec;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use model::name::Label;
use model::route::{Match, Retry, Timeouts};
use serde_json::Value;

use crate::object::{Outcome, meta, strict};
use crate::problem::{Cause, Fault};
pub use parents::Parent;
use spec::Document;

/// The most rules of a route, and matches of all its rules (CRD, `maxItems` and CEL).
const MOST_RULES: usize = 16;
const MOST_MATCHES: usize = 128;

/// An HTTPRoute as its object says it; references are not resolved yet.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HttpRoute {
    /// Its namespace.
    pub namespace: Label,
    /// Its name.
    pub name: String,
    /// Its place among routes: older first; one without a written creationTimestamp comes after
    /// all that have one. Nothing but the object counts, so a restart changes no order.
    pub age: Age,
    /// The Services that it is attached to.
    pub parents: Vec<Parent>,
    /// Its rules.
    pub rules: Vec<Rule>,
}

/// When an object was created, as it says itself. Sorts the oldest first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Age {
    /// `metadata.creationTimestamp`, in seconds since the epoch.
    Since(i64),
    /// It says nothing.
    Unknown,
}

/// One rule, with its references as they are written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rule {
    /// Its name.
    pub name: Option<String>,
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

/// Parses an HTTPRoute.
pub(crate) fn parse(value: &Value) -> Outcome<HttpRoute> {
    let document: Document = strict::read(value, "")?;
    let namespace = meta::namespace(document.metadata.namespace.as_deref())?;
    let mut report = Report::default();
    let parents = parents::parse(&document.spec.parent_refs, &namespace, &mut report);
    if !document.spec.hostnames.is_empty() {
        let message = "ignored: a route of a Service is found by the Service's address";
        report.warn(Fault::new(Cause::Ignored, "spec.hostnames", message));
    }
    let rules = parse_rules(document.spec.rules.as_deref(), &namespace, &mut report);
    let route = HttpRoute {
        namespace,
        name: document.metadata.name.unwrap_or_default(),
        age: age(document.metadata.creation_timestamp),
        parents,
        rules,
    };
    report.outcome(route)
}

/// What is found on the way through a route: faults that refuse it, and warnings.
#[derive(Debug, Default)]
struct Report {
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

    /// The value of a result; its fault refuses the route.
    fn accept<T>(&mut self, result: Result<T, Fault>) -> Option<T> {
        result.map_err(|fault| self.refuse(fault)).ok()
    }

    fn outcome<T>(self, value: T) -> Outcome<T> {
        if self.faults.is_empty() { Ok((value, self.warnings)) } else { Err(self.faults) }
    }
}

fn age(written: Option<Time>) -> Age {
    written.map_or(Age::Unknown, |time| Age::Since(time.0.as_second()))
}

fn parse_rules(
    written: Option<&[spec::Rule]>,
    namespace: &Label,
    report: &mut Report,
) -> Vec<Rule> {
    // The CRD's default: one rule that matches everything, and forwards to nothing.
    let default = [spec::Rule::default()];
    let written = written.unwrap_or(&default);
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
    }
    let parse =
        |(index, rule)| rule::parse(rule, namespace, &format!("spec.rules[{index}]"), report);
    written.iter().enumerate().filter_map(parse).collect()
}

#[cfg(test)]
mod tests;
