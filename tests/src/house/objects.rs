//! The plan as Kubernetes objects, as an API server and its controllers would have them.

use std::fmt::Write;
use std::net::IpAddr;

use super::plan::{Member, Plan, Service};

/// Services, EndpointSlices (one for each IP version) and Pods, as YAML documents.
pub(super) fn documents(plan: &Plan) -> String {
    let services = plan.services.iter().map(service);
    let slices = plan.services.iter().flat_map(|service| slices(plan, service));
    services.chain(slices).chain(plan.pods.iter().map(pod)).collect()
}

fn service(service: &Service) -> String {
    let Service { namespace, name, addresses, ports } = service;
    let (ips, families) = (addresses.all(), addresses.all());
    let mut text = format!(
        "apiVersion: v1\n\
         kind: Service\n\
         metadata: {{name: {name}, namespace: {namespace}}}\n\
         spec:\n\
         \x20 clusterIP: '{}'\n\
         \x20 clusterIPs: [{}]\n\
         \x20 ipFamilies: [{}]\n\
         \x20 selector: {{app: {name}}}\n\
         \x20 ports:\n",
        addresses.first,
        list(ips.iter().map(|ip| format!("'{ip}'"))),
        list(families.iter().map(|ip| family(*ip).to_owned())),
    );
    for port in ports {
        let (number, target) = (port.number, port.target);
        writeln!(text, "  - {{name: port-{number}, port: {number}, targetPort: {target}}}")
            .expect("a String takes all");
    }
    text + "---\n"
}

fn slices(plan: &Plan, service: &Service) -> Vec<String> {
    let (Service { namespace, name, .. }, mut slices) = (service, Vec::new());
    for (nth, of) in service.addresses.all().into_iter().enumerate() {
        let ports = service.ports.iter();
        let ports = ports.map(|p| format!("{{name: port-{}, port: {}}}", p.number, p.target));
        let endpoints = plan.behind(service).filter_map(|pod| {
            let address = *pod.addresses.all().get(nth)?;
            let target = format!("{{kind: Pod, name: {}, namespace: {namespace}}}", pod.name);
            Some(format!(
                "{{addresses: ['{address}'], conditions: {{ready: true}}, targetRef: {target}}}"
            ))
        });
        slices.push(format!(
            "apiVersion: discovery.k8s.io/v1\n\
             kind: EndpointSlice\n\
             metadata:\n\
             \x20 name: {name}-{}\n\
             \x20 namespace: {namespace}\n\
             \x20 labels: {{kubernetes.io/service-name: {name}}}\n\
             addressType: {}\n\
             ports: [{}]\n\
             endpoints: [{}]\n\
             ---\n",
            family(of).to_lowercase(),
            family(of),
            list(ports),
            list(endpoints),
        ));
    }
    slices
}

fn pod(pod: &Member) -> String {
    let Member { namespace, workload, name, addresses, in_mesh } = pod;
    let sidecar = if *in_mesh { "enabled" } else { "disabled" };
    format!(
        "apiVersion: v1\n\
         kind: Pod\n\
         metadata:\n\
         \x20 name: {name}\n\
         \x20 namespace: {namespace}\n\
         \x20 labels: {{app: {workload}}}\n\
         \x20 annotations: {{pillion.dev/sidecar: {sidecar}}}\n\
         spec:\n\
         \x20 serviceAccountName: {workload}\n\
         \x20 containers: [{{name: app, image: app}}]\n\
         status:\n\
         \x20 phase: Running\n\
         \x20 podIP: '{}'\n\
         \x20 podIPs: [{}]\n\
         \x20 conditions: [{{type: Ready, status: 'True'}}]\n\
         ---\n",
        addresses.first,
        list(addresses.all().iter().map(|ip| format!("{{ip: '{ip}'}}"))),
    )
}

/// What Kubernetes calls the IP version of an address.
pub(super) fn family(address: IpAddr) -> &'static str {
    if address.is_ipv4() { "IPv4" } else { "IPv6" }
}

fn list(items: impl Iterator<Item = String>) -> String {
    items.collect::<Vec<_>>().join(", ")
}
