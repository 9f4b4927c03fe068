//! The Service, and its port, that a request wants to go to.

use std::net::IpAddr;
use std::sync::Arc;

use model::code::ErrorCode;
use model::host::{Authority, Host};
use model::name::ServiceName;
use model::table::{PortEntry, ServiceEntry, Table};

use crate::error::ProxyError;
use crate::mesh::Mesh;

/// The Service that `wanted` names, in the Table that the request keeps from here on. A Service
/// not asked for before is asked for now.
///
/// # Errors
/// `service_unknown`, `loop_detected`, `discovery_timeout` or `overload`.
pub async fn find(
    mesh: &Mesh,
    wanted: &Authority,
) -> Result<(Arc<Table>, ServiceName), ProxyError> {
    let config = &mesh.config;
    if let Host::Ip(address) = wanted.host {
        return at_address(mesh, wanted, address);
    }
    let name = wanted.host.service(&config.namespace, &config.cluster_domain).ok_or_else(|| {
        ProxyError::new(ErrorCode::ServiceUnknown, format!("{wanted} is no Service of the mesh"))
    })?;
    let table = mesh.discovery.find(mesh, &name).await?;
    Ok((table, name))
}

/// Addresses are never dialled for the asking: only ClusterIPs in the Table lead anywhere.
fn at_address(
    mesh: &Mesh,
    wanted: &Authority,
    address: IpAddr,
) -> Result<(Arc<Table>, ServiceName), ProxyError> {
    let own = address == mesh.config.address || address.is_loopback();
    if own && wanted.port.is_some_and(|port| mesh.config.ports.contains(port)) {
        let detail = format!("{wanted} is this sidecar's own port; name a Service in Host");
        return Err(ProxyError::new(ErrorCode::LoopDetected, detail));
    }
    let table = mesh.table();
    match table.service_at(address).cloned() {
        Some(name) => Ok((table, name)),
        None => {
            let detail = format!("{wanted} is no address of a Service in use");
            Err(ProxyError::new(ErrorCode::ServiceUnknown, detail))
        }
    }
}

/// The port of `service` that `wanted` names.
///
/// # Errors
/// `port_unknown`, with the ports that there are.
pub fn port<'a>(
    service: &'a ServiceEntry,
    wanted: &Authority,
) -> Result<&'a PortEntry, ProxyError> {
    let found = match wanted.port {
        Some(port) => service.port(port),
        None => service.default_port(),
    };
    found.ok_or_else(|| {
        let ports: Vec<_> = service.ports.iter().map(|entry| entry.port.to_string()).collect();
        let detail =
            format!("{wanted}: Service {} has the ports {}", service.name(), ports.join(", "));
        ProxyError::new(ErrorCode::PortUnknown, detail)
    })
}
