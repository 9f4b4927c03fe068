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
    let mut ports: BTreeMap<IpAddr, BTreeMap<u16, Protocol>> = BTreeMap::new();
    let mut add = |address: IpAddr, port: u16, protocol: Protocol| {
        let known = ports.entry(address).or_default().entry(port).or_default();
        if *known == Protocol::Detect {
            *known = protocol;
        }
    };
    for lease in leases {
        add(lease.address, lease.app_port, lease.protocol);
    }
    for (name, candidates) in behind {
        let protocol = |number: u16| {
            let ports = services.get(name).map(|service| service.ports.as_slice());
            let port = ports.unwrap_or_default().iter().find(|port| port.port == number);
            port.map_or(Protocol::Detect, |port| port.protocol)
        };
        for endpoint in candidates.iter().map(|candidate| &candidate.endpoint) {
            for target in &endpoint.targets {
                add(endpoint.address, target.target, protocol(target.port));
            }
        }
    }
    let inbound = |ports: BTreeMap<u16, Protocol>| Inbound {
        ports: ports.into_iter().map(|(port, protocol)| InboundPort { port, protocol }).collect(),
    };
    ports.into_iter().map(|(address, ports)| (address, inbound(ports))).collect()
}
