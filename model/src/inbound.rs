//! What a sidecar lets in: the ports of its own workload, as the control plane knows them.

use serde::Serialize;

use crate::name::ServiceName;
use crate::service::Protocol;

/// The inbound side of one workload.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize)]
pub struct Inbound {
    /// The application's ports that a Service names.
    pub ports: Vec<InboundPort>,
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
