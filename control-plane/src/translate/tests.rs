use model::route::{Action, BackendTarget};
use model::service::{Protocol, Target};

use super::*;
use crate::registry::tests::lease;
use crate::world::tests::world;

fn settings() -> Settings {
    Settings {
        trust_domain: "cluster.local".parse().unwrap(),
        service_range: "10.96.0.0/12".parse().unwrap(),
        wait_for_pods: false,
    }
}

pub(super) fn translated(objects: &[&str], leases: &[Lease]) -> Translation {
    let leases: Vec<&Lease> = leases.iter().collect();
    translate(&world(objects), &leases, &settings())
}

fn service<'t>(translation: &'t Translation, name: &str) -> &'t Service {
    &translation.services[&name.parse::<ServiceName>().unwrap()]
}

/// The endpoints as `address[port>target ...]`, with `@mesh-port` of those in the mesh.
fn endpoints(service: &Service) -> Vec<String> {
    let show = |endpoint: &model::service::Endpoint| {
        let targets: Vec<String> =
            endpoint.targets.iter().map(|t| format!("{}>{}", t.port, t.target)).collect();
        let mesh =
            endpoint.mesh.as_ref().map_or_else(String::new, |mesh| format!("@{}", mesh.port));
        format!("{}[{}]{mesh}", endpoint.address, targets.join(" "))
    };
    service.endpoints.iter().map(show).collect()
}

const API: &str = "{apiVersion: v1, kind: Service, metadata: {name: api, namespace: shop}, \
    spec: {selector: {app: api}, ports: [{name: http, port: 80, targetPort: web}]}}";

pub(super) fn pod(name: &str, address: &str, more: &str, status: &str) -> String {
    format!(
        "{{apiVersion: v1, kind: Pod, \
         metadata: {{name: {name}, namespace: shop, labels: {{app: api}}{more}}}, \
         spec: {{containers: [{{name: a, ports: [{{name: web, containerPort: 8080}}]}}]}}, \
         status: {{podIP: {address}{status}}}}}"
    )
}

fn slice(name: &str, port: u16, endpoints: &str) -> String {
    format!(
        "{{apiVersion: discovery.k8s.io/v1, kind: EndpointSlice, addressType: IPv4, \
         metadata: {{name: {name}, namespace: shop, labels: {{kubernetes.io/service-name: api}}}}, \
         ports: [{{name: http, port: {port}}}], endpoints: [{endpoints}]}}"
    )
}

#[test]
fn without_slices_the_selected_ready_pods_are_the_endpoints() {
    let sidecar = ", annotations: {pillion.dev/sidecar: enabled}";
    let pods = [
        pod("a", "10.0.0.1", sidecar, ""),
        pod("b", "10.0.0.2", "", ""),
        pod("c", "10.0.0.3", "", ", conditions: [{type: Ready, status: 'False'}]"),
        pod("d", "10.0.0.4", "", "").replace("app: api", "app: other"),
        pod("e", "10.0.0.5", "", "").replace("name: web", "name: other"),
    ];
    let translation = translated(&[API, &pods[0], &pods[1], &pods[2], &pods[3], &pods[4]], &[]);
    let api = service(&translation, "shop/api");
    assert_eq!(endpoints(api), ["10.0.0.1[80>8080]@15008", "10.0.0.2[80>8080]"]);
    let mesh = api.endpoints[0].mesh.as_ref().unwrap();
    assert_eq!(mesh.identity.as_str(), "spiffe://cluster.local/ns/shop/sa/default");
    assert_eq!(api.ports[0].protocol, Protocol::Http1);
    let inbound = &translation.inbound[&"10.0.0.3".parse::<IpAddr>().unwrap()];
    assert_eq!(inbound.ports[0].port, 8080, "also a pod that is not ready lets its port in");
}

#[test]
fn a_service_may_take_pods_that_are_not_ready() {
    let pod = pod("a", "10.0.0.1", "", ", conditions: [{type: Ready, status: 'False'}]");
    let early = API.replace("spec: {", "spec: {publishNotReadyAddresses: true, ");
    for (service_object, expected) in [(&*early, &["10.0.0.1[80>8080]"][..]), (API, &[])] {
        let translation = translated(&[service_object, &pod], &[]);
        assert_eq!(endpoints(service(&translation, "shop/api")), expected);
    }
}

#[test]
fn slices_count_where_there_are_any() {
    let pods = pod("a", "10.0.0.1", ", annotations: {pillion.dev/sidecar: enabled}", "");
    let slices = [
        slice("one", 9090, "{addresses: [10.0.0.1]}, {addresses: [10.0.0.7]}"),
        slice("two", 9091, "{addresses: [10.0.0.8], conditions: {ready: false}}"),
    ];
    let translation = translated(&[API, &pods, &slices[0], &slices[1]], &[]);
    assert_eq!(
        endpoints(service(&translation, "shop/api")),
        ["10.0.0.1[80>9090]@15008", "10.0.0.7[80>9090]"]
    );
}

#[test]
fn in_a_cluster_an_endpoint_waits_for_its_pod() {
    let of = |name: &str, address: &str| {
        format!("{{addresses: [{address}], targetRef: {{kind: Pod, name: {name}}}}}")
    };
    let all = [of("b", "10.0.0.2"), of("a", "10.0.0.1"), "{addresses: [10.0.0.3]}".into()];
    let slice = slice("s", 8080, &all.join(", "));
    let found = |wait_for_pods, pods: &[String]| {
        let objects: Vec<&str> =
            [API, &slice].into_iter().chain(pods.iter().map(String::as_str)).collect();
        let settings = Settings { wait_for_pods, ..settings() };
        let translation = translate(&world(&objects), &[], &settings);
        let service = service(&translation, "shop/api");
        service.endpoints.iter().map(|one| one.address.to_string()).collect::<Vec<_>>()
    };
    let pods = [pod("a", "10.0.0.1", "", ""), pod("c", "10.0.0.9", "", "")];
    assert_eq!(found(true, &pods), ["10.0.0.1", "10.0.0.3"], "nobody says who 10.0.0.3 is");
    assert_eq!(found(true, &[]), ["10.0.0.3"]);
    assert_eq!(found(false, &[]).len(), 3, "in a directory a slice may stand alone");
    let moved = [pod("a", "10.0.0.8", "", ""), pod("b", "''", "", "")];
    assert_eq!(found(true, &moved), ["10.0.0.3"], "what they were, or not yet");
    let of_node = pod("a", "10.0.0.8", "", "").replace("spec: {", "spec: {hostNetwork: true, ");
    assert_eq!(found(true, &[of_node]), ["10.0.0.1", "10.0.0.3"]);
}

#[test]
fn leaving_endpoints_serve_only_while_none_is_ready() {
    let leaving =
        "{addresses: [10.0.0.1], conditions: {ready: false, serving: true, terminating: true}}";
    let translation = translated(&[API, &slice("one", 80, leaving)], &[]);
    assert_eq!(endpoints(service(&translation, "shop/api")), ["10.0.0.1[80>80]"]);
    let both = format!("{leaving}, {{addresses: [10.0.0.2]}}");
    let translation = translated(&[API, &slice("one", 80, &both)], &[]);
    assert_eq!(endpoints(service(&translation, "shop/api")), ["10.0.0.2[80>80]"]);
}

#[test]
fn addresses_are_written_made_or_none() {
    let written = API.replace("spec: {", "spec: {clusterIP: 10.1.2.3, ");
    assert_eq!(
        service(&translated(&[&written], &[]), "shop/api").addresses,
        ["10.1.2.3".parse::<IpAddr>().unwrap()]
    );
    let headless = API.replace("spec: {", "spec: {clusterIP: None, ");
    assert!(service(&translated(&[&headless], &[]), "shop/api").addresses.is_empty());
    assert_eq!(service(&translated(&[API], &[]), "shop/api").addresses.len(), 1);
    let external = "{apiVersion: v1, kind: Service, metadata: {name: x}, \
                    spec: {type: ExternalName, externalName: example.com}}";
    assert!(translated(&[external], &[]).services.is_empty());
}

#[test]
fn a_registered_workload_is_an_endpoint_of_the_services_port() {
    let object = API.replace("targetPort: web", "targetPort: 8080");
    let by_target = lease("shop/api", "127.0.1.1", 8080);
    let only_port = lease("shop/api", "127.0.1.2", 9999);
    let named = Lease { service_port: Some(80), ..lease("shop/api", "127.0.1.3", 7000) };
    let nowhere = Lease { service_port: Some(81), ..lease("shop/api", "127.0.1.4", 8080) };
    let translation = translated(&[&object], &[by_target, only_port, named, nowhere]);
    assert_eq!(
        endpoints(service(&translation, "shop/api")),
        ["127.0.1.1[80>8080]@15008", "127.0.1.2[80>9999]@15008", "127.0.1.3[80>7000]@15008"]
    );
    assert_eq!(translation.problems.len(), 1);
    assert!(translation.problems[0].message.contains("has no port 81"));
}

#[test]
fn a_service_that_no_object_defines_comes_by_registration() {
    let one = Lease { service_port: Some(80), ..lease("shop/web", "127.0.1.1", 8080) };
    let two = Lease { protocol: Protocol::Http2, ..one.clone() };
    let two = Lease { address: "127.0.1.2".parse().unwrap(), ..two };
    let translation = translated(&[], &[one, two]);
    let web = service(&translation, "shop/web");
    assert!(web.addresses.is_empty());
    assert_eq!((web.ports[0].port, web.ports[0].protocol), (80, Protocol::Http2));
    assert_eq!(web.endpoints[1].targets, [Target { port: 80, target: 8080 }]);
    assert_eq!(translation.inbound.len(), 2);
}

#[test]
fn a_registered_sidecar_says_who_an_endpoint_of_the_objects_is() {
    let pod = pod("a", "127.0.1.1", "", "");
    let lease = Lease { mesh_port: 16008, ..lease("shop/api", "127.0.1.1", 8080) };
    let translation = translated(&[API, &pod], &[lease]);
    assert_eq!(endpoints(service(&translation, "shop/api")), ["127.0.1.1[80>8080]@16008"]);
}

fn route(namespace: &str, name: &str, more: &str, rest: &str) -> String {
    format!(
        "{{apiVersion: gateway.networking.k8s.io/v1, kind: HTTPRoute, \
         metadata: {{name: {name}, namespace: {namespace}{more}}}, \
         spec: {{parentRefs: [{{group: '', kind: Service, name: api, namespace: shop}}]{rest}}}}}"
    )
}

fn names(routes: Option<&ServiceRoutes>) -> Vec<&str> {
    routes.into_iter().flat_map(|routes| &routes.routes).map(|route| route.name.as_str()).collect()
}

#[test]
fn producer_and_consumer_routes_are_apart_and_in_order() {
    let old = ", creationTimestamp: '2026-01-01T00:00:00Z'";
    let new = ", creationTimestamp: '2026-02-01T00:00:00Z'";
    let routes = [
        route("shop", "b", "", ""),
        route("shop", "a", "", ""),
        route("shop", "z", old, ""),
        route("shop", "y", new, ""),
        route("web", "c", "", ""),
    ];
    let routes: Vec<&str> = routes.iter().map(String::as_str).collect();
    let translation = translated(&routes, &[]);
    let api = &translation.routes[&"shop/api".parse::<ServiceName>().unwrap()];
    assert_eq!(names(api.producer.as_ref()), ["z", "y", "a", "b"]);
    assert_eq!(names(api.consumers.get(&"web".parse::<Label>().unwrap())), ["c"]);
}

#[test]
fn consumer_routes_leave_the_producers_at_the_ports_that_they_do_not_name() {
    let api = API.replace("}]}}", "}, {name: b, port: 81}, {name: c, port: 82}]}}");
    let at = |namespace: &str, name: &str, port: &str| {
        route(namespace, name, "", "").replace("shop}]", &format!("shop{port}}}]"))
    };
    let cases: [(&str, &[&str]); 3] = [
        (", port: 80", &["web [80]", "all [81, 82]", "one [81]"]),
        (", port: 81", &["web [81]", "all [80, 82]"]),
        ("", &["web []"]),
    ];
    for (port, expected) in cases {
        let routes =
            [at("shop", "all", ""), at("shop", "one", ", port: 81"), at("web", "web", port)];
        let translation = translated(&[&api, &routes[0], &routes[1], &routes[2]], &[]);
        let api = &translation.routes[&"shop/api".parse::<ServiceName>().unwrap()];
        let web = &api.consumers[&"web".parse::<Label>().unwrap()].routes;
        let seen: Vec<String> = web.iter().map(|r| format!("{} {:?}", r.name, r.ports)).collect();
        assert_eq!(seen, expected, "{port:?}");
        assert_eq!(names(api.producer.as_ref()), ["all", "one"], "as they were");
    }
}

#[test]
fn backends_are_resolved_or_say_why_not() {
    let backends = "{name: api, port: 80}, {name: api, port: 81}, {name: gone, port: 80}, \
                    {name: gone, port: 80, weight: 0}";
    let rules = format!(", rules: [{{backendRefs: [{backends}]}}]");
    let translation = translated(&[API, &route("shop", "a", "", &rules)], &[]);
    let api = &translation.routes[&"shop/api".parse::<ServiceName>().unwrap()];
    let Action::Forward(backends) = &api.producer.as_ref().unwrap().routes[0].rules[0].action
    else {
        panic!("it forwards")
    };
    let name = "shop/api".parse().unwrap();
    assert_eq!(backends[0].target, BackendTarget::Service { name, port: 80 });
    for (backend, expected) in
        [(&backends[1], "no port 81"), (&backends[2], "no Service shop/gone")]
    {
        let BackendTarget::Invalid(reason) = &backend.target else { panic!("{backend:?}") };
        assert!(reason.starts_with("BackendNotFound") && reason.contains(expected), "{reason}");
    }
    let fields: Vec<&str> = translation.problems.iter().map(|p| p.field.as_str()).collect();
    assert_eq!(fields, ["spec.rules[0].backendRefs[1]", "spec.rules[0].backendRefs[2]"]);
}

#[test]
fn a_backend_that_does_tls_of_its_own_is_invalid() {
    for (said, expected) in
        [("https", true), ("kubernetes.io/wss", true), ("kubernetes.io/ws", false), ("tcp", false)]
    {
        let api = API.replace("port: 80,", &format!("port: 80, appProtocol: {said},"));
        let rules = ", rules: [{backendRefs: [{name: api, port: 80}]}]";
        let translation = translated(&[&api, &route("shop", "a", "", rules)], &[]);
        let api = &translation.routes[&"shop/api".parse::<ServiceName>().unwrap()];
        let action = &api.producer.as_ref().unwrap().routes[0].rules[0].action;
        let Action::Forward(backends) = action else { panic!("it forwards") };
        let reason = match &backends[0].target {
            BackendTarget::Invalid(reason) => reason.as_str(),
            BackendTarget::Service { .. } => "",
        };
        assert_eq!(reason.starts_with("UnsupportedProtocol: port 80"), expected, "{reason}");
        assert_eq!(translation.problems.len(), usize::from(expected), "{said}");
    }
}

#[test]
fn parents_choose_ports_by_number_and_by_name() {
    let cases = [
        ("", Some(vec![])),
        (", port: 80", Some(vec![80])),
        (", sectionName: http", Some(vec![80])),
        (", sectionName: http, port: 80", Some(vec![80])),
        (", port: 80}, {group: '', kind: Service, name: api, port: 80", Some(vec![80])),
        (", sectionName: http, port: 81", None),
        (", sectionName: grpc", None),
        (", port: 82", None),
    ];
    for (parent, expected) in cases {
        let route = route("shop", "a", "", "")
            .replace("namespace: shop}]", &format!("namespace: shop{parent}}}]"));
        let translation = translated(&[API, &route], &[]);
        let api = translation.routes.get(&"shop/api".parse::<ServiceName>().unwrap());
        let ports = api.map(|api| api.producer.as_ref().unwrap().routes[0].ports.clone());
        assert_eq!(ports, expected, "{parent}");
        assert_eq!(translation.problems.is_empty(), expected.is_some(), "{parent}");
    }
}

#[test]
fn a_parent_that_no_connection_leads_to_is_told_of_and_attached_to() {
    let headless = API.replace("spec: {", "spec: {clusterIP: None, ");
    let external = API.replace("spec: {", "spec: {type: ExternalName, externalName: a.b, ");
    let registered = [lease("shop/api", "127.0.1.1", 80)];
    let cases: [(&[&str], &[Lease], Option<&str>); 5] = [
        (&[], &[], Some("there is no Service shop/api")),
        (&[&external], &[], Some("Service shop/api is an ExternalName")),
        (&[&headless], &registered, Some("Service shop/api is headless")),
        (&[], &registered, None),
        (&[API], &[], None),
    ];
    for (objects, leases, expected) in cases {
        let route = route("shop", "a", "", "");
        let objects: Vec<&str> = objects.iter().copied().chain([route.as_str()]).collect();
        let translation = translated(&objects, leases);
        assert_eq!(translation.routes.len(), 1, "{expected:?}");
        let told: Vec<String> = translation.problems.iter().map(ToString::to_string).collect();
        assert_eq!(told.len(), usize::from(expected.is_some()), "{told:?}");
        let named = |expected| told[0].contains(&format!("spec.parentRefs[0].name: {expected}"));
        assert!(expected.is_none_or(named), "{told:?}");
    }
    let by_name = route("shop", "a", "", "").replace("shop}]", "shop, sectionName: http}]");
    let told = translated(&[&by_name], &[]).problems;
    assert_eq!(told.len(), 1, "{told:?}");
}

/// The owner of an address, as `service NAME` or `workload NAME[named ports]@mesh-port`.
fn owner(translation: &Translation, address: &str) -> Option<String> {
    Some(match translation.owners.get(&address.parse().unwrap())? {
        Owner::Service(name) => format!("service {name}"),
        Owner::Workload(workload) => {
            let ports: Vec<String> = workload.ports.iter().map(|p| p.port.to_string()).collect();
            let mesh = workload.mesh.as_ref().map_or_else(String::new, |m| format!("@{}", m.port));
            format!("workload {}[{}]{mesh}", workload.name, ports.join(" "))
        }
    })
}

#[test]
fn every_pod_has_the_identity_of_its_account_in_its_namespace() {
    let whose = [("shop", "web"), ("shop", "api"), ("other", "web"), ("shop", "web")];
    let pods = whose.iter().enumerate().map(|(number, (namespace, account))| {
        let sidecar = ", annotations: {pillion.dev/sidecar: enabled}";
        let pod = pod(&format!("p{number}"), &format!("10.0.0.{number}"), sidecar, "");
        pod.replace("namespace: shop", &format!("namespace: {namespace}"))
            .replace("spec: {", &format!("spec: {{serviceAccountName: {account}, "))
    });
    let pods: Vec<String> = pods.collect();
    let translation = translated(&pods.iter().map(String::as_str).collect::<Vec<_>>(), &[]);
    for (number, (namespace, account)) in (0..).zip(whose) {
        let owner = &translation.owners[&IpAddr::from([10, 0, 0, number])];
        let Owner::Workload(workload) = owner else { panic!("{owner:?}") };
        let expected = format!("spiffe://cluster.local/ns/{namespace}/sa/{account}");
        assert_eq!(workload.mesh.as_ref().unwrap().identity.as_str(), expected);
    }
}

#[test]
fn every_known_address_has_an_owner() {
    let meshed = ", annotations: {pillion.dev/sidecar: enabled}";
    let two = ", podIPs: [{ip: 10.0.0.1}, {ip: 'fd00::1'}]";
    let finished = pod("old", "10.0.0.3", "", ", phase: Succeeded");
    let lonely = pod("lonely", "10.0.0.2", meshed, "").replace("app: api", "app: other");
    let api = API.replace("ports: [", "clusterIP: 10.96.0.7, ports: [");
    let outside = "{addresses: [10.0.0.9]}";
    let objects = [
        api,
        pod("a", "10.0.0.1", meshed, two),
        lonely,
        finished,
        pod("new", "10.0.0.3", meshed, ""),
        pod("away", "10.0.0.4", meshed, ", conditions: [{type: Ready, status: 'False'}]"),
        pod("here", "10.0.0.4", meshed, ""),
        slice("s", 8080, &format!("{{addresses: [10.0.0.1]}}, {outside}")),
    ];
    let objects: Vec<&str> = objects.iter().map(String::as_str).collect();
    let translation = translated(&objects, &[lease("shop/other", "127.0.1.1", 90)]);
    let cases = [
        ("10.96.0.7", Some("service shop/api")),
        ("10.0.0.1", Some("workload a[8080]@15008")),
        ("fd00::1", Some("workload a[]@15008")),
        ("10.0.0.2", Some("workload lonely[]@15008")),
        ("10.0.0.3", Some("workload new[]@15008")),
        ("10.0.0.4", Some("workload here[]@15008")),
        ("10.0.0.9", Some("workload 10.0.0.9[8080]")),
        ("10.0.0.10", None),
    ];
    for (address, expected) in cases {
        assert_eq!(owner(&translation, address).as_deref(), expected, "{address}");
    }
    let registered = owner(&translation, "127.0.1.1").unwrap();
    assert!(registered.ends_with("[90]@15008"), "{registered}");
}
