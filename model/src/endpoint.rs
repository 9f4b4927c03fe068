//! One endpoint of one Service port as the balancer sees it: where it is and how it does.

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Instant;

use http::HeaderValue;
use serde::Serialize;

use crate::load::Load;
use crate::outlier::Health;
use crate::service::{MeshPeer, MeshProtocol};

/// What makes an endpoint the same one across publications. Live state is carried over by it.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize)]
pub struct EndpointKey {
    /// The pod's address.
    pub address: IpAddr,
    /// The application's port.
    pub target: u16,
    /// The sidecar in front of it, if it is in the mesh.
    pub mesh: Option<MeshPeer>,
}

/// An endpoint with its live state, shared by every worker and every Table that names it.
#[derive(Debug)]
pub struct Endpoint {
    /// Where it is and who must answer there.
    pub key: EndpointKey,
    /// The workload's name, for people.
    pub workload: Arc<str>,
    /// The port of the application, as requests to its sidecar say it.
    pub port: HeaderValue,
    /// Latency and requests under way.
    pub load: Load,
    /// Failures and ejection.
    pub health: Health,
}

impl EndpointKey {
    /// Whether one of our own sidecars stands in front of it, which takes requests as streams and
    /// whose word on errors counts.
    pub fn is_pillion(&self) -> bool {
        self.mesh.as_ref().is_some_and(|mesh| mesh.protocol == MeshProtocol::Pillion)
    }
}

impl Endpoint {
    /// A fresh endpoint: no load, healthy.
    pub fn new(key: EndpointKey, workload: &str, now: Instant) -> Self {
        Self {
            port: HeaderValue::from(key.target),
            key,
            workload: workload.into(),
            load: Load::new(now),
            health: Health::new(now),
        }
    }

    /// Where a connection goes: the sidecar's mesh port, or the application itself.
    pub fn dial_address(&self) -> SocketAddr {
        let port = self.key.mesh.as_ref().map_or(self.key.target, |mesh| mesh.port);
        SocketAddr::new(self.key.address, port)
    }

    /// The application's own address, as a CONNECT names it (`address:port`).
    pub fn target_address(&self) -> SocketAddr {
        SocketAddr::new(self.key.address, self.key.target)
    }
}
