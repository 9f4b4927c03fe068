//! The objects of the tests, as YAML documents that end with a separator: they can be joined.

use std::fmt::Write;
use std::net::IpAddr;

use serde::Deserialize;
use serde_json::Value;

/// The documents of a text, read.
///
/// # Panics
/// When it is no YAML.
pub fn documents(text: &str) -> Vec<Value> {
    let documents = serde_norway::Deserializer::from_str(text);
    documents.map(|document| Value::deserialize(document).expect("a document of YAML")).collect()
}

/// A Service `NAMESPACE/NAME` with one port and without a selector.
pub fn service(name: &str, port: u16, target: u16) -> String {
    let (namespace, name) = split(name);
    format!(
        "apiVersion: v1\n\
         kind: Service\n\
         metadata: {{name: {name}, namespace: {namespace}}}\n\
         spec:\n\
         \x20 ports: [{{name: main, port: {port}, targetPort: {target}, protocol: TCP}}]\n\
         ---\n"
    )
}

/// An HTTPRoute of the same name as its parent Service, with `rules` in YAML (a list, indented
/// by two spaces).
pub fn route(parent: &str, rules: &str) -> String {
    let (namespace, name) = split(parent);
    format!(
        "apiVersion: gateway.networking.k8s.io/v1\n\
         kind: HTTPRoute\n\
         metadata: {{name: {name}, namespace: {namespace}}}\n\
         spec:\n\
         \x20 parentRefs: [{{group: '', kind: Service, name: {name}}}]\n\
         \x20 rules:\n\
         {rules}\n\
         ---\n"
    )
}

/// An HTTPRoute that splits by weight over Services of the parent's namespace, all on port 80.
pub fn split_route(parent: &str, backends: &[(&str, u32)]) -> String {
    let mut rules = String::from("  - backendRefs:\n");
    for (name, weight) in backends {
        writeln!(rules, "    - {{name: {name}, port: 80, weight: {weight}}}").unwrap();
    }
    route(parent, &rules)
}

/// An EndpointSlice of a Service `NAMESPACE/NAME` whose port is named `main`. The addresses are
/// those of pods that are not in the mesh unless Pod objects say so.
pub fn endpoints(service: &str, target: u16, addresses: &[IpAddr]) -> String {
    let (namespace, name) = split(service);
    let mut text = format!(
        "apiVersion: discovery.k8s.io/v1\n\
         kind: EndpointSlice\n\
         metadata:\n\
         \x20 name: {name}-1\n\
         \x20 namespace: {namespace}\n\
         \x20 labels: {{kubernetes.io/service-name: {name}}}\n\
         addressType: IPv4\n\
         ports: [{{name: main, port: {target}, protocol: TCP}}]\n\
         endpoints:\n"
    );
    for address in addresses {
        writeln!(text, "- {{addresses: ['{address}'], conditions: {{ready: true}}}}").unwrap();
    }
    if addresses.is_empty() {
        text = text.replace("endpoints:\n", "endpoints: []\n");
    }
    text + "---\n"
}

/// A running Pod `NAMESPACE/NAME` with a sidecar, by the labels that Services select.
pub fn pod(name: &str, service_account: &str, address: IpAddr) -> String {
    let (namespace, name) = split(name);
    format!(
        "apiVersion: v1\n\
         kind: Pod\n\
         metadata:\n\
         \x20 name: {name}\n\
         \x20 namespace: {namespace}\n\
         \x20 annotations: {{pillion.dev/sidecar: enabled}}\n\
         spec:\n\
         \x20 serviceAccountName: {service_account}\n\
         \x20 containers: [{{name: app, image: app}}]\n\
         status: {{phase: Running, podIP: '{address}'}}\n\
         ---\n"
    )
}

fn split(name: &str) -> (&str, &str) {
    name.split_once('/').expect("NAMESPACE/NAME")
}
