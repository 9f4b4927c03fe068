//! Packet rules of the harness's own: for pods without a sidecar what kube-proxy does on a node, so
//! that a ClusterIP leads somewhere without a mesh; and for what nobody has translated, a refusal.

use std::fmt::Write;
use std::net::SocketAddr;
use std::path::Path;

use super::plan::{Plan, SERVICE_RANGES, Service};
use super::program::{Program, User};

/// Applies the ruleset of a file in a namespace.
pub(super) async fn load(namespace: &str, file: &Path) {
    let nft = Program::find("nft", "nftables").user(User::Root);
    let load = nft.args(["-f", file.to_str().expect("a path in UTF-8")]);
    super::must(namespace, Path::new("/"), &load).await;
}

/// For the bridge: a connection to a ClusterIP that comes this far is reset.
pub(super) fn refusal() -> String {
    let [v4, v6] = SERVICE_RANGES;
    format!(
        "add table inet hub\n\
         add chain inet hub forward {{ type filter hook forward priority 0; }}\n\
         add rule inet hub forward ip daddr {v4} meta l4proto tcp reject with tcp reset\n\
         add rule inet hub forward ip6 daddr {v6} meta l4proto tcp reject with tcp reset\n"
    )
}

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
