//! What is said of routes and policies in their status: for each, whether it is in force as it
//! asks (Gateway API, RouteStatus; GEP-1294: "MUST set a status field").

use std::collections::BTreeMap;

use serde_json::Value;

use crate::object::route::{Action, Parent, Route, Rule};
use crate::object::{Key, Known};
use crate::problem::{Cause, Instance, Problem, Severity};
use crate::world::World;

/// Who we are, in the status of routes (Gateway API, `controllerName`).
pub const CONTROLLER: &str = "pillion.dev/control-plane";

/// The longest message of a condition (Kubernetes, Condition.message).
const LONGEST_MESSAGE: usize = 32_768;

/// Reasons of ResolvedRefs that a problem's text begins with (Gateway API, RouteConditionReason).
const UNRESOLVED: [&str; 4] =
    ["InvalidKind", "BackendNotFound", "RefNotPermitted", "UnsupportedProtocol"];

/// What is said of one object.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Statement {
    /// The object.
    pub key: Key,
    /// Which instance and generation of it.
    pub instance: Instance,
    /// What is said.
    pub said: Said,
}

/// What is said of an object.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Said {
    /// Of a route, for each parent that is a Service: the reference as written, and conditions.
    OfParents(Vec<(Value, Vec<Condition>)>),
    /// Of a policy.
    OfAll(Vec<Condition>),
    /// Of a route that was never good, so that its parents are not known: the same for each parent
    /// that is a Service.
    OfEach(Vec<Condition>),
}

/// One condition of a status.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Condition {
    /// Its type.
    pub kind: &'static str,
    /// Whether it holds.
    pub holds: bool,
    /// Why, as one word.
    pub reason: &'static str,
    /// Why, for people; empty when there is nothing to say.
    pub message: String,
}

/// What there is to say of the objects of an API server; of those of a directory nothing is.
pub fn all(world: &World, problems: &[Problem]) -> Vec<Statement> {
    let mut by_object: BTreeMap<&Key, Vec<&Problem>> = BTreeMap::new();
    for problem in problems {
        if let Some(key) = &problem.object {
            by_object.entry(key).or_default().push(problem);
        }
    }
    let of = |key: &Key| by_object.get(key).map(Vec::as_slice).unwrap_or_default();
    let routes = world.routes().map(|(key, origin, route)| {
        let parent = |parent: &Parent| (parent.written.clone(), of_parent(route, parent, of(key)));
        let said = Said::OfParents(route.parents.iter().map(parent).collect());
        (key, origin, said)
    });
    let policies = world
        .policies()
        .map(|(key, origin, _)| (key, origin, Said::OfAll(vec![accepted(of(key))])));
    let in_force = routes.chain(policies).filter_map(|(key, origin, said)| {
        let instance = newest(origin.instance.as_ref(), of(key))?;
        Some(Statement { key: key.clone(), instance, said })
    });
    let refused = by_object.iter().filter(|(key, _)| !world.has(key)).filter_map(|(key, of)| {
        Some(Statement {
            key: (*key).clone(),
            instance: newest(None, of)?,
            said: of_refused(key, of)?,
        })
    });
    in_force.chain(refused).collect()
}

/// What there is to say of an object of which there is no good state.
fn of_refused(key: &Key, problems: &[&Problem]) -> Option<Said> {
    match kind_of(key)? {
        Known::HttpRoute | Known::GrpcRoute => Some(Said::OfEach(vec![accepted(problems)])),
        Known::InboundPolicy => Some(Said::OfAll(vec![accepted(problems)])),
        _ => None,
    }
}

/// An object that is refused now has its last good state in force; what is said is of the refused.
fn newest(in_force: Option<&Instance>, problems: &[&Problem]) -> Option<Instance> {
    let refused = problems.iter().filter_map(|problem| problem.origin.as_ref()?.instance.as_ref());
    refused.chain(in_force).max_by_key(|one| one.generation).cloned()
}

/// The conditions of a route for one of its parents. What is wrong with another parent is no
/// matter of this one, unless the object is refused for it.
fn of_parent(route: &Route, parent: &Parent, problems: &[&Problem]) -> Vec<Condition> {
    let ours = |problem: &&Problem| {
        !problem.field.starts_with("spec.parentRefs[")
            || problem.field.starts_with(&parent.field)
            || problem.cause.severity() == Severity::Error
    };
    let problems: Vec<&Problem> = problems.iter().copied().filter(ours).collect();
    let (mut accepted, resolved) = (accepted(&problems), resolved(&problems));
    let Some(message) = say(&problems, of_rules).filter(|_| accepted.holds) else {
        return vec![accepted, resolved];
    };
    let served = |rule: &&Rule| matches!(rule.action, Action::Forward(_));
    let served: Vec<&Rule> = route.rules.iter().filter(served).collect();
    let reason = "UnsupportedValue";
    if served.is_empty() {
        accepted = Condition { holds: false, reason, message, ..accepted };
        return vec![accepted, resolved];
    }
    let message = in_part(&problems, &served);
    let partial = Condition { kind: "PartiallyInvalid", holds: true, reason, message };
    vec![accepted, resolved, partial]
}

fn accepted(problems: &[&Problem]) -> Condition {
    let refused = |problem: &&Problem| problem.cause.severity() == Severity::Error;
    let conflicted = |problem: &&Problem| problem.cause == Cause::Conflicted;
    let no_parent = |problem: &&Problem| {
        problem.cause == Cause::Unresolved && problem.field.starts_with("spec.parentRefs[")
    };
    let lost_ports = |problem: &&Problem| {
        problem.cause == Cause::Ignored && problem.field.starts_with("spec.parentRefs[")
    };
    let found = |wanted: &dyn Fn(&&Problem) -> bool| say(problems, wanted);
    let (reason, message) = None
        .or_else(|| Some(("UnsupportedValue", found(&refused)?)))
        .or_else(|| Some(("Conflicted", found(&conflicted)?)))
        .or_else(|| Some(("NoMatchingParent", found(&no_parent)?)))
        .unwrap_or_else(|| ("Accepted", found(&lost_ports).unwrap_or_default()));
    Condition { kind: "Accepted", holds: reason == "Accepted", reason, message }
}

fn resolved(problems: &[&Problem]) -> Condition {
    let reason_of = |problem: &&Problem| {
        let named = |reason: &&&str| problem.message.starts_with(**reason);
        UNRESOLVED.iter().find(named).copied()
    };
    match problems.iter().find_map(reason_of) {
        Some(reason) => {
            let message = say(problems, |problem| reason_of(problem).is_some());
            let message = message.unwrap_or_default();
            Condition { kind: "ResolvedRefs", holds: false, reason, message }
        }
        None => Condition {
            kind: "ResolvedRefs",
            holds: true,
            reason: "ResolvedRefs",
            message: String::new(),
        },
    }
}

/// What of a route's rules is not in force, where these are served. How to begin of those that are
/// not is the standard's (Gateway API, RouteConditionPartiallyInvalid).
fn in_part(problems: &[&Problem], served: &[&Rule]) -> String {
    let is_served = |p: &&Problem| served.iter().any(|rule| p.field.starts_with(&rule.field));
    let dropped = say(problems, |problem| of_rules(problem) && !is_served(problem));
    let dropped = dropped.map(|message| format!("Dropped Rule: {message}"));
    let parts = say(problems, |problem| of_rules(problem) && is_served(problem));
    fit(Vec::from_iter(dropped.into_iter().chain(parts)).join("; "))
}

fn of_rules(problem: &&Problem) -> bool {
    problem.cause == Cause::Unsupported && problem.field.starts_with("spec.rules")
}

/// The problems of this sort as one message; `None` when there are none.
fn say(problems: &[&Problem], wanted: impl Fn(&&Problem) -> bool) -> Option<String> {
    let texts = problems.iter().filter(|problem| wanted(problem));
    let texts: Vec<String> =
        texts.map(|problem| format!("{}: {}", problem.field, problem.message)).collect();
    (!texts.is_empty()).then(|| fit(texts.join("; ")))
}

/// As much of a message as a condition has room for.
fn fit(mut message: String) -> String {
    if let Some((end, _)) = message.char_indices().nth(LONGEST_MESSAGE) {
        message.truncate(end);
    }
    message
}

/// The kind whose API an object's status is written through.
pub(crate) fn kind_of(key: &Key) -> Option<Known> {
    Known::of(key.kind)
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::object::tests::yaml;
    use crate::object::{self, Parsed};
    use crate::problem::{Fault, Origin};
    use crate::source::Event;
    use crate::translate::{Settings, translate};

    const API: &str = "{apiVersion: v1, kind: Service, metadata: {name: api, namespace: shop}, \
                       spec: {ports: [{name: a, port: 80}, \
                       {name: tls, port: 443, appProtocol: https}]}}";

    /// The conditions of a route's only statement, as `type=status/reason`, parent by parent.
    fn conditions(spec: &str) -> Vec<Vec<String>> {
        conditions_after(&[spec])
    }

    /// The same when the route was edited to each of them in turn, and only the last is not good.
    fn conditions_after(specs: &[&str]) -> Vec<Vec<String>> {
        let show = |c: &Condition| format!("{}={}/{}", c.kind, c.holds, c.reason);
        said_after(specs).iter().map(|list| list.iter().map(show).collect()).collect()
    }

    fn said_after(specs: &[&str]) -> Vec<Vec<Condition>> {
        let (mut world, mut problems) = (World::default(), Vec::new());
        let routes = specs.iter().map(|spec| {
            format!(
                "{{apiVersion: gateway.networking.k8s.io/v1, kind: HTTPRoute, \
                 metadata: {{name: r, namespace: shop}}, spec: {spec}}}"
            )
        });
        for (generation, text) in (0..).zip(std::iter::once(API.to_owned()).chain(routes)) {
            let instance = Some(Instance { uid: "u".into(), generation });
            let origin = Origin { instance, ..Origin::of_file("kubernetes", 0) };
            let (key, faults) = match object::parse(&yaml(&text), &origin) {
                Parsed::Good(entry, warnings) => {
                    let key = entry.key.clone();
                    world.apply(Event::Upsert(Arc::from(entry)));
                    (Some(key), warnings)
                }
                Parsed::Refused(meant, faults) => (meant.key().cloned(), faults),
                Parsed::Ignored => panic!("{text}"),
            };
            problems.extend(faults.into_iter().map(|fault| fault.of(key.clone(), origin.clone())));
        }
        let settings = Settings {
            trust_domain: "cluster.local".parse().unwrap(),
            service_range: "10.96.0.0/12".parse().unwrap(),
            wait_for_pods: false,
        };
        problems.extend(translate(&world, &[], &settings).problems);
        let statements = all(&world, &problems);
        assert_eq!(statements[0].instance.generation, i64::try_from(specs.len()).unwrap());
        let Said::OfParents(parents) = &statements[0].said else { panic!("{statements:?}") };
        parents.iter().map(|(_, list)| list.clone()).collect()
    }

    #[test]
    fn each_parent_has_its_conditions() {
        let parent = "{group: '', kind: Service, name: api";
        let good = ["Accepted=true/Accepted", "ResolvedRefs=true/ResolvedRefs"];
        let rules = "rules: [{backendRefs: [{name: api, port: 80}]}]";
        let one = conditions(&format!("{{parentRefs: [{parent}}}], {rules}}}"));
        assert_eq!(one, [good]);
        let two = format!(
            "{{parentRefs: [{parent}, sectionName: a}}, {parent}, sectionName: no}}], {rules}}}"
        );
        let two = conditions(&two);
        assert_eq!(two[0], good);
        assert_eq!(two[1][0], "Accepted=false/NoMatchingParent");
        let nowhere = conditions("{parentRefs: [{group: '', kind: Service, name: gone}]}");
        assert_eq!(nowhere, [["Accepted=false/NoMatchingParent", good[1]]]);
        let gone = "rules: [{backendRefs: [{name: gone, port: 80}]}]";
        let gone = conditions(&format!("{{parentRefs: [{parent}}}], {gone}}}"));
        assert_eq!(gone, [["Accepted=true/Accepted", "ResolvedRefs=false/BackendNotFound"]]);
        let kind = "rules: [{backendRefs: [{group: x, kind: Y, name: gone, port: 80}]}]";
        let kind = conditions(&format!("{{parentRefs: [{parent}}}], {kind}}}"));
        assert_eq!(kind[0][1], "ResolvedRefs=false/InvalidKind");
        let tls = "rules: [{backendRefs: [{name: api, port: 443}]}]";
        let tls = conditions(&format!("{{parentRefs: [{parent}}}], {tls}}}"));
        assert_eq!(tls, [["Accepted=true/Accepted", "ResolvedRefs=false/UnsupportedProtocol"]]);
        let filter = "{filters: [{type: URLRewrite}], backendRefs: [{name: api, port: 80}]}";
        let only = conditions(&format!("{{parentRefs: [{parent}}}], rules: [{filter}]}}"));
        assert_eq!(only, [["Accepted=false/UnsupportedValue", good[1]]]);
        let both = format!("rules: [{filter}, {{backendRefs: [{{name: api, port: 80}}]}}]");
        let both = conditions(&format!("{{parentRefs: [{parent}}}], {both}}}"));
        assert_eq!(both, [[good[0], good[1], "PartiallyInvalid=true/UnsupportedValue"]]);
        let both = format!(
            "{{parentRefs: [{parent}, port: 80}}, {parent}, port: 81}}], rules: [{filter}, {{}}]}}"
        );
        assert_eq!(conditions(&both)[1], ["Accepted=false/NoMatchingParent", good[1]]);
    }

    #[test]
    fn only_of_rules_that_are_dropped_it_is_said() {
        let regex = "{headers: [{type: RegularExpression, name: a, value: b}]}";
        let cases = [
            (format!("{{matches: [{regex}]}}, {{}}"), "Dropped Rule: spec.rules[0]", 1),
            ("{}, {filters: [{type: URLRewrite}]}".into(), "Dropped Rule: spec.rules[1]", 1),
            (format!("{{matches: [{regex}, {{}}]}}"), "spec.rules[0].matches[0]", 1),
            ("{sessionPersistence: {}}".into(), "spec.rules[0].sessionPersistence", 1),
            (
                format!("{{sessionPersistence: {{}}}}, {{matches: [{regex}]}}"),
                "Dropped Rule: spec.rules[1]",
                2,
            ),
        ];
        for (rules, begins, parts) in cases {
            let parents = "parentRefs: [{group: '', kind: Service, name: api}]";
            let said = said_after(&[&format!("{{{parents}, rules: [{rules}]}}")]);
            let partial = &said[0][2];
            assert_eq!(partial.kind, "PartiallyInvalid", "{rules}");
            assert!(partial.message.starts_with(begins), "{rules}: {partial:?}");
            assert_eq!(partial.message.split("; ").count(), parts, "{rules}: {partial:?}");
        }
    }

    #[test]
    fn an_edit_that_is_refused_for_one_parent_is_not_in_force_for_any() {
        let parent = "{group: '', kind: Service, name: api";
        let refs =
            |port| format!("{{parentRefs: [{parent}, port: 80}}, {parent}, port: {port}}}]}}");
        let (good, bad) = (refs(81), refs(0));
        let refused = ["Accepted=false/UnsupportedValue", "ResolvedRefs=true/ResolvedRefs"];
        assert_eq!(conditions_after(&[&good, &bad]), [refused, refused]);
    }

    #[test]
    fn what_a_parent_lost_of_its_ports_is_said_where_it_is_accepted() {
        let fault = Fault::new(Cause::Ignored, "spec.parentRefs[0]", "Conflicted: port 80");
        let accepted = accepted(&[&fault.of(None, Origin::of_file("kubernetes", 0))]);
        assert!(accepted.holds, "{accepted:?}");
        assert_eq!(accepted.message, "spec.parentRefs[0]: Conflicted: port 80");
    }

    #[test]
    fn of_objects_that_no_api_server_has_nothing_is_said() {
        let world = crate::world::tests::world(&[API]);
        assert_eq!(all(&world, &[]), []);
    }
}
