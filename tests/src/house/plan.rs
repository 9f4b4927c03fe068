//! Who has which address: the pods, the Services that they are behind, and what both are called.
//!
//! Every house has the same ranges, for nothing of it is reachable from outside.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// The addresses of one pod or one Service.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Addresses {
    /// IPv4.
    pub v4: Ipv4Addr,
    /// IPv6, in a house that has both.
    pub v6: Option<Ipv6Addr>,
}

/// The IP versions of a house.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Stack {
    /// IPv4 only.
    #[default]
    V4,
    /// Both, and most clients try IPv6 first.
    Dual,
}

/// The range of the ClusterIPs, which no interface has.
pub(super) const SERVICE_RANGES: [&str; 2] = ["10.96.0.0/12", "fd00:96::/112"];

const HUB: u16 = 1;
const CONTROL_PLANE: u16 = 2;
const FIRST_POD: u16 = 10;
const LAST_POD: u16 = 250;

/// All of a house's pods and Services.
#[derive(Debug)]
pub(super) struct Plan {
    stack: Stack,
    pub(super) services: Vec<Service>,
    pub(super) pods: Vec<Member>,
    next: u16,
}

/// A Service: its name is `NAMESPACE/NAME`, its pods are those of the workload of that name.
#[derive(Debug, Clone)]
pub(super) struct Service {
    pub(super) namespace: String,
    pub(super) name: String,
    pub(super) addresses: Addresses,
    pub(super) ports: Vec<Port>,
}

/// One port of a Service.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Port {
    pub(super) number: u16,
    pub(super) target: u16,
}

/// A pod that takes traffic, as the objects describe it.
#[derive(Debug, Clone)]
pub(super) struct Member {
    pub(super) namespace: String,
    /// The Service of the same name, where there is one, and the service account.
    pub(super) workload: String,
    pub(super) name: String,
    pub(super) addresses: Addresses,
    pub(super) in_mesh: bool,
}

impl Addresses {
    /// All of them, the primary first.
    pub fn all(&self) -> Vec<IpAddr> {
        [self.v4.into()].into_iter().chain(self.v6.map(Into::into)).collect()
    }
}

impl Stack {
    fn pod(self, host: u16) -> Addresses {
        let [_, low] = host.to_be_bytes();
        let v6 = Ipv6Addr::new(0xfd00, 0x77, 0, 0, 0, 0, 0, host);
        Addresses { v4: Ipv4Addr::new(10, 77, 0, low), v6: self.both(v6) }
    }

    fn service(self, index: u16) -> Addresses {
        let [high, low] = index.to_be_bytes();
        let v6 = Ipv6Addr::new(0xfd00, 0x96, 0, 0, 0, 0, 0, index);
        Addresses { v4: Ipv4Addr::new(10, 96, high, low), v6: self.both(v6) }
    }

    fn both(self, v6: Ipv6Addr) -> Option<Ipv6Addr> {
        (self == Self::Dual).then_some(v6)
    }
}

impl Plan {
    pub(super) fn new(stack: Stack) -> Self {
        Self { stack, services: Vec::new(), pods: Vec::new(), next: FIRST_POD }
    }

    /// The bridge, which routes to nowhere.
    pub(super) fn hub(stack: Stack) -> Addresses {
        stack.pod(HUB)
    }

    pub(super) fn control_plane(stack: Stack) -> Addresses {
        stack.pod(CONTROL_PLANE)
    }

    /// Addresses that no pod of the house has had.
    pub(super) fn next(&mut self) -> Addresses {
        assert!(self.next <= LAST_POD, "this house has too many pods");
        self.next += 1;
        self.stack.pod(self.next - 1)
    }

    /// Adds a port to a Service, and makes the Service if it is new.
    pub(super) fn declare(&mut self, namespace: &str, name: &str, port: Port) {
        let known = |s: &Service| s.namespace == namespace && s.name == name;
        let at = self.services.iter().position(known).unwrap_or_else(|| {
            let index = u16::try_from(self.services.len() + 1).expect("few Services");
            let addresses = self.stack.service(index);
            let (namespace, name) = (namespace.to_owned(), name.to_owned());
            self.services.push(Service { namespace, name, addresses, ports: Vec::new() });
            self.services.len() - 1
        });
        let service = &mut self.services[at];
        if !service.ports.contains(&port) {
            service.ports.push(port);
        }
    }

    /// The pods behind a Service.
    pub(super) fn behind<'a>(&'a self, service: &'a Service) -> impl Iterator<Item = &'a Member> {
        let is_behind =
            |pod: &&Member| pod.namespace == service.namespace && pod.workload == service.name;
        self.pods.iter().filter(is_behind)
    }

    /// `/etc/hosts` of the pods of a Kubernetes namespace: the names that a resolver of the
    /// cluster would find there.
    pub(super) fn hosts(&self, namespace: &str) -> String {
        let mut lines = String::from("127.0.0.1 localhost\n::1 localhost\n");
        for service in &self.services {
            let Service { namespace: home, name, .. } = service;
            let short = if home == namespace { name.as_str() } else { "" };
            for address in service.addresses.all() {
                let names = format!("{name}.{home}.svc.cluster.local {name}.{home}");
                lines += &format!("{address} {names} {short}\n");
            }
        }
        lines
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_those_of_a_cluster_and_short_only_at_home() {
        let mut plan = Plan::new(Stack::Dual);
        plan.declare("shop", "api", Port { number: 80, target: 8080 });
        plan.declare("shop", "api", Port { number: 80, target: 8080 });
        plan.declare("data", "db", Port { number: 5432, target: 5432 });
        assert_eq!(plan.services.len(), 2);
        assert_eq!(plan.services[0].ports.len(), 1);
        let hosts = plan.hosts("shop");
        let lines: Vec<&str> = hosts.lines().map(str::trim_end).skip(2).collect();
        let expected = [
            "10.96.0.1 api.shop.svc.cluster.local api.shop api",
            "fd00:96::1 api.shop.svc.cluster.local api.shop api",
            "10.96.0.2 db.data.svc.cluster.local db.data",
            "fd00:96::2 db.data.svc.cluster.local db.data",
        ];
        assert_eq!(lines, expected);
    }

    #[test]
    fn no_two_pods_have_one_address() {
        let mut plan = Plan::new(Stack::V4);
        let (one, two) = (plan.next(), plan.next());
        assert_ne!(one, two);
        assert_eq!(one.all().len(), 1);
    }
}
