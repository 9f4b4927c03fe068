//! What each workload lets in: the ports that Services and registrations name.

use std::collections::BTreeMap;
use std::net::IpAddr;

use model::inbound::{Inbound, InboundPort};
use model::name::ServiceName;
use model::service::{Protocol, Service};

use super::endpoints::Behind;
use crate::registry::Lease;

/// The Inbound of every address, ready or not: a workload must be able to become ready.
pub(super) fn translate(
    leases: &[&Lease],
    behind: &Behind,
    services: &BTreeMap<ServiceName, Service>,
) -> BTreeMap<IpAddr, Inbound> {
    let mut ports: BTreeMap<IpAddr, BTreeMap<u16, InboundPort>> = BTreeMap::new();
    let mut add = |address: IpAddr, port: u16, protocol: Protocol, service: &ServiceName| {
        let known = ports.entry(address).or_default().entry(port);
        let known =
            known.or_insert_with(|| InboundPort { port, protocol, service: service.clone() });
        if known.protocol == Protocol::Detect {
            known.protocol = protocol;
        }
        if *service < known.service {
            known.service = service.clone();
        }
    };
    for lease in leases {
        add(lease.address, lease.app_port, lease.protocol, &lease.service);
    }
    for (name, candidates) in behind {
        let protocol = |number: u16| {
            let ports = services.get(name).map(|service| service.ports.as_slice());
            let port = ports.unwrap_or_default().iter().find(|port| port.port == number);
            port.map_or(Protocol::Detect, |port| port.protocol)
        };
        for endpoint in candidates.iter().map(|candidate| &candidate.endpoint) {
            for target in &endpoint.targets {
                add(endpoint.address, target.target, protocol(target.port), name);
            }
        }
    }
    let inbound = |ports: BTreeMap<u16, InboundPort>| Inbound {
        ports: ports.into_values().collect(),
        plaintext: None,
    };
    ports.into_iter().map(|(address, ports)| (address, inbound(ports))).collect()
}
