//! What a cluster makes of Services: ClusterIPs, EndpointSlices and names.

use std::fs;
use std::net::IpAddr;

use serde_json::{Value, json};

use super::kubelet::port;
use super::manifests::Manifests;
use super::sandbox::{list, text};
use super::{HOSTS, Planned};
use crate::apiserver::ApiServer;
use crate::house::House;
use crate::house::objects::family;
use crate::house::plan::Port;

/// What the mesh reads of an example beside Pods.
const KINDS: [&str; 2] = ["HTTPRoute", "GRPCRoute"];

/// Puts the objects of an example in place, Services with their ClusterIPs.
pub(super) async fn put(house: &House, api: &ApiServer, manifests: &Manifests) {
    for namespace in manifests.all("Namespace") {
        let metadata = &namespace["metadata"];
        api.namespace(text(&metadata["name"]), &metadata["labels"]);
    }
    for object in KINDS.iter().flat_map(|kind| manifests.all(kind)) {
        api.put(object);
    }
    for service in manifests.all("Service") {
        let mut service = service.clone();
        if service["spec"]["clusterIP"].is_null() {
            let (namespace, name) = place(&service);
            let nowhere = Port { number: 0, target: 0 };
            let own = house.change(|all| all.plan.declare(namespace, name, nowhere)).await;
            service["spec"]["clusterIP"] = json!(own.first);
            service["spec"]["clusterIPs"] = json!(own.all());
            let families: Vec<&str> = own.all().into_iter().map(family).collect();
            service["spec"]["ipFamilies"] = json!(families);
        }
        api.put(&service);
    }
}

/// Puts the EndpointSlices of all Services in place, by the Pods as they are now: one for each IP
/// version.
pub(super) fn put_endpoints(api: &ApiServer) {
    let pods = api.all("v1", "Pod");
    for service in api.all("v1", "Service") {
        let behind: Vec<&Value> = pods.iter().filter(|pod| is_behind(&service, pod)).collect();
        let Some(first) = behind.first() else { continue };
        for address in addresses(&first["status"]["podIPs"]) {
            api.put(&slice(&service, &behind, family(address)));
        }
    }
}

fn slice(service: &Value, behind: &[&Value], of: &str) -> Value {
    let (namespace, name) = place(service);
    let ports = list(&service["spec"]["ports"]).map(|port| {
        json!({"name": port["name"], "appProtocol": port["appProtocol"], "protocol": "TCP",
               "port": target(behind[0], port)})
    });
    json!({
        "apiVersion": "discovery.k8s.io/v1", "kind": "EndpointSlice",
        "metadata": {"name": format!("{name}-{}", of.to_lowercase()), "namespace": namespace,
                     "labels": {"kubernetes.io/service-name": name}},
        "addressType": of,
        "ports": ports.collect::<Vec<_>>(),
        "endpoints": behind.iter().map(|pod| endpoint(pod, of)).collect::<Vec<_>>(),
    })
}

/// Writes the names that a resolver of the cluster would find: of the control plane, of Services,
/// and of the pods of headless ones.
pub(super) fn write_hosts(house: &House, api: &ApiServer, pods: &[Planned], plane: IpAddr) {
    let mut lines = String::from("127.0.0.1 localhost\n::1 localhost\n");
    lines += &named(&[plane], "pillion-control-plane", "pillion-system");
    for service in api.all("v1", "Service") {
        let (namespace, name) = place(&service);
        if service["spec"]["clusterIP"] != "None" {
            lines += &named(&addresses(&service["spec"]["clusterIPs"]), name, namespace);
            continue;
        }
        for Planned { object, addresses, .. } in
            pods.iter().filter(|pod| is_behind(&service, &pod.object))
        {
            lines += &named(&addresses.all(), name, namespace);
            if object["spec"]["subdomain"] == name {
                let name = format!("{}.{name}", text(&object["spec"]["hostname"]));
                lines += &named(&addresses.all(), &name, namespace);
            }
        }
    }
    fs::write(house.path("hosts").join(HOSTS), lines).expect("names are written");
}

fn named(addresses: &[IpAddr], name: &str, namespace: &str) -> String {
    let short = format!("{name}.{namespace}");
    let line = |address| format!("{address} {short} {short}.svc {short}.svc.cluster.local\n");
    addresses.iter().map(line).collect()
}

/// The addresses of a list: as texts, or as the `ip` of objects.
fn addresses(of: &Value) -> Vec<IpAddr> {
    let one = |item: &Value| text(item.get("ip").unwrap_or(item)).parse().expect("an address");
    list(of).map(one).collect()
}

/// Namespace and name.
fn place(object: &Value) -> (&str, &str) {
    (text(&object["metadata"]["namespace"]), text(&object["metadata"]["name"]))
}

fn is_behind(service: &Value, pod: &Value) -> bool {
    let labels = &pod["metadata"]["labels"];
    let selector = service["spec"]["selector"].as_object();
    service["metadata"]["namespace"] == pod["metadata"]["namespace"]
        && selector.is_some_and(|all| all.iter().all(|(key, value)| labels[key] == *value))
}

/// The port of the pods that a port of their Service leads to.
fn target(pod: &Value, service_port: &Value) -> u16 {
    port(&pod["spec"]["containers"][0], &service_port["targetPort"])
}

fn endpoint(pod: &Value, of: &str) -> Value {
    let ready = list(&pod["status"]["conditions"])
        .any(|condition| condition["type"] == "Ready" && condition["status"] == "True");
    let own = addresses(&pod["status"]["podIPs"]).into_iter().filter(|ip| family(*ip) == of);
    json!({
        "addresses": own.collect::<Vec<_>>(),
        "conditions": {"ready": ready, "serving": ready, "terminating": false},
        "hostname": pod["spec"]["hostname"],
        "targetRef": {"kind": "Pod", "name": pod["metadata"]["name"],
                      "namespace": pod["metadata"]["namespace"], "uid": pod["metadata"]["uid"]},
    })
}
