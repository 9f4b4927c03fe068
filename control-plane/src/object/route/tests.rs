use std::time::Duration;

use http::{HeaderName, Method, StatusCode};
use model::route::{HeaderMatch, PathMatch};

use super::*;
use crate::object::Object;
use crate::object::tests::{good, refused};

const PARENT: &str = "parentRefs: [{group: '', kind: Service, name: api}]";

fn text(spec: &str) -> String {
    format!(
        "{{apiVersion: gateway.networking.k8s.io/v1, kind: HTTPRoute, \
         metadata: {{name: api, namespace: shop}}, spec: {{{spec}}}}}"
    )
}

fn route(spec: &str) -> (Route, Vec<String>) {
    match good(&text(spec)) {
        (Object::Route(route), warnings) => (route, warnings),
        (other, _) => panic!("{other:?} is no HTTPRoute"),
    }
}

/// The route of one rule, which must be good without a warning.
fn rule(rule: &str) -> Rule {
    let (mut route, warnings) = route(&format!("{PARENT}, rules: [{{{rule}}}]"));
    assert_eq!(warnings, Vec::<String>::new(), "{rule}");
    route.rules.remove(0)
}

fn warned_rule(rule: &str) -> (Option<Rule>, Vec<String>) {
    let (route, warnings) = route(&format!("{PARENT}, rules: [{{{rule}}}]"));
    (route.rules.into_iter().next(), warnings)
}

#[test]
fn the_defaults_of_the_crd_are_applied() {
    let (route, _) = route(PARENT);
    assert_eq!(route.rules.len(), 1);
    assert_eq!(route.rules[0].matches, [Match::any()]);
    assert_eq!(route.rules[0].action, Action::Forward(Vec::new()));
    assert_eq!(route.age, Age::Unknown);
    let rule = rule("matches: [{}, {path: {value: /a}}], backendRefs: [{name: b, port: 80}]");
    assert_eq!(rule.matches[0], Match::any());
    assert_eq!(rule.matches[1].path, PathMatch::Prefix("/a".into()));
    let Action::Forward(backends) = rule.action else { panic!("it forwards") };
    assert_eq!(backends[0].weight, 1);
    let (namespace, name) = ("shop".parse().unwrap(), "b".parse().unwrap());
    assert_eq!(backends[0].target, Reference::Service { namespace, name, port: 80 });
}

#[test]
fn paths_methods_headers_and_queries_are_matched() {
    let rule = rule(
        "matches: [{path: {type: Exact, value: /a/}, method: GET, \
         headers: [{name: X-Version, value: '2'}, {name: x-version, value: '3'}], \
         queryParams: [{type: Exact, name: q, value: v}, {name: Q, value: w}]}, \
         {path: {type: PathPrefix, value: /a/b/}}]",
    );
    let first = &rule.matches[0];
    assert_eq!(first.path, PathMatch::Exact("/a/".into()));
    assert_eq!(first.method, Some(Method::GET));
    let name = HeaderName::from_static("x-version");
    assert_eq!(first.headers, [HeaderMatch { name, value: "2".into() }]);
    assert_eq!(first.query.len(), 2);
    assert_eq!(rule.matches[1].path, PathMatch::Prefix("/a/b".into()));
    let path = "/-A9._~!$&'()*+,;=:@/%c3%A4";
    let rule = self::rule(&format!("matches: [{{path: {{type: Exact, value: \"{path}\"}}}}]"));
    assert_eq!(rule.matches[0].path, PathMatch::Exact(path.into()), "all that a path may have");
}

#[test]
fn timeouts_and_retries_are_read() {
    let rule = rule(
        "timeouts: {request: 3s, backendRequest: 500ms}, \
         retry: {codes: [502, 503], attempts: 2, backoff: 25ms}",
    );
    assert_eq!(rule.timeouts.request, Some(Duration::from_secs(3)));
    assert_eq!(rule.timeouts.backend_request, Some(Duration::from_millis(500)));
    let retry = rule.retry.unwrap();
    assert_eq!(retry.codes, [StatusCode::BAD_GATEWAY, StatusCode::SERVICE_UNAVAILABLE]);
    assert_eq!((retry.attempts, retry.backoff), (2, Some(Duration::from_millis(25))));
    let rule = self::rule("timeouts: {request: 0s, backendRequest: 1s}, retry: {}");
    assert_eq!(rule.timeouts.request, None);
    assert_eq!(rule.retry.unwrap().attempts, 1);
}

#[test]
fn a_written_creation_time_is_the_age() {
    let text = text(PARENT)
        .replace("namespace: shop", "namespace: shop, creationTimestamp: '2026-01-02T03:04:05Z'");
    let (Object::Route(route), _) = good(&text) else { panic!("an HTTPRoute") };
    assert_eq!(route.age, Age::Since(1_767_323_045));
    assert!(route.age < Age::Unknown);
}

#[test]
fn parents_are_services_with_their_group_written() {
    let cases = [
        ("group: '', kind: Service, name: api", Some("shop/api")),
        ("group: core, kind: Service, name: api, namespace: other", Some("other/api")),
        ("kind: Service, name: api", None),
        ("name: gateway", None),
    ];
    for (parent, expected) in cases {
        let (route, warnings) = route(&format!("parentRefs: [{{{parent}}}]"));
        let found = route.parents.first().map(|parent| parent.service.to_string());
        assert_eq!(found.as_deref(), expected, "{parent}");
        assert_eq!(warnings.is_empty(), expected.is_some(), "{warnings:?}");
    }
    let (route, _) = route(
        "parentRefs: [{group: '', kind: Service, name: api, port: 80}, \
         {group: '', kind: Service, name: b, sectionName: grpc}]",
    );
    assert_eq!((route.parents[0].port, &route.parents[0].section), (Some(80), &None));
    assert_eq!(route.parents[1].section.as_deref(), Some("grpc"));
}

#[test]
fn a_parent_stands_there_twice_if_it_is_written_alike() {
    let one = "group: '', kind: Service, name: api";
    let cases = [
        (", port: 80", ", port: 80", true),
        (", sectionName: a", ", sectionName: a", true),
        (", namespace: ''", ", sectionName: ''", true),
        (", namespace: shop", ", namespace: shop", true),
        (", namespace: shop", "", false),
        (", port: 80, namespace: shop", ", port: 80", false),
        (", port: 80", ", port: 81", false),
        ("", ", port: 80", true),
        ("", ", sectionName: a", true),
        (", port: 80", ", sectionName: a", true),
        (", sectionName: a, port: 80", ", sectionName: a", true),
        (", sectionName: a, port: 80", ", sectionName: a, port: 81", false),
        (", sectionName: a, port: 80", ", sectionName: b", false),
    ];
    for (first, second, twice) in cases {
        let text = text(&format!("parentRefs: [{{{one}{first}}}, {{{one}{second}}}]"));
        if twice {
            let faults = refused(&text);
            assert_eq!(faults.len(), 1, "{faults:?}");
            assert!(faults[0].starts_with("spec.parentRefs[1]: the same parent"), "{faults:?}");
        } else {
            let (Object::Route(route), _) = good(&text) else { panic!("{text}") };
            assert_eq!(route.parents.len(), 2, "{text}");
        }
    }
    let other = format!("parentRefs: [{{{one}}}, {{group: '', kind: Other, name: b}}, ");
    let (route, _) = route(&(other + "{group: '', kind: Service, name: b}]"));
    assert_eq!(route.parents.len(), 2, "another kind is another parent");
}

#[test]
fn what_cannot_be_evaluated_costs_its_match_only() {
    let cases = [
        "path: {type: RegularExpression, value: /a.*}",
        "headers: [{type: RegularExpression, name: a, value: b}]",
        "queryParams: [{type: RegularExpression, name: a, value: b}]",
        "method: QUERY",
    ];
    for one in cases {
        let (rule, warnings) = warned_rule(&format!("matches: [{{{one}}}, {{method: GET}}]"));
        assert_eq!(rule.unwrap().matches.len(), 1, "{one}");
        assert!(warnings[0].contains("left out"), "{warnings:?}");
        let (rule, _) = warned_rule(&format!("matches: [{{{one}}}]"));
        assert_eq!(rule, None, "{one}: a rule without any match says nothing");
    }
}

#[test]
fn a_filter_makes_its_rule_an_error_and_no_other() {
    let (rule, warnings) = warned_rule(
        "filters: [{type: RequestMirror, requestMirror: {}}], backendRefs: [{name: b, port: 80}]",
    );
    assert_eq!(rule.unwrap().action, Action::Unsupported("filter RequestMirror".into()));
    assert!(warnings[0].starts_with("spec.rules[0].filters[0]: the filter RequestMirror"));
    let (rule, warnings) =
        warned_rule("backendRefs: [{name: b, port: 80, filters: [{type: URLRewrite}]}]");
    let Action::Forward(backends) = rule.unwrap().action else { panic!("it forwards") };
    assert!(matches!(&backends[0].target, Reference::Invalid(why) if why.contains("filters")));
    assert_eq!(warnings.len(), 1);
}

#[test]
fn other_kinds_are_invalid_backends_and_hostnames_a_note() {
    let (rule, warnings) = warned_rule("backendRefs: [{group: a.b, kind: Bucket, name: x}]");
    let Action::Forward(backends) = rule.unwrap().action else { panic!("it forwards") };
    assert!(matches!(&backends[0].target, Reference::Invalid(why) if why.contains("InvalidKind")));
    assert!(warnings[0].starts_with("spec.rules[0].backendRefs[0]: InvalidKind"), "{warnings:?}");
    let (rule, warnings) = warned_rule("backendRefs: [{kind: Bucket, name: x, weight: 0}]");
    assert!(rule.is_some() && warnings.is_empty(), "weight 0 may refer to anything");
    for no_name in ["name: web.prod", "name: web, namespace: Prod"] {
        let (rule, warnings) = warned_rule(&format!("backendRefs: [{{{no_name}, port: 80}}]"));
        let Action::Forward(backends) = rule.unwrap().action else { panic!("it forwards") };
        assert!(matches!(&backends[0].target, Reference::Invalid(_)), "{backends:?}");
        let said = "spec.rules[0].backendRefs[0]: BackendNotFound: ";
        assert!(warnings[0].starts_with(said), "{warnings:?}");
    }
    let (_, warnings) = route(&format!("{PARENT}, hostnames: [example.com]"));
    assert!(warnings[0].starts_with("spec.hostnames: ignored"), "{warnings:?}");
}

#[test]
fn bad_values_refuse_the_route_by_their_field() {
    let cases = [
        ("matches: [{path: {value: a}}]", "matches[0].path.value: \"a\" must begin with '/'"),
        ("matches: [{path: {value: /a//b}}]", "matches[0].path.value: \"/a//b\" must not"),
        ("matches: [{path: {value: /a/..}}]", "matches[0].path.value: \"/a/..\" must not end"),
        ("matches: [{path: {value: '/a?b'}}]", "matches[0].path.value: \"/a?b\" has characters"),
        ("matches: [{path: {value: /ä}}]", "matches[0].path.value: \"/ä\" has characters"),
        ("matches: [{path: {value: '/%2'}}]", "matches[0].path.value: \"/%2\" has characters"),
        ("matches: [{path: {value: '/%g0'}}]", "matches[0].path.value: \"/%g0\" has characters"),
        ("matches: [{headers: [{name: 'a b', value: c}]}]", "matches[0].headers[0].name: \"a b\""),
        ("matches: [{headers: [{name: a, value: ''}]}]", "matches[0].headers[0].value: a value"),
        (
            "matches: [{queryParams: [{name: '', value: c}]}]",
            "matches[0].queryParams[0].name: \"\"",
        ),
        ("matches: [{queryParams: [{name: a, value: ''}]}]", "matches[0].queryParams[0].value: a"),
        ("backendRefs: [{name: b}]", "backendRefs[0].port: missing"),
        ("backendRefs: [{name: b, port: 0}]", "backendRefs[0].port: 0 is no port"),
        ("backendRefs: [{name: b, port: 80, weight: -1}]", "backendRefs[0].weight: -1 is no"),
        ("backendRefs: [{name: b, port: 80, weight: 1000001}]", "backendRefs[0].weight: 1000001"),
        ("timeouts: {request: 3}", "timeouts.request: invalid type: integer `3`"),
        ("timeouts: {request: 3d}", "timeouts.request: \"3d\" is not a duration"),
        (
            "timeouts: {request: 1s, backendRequest: 2s}",
            "timeouts.backendRequest: must not be longer",
        ),
        ("retry: {codes: [200]}", "retry.codes[0]: 200 is not a status of 400 to 599"),
        ("retry: {attempts: -1}", "retry.attempts: -1 is no number"),
        ("retrys: {}", "retrys: unknown field; did you mean \"retry\"?"),
        ("matches: [{header: []}]", "matches[0].header: unknown field; did you mean \"headers\"?"),
    ];
    for (rule, expected) in cases {
        let faults = refused(&text(&format!("{PARENT}, rules: [{{{rule}}}]")));
        let expected = format!("spec.rules[0].{expected}");
        assert!(faults[0].starts_with(&expected), "{rule}: {faults:?}, not {expected:?}");
    }
}

#[test]
fn the_limits_of_the_crd_hold() {
    let rules = vec!["{}"; 17].join(", ");
    let faults = refused(&text(&format!("{PARENT}, rules: [{rules}]")));
    assert!(faults[0].starts_with("spec.rules: 17 rules; at most 16"), "{faults:?}");
    let matches = vec!["{}"; 65].join(", ");
    let faults = refused(&text(&format!("{PARENT}, rules: [{{matches: [{matches}]}}]")));
    assert!(faults[0].starts_with("spec.rules[0].matches: 65 matches; at most 64"), "{faults:?}");
    let backends = vec!["{name: b, port: 80}"; 17].join(", ");
    let faults = refused(&text(&format!("{PARENT}, rules: [{{backendRefs: [{backends}]}}]")));
    assert!(faults[0].starts_with("spec.rules[0].backendRefs: 17 backends; at most 16"));
    let faults = refused(&text(&format!("{PARENT}, rules: [{{name: a}}, {{name: a}}]")));
    assert_eq!(faults, ["spec.rules[1].name: another rule has the same name"]);
}
