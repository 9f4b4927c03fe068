//! The application's ports: what a caller may reach through this sidecar.

use std::net::SocketAddr;

use model::code::ErrorCode;
use model::service::Protocol;

use crate::error::ProxyError;
use crate::mesh::Mesh;

/// One port of the application behind this sidecar.
#[derive(Debug, Clone, Copy)]
pub struct Application {
    /// Where it listens.
    pub address: SocketAddr,
    /// What it speaks, as far as anybody says.
    pub protocol: Protocol,
}

impl Application {
    /// The application's port of this number: the one of `--app-port`, or one that a Service
    /// names. Any other is refused, for behind it may be what was never meant for the mesh.
    ///
    /// # Errors
    /// `port_denied`, or `loop_detected` for the sidecar's own ports.
    pub fn find(mesh: &Mesh, port: u16) -> Result<Self, ProxyError> {
        let app = &mesh.config.app;
        let address = SocketAddr::new(app.address, port);
        if app.address == mesh.config.address && mesh.config.ports.contains(port) {
            let detail = format!("port {port} is the sidecar's own");
            return Err(ProxyError::new(ErrorCode::LoopDetected, detail));
        }
        if app.port == Some(port) {
            return Ok(Self { address, protocol: app.protocol });
        }
        let table = mesh.table();
        let named = table.inbound().ports.iter().find(|named| named.port == port);
        named.map(|named| Self { address, protocol: named.protocol }).ok_or_else(|| {
            let detail = format!("no Service and no --app-port names port {port} here");
            ProxyError::new(ErrorCode::PortDenied, detail)
        })
    }
}
