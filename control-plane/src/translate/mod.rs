//! What the objects and the registered workloads mean for the mesh: a pure function.

mod addresses;
mod endpoints;
mod grpc;
mod inbound;
mod owners;
mod policies;
mod routes;
mod services;

use std::collections::BTreeMap;
use std::net::IpAddr;

use model::inbound::Inbound;
use model::name::{Label, ServiceName};
use model::owner::Owner;
use model::route::ServiceRoutes;
use model::service::Service;
use model::spiffe::TrustDomain;

use crate::problem::Problem;
use crate::registry::Lease;
use crate::world::World;
pub use addresses::{Range, RangeError};

/// What is the same for all objects.
#[derive(Debug, Clone)]
pub struct Settings {
    /// The trust domain of all identities.
    pub trust_domain: TrustDomain,
    /// Where ClusterIPs come from that no object writes.
    pub service_range: Range,
    /// Whether an EndpointSlice's endpoint is left out until the pod that it names is known. In a
    /// cluster the two are told one by one, and only the pod says that it has a sidecar.
    pub wait_for_pods: bool,
}

/// Everything that sidecars are told, each thing under its name.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Translation {
    /// The Services with their endpoints.
    pub services: BTreeMap<ServiceName, Service>,
    /// The routes of each Service.
    pub routes: BTreeMap<ServiceName, ScopedRoutes>,
    /// What each workload lets in, by its address.
    pub inbound: BTreeMap<IpAddr, Inbound>,
    /// Who has each address that is known.
    pub owners: BTreeMap<IpAddr, Owner>,
    /// What could not be resolved.
    pub problems: Vec<Problem>,
}

/// The routes of one Service, by who sees them (GEP-1294).
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct ScopedRoutes {
    /// Of the Service's own namespace: for all clients.
    pub producer: Option<ServiceRoutes>,
    /// Of other namespaces: for the clients there, in place of the producer's at the ports they name;
    /// at the others with those.
    pub consumers: BTreeMap<Label, ServiceRoutes>,
}

/// Translates all there is.
pub fn translate(world: &World, leases: &[&Lease], settings: &Settings) -> Translation {
    let registered = Registered::new(leases);
    let (behind, workloads) = endpoints::collect(world, &registered, settings);
    let (mut services, mut problems) = services::translate(world, &registered, &behind, settings);
    let (routes, unresolved) = routes::translate(world, &services);
    grpc::note_ports(world, &mut services);
    let mut inbound = inbound::translate(leases, &behind, &services);
    problems.extend(policies::note(world, leases, &mut inbound));
    let owners = owners::translate(&services, workloads, &inbound);
    problems.extend(unresolved);
    Translation { services, routes, inbound, owners, problems }
}

/// The leases, as they are looked for.
struct Registered<'l> {
    by_service: BTreeMap<&'l ServiceName, Vec<&'l Lease>>,
    by_address: BTreeMap<IpAddr, Vec<&'l Lease>>,
}

impl<'l> Registered<'l> {
    fn new(leases: &[&'l Lease]) -> Self {
        let mut registered = Self { by_service: BTreeMap::new(), by_address: BTreeMap::new() };
        for lease in leases {
            registered.by_service.entry(&lease.service).or_default().push(lease);
            registered.by_address.entry(lease.address).or_default().push(lease);
        }
        registered
    }

    fn of(&self, service: &ServiceName) -> &[&'l Lease] {
        self.by_service.get(service).map(Vec::as_slice).unwrap_or_default()
    }

    fn at(&self, address: IpAddr) -> &[&'l Lease] {
        self.by_address.get(&address).map(Vec::as_slice).unwrap_or_default()
    }
}

#[cfg(test)]
mod kinds_tests;
#[cfg(test)]
mod tests;
