use model::route::{PathMatch, RpcMatch};

use super::*;
use crate::object::Object;
use crate::object::tests::{good, refused};

const PARENT: &str = "parentRefs: [{group: '', kind: Service, name: api}]";

fn text(rule: &str) -> String {
    format!(
        "{{apiVersion: gateway.networking.k8s.io/v1, kind: GRPCRoute, \
         metadata: {{name: api, namespace: shop}}, spec: {{{PARENT}, rules: [{{{rule}}}]}}}}"
    )
}

fn rules(rule: &str) -> (Vec<Rule>, Vec<String>) {
    match good(&text(rule)) {
        (Object::Route(route), warnings) => {
            assert_eq!(route.kind, Kind::Grpc);
            (route.rules, warnings)
        }
        (other, _) => panic!("{other:?} is no GRPCRoute"),
    }
}

#[test]
fn a_method_is_matched_as_a_path() {
    let rpc = |service: Option<&str>, method: Option<&str>| {
        let pattern = |text: Option<&str>| text.map(|text| text.parse().unwrap());
        PathMatch::Rpc(RpcMatch { service: pattern(service), method: pattern(method) })
    };
    let cases = [
        ("{}", PathMatch::Prefix(String::new())),
        ("{method: {service: shop.Cart, method: Get}}", PathMatch::Exact("/shop.Cart/Get".into())),
        ("{method: {type: Exact, service: shop.Cart}}", PathMatch::Prefix("/shop.Cart".into())),
        ("{method: {service: .shop.Cart}}", PathMatch::Prefix("/.shop.Cart".into())),
        ("{method: {service: '', method: Get}}", rpc(None, Some("Get"))),
        (
            "{method: {type: RegularExpression, service: 'shop[.].*', method: Get.*}}",
            rpc(Some("shop[.].*"), Some("Get.*")),
        ),
        ("{method: {type: RegularExpression, service: a.*}}", rpc(Some("a.*"), None)),
    ];
    for (one, expected) in cases {
        let (rules, warnings) = rules(&format!("matches: [{one}]"));
        assert_eq!((&rules[0].matches[0].path, warnings.len()), (&expected, 0), "{one}");
        assert_eq!(rules[0].matches[0].method, None, "{one}");
    }
}

#[test]
fn headers_and_weights_are_read_as_those_of_an_httproute() {
    let (rules, warnings) = rules(
        "name: a, matches: [{headers: [{name: X-Version, value: '2'}]}], \
         backendRefs: [{name: one, port: 80, weight: 3}, {name: two, port: 80}]",
    );
    assert_eq!(warnings, Vec::<String>::new());
    assert_eq!(rules[0].matches[0].headers[0].name, "x-version");
    let Action::Forward(backends) = &rules[0].action else { panic!("it forwards") };
    assert_eq!([backends[0].weight, backends[1].weight], [3, 1]);
}

#[test]
fn what_is_not_served_costs_its_own_part_only() {
    let cases = [
        "method: {type: Prefix, service: a}",
        "method: {type: RegularExpression, method: '(a'}",
        "headers: [{type: RegularExpression, name: a, value: b}]",
    ];
    for one in cases {
        let (rules, warnings) = rules(&format!("matches: [{{{one}}}, {{}}]"));
        assert_eq!(rules[0].matches.len(), 1, "{one}");
        assert!(warnings[0].contains("left out"), "{warnings:?}");
    }
    let (rules, warnings) = rules("filters: [{type: RequestHeaderModifier}]");
    assert_eq!(rules[0].action, Action::Unsupported("filter RequestHeaderModifier".into()));
    assert!(warnings[0].starts_with("spec.rules[0].filters[0]: "), "{warnings:?}");
}

#[test]
fn bad_values_refuse_the_route_by_their_field() {
    let cases = [
        ("matches: [{method: {}}]", "matches[0].method: one or both of service and method"),
        ("matches: [{method: {service: a/b}}]", "matches[0].method.service: \"a/b\" has"),
        ("matches: [{method: {service: a..b}}]", "matches[0].method.service: \"a..b\" has"),
        ("matches: [{method: {method: a.b}}]", "matches[0].method.method: \"a.b\" has"),
        (
            "matches: [{method: {servce: a}}]",
            "matches[0].method.servce: unknown field; did you mean \"service\"?",
        ),
        ("matches: [{path: {value: /}}]", "matches[0].path: unknown field"),
        ("timeouts: {request: 1s}", "timeouts: unknown field: only an HTTPRoute has it"),
        ("retry: {attempts: 1}", "retry: unknown field: only an HTTPRoute has it"),
        ("backendRefs: [{name: b}]", "backendRefs[0].port: missing"),
    ];
    for (rule, expected) in cases {
        let faults = refused(&text(rule));
        let expected = format!("spec.rules[0].{expected}");
        assert!(faults[0].starts_with(&expected), "{rule}: {faults:?}, not {expected:?}");
    }
}
