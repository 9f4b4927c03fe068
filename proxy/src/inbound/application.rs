//! The application's ports: what a caller may reach through this sidecar.

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use model::code::ErrorCode;
use model::service::Protocol;

use crate::error::ProxyError;
use crate::mesh::Mesh;

/// One port of the application behind this sidecar.
#[derive(Debug, Clone)]
pub struct Application {
    /// Where it listens.
    pub address: SocketAddr,
    /// What it speaks, as far as anybody says.
    pub protocol: Protocol,
    /// The Service that it stands behind, as metrics and logs show it.
    pub service: Arc<str>,
}

impl Application {
    /// The application's port of this number, where it listens or else at `meant`: the one of
    /// `--app-port`, or one that a Service names. Any other is refused, for behind it may be what
    /// was never meant for the mesh; but where connections are redirected, the sidecar goes only
    /// where they would have come without it.
    ///
    /// # Errors
    /// `port_denied`, or `loop_detected` for the sidecar's own ports.
    pub fn find(mesh: &Mesh, meant: IpAddr, port: u16) -> Result<Self, ProxyError> {
        let config = &mesh.config;
        let app = &config.app;
        let address = SocketAddr::new(app.address.unwrap_or(meant), port);
        if config.is_listened_at(address) {
            let detail = format!("port {port} is the sidecar's own");
            return Err(ProxyError::new(ErrorCode::LoopDetected, detail));
        }
        let table = mesh.table();
        let named = table.inbound_port(port);
        if named.is_none() && app.port != Some(port) && !config.redirected {
            let detail = format!("no Service and no --app-port names port {port} here");
            return Err(ProxyError::new(ErrorCode::PortDenied, detail));
        }
        let typed = (app.port == Some(port)).then_some(app.protocol);
        let protocol = typed
            .filter(|protocol| *protocol != Protocol::Detect)
            .or_else(|| named.map(|named| named.port.protocol))
            .unwrap_or_default();
        let service = named.map_or_else(|| mesh.own_label(), |named| Arc::clone(&named.label));
        Ok(Self { address, protocol, service })
    }
}
