//! Who has which address: the pods, the Services that they are behind, and what both are called.
//!
//! Every house has the same ranges, for nothing of it is reachable from outside.

use std::net::IpAddr;

/// The addresses of one pod or one Service.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Addresses {
    /// The primary one.
    pub first: IpAddr,
    /// IPv6, in a house that has both.
    pub second: Option<IpAddr>,
}

/// The IP versions of a house.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Stack {
    /// IPv4 only.
    #[default]
    V4,
    /// Both, and most clients try IPv6 first.
    Dual,
    /// IPv6 only; loopback has both versions, as everywhere.
    V6,
}

/// The ranges of the ClusterIPs, which no interface has: IPv4 and IPv6.
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
        [self.first].into_iter().chain(self.second).collect()
    }

    /// The number of the pod or the Service, which all of its addresses end with.
    pub(super) fn number(self) -> u16 {
        match self.first {
            IpAddr::V4(v4) => {
                let [.., high, low] = v4.octets();
                u16::from_be_bytes([high, low])
            }
            IpAddr::V6(v6) => v6.segments()[7],
        }
    }
}

impl Stack {
    fn pod(self, host: u16) -> Addresses {
        self.numbered(77, 0x77, host)
    }

    fn service(self, index: u16) -> Addresses {
        self.numbered(96, 0x96, index)
    }

    fn numbered(self, v4: u8, v6: u16, number: u16) -> Addresses {
        let [high, low] = number.to_be_bytes();
        let v4 = IpAddr::from([10, v4, high, low]);
        let v6 = IpAddr::from([0xfd00, v6, 0, 0, 0, 0, 0, number]);
        match self {
            Self::V4 => Addresses { first: v4, second: None },
            Self::Dual => Addresses { first: v4, second: Some(v6) },
            Self::V6 => Addresses { first: v6, second: None },
        }
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

    /// Adds a port to a Service, and makes the Service if it is new. Gives its addresses.
    pub(super) fn declare(&mut self, namespace: &str, name: &str, port: Port) -> Addresses {
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
        service.addresses
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
        for (stack, addresses) in [(Stack::V4, 1), (Stack::Dual, 2), (Stack::V6, 1)] {
            let mut plan = Plan::new(stack);
            let (one, two) = (plan.next(), plan.next());
            assert_ne!(one.first, two.first);
            assert_ne!(one.number(), two.number());
            assert_eq!(one.all().len(), addresses, "{stack:?}");
        }
    }

    #[test]
    fn a_house_of_ipv6_names_no_address_of_ipv4_but_loopback() {
        let mut plan = Plan::new(Stack::V6);
        plan.declare("shop", "api", Port { number: 80, target: 8080 });
        let hosts = plan.hosts("shop");
        let lines: Vec<&str> = hosts.lines().map(str::trim_end).skip(2).collect();
        assert_eq!(lines, ["fd00:96::1 api.shop.svc.cluster.local api.shop api"]);
        assert!(plan.next().first.is_ipv6());
    }
}
