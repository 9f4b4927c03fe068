//! The Table: all that a sidecar knows, in the shape that a request asks it.
//!
//! A Table is built whole from the [`Resources`] that the control plane published and never
//! changes; a request sees one Table from its start to its end. The live state of endpoints and
//! budgets is shared with the Table before it, found by key, so that a push forgets nothing.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Instant;

use crate::budget::RetryBudget;
use crate::endpoint::{Endpoint, EndpointKey};
use crate::inbound::{Inbound, InboundPort, Plaintext};
use crate::name::ServiceName;
use crate::owner::Owner;
use crate::route::{Router, ServiceRoutes};
use crate::service::{MeshPeer, Protocol, Service, ServicePort};

/// What the control plane published to this sidecar, last good of each.
#[derive(Debug, Clone, Default)]
pub struct Resources {
    /// The Services subscribed to, and those that their routes lead to.
    pub services: BTreeMap<ServiceName, Arc<Service>>,
    /// The routes of those that have any.
    pub routes: BTreeMap<ServiceName, Arc<ServiceRoutes>>,
    /// Services asked for that do not exist.
    pub absent: BTreeSet<ServiceName>,
    /// Who has the addresses asked for.
    pub owners: BTreeMap<IpAddr, Arc<Owner>>,
    /// Addresses asked for that nobody in the mesh has.
    pub nobody: BTreeSet<IpAddr>,
    /// The sidecar's own workload.
    pub inbound: Inbound,
    /// The publication that this is.
    pub publication: u64,
}

/// Asked with each request, so by a quick hash; seeded, for names may come from clients.
type Map<K, V> = std::collections::HashMap<K, V, foldhash::fast::RandomState>;
type Set<K> = std::collections::HashSet<K, foldhash::fast::RandomState>;

/// All that a request asks, in one immutable value.
#[derive(Debug, Default)]
pub struct Table {
    services: Map<ServiceName, Arc<ServiceEntry>>,
    absent: Set<ServiceName>,
    addresses: Map<IpAddr, ServiceName>,
    owners: Map<IpAddr, OwnerEntry>,
    nobody: Set<IpAddr>,
    inbound: Vec<InboundEntry>,
    plaintext: Option<Plaintext>,
    publication: u64,
}

/// One port of the sidecar's own application.
#[derive(Debug)]
pub struct InboundEntry {
    /// The Service that names it, as metrics and logs show it.
    pub label: Arc<str>,
    /// The port as published.
    pub port: InboundPort,
}

/// What the Table knows of a Service.
#[derive(Debug, Clone, Copy)]
pub enum Lookup<'a> {
    /// It exists.
    Known(&'a Arc<ServiceEntry>),
    /// The control plane said that it does not exist.
    Absent,
    /// The control plane was not asked, or has not answered yet.
    NotAsked,
}

/// A workload that is reached by its own address.
#[derive(Debug)]
pub struct WorkloadEntry {
    /// Its name, for people.
    pub name: Arc<str>,
    /// Its sidecar; `None` where it is not in the mesh.
    pub mesh: Option<MeshPeer>,
    /// Its ports that a Service names.
    pub ports: Vec<InboundEntry>,
    /// What may be spent on retries towards it.
    pub budget: RetryBudget,
    /// As published.
    owner: Arc<Owner>,
}

#[derive(Debug)]
enum OwnerEntry {
    Service(ServiceName),
    Workload(Arc<WorkloadEntry>),
}

/// What the Table knows of an address.
#[derive(Debug, Clone, Copy)]
pub enum At<'a> {
    /// It is a ClusterIP of this Service.
    Service(&'a Arc<ServiceEntry>),
    /// It is this workload's own.
    Workload(&'a Arc<WorkloadEntry>),
    /// The control plane said that nobody in the mesh has it.
    Nobody,
    /// The control plane was not asked, or has not answered yet.
    NotAsked,
}

/// A Service with its routes compiled and its endpoints alive.
#[derive(Debug)]
pub struct ServiceEntry {
    /// `namespace/name`, as metrics and logs show it.
    pub label: Arc<str>,
    /// The Service as published.
    pub service: Arc<Service>,
    /// The routes as published, where any are attached.
    pub routes: Option<Arc<ServiceRoutes>>,
    /// Its ports.
    pub ports: Vec<PortEntry>,
}

/// One port of a Service.
#[derive(Debug)]
pub struct PortEntry {
    /// The Service's port.
    pub port: u16,
    /// What is spoken on it, as far as the object says.
    pub protocol: Protocol,
    /// The ready endpoints.
    pub endpoints: Vec<Arc<Endpoint>>,
    /// The routes that apply to this port; `None` where traffic just goes to the endpoints.
    pub router: Option<Router>,
    /// What may be spent on retries towards this port.
    pub budget: Arc<RetryBudget>,
}

impl Table {
    /// The Table of `resources`, with the live state of `previous`.
    pub fn build(previous: &Self, resources: &Resources, now: Instant) -> Self {
        let (mut services, mut addresses) = (Map::default(), Map::default());
        for (name, service) in &resources.services {
            let routes = resources.routes.get(name);
            let before = previous.services.get(name);
            let entry = match before {
                Some(entry) if entry.is_of(service, routes) => Arc::clone(entry),
                _ => Arc::new(ServiceEntry::build(before.map(Arc::as_ref), service, routes, now)),
            };
            addresses.extend(service.addresses.iter().map(|address| (*address, name.clone())));
            services.insert(name.clone(), entry);
        }
        Self {
            services,
            addresses,
            absent: resources.absent.iter().cloned().collect(),
            owners: resources
                .owners
                .iter()
                .map(|(at, owner)| (*at, OwnerEntry::build(previous.owners.get(at), owner, now)))
                .collect(),
            nobody: resources.nobody.iter().copied().collect(),
            inbound: resources.inbound.ports.iter().map(InboundEntry::new).collect(),
            plaintext: resources.inbound.plaintext,
            publication: resources.publication,
        }
    }

    /// What is known of a Service.
    pub fn service(&self, name: &ServiceName) -> Lookup<'_> {
        match self.services.get(name) {
            Some(entry) => Lookup::Known(entry),
            None if self.absent.contains(name) => Lookup::Absent,
            None => Lookup::NotAsked,
        }
    }

    /// What is known of an address.
    pub fn at(&self, address: IpAddr) -> At<'_> {
        let name = match (self.addresses.get(&address), self.owners.get(&address)) {
            (Some(name), _) | (None, Some(OwnerEntry::Service(name))) => name,
            (None, Some(OwnerEntry::Workload(workload))) => return At::Workload(workload),
            (None, None) if self.nobody.contains(&address) => return At::Nobody,
            (None, None) => return At::NotAsked,
        };
        self.services.get(name).map_or(At::NotAsked, At::Service)
    }

    /// Every Service in the Table, in no order.
    pub fn services(&self) -> impl Iterator<Item = &Arc<ServiceEntry>> {
        self.services.values()
    }

    /// The application's ports that a Service names.
    pub fn inbound(&self) -> &[InboundEntry] {
        &self.inbound
    }

    /// The application's port of this number, where a Service names it.
    pub fn inbound_port(&self, port: u16) -> Option<&InboundEntry> {
        self.inbound.iter().find(|entry| entry.port.port == port)
    }

    /// What a policy says of plaintext; `None` where none selects the workload.
    pub const fn plaintext(&self) -> Option<Plaintext> {
        self.plaintext
    }

    /// The publication that this Table was built from.
    pub const fn publication(&self) -> u64 {
        self.publication
    }
}

impl InboundEntry {
    fn new(port: &InboundPort) -> Self {
        Self { label: port.service.to_string().into(), port: port.clone() }
    }
}

impl OwnerEntry {
    fn build(before: Option<&Self>, owner: &Arc<Owner>, now: Instant) -> Self {
        match (owner.as_ref(), before) {
            (Owner::Service(name), _) => Self::Service(name.clone()),
            (Owner::Workload(_), Some(Self::Workload(entry)))
                if Arc::ptr_eq(&entry.owner, owner) =>
            {
                Self::Workload(Arc::clone(entry))
            }
            (Owner::Workload(workload), _) => Self::Workload(Arc::new(WorkloadEntry {
                name: workload.name.as_str().into(),
                mesh: workload.mesh.clone(),
                ports: workload.ports.iter().map(InboundEntry::new).collect(),
                budget: RetryBudget::new(now),
                owner: Arc::clone(owner),
            })),
        }
    }
}

impl WorkloadEntry {
    /// The port of this number, where a Service names it.
    pub fn port(&self, number: u16) -> Option<&InboundEntry> {
        self.ports.iter().find(|entry| entry.port.port == number)
    }
}

impl ServiceEntry {
    fn build(
        before: Option<&Self>,
        service: &Arc<Service>,
        routes: Option<&Arc<ServiceRoutes>>,
        now: Instant,
    ) -> Self {
        let ports = service
            .ports
            .iter()
            .map(|port| {
                let before = before.and_then(|entry| entry.port(port.port));
                PortEntry::build(before, service, port, routes.map(Arc::as_ref), now)
            })
            .collect();
        Self {
            label: service.name.to_string().into(),
            service: Arc::clone(service),
            routes: routes.cloned(),
            ports,
        }
    }

    /// Whether this entry was built from these very resources.
    fn is_of(&self, service: &Arc<Service>, routes: Option<&Arc<ServiceRoutes>>) -> bool {
        Arc::ptr_eq(&self.service, service)
            && match (&self.routes, routes) {
                (None, None) => true,
                (Some(mine), Some(other)) => Arc::ptr_eq(mine, other),
                _ => false,
            }
    }

    /// The Service's name.
    pub fn name(&self) -> &ServiceName {
        &self.service.name
    }

    /// The port of this number.
    pub fn port(&self, port: u16) -> Option<&PortEntry> {
        self.ports.iter().find(|entry| entry.port == port)
    }

    /// The port that a client means who wrote none: 80, or else the only one there is.
    pub fn default_port(&self) -> Option<&PortEntry> {
        self.port(80).or(match self.ports.as_slice() {
            [only] => Some(only),
            _ => None,
        })
    }
}

impl PortEntry {
    fn build(
        before: Option<&Self>,
        service: &Service,
        port: &ServicePort,
        routes: Option<&ServiceRoutes>,
        now: Instant,
    ) -> Self {
        let endpoints = service
            .endpoints
            .iter()
            .filter_map(|endpoint| {
                let target = endpoint.targets.iter().find(|target| target.port == port.port)?;
                let key = EndpointKey {
                    address: endpoint.address,
                    target: target.target,
                    mesh: endpoint.mesh.clone(),
                };
                let alive = before.and_then(|entry| entry.endpoint(&key)).cloned();
                Some(alive.unwrap_or_else(|| Arc::new(Endpoint::new(key, &endpoint.workload, now))))
            })
            .collect();
        Self {
            port: port.port,
            protocol: port.protocol,
            endpoints,
            router: routes.and_then(|routes| Router::new(routes, port.port)),
            budget: before
                .map_or_else(|| Arc::new(RetryBudget::new(now)), |entry| Arc::clone(&entry.budget)),
        }
    }

    /// The endpoint of this key.
    fn endpoint(&self, key: &EndpointKey) -> Option<&Arc<Endpoint>> {
        self.endpoints.iter().find(|endpoint| endpoint.key == *key)
    }
}

#[cfg(test)]
mod tests;
