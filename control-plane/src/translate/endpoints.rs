//! Who stands behind each Service: from EndpointSlices, from Pods, and from registrations.

use std::collections::BTreeMap;
use std::net::IpAddr;

use foldhash::{HashMap, HashMapExt};
use model::name::{Label, ServiceName};
use model::service::{Endpoint, MeshPeer, Target};
use model::spiffe::SpiffeId;

use super::{Registered, Settings};
use crate::object::pod::Pod;
use crate::object::service::{Addresses, Port, Service, TargetPort};
use crate::object::slice::{Slice, SliceEndpoint, State};
use crate::registry::Lease;
use crate::world::World;

/// An endpoint, ready or not.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Candidate {
    pub(super) endpoint: Endpoint,
    pub(super) state: State,
}

/// What stands behind each Service that an object defines or a workload registered for.
pub(super) type Behind = BTreeMap<ServiceName, Vec<Candidate>>;

/// Who is at an address, whether a Service leads there or not.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct At {
    /// The name for people.
    pub(super) workload: String,
    /// How to reach its sidecar.
    pub(super) mesh: Option<MeshPeer>,
}

/// Collects the endpoints of all Services, and who is at each address.
pub(super) fn collect(
    world: &World,
    registered: &Registered<'_>,
    settings: &Settings,
) -> (Behind, BTreeMap<IpAddr, At>) {
    let view = View::new(world, registered, settings);
    let mut behind = Behind::new();
    for service in world.services().filter(|service| service.addresses != Addresses::External) {
        let mut found = view.of_objects(service);
        for lease in registered.of(&service.name) {
            add_lease(&mut found, lease, targets_of_lease(lease, &service.ports));
        }
        behind.insert(service.name.clone(), found);
    }
    for (name, leases) in &registered.by_service {
        if behind.contains_key(*name) {
            continue;
        }
        let found = behind.entry((*name).clone()).or_default();
        for lease in leases {
            let port = lease.service_port.unwrap_or(lease.app_port);
            add_lease(found, lease, vec![Target { port, target: lease.app_port }]);
        }
    }
    let workloads = view.workloads(&behind);
    (behind, workloads)
}

/// The ports of a Service that a registered workload serves: the one that it names, those whose
/// target it is, or the only one there is. Empty when none of that holds.
pub(super) fn targets_of_lease(lease: &Lease, ports: &[Port]) -> Vec<Target> {
    let serves = |port: &&Port| match lease.service_port {
        Some(number) => port.number == number,
        None => port.target == TargetPort::Number(lease.app_port),
    };
    let mut served: Vec<&Port> = ports.iter().filter(serves).collect();
    if let ([], None, [only]) = (served.as_slice(), lease.service_port, ports) {
        served.push(only);
    }
    served.iter().map(|port| Target { port: port.number, target: lease.app_port }).collect()
}

/// Unless the objects name the same place already.
fn add_lease(found: &mut Vec<Candidate>, lease: &Lease, targets: Vec<Target>) {
    let known = |candidate: &Candidate| {
        candidate.endpoint.address == lease.address
            && targets.iter().all(|target| candidate.endpoint.targets.contains(target))
    };
    if targets.is_empty() || found.iter().any(known) {
        return;
    }
    let mesh = Some(MeshPeer::pillion(lease.mesh_port, lease.identity.clone()));
    let workload = lease.workload.clone();
    let endpoint = Endpoint { address: lease.address, workload, targets, mesh };
    found.push(Candidate { endpoint, state: State::Ready });
}

/// The objects, indexed as endpoints are looked for.
struct View<'w> {
    world: &'w World,
    settings: &'w Settings,
    registered: &'w Registered<'w>,
    pods_in: HashMap<&'w Label, Vec<&'w Pod>>,
    slices: HashMap<&'w ServiceName, Vec<&'w Slice>>,
    /// Of the service accounts of pods that have sidecars.
    identities: HashMap<(&'w Label, &'w str), SpiffeId>,
}

impl<'w> View<'w> {
    fn new(world: &'w World, registered: &'w Registered<'w>, settings: &'w Settings) -> Self {
        let mut pods_in: HashMap<_, Vec<_>> = HashMap::new();
        let mut identities = HashMap::new();
        for pod in world.pods() {
            pods_in.entry(&pod.namespace).or_default().push(pod);
            let account = (&pod.namespace, &*pod.service_account);
            if pod.sidecar.is_some() && !identities.contains_key(&account) {
                let identity = SpiffeId::workload(&settings.trust_domain, account.0, account.1);
                identities.extend(identity.ok().map(|identity| (account, identity)));
            }
        }
        let mut slices: HashMap<_, Vec<_>> = HashMap::new();
        for slice in world.slices() {
            if let Some(service) = &slice.service {
                slices.entry(service).or_default().push(slice);
            }
        }
        Self { world, settings, registered, pods_in, slices, identities }
    }

    /// EndpointSlices count where there are any; else, for a directory has no controller that
    /// would make them, the Pods that the Service selects.
    fn of_objects(&self, service: &Service) -> Vec<Candidate> {
        match self.slices.get(&service.name) {
            Some(slices) => self.of_slices(service, slices),
            None => self.of_pods(service),
        }
    }

    fn of_slices(&self, service: &Service, slices: &[&Slice]) -> Vec<Candidate> {
        let mut found: Vec<Candidate> = Vec::new();
        for slice in slices {
            let targets = slice_targets(service, slice);
            for written in slice.endpoints.iter().filter(|written| self.knows(service, written)) {
                let same = |c: &&mut Candidate| c.endpoint.address == written.address;
                match found.iter_mut().find(same) {
                    Some(candidate) => merge(&mut candidate.endpoint.targets, &targets),
                    None => found.push(self.of_slice(service, written, targets.clone())),
                }
            }
        }
        found
    }

    /// Whether all is known of an endpoint that must be for it to be used: its pod, as it is now. One of
    /// a StatefulSet keeps its name when it comes back at another address. One that has its node's is
    /// known by its name alone.
    fn knows(&self, service: &Service, written: &SliceEndpoint) -> bool {
        let Some(name) = written.pod.as_ref().filter(|_| self.settings.wait_for_pods) else {
            return true;
        };
        let namespace = &service.name.namespace;
        if self.world.pods_at(written.address).any(|pod| pod.is_called(namespace, name)) {
            return true;
        }
        self.world.pod(namespace.clone(), name.clone()).is_some_and(|pod| pod.host_network)
    }

    fn of_slice(
        &self,
        service: &Service,
        written: &SliceEndpoint,
        targets: Vec<Target>,
    ) -> Candidate {
        let (mut pods, name) = (self.world.pods_at(written.address), written.pod.as_deref());
        let named =
            |pod: &&Pod| name.is_some_and(|name| pod.is_called(&service.name.namespace, name));
        let pod = pods.clone().find(named).or_else(|| pods.next());
        let workload = written.pod.clone().or_else(|| Some(pod?.name.clone()));
        let endpoint = Endpoint {
            address: written.address,
            workload: workload.unwrap_or_else(|| written.address.to_string()),
            mesh: self.mesh(&service.name.namespace, written.address, &targets, pod),
            targets,
        };
        Candidate { endpoint, state: written.state }
    }

    fn of_pods(&self, service: &Service) -> Vec<Candidate> {
        let Some(selector) = &service.selector else { return Vec::new() };
        let selected = |pod: &&&Pod| {
            selector.iter().all(|(label, value)| pod.labels.get(label) == Some(value))
        };
        let candidate = |pod: &&Pod| {
            let address = *pod.addresses.first()?;
            let targets = pod_targets(service, pod);
            let mesh = self.mesh(&pod.namespace, address, &targets, Some(pod));
            let endpoint = Endpoint { address, workload: pod.name.clone(), targets, mesh };
            let takes = pod.ready || service.takes_unready;
            let state = if takes { State::Ready } else { State::NotReady };
            Some(Candidate { endpoint, state })
        };
        let pods = self.pods_in.get(&service.name.namespace).into_iter().flatten();
        pods.filter(selected).filter_map(candidate).collect()
    }

    /// Who is at each address: the pods, and where no pod says so, who serves there.
    fn workloads(&self, behind: &Behind) -> BTreeMap<IpAddr, At> {
        let mut found = BTreeMap::new();
        for (address, mut pods) in self.world.pods_by_address() {
            // An address that was given on may still be written in a pod that has ended.
            let Some(pod) = pods.clone().find(|pod| pod.ready).or_else(|| pods.next()) else {
                continue;
            };
            let mesh = self.mesh(&pod.namespace, address, &[], Some(pod));
            found.insert(address, At { workload: pod.name.clone(), mesh });
        }
        for endpoint in behind.values().flatten().map(|candidate| &candidate.endpoint) {
            let at = || At { workload: endpoint.workload.clone(), mesh: endpoint.mesh.clone() };
            let known = found.entry(endpoint.address).or_insert_with(at);
            if known.mesh.is_none() {
                known.mesh.clone_from(&endpoint.mesh);
            }
        }
        found
    }

    /// The sidecar at an address of this namespace: one that registered there says best who it
    /// is, the one of the same port before any other; else the pod's annotation. What a workload
    /// of another namespace registers has no say: it could take the address out of service.
    fn mesh(
        &self,
        namespace: &Label,
        address: IpAddr,
        targets: &[Target],
        pod: Option<&Pod>,
    ) -> Option<MeshPeer> {
        let own = |lease: &&&Lease| lease.identity.namespace() == Some(namespace.as_str());
        let same_port = |lease: &&&Lease| targets.iter().any(|t| t.target == lease.app_port);
        let leases = || self.registered.at(address).iter().filter(own);
        if let Some(lease) = leases().find(same_port).or_else(|| leases().next()) {
            return Some(MeshPeer::pillion(lease.mesh_port, lease.identity.clone()));
        }
        let pod = pod?;
        let (port, protocol) = pod.sidecar?;
        let identity = self.identities.get(&(&pod.namespace, &*pod.service_account))?.clone();
        Some(MeshPeer { port, identity, protocol })
    }
}

/// A slice's port is for the Service's port of the same name.
fn slice_targets(service: &Service, slice: &Slice) -> Vec<Target> {
    let target = |port: &Port| {
        let name = port.name.as_deref().unwrap_or_default();
        let found = slice.ports.iter().find(|written| written.name == name)?;
        Some(Target { port: port.number, target: found.number })
    };
    service.ports.iter().filter_map(target).collect()
}

/// A named target port that the pod does not have is not served there.
fn pod_targets(service: &Service, pod: &Pod) -> Vec<Target> {
    let target = |port: &Port| {
        let target = match &port.target {
            TargetPort::Number(number) => *number,
            TargetPort::Name(name) => *pod.named_ports.get(name)?,
        };
        Some(Target { port: port.number, target })
    };
    service.ports.iter().filter_map(target).collect()
}

fn merge(into: &mut Vec<Target>, more: &[Target]) {
    for target in more {
        if !into.contains(target) {
            into.push(*target);
        }
    }
}
