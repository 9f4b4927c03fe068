//! Packet rules within a pod: the sidecar's redirection, by its own command; and for pods without
//! a sidecar what kube-proxy does on a node, so that a ClusterIP leads somewhere without a mesh.

use std::fmt::Write;
use std::net::SocketAddr;

use super::plan::{Plan, Service};

/// A ruleset for `nft -f` that sends each connection to a ClusterIP to one of the pods behind it.
/// Applied again, it replaces the one before as a whole.
pub(super) fn kube_proxy(plan: &Plan) -> String {
    let mut rules = String::from(
        "table inet kube-proxy\n\
         delete table inet kube-proxy\n\
         table inet kube-proxy {\n\
         chain output {\n\
         type nat hook output priority -100\n",
    );
    for service in &plan.services {
        rules += &of_service(plan, service);
    }
    rules + "}\n}\n"
}

fn of_service(plan: &Plan, service: &Service) -> String {
    let mut rules = String::new();
    for (nth, ip) in service.addresses.all().into_iter().enumerate() {
        for port in &service.ports {
            let pods = plan.behind(service).filter_map(|pod| pod.addresses.all().get(nth).copied());
            let pods: Vec<_> = pods.map(|address| SocketAddr::new(address, port.target)).collect();
            let family = if ip.is_ipv4() { "ip" } else { "ip6" };
            if let Some(target) = target(&pods) {
                let number = port.number;
                writeln!(rules, "{family} daddr {ip} tcp dport {number} dnat {family} to {target}")
                    .expect("a String takes all");
            }
        }
    }
    rules
}

/// One of the pods, at random for each connection; nothing where there is none.
fn target(pods: &[SocketAddr]) -> Option<String> {
    let place = |pod: &SocketAddr| format!("{} . {}", pod.ip(), pod.port());
    match pods {
        [] => None,
        [only] => Some(only.to_string()),
        several => {
            let numbered = several.iter().enumerate();
            let all: Vec<_> = numbered.map(|(at, pod)| format!("{at} : {}", place(pod))).collect();
            let (count, all) = (several.len(), all.join(", "));
            Some(format!("numgen random mod {count} map {{ {all} }}"))
        }
    }
}
