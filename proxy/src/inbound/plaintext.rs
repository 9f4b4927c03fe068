//! The inbound plaintext port: what comes without the mesh, where policy lets it in.

use std::sync::Arc;

use model::code::ErrorCode;
use tokio::net::TcpStream;

use super::Arrival;
use super::application::Application;
use super::carry::carry;
use crate::args::Plaintext;
use crate::error::ProxyError;
use crate::relay::Session;
use crate::telemetry::metrics::Direction;
use crate::worker::Worker;

/// Serves one plaintext connection from outside of the mesh until it ends.
pub async fn serve(worker: Worker, socket: TcpStream) {
    match allowed(&worker) {
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

fn allowed(worker: &Worker) -> Result<Application, ProxyError> {
    let config = &worker.mesh.config;
    let refuse = |detail: &'static str| Err(ProxyError::new(ErrorCode::PortDenied, detail));
    match config.app.port {
        _ if config.plaintext == Plaintext::Deny => refuse("plaintext is refused by policy"),
        None => refuse("no --app-port says where plaintext goes"),
        Some(port) => Application::find(&worker.mesh, port),
    }
}
