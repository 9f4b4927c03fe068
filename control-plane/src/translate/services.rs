//! Services: their addresses and ports, with the endpoints that take traffic.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use model::name::ServiceName;
use model::service::{Endpoint, Protocol, Service, ServicePort};

use super::addresses;
use super::endpoints::{Behind, Candidate, targets_of_lease};
use super::{Registered, Settings};
use crate::object::service::{Addresses, Service as Object};
use crate::object::slice::State;
use crate::problem::{Cause, Problem};
use crate::registry::Lease;
use crate::world::World;

/// All Services, and the registrations that lead nowhere.
pub(super) fn translate(
    world: &World,
    registered: &Registered<'_>,
    behind: &Behind,
    settings: &Settings,
) -> (BTreeMap<ServiceName, Service>, Vec<Problem>) {
    let mut services = BTreeMap::new();
    let mut problems = Vec::new();
    let made = made_addresses(world, settings);
    let in_mesh = world.services().filter(|object| object.addresses != Addresses::External);
    for object in in_mesh {
        let leases = registered.of(&object.name);
        problems.extend(leases.iter().filter_map(|lease| leads_nowhere(lease, object)));
        let service = Service {
            name: object.name.clone(),
            addresses: addresses_of(object, &made),
            ports: object_ports(object, leases),
            endpoints: in_use(&behind[&object.name]),
        };
        services.insert(object.name.clone(), service);
    }
    for (name, candidates) in behind {
        if !services.contains_key(name) {
            let service = by_registration(name, registered.of(name), candidates);
            services.insert(name.clone(), service);
        }
    }
    (services, problems)
}

fn made_addresses<'w>(world: &'w World, settings: &Settings) -> BTreeMap<&'w ServiceName, IpAddr> {
    let written = world.services().flat_map(|service| match &service.addresses {
        Addresses::Written(addresses) => addresses.as_slice(),
        _ => &[],
    });
    let taken: BTreeSet<IpAddr> = written.copied().collect();
    let without = world.services().filter(|service| service.addresses == Addresses::Synthesised);
    addresses::assign(without.map(|service| &service.name), taken, settings.service_range)
}

fn addresses_of(object: &Object, made: &BTreeMap<&ServiceName, IpAddr>) -> Vec<IpAddr> {
    match &object.addresses {
        Addresses::Written(addresses) => addresses.clone(),
        Addresses::Synthesised => made.get(&object.name).copied().into_iter().collect(),
        Addresses::Headless | Addresses::External => Vec::new(),
    }
}

/// What an object does not say of a protocol, a registered workload may.
fn object_ports(object: &Object, leases: &[&Lease]) -> Vec<ServicePort> {
    let said = |number: u16| {
        let serves =
            |l: &&Lease| targets_of_lease(l, &object.ports).iter().any(|t| t.port == number);
        let mut protocols = leases.iter().copied().filter(serves).map(|lease| lease.protocol);
        protocols.find(|protocol| *protocol != Protocol::Detect).unwrap_or_default()
    };
    let port = |port: &crate::object::service::Port| ServicePort {
        port: port.number,
        name: port.name.clone(),
        protocol: match port.protocol {
            Protocol::Detect => said(port.number),
            protocol => protocol,
        },
    };
    object.ports.iter().map(port).collect()
}

/// A Service that no object defines: its ports are those that its workloads registered.
fn by_registration(name: &ServiceName, leases: &[&Lease], candidates: &[Candidate]) -> Service {
    let mut ports: BTreeMap<u16, Protocol> = BTreeMap::new();
    for lease in leases {
        let protocol = ports.entry(lease.service_port.unwrap_or(lease.app_port)).or_default();
        if *protocol == Protocol::Detect {
            *protocol = lease.protocol;
        }
    }
    let port = |(port, protocol)| ServicePort { port, name: None, protocol };
    Service {
        name: name.clone(),
        addresses: Vec::new(),
        ports: ports.into_iter().map(port).collect(),
        endpoints: in_use(candidates),
    }
}

/// The ready endpoints; without any, those that are leaving but still serve (EndpointSlice API,
/// `serving`). An endpoint without a target serves nothing.
fn in_use(candidates: &[Candidate]) -> Vec<Endpoint> {
    let of = |state: State| -> Vec<Endpoint> {
        let chosen = candidates.iter().filter(|candidate| candidate.state == state);
        let serving = chosen.filter(|candidate| !candidate.endpoint.targets.is_empty());
        serving.map(|candidate| candidate.endpoint.clone()).collect()
    };
    let ready = of(State::Ready);
    if ready.is_empty() { of(State::Leaving) } else { ready }
}

fn leads_nowhere(lease: &Lease, object: &Object) -> Option<Problem> {
    if !targets_of_lease(lease, &object.ports).is_empty() {
        return None;
    }
    let reason = match lease.service_port {
        Some(number) => format!("has no port {number}"),
        None => format!("has no port with the target {}", lease.app_port),
    };
    let (workload, app_port) = (&lease.workload, lease.app_port);
    let message = format!(
        "{workload} registered {}:{app_port} for Service {}, which {reason}: it gets no traffic",
        lease.address, lease.service
    );
    let (cause, field) = (Cause::Unresolved, String::new());
    Some(Problem { cause, origin: None, object: None, field, message })
}
