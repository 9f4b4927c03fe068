//! Who has an address: what a connection to it, whatever name it was found by, is meant for.

use serde::Serialize;

use crate::inbound::InboundPort;
use crate::name::ServiceName;
use crate::service::MeshPeer;

/// Who has an address of the mesh.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Owner {
    /// A Service: the address is one of its ClusterIPs.
    Service(ServiceName),
    /// A workload: the address is a pod's own. Routes of Services do not apply to what is sent
    /// there (Gateway API, GEP-1294).
    Workload(Workload),
}

/// A workload, as whoever knows its address reaches it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Workload {
    /// The pod's (or registered workload's) name, for people.
    pub name: String,
    /// Its sidecar; `None` where it is not in the mesh.
    pub mesh: Option<MeshPeer>,
    /// The ports that a Service names; it may listen on others.
    pub ports: Vec<InboundPort>,
}
