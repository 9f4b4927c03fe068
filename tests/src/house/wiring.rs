//! Cables: the bridge, and what ties a namespace to it.

use std::path::Path;

use super::Addresses;
use super::namespace::{Namespace, ip};
use super::plan::{Plan, SERVICE_RANGES, Stack};
use super::rules;

/// The bridge in a namespace of its own. It is every pod's way out, and refuses at once what no
/// rule in the pod has taken: a ClusterIP leads nowhere by itself. (A route that is `unreachable`
/// would refuse as well, but by ICMP, which a socket that is still connecting may only believe at
/// its second SYN.) Its files are kept in `files`.
pub(super) async fn hub(name: String, stack: Stack, files: &Path) -> Namespace {
    let hub = Namespace::create(name).await;
    let mut lines = String::from("link add bridge type bridge mcast_snooping 0\n");
    lines += &addresses(Plan::hub(stack), "bridge");
    lines += "link set bridge up\n";
    for address in Plan::hub(stack).all() {
        let [v4, v6] = SERVICE_RANGES;
        let range = if address.is_ipv4() { v4 } else { v6 };
        lines += &format!("route add {range} dev bridge\n");
    }
    ip(Some(hub.name()), &lines).await;
    let file = files.join("hub.nft");
    std::fs::write(&file, rules::refusal()).expect("rules are written");
    rules::load(hub.name(), &file).await;
    set(&hub, &["ipv4/ip_forward=1", "ipv6/conf/all/forwarding=1"]).await;
    hub
}

/// A namespace with a cable to the bridge.
pub(super) async fn join(hub: &Namespace, name: String, own: Addresses, stack: Stack) -> Namespace {
    let pod = Namespace::create(name).await;
    let host = own.number();
    let (inside, outside) = (pod.name(), hub.name());
    let cable = format!("link add eth0 netns {inside} type veth peer pod{host} netns {outside}\n");
    ip(None, &cable).await;
    ip(Some(hub.name()), &format!("link set pod{host} master bridge up\n")).await;
    let mut lines = addresses(own, "eth0") + "link set eth0 up\n";
    for via in Plan::hub(stack).all() {
        lines += &format!("route add default via {via}\n");
    }
    ip(Some(pod.name()), &lines).await;
    // As container runtimes have it: applications bind to 25 or 80 without being root.
    set(&pod, &["ipv4/ip_unprivileged_port_start=0"]).await;
    pod
}

/// Without `nodad` an IPv6 address could not be used for its first second.
fn addresses(addresses: Addresses, device: &str) -> String {
    let all = addresses.all().into_iter();
    all.map(|address| {
        let (prefix, flag) = if address.is_ipv4() { (24, "") } else { (64, " nodad") };
        format!("addr add {address}/{prefix} dev {device}{flag}\n")
    })
    .collect()
}

/// Sets variables below `/proc/sys/net` of a namespace, each written `path=value`.
async fn set(namespace: &Namespace, variables: &[&str]) {
    let command = |variable: &&str| {
        let (path, value) = variable.split_once('=').expect("path=value");
        format!("echo {value} >/proc/sys/net/{path}")
    };
    let script: Vec<_> = variables.iter().map(command).collect();
    let shell = super::Program::at("/bin/sh").user(super::User::Root);
    let home = Path::new("/");
    super::must(namespace.name(), home, &shell.args(["-ec", &script.join("\n")])).await;
}
