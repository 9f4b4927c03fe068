//! GRPCRoutes and InboundPolicies among the other objects.

use model::inbound::Plaintext;
use model::service::Protocol;

use super::tests::{pod, translated};
use super::*;
use crate::problem::Cause;
use crate::registry::tests::lease;

const API: &str = "{apiVersion: v1, kind: Service, metadata: {name: api, namespace: shop}, \
    spec: {selector: {app: api}, ports: [{name: a, port: 80, targetPort: 8080}, \
    {name: b, port: 81, targetPort: 8081}]}}";

fn route(kind: &str, namespace: &str, parent: &str) -> String {
    format!(
        "{{apiVersion: gateway.networking.k8s.io/v1, kind: {kind}, \
         metadata: {{name: r, namespace: {namespace}}}, spec: {{parentRefs: \
         [{{group: '', kind: Service, name: api, namespace: shop{parent}}}], \
         rules: [{{backendRefs: [{{name: api, namespace: shop, port: 80}}]}}]}}}}"
    )
}

/// The routes of shop/api for its own namespace, each with its ports, in their order.
fn ports(translation: &Translation) -> Vec<Vec<u16>> {
    let api = &translation.routes[&"shop/api".parse::<ServiceName>().unwrap()];
    let routes = api.producer.iter().flat_map(|of| &of.routes);
    routes.map(|route| route.ports.clone()).collect()
}

#[test]
fn a_grpcroute_takes_the_place_of_an_httproute_at_its_ports() {
    let cases = [
        (", port: 80", ", port: 81", vec![vec![80], vec![81]], None),
        (", port: 80", ", port: 80", vec![vec![80]], Some(Cause::Conflicted)),
        // It is in force at the port that is left.
        (", port: 80", "", vec![vec![80], vec![81]], Some(Cause::Ignored)),
        ("", ", port: 81", vec![vec![]], Some(Cause::Conflicted)),
        ("", "", vec![vec![]], Some(Cause::Conflicted)),
    ];
    for (grpc, http, expected, lost) in cases {
        let old = ", creationTimestamp: '2020-01-01T00:00:00Z'";
        let http_route = route("HTTPRoute", "shop", http)
            .replace("namespace: shop},", &format!("namespace: shop{old}}},"));
        let translation = translated(&[API, &http_route, &route("GRPCRoute", "shop", grpc)], &[]);
        assert_eq!(ports(&translation), expected, "{grpc:?} {http:?}");
        let causes: Vec<Cause> = translation.problems.iter().map(|p| p.cause).collect();
        assert_eq!(causes, Vec::from_iter(lost), "{grpc:?} {http:?}");
        for conflict in translation.problems.iter().map(ToString::to_string) {
            let expected = "HTTPRoute shop/r: spec.parentRefs[0]: Conflicted";
            assert!(conflict.contains(expected), "{conflict}");
        }
    }
}

#[test]
fn a_conflict_is_told_of_the_parent_that_lost() {
    let two =
        route("HTTPRoute", "shop", ", port: 80}, {group: core, kind: Service, name: api, port: 81");
    let grpc = route("GRPCRoute", "shop", ", port: 81");
    let translation = translated(&[API, &two, &grpc], &[]);
    assert_eq!(ports(&translation), [[81], [80]]);
    let fields: Vec<&str> = translation.problems.iter().map(|p| p.field.as_str()).collect();
    assert_eq!(fields, ["spec.parentRefs[1]"], "{:?}", translation.problems);
}

#[test]
fn routes_of_different_namespaces_do_not_meet() {
    let routes = [route("HTTPRoute", "shop", ""), route("GRPCRoute", "web", "")];
    let translation = translated(&[API, &routes[0], &routes[1]], &[]);
    assert_eq!(ports(&translation), [Vec::<u16>::new()]);
    assert!(translation.problems.is_empty(), "{:?}", translation.problems);
}

#[test]
fn a_route_of_which_no_rule_can_be_served_is_as_if_it_were_not_there() {
    let grpc = route("GRPCRoute", "shop", "");
    let with = |text: &str| grpc.replace("rules: [{", &format!("rules: [{{{text}, "));
    let none = "matches: [{headers: [{type: RegularExpression, name: a, value: b}]}]";
    let unserved = with(none);
    let translation = translated(&[API, &unserved, &route("HTTPRoute", "shop", "")], &[]);
    assert_eq!(ports(&translation), [Vec::<u16>::new()], "the HTTPRoute has its ports");
    assert!(translation.problems.is_empty(), "{:?}", translation.problems);
    let translation = translated(&[API, &unserved], &[]);
    assert!(translation.routes.is_empty(), "{:?}", translation.routes);
    let service = &translation.services[&"shop/api".parse::<ServiceName>().unwrap()];
    assert_eq!(service.ports[0].protocol, Protocol::Detect);
    let without_rules = grpc.split_once("rules: ").unwrap().0.to_owned() + "rules: []}}";
    let with_one = with(&format!("name: a}}, {{{none}"));
    for attached in [with("filters: [{type: RequestMirror}]"), with_one, without_rules] {
        assert_eq!(translated(&[API, &attached], &[]).routes.len(), 1, "{attached}");
    }
}

#[test]
fn a_port_of_a_grpcroute_speaks_http2_where_nobody_says_otherwise() {
    let protocols = |objects: &[&str]| {
        let translation = translated(objects, &[]);
        let service = &translation.services[&"shop/api".parse::<ServiceName>().unwrap()];
        service.ports.iter().map(|port| port.protocol).collect::<Vec<_>>()
    };
    let own = route("GRPCRoute", "shop", ", port: 80");
    assert_eq!(protocols(&[API, &own]), [Protocol::Http2, Protocol::Detect]);
    let said = API.replace("port: 80,", "port: 80, appProtocol: http,");
    assert_eq!(protocols(&[&said, &own]), [Protocol::Http1, Protocol::Detect]);
    let foreign = route("GRPCRoute", "web", "");
    assert_eq!(protocols(&[API, &foreign]), [Protocol::Detect; 2], "of another namespace");
    let http = route("HTTPRoute", "shop", "");
    assert_eq!(protocols(&[API, &http]), [Protocol::Detect; 2]);
}

fn policy(name: &str, spec: &str, more: &str) -> String {
    format!(
        "{{apiVersion: pillion.dev/v1alpha1, kind: InboundPolicy, \
         metadata: {{name: {name}, namespace: shop{more}}}, spec: {{{spec}}}}}"
    )
}

fn plaintext(translation: &Translation, address: &str) -> Option<Plaintext> {
    translation.inbound.get(&address.parse().unwrap())?.plaintext
}

#[test]
fn the_oldest_policy_decides_then_the_first_by_name() {
    let old = ", creationTimestamp: '2026-01-01T00:00:00Z'";
    let (deny, allow) = ("plaintext: Deny", "plaintext: Allow");
    let cases = [
        (vec![policy("a", deny, "")], Some(Plaintext::Deny), vec![]),
        (vec![policy("a", deny, ""), policy("b", allow, "")], Some(Plaintext::Deny), vec!["b"]),
        (vec![policy("a", deny, ""), policy("b", allow, old)], Some(Plaintext::Allow), vec!["a"]),
        (vec![policy("a", "selector: {matchLabels: {app: x}}, plaintext: Deny", "")], None, vec![]),
    ];
    for (policies, expected, overruled) in cases {
        let pod = pod("p", "10.0.0.1", "", "");
        let mut objects: Vec<&str> = policies.iter().map(String::as_str).collect();
        objects.push(&pod);
        let translation = translated(&objects, &[]);
        assert_eq!(plaintext(&translation, "10.0.0.1"), expected, "{policies:?}");
        let named = |p: &Problem| p.object.as_ref().unwrap().name.clone();
        let names: Vec<String> = translation.problems.iter().map(named).collect();
        assert_eq!(names, overruled, "{policies:?}");
    }
}

#[test]
fn a_policy_is_for_its_own_namespace_and_also_for_what_registered_there() {
    let all = policy("a", "plaintext: Deny", "");
    let labelled = policy("a", "selector: {matchLabels: {app: api}}, plaintext: Deny", "");
    let leases = [lease("shop/other", "127.0.1.1", 90)];
    let denied = |policy: &str| plaintext(&translated(&[policy], &leases), "127.0.1.1");
    assert_eq!(denied(&all), Some(Plaintext::Deny));
    assert_eq!(denied(&labelled), None, "what registered has no labels");
    let elsewhere = pod("p", "10.0.0.1", "", "").replace("namespace: shop", "namespace: web");
    assert_eq!(plaintext(&translated(&[&all, &elsewhere], &[]), "10.0.0.1"), None);
}
