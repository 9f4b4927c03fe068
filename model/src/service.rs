//! A Service as the mesh knows it: its addresses, its ports and who stands behind them.

use std::net::IpAddr;

use serde::Serialize;

use crate::name::ServiceName;
use crate::spiffe::SpiffeId;

/// One Service with its endpoints, as the control plane publishes it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Service {
    /// `namespace/name`.
    pub name: ServiceName,
    /// Its ClusterIPs; empty for a headless Service and for one that exists by registration only.
    pub addresses: Vec<IpAddr>,
    /// Its ports, in the order of the object.
    pub ports: Vec<ServicePort>,
    /// The ready endpoints.
    pub endpoints: Vec<Endpoint>,
}

/// One port of a Service.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct ServicePort {
    /// The number clients use.
    pub port: u16,
    /// Its name in the object, where it has one.
    pub name: Option<String>,
    /// What is spoken on it, as far as the object says.
    pub protocol: Protocol,
}

/// What a port speaks, from `appProtocol` or the port's name.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Protocol {
    /// Nothing is said: told from the first bytes.
    #[default]
    Detect,
    /// HTTP/1.1 (`http`).
    Http1,
    /// HTTP/2 with prior knowledge (`kubernetes.io/h2c`, `http2`, `grpc`).
    Http2,
    /// Bytes that nobody looks into (`tcp`, `tls`, databases and brokers).
    Opaque,
}

/// One ready endpoint of a Service.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Endpoint {
    /// The pod's address.
    pub address: IpAddr,
    /// The pod's (or registered workload's) name, for people: logs, `/config`, `stat`.
    pub workload: String,
    /// For each Service port served here, the port of the application.
    pub targets: Vec<Target>,
    /// How to reach its sidecar; `None` where the endpoint is not in the mesh.
    pub mesh: Option<MeshPeer>,
}

/// Which application port stands behind a Service port at one endpoint.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct Target {
    /// The Service's port.
    pub port: u16,
    /// The application's port at this endpoint.
    pub target: u16,
}

/// The sidecar in front of an endpoint.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize)]
pub struct MeshPeer {
    /// Its mesh port (15008 unless it registered another).
    pub port: u16,
    /// The identity it must prove.
    pub identity: SpiffeId,
    /// What it takes.
    pub protocol: MeshProtocol,
}

/// What a sidecar takes on its mesh port.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum MeshProtocol {
    /// Requests as streams, and tunnels: one of ours.
    #[default]
    Pillion,
    /// Tunnels only (HBONE): a proxy of another mesh with the same trust root.
    Hbone,
}

impl MeshPeer {
    /// One of our own sidecars.
    pub const fn pillion(port: u16, identity: SpiffeId) -> Self {
        Self { port, identity, protocol: MeshProtocol::Pillion }
    }
}
