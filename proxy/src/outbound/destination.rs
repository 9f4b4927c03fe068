//! Where a request or connection goes: by the name that it gives, or by the address that it was
//! redirected from.

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Instant;

use model::code::ErrorCode;
use model::endpoint::{Endpoint, EndpointKey};
use model::host::{Authority, Host};
use model::service::{MeshPeer, Protocol};
use model::table::{At, Lookup, PortEntry, ServiceEntry, Table, WorkloadEntry};

use crate::args::Policy;
use crate::error::ProxyError;
use crate::mesh::Mesh;

/// How the application says where it wants to go.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Via {
    /// In each request: the sidecar is its HTTP proxy.
    Proxy,
    /// By the address that it connected to, from which it was redirected.
    Redirect(SocketAddr),
}

/// Where a request or connection goes.
#[derive(Debug)]
pub enum Destination {
    /// To a Service.
    Service(ServicePort),
    /// To one workload, by its own address.
    Workload(Direct),
    /// To an address that nobody in the mesh has.
    Outside(Arc<Endpoint>),
}

/// A port of a Service, in the Table that the request keeps.
#[derive(Debug)]
pub struct ServicePort {
    /// The Table.
    pub table: Arc<Table>,
    /// The Service.
    pub service: Arc<ServiceEntry>,
    index: usize,
}

/// A port of a workload that is reached by its own address.
#[derive(Debug)]
pub struct Direct {
    /// The workload.
    pub workload: Arc<WorkloadEntry>,
    /// The only endpoint.
    pub endpoint: [Arc<Endpoint>; 1],
}

/// The label of a destination that no Service names: a port of a workload.
const WORKLOAD: &str = "workload";

/// The label of all destinations outside of the mesh.
const OUTSIDE: &str = "outside";

impl Via {
    /// The address that the application connected to, where it was redirected from there.
    pub const fn original(self) -> Option<SocketAddr> {
        match self {
            Self::Proxy => None,
            Self::Redirect(original) => Some(original),
        }
    }

    /// Where a request goes whose head names `wanted`.
    ///
    /// # Errors
    /// As [`named`] and [`at`].
    pub async fn find(self, mesh: &Mesh, wanted: &Authority) -> Result<Destination, ProxyError> {
        match self {
            Self::Proxy => named(mesh, wanted).await,
            Self::Redirect(original) => at(mesh, original).await,
        }
    }
}

impl Destination {
    /// The Service, as metrics and logs show it.
    pub fn label(&self) -> Arc<str> {
        match self {
            Self::Service(to) => Arc::clone(&to.service.label),
            Self::Workload(to) => {
                let named = to.workload.port(to.endpoint[0].key.target);
                named.map_or_else(|| WORKLOAD.into(), |named| Arc::clone(&named.label))
            }
            Self::Outside(_) => OUTSIDE.into(),
        }
    }

    /// What is spoken there, as far as anybody says. A route says that it is HTTP, unless the port's
    /// name says that it is not: then the client's first word counts. What is outside of the mesh is
    /// nobody's business.
    pub fn protocol(&self) -> Protocol {
        match self {
            Self::Service(to) => match to.port() {
                PortEntry { protocol: Protocol::Detect, router: Some(_), .. } => Protocol::Http1,
                PortEntry { protocol: Protocol::Opaque, router: Some(_), .. } => Protocol::Detect,
                port => port.protocol,
            },
            Self::Workload(to) => to
                .workload
                .port(to.endpoint[0].key.target)
                .map_or(Protocol::Detect, |named| named.port.protocol),
            Self::Outside(_) => Protocol::Opaque,
        }
    }
}

impl ServicePort {
    /// The port.
    pub fn port(&self) -> &PortEntry {
        // invariant: it was found at this index of the same immutable entry.
        &self.service.ports[self.index]
    }
}

impl Direct {
    fn new(workload: &Arc<WorkloadEntry>, at: SocketAddr) -> Self {
        let endpoint = endpoint(at, workload.mesh.clone(), &workload.name);
        Self { workload: Arc::clone(workload), endpoint: [endpoint] }
    }
}

/// An endpoint that no Service knows.
pub(super) fn endpoint(at: SocketAddr, mesh: Option<MeshPeer>, name: &str) -> Arc<Endpoint> {
    let key = EndpointKey { address: at.ip(), target: at.port(), mesh };
    Arc::new(Endpoint::new(key, name, Instant::now()))
}

/// The destination that `wanted` names. A Service not asked for before is asked for now. Addresses
/// are never dialled for the asking: only those of the mesh lead anywhere.
///
/// # Errors
/// `service_unknown`, `port_unknown`, `loop_detected`, `discovery_timeout` or `overload`.
pub async fn named(mesh: &Mesh, wanted: &Authority) -> Result<Destination, ProxyError> {
    let unknown = |detail: String| {
        Err(ProxyError::new(ErrorCode::ServiceUnknown, format!("{wanted} {detail}")))
    };
    if let Host::Ip(address) = wanted.host {
        refuse_own_port(mesh, address, wanted.port)?;
        if is_special(address) && !matches!(mesh.table().at(address), At::Service(_)) {
            return unknown("is no address of the mesh".into());
        }
        let table = mesh.discovery.find_address(mesh, address).await?;
        return match table.at(address) {
            At::Service(entry) => service(&table, entry, wanted.port),
            At::Workload(workload) => {
                let at = SocketAddr::new(address, wanted.port.unwrap_or(80));
                Ok(Destination::Workload(Direct::new(workload, at)))
            }
            At::Nobody | At::NotAsked => unknown("is no address of the mesh".into()),
        };
    }
    let config = &mesh.config;
    let Some(name) = wanted.host.service(&config.namespace, &config.cluster_domain) else {
        return unknown("is no Service of the mesh".into());
    };
    let table = mesh.discovery.find(mesh, &name).await?;
    match table.service(&name) {
        Lookup::Known(entry) => service(&table, entry, wanted.port),
        Lookup::Absent | Lookup::NotAsked => {
            let detail = format!("there is no Service {name}");
            Err(ProxyError::new(ErrorCode::ServiceUnknown, detail))
        }
    }
}

/// The destination of a connection that was made to `original`.
///
/// # Errors
/// `loop_detected` for the sidecar's own ports, `egress_denied`, `port_unknown` for a port that
/// the Service at this address does not have, `discovery_timeout` or `overload`.
pub async fn at(mesh: &Mesh, original: SocketAddr) -> Result<Destination, ProxyError> {
    let address = original.ip();
    refuse_own_port(mesh, address, Some(original.port()))?;
    let denied =
        |why: &str| Err(ProxyError::new(ErrorCode::EgressDenied, format!("{original} {why}")));
    if is_special(address) {
        return denied("is a loopback, link-local or multicast address");
    }
    let found = mesh.discovery.find_address(mesh, address).await;
    let owner = match &found {
        Ok(table) => table.at(address),
        // Without the control plane, what is certainly outside stays reachable; what may be a
        // workload's must not be spoken to in plaintext.
        Err(late) if late.code == ErrorCode::DiscoveryTimeout && is_public(address) => At::Nobody,
        Err(error) => return Err(error.clone()),
    };
    match (owner, &found) {
        (At::Service(entry), Ok(table)) => service(table, entry, Some(original.port())),
        (At::Workload(workload), _) => Ok(Destination::Workload(Direct::new(workload, original))),
        _ if mesh.config.egress == Policy::Deny => denied("is outside of the mesh"),
        _ => Ok(Destination::Outside(endpoint(original, None, OUTSIDE))),
    }
}

/// The sidecar's own ports are no destination: what it sends there would come back to it.
fn refuse_own_port(mesh: &Mesh, address: IpAddr, port: Option<u16>) -> Result<(), ProxyError> {
    match port {
        Some(port) if mesh.config.is_own(address) && mesh.config.ports.contains(port) => {
            let at = SocketAddr::new(address, port);
            let detail = format!("{at} is this sidecar's own port; name a Service in Host");
            Err(ProxyError::new(ErrorCode::LoopDetected, detail))
        }
        _ => Ok(()),
    }
}

/// The port that a client means, by number, or the Service's default one.
fn service(
    table: &Arc<Table>,
    service: &Arc<ServiceEntry>,
    number: Option<u16>,
) -> Result<Destination, ProxyError> {
    let number = number.or_else(|| service.default_port().map(|port| port.port));
    match service.ports.iter().position(|port| Some(port.port) == number) {
        Some(index) => {
            let (table, service) = (Arc::clone(table), Arc::clone(service));
            Ok(Destination::Service(ServicePort { table, service, index }))
        }
        None => {
            let ports: Vec<_> = service.ports.iter().map(|port| port.port.to_string()).collect();
            let wanted = number.map_or_else(|| "no port".into(), |number| format!("port {number}"));
            let name = service.name();
            let detail = format!("{wanted}: Service {name} has the ports {}", ports.join(", "));
            Err(ProxyError::new(ErrorCode::PortUnknown, detail))
        }
    }
}

/// Addresses that mean something else on each machine, or many: never a way out of the mesh.
fn is_special(address: IpAddr) -> bool {
    let common = address.is_loopback() || address.is_unspecified() || address.is_multicast();
    common
        || match address {
            IpAddr::V4(v4) => v4.is_link_local() || v4.is_broadcast() || v4.octets()[0] == 0,
            IpAddr::V6(v6) => {
                v6.is_unicast_link_local()
                    || v6.to_ipv4_mapped().is_some_and(|v4| is_special(v4.into()))
            }
        }
}

/// Addresses of the public internet, which are no pod's in any usual cluster (RFC 1918, RFC 6598,
/// RFC 4193).
fn is_public(address: IpAddr) -> bool {
    match address {
        IpAddr::V4(v4) => {
            let [first, second, ..] = v4.octets();
            let shared = first == 100 && (64..128).contains(&second);
            !(v4.is_private() || shared || first >= 240)
        }
        IpAddr::V6(v6) => !v6.is_unique_local(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn special_addresses_are_told_from_ordinary_ones() {
        let special = [
            "127.0.0.1",
            "0.0.0.0",
            "0.1.2.3",
            "169.254.169.254",
            "224.0.0.1",
            "255.255.255.255",
            "::1",
            "::",
            "fe80::1",
            "ff02::1",
            "::ffff:127.0.0.1",
            "::ffff:169.254.169.254",
        ];
        for address in special {
            assert!(is_special(address.parse().unwrap()), "{address}");
        }
        for address in ["10.0.0.1", "8.8.8.8", "fd00::1", "2001:db8::1", "::ffff:10.0.0.1"] {
            assert!(!is_special(address.parse().unwrap()), "{address}");
        }
    }

    #[test]
    fn what_a_pod_may_have_is_not_public() {
        for address in ["10.1.2.3", "172.16.0.1", "192.168.1.1", "100.64.0.1", "fd12::1"] {
            assert!(!is_public(address.parse().unwrap()), "{address}");
        }
        for address in ["8.8.8.8", "100.128.0.1", "172.32.0.1", "2600::1"] {
            assert!(is_public(address.parse().unwrap()), "{address}");
        }
    }
}
