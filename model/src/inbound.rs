//! What a sidecar lets in: the ports of its own workload, as the control plane knows them.

use serde::Serialize;

use crate::name::ServiceName;
use crate::service::Protocol;

/// The inbound side of one workload.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize)]
pub struct Inbound {
    /// The application's ports that a Service names.
    pub ports: Vec<InboundPort>,
    /// What a policy says of plaintext; `None` where none selects the workload.
    pub plaintext: Option<Plaintext>,
}

/// Whether what comes without the mesh is let in.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Plaintext {
    /// Carried, and counted.
    Allow,
    /// Refused, and counted.
    Deny,
}

/// One port of the application behind a sidecar.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct InboundPort {
    /// The application's port.
    pub port: u16,
    /// What it speaks, as far as an object says.
    pub protocol: Protocol,
    /// The Service that names it, the first by name where several do.
    pub service: ServiceName,
}
