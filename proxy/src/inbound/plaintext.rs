//! The inbound plaintext port: what comes without the mesh, where policy lets it in.

use std::sync::Arc;

use model::code::ErrorCode;
use tokio::net::TcpStream;

use super::Arrival;
use super::application::Application;
use super::carry::carry;
use crate::args::Policy;
use crate::error::ProxyError;
use crate::original;
use crate::relay::Session;
use crate::telemetry::metrics::Direction;
use crate::worker::Worker;

/// Serves one plaintext connection from outside of the mesh until it ends.
pub async fn serve(worker: Worker, socket: TcpStream) {
    match allowed(&worker, &socket) {
        Ok(application) => {
            let arrival = Arrival { peer: None, application: Arc::new(application) };
            carry(worker, arrival, socket, None).await;
        }
        Err(refusal) => {
            let (mesh, label) = (&worker.mesh, worker.mesh.own_label());
            Session::open(mesh, Direction::Inbound, label).fail(refusal);
        }
    }
}

/// Where the connection may go: where it was meant to before it was redirected, or to the port of
/// `--app-port`.
fn allowed(worker: &Worker, socket: &TcpStream) -> Result<Application, ProxyError> {
    let config = &worker.mesh.config;
    let refuse = |detail: &'static str| Err(ProxyError::new(ErrorCode::PortDenied, detail));
    if config.plaintext == Policy::Deny {
        return refuse("plaintext is refused by policy");
    }
    if config.redirected
        && let Some(original) = original::destination(socket)
    {
        return match config.addresses.contains(&original.ip()) {
            true => Application::find(&worker.mesh, original.ip(), original.port()),
            false => refuse("the address is not this workload's"),
        };
    }
    match config.app.port {
        None => refuse("no --app-port says where plaintext goes"),
        Some(port) => Application::find(&worker.mesh, config.address, port),
    }
}
