//! The inbound plaintext port: what comes without the mesh, where policy lets it in.

use std::sync::Arc;

use model::code::ErrorCode;
use model::inbound::Plaintext;
use tokio::net::TcpStream;

use super::application::Application;
use super::carry::carry;
use super::{Arrival, probes};
use crate::args::Policy;
use crate::error::ProxyError;
use crate::mesh::Mesh;
use crate::original;
use crate::placed::Socket;
use crate::relay::Session;
use crate::telemetry::metrics::Direction;
use crate::worker::Worker;

/// Serves one plaintext connection from outside of the mesh until it ends. What is allowed then
/// holds for the whole of it: a policy that comes later cuts nothing off.
pub async fn serve(worker: Worker, socket: Socket) {
    match admit(&worker, &socket) {
        Ok((admitted, application)) => {
            let arrival = Arrival { peer: None, application: Arc::new(application) };
            match admitted {
                Admitted::All => carry(worker, arrival, socket, None).await,
                Admitted::Probes => Box::pin(probes::serve(worker, arrival, socket)).await,
            }
        }
        Err(refusal) => {
            let (mesh, label) = (&worker.mesh, worker.mesh.own_label());
            Session::open(mesh, Direction::Inbound, label).fail(refusal);
        }
    }
}

/// What may come on a plaintext connection.
enum Admitted {
    /// Anything.
    All,
    /// Probes and nothing else.
    Probes,
}

/// The refusal of what is not let in by policy.
pub(super) fn refusal() -> ProxyError {
    ProxyError::new(ErrorCode::PortDenied, "plaintext is refused by policy")
}

fn admit(worker: &Worker, socket: &TcpStream) -> Result<(Admitted, Application), ProxyError> {
    if !is_denied(&worker.mesh) {
        return Ok((Admitted::All, destination(worker, socket)?));
    }
    let probed =
        |application: &Application| worker.mesh.config.probes.any_at(application.address.port());
    let application = destination(worker, socket).ok().filter(probed);
    application.map(|application| (Admitted::Probes, application)).ok_or_else(refusal)
}

/// A policy of the control plane's counts, then the flag. Before the first publication nobody knows
/// whether there is a policy; to let everything in then would be a way around it.
fn is_denied(mesh: &Mesh) -> bool {
    let table = mesh.table();
    match table.plaintext() {
        Some(policy) => policy == Plaintext::Deny,
        None => mesh.config.plaintext == Policy::Deny || table.publication() == 0,
    }
}

/// Where the connection may go: where it was meant to before it was redirected, or to the port of
/// `--app-port`.
fn destination(worker: &Worker, socket: &TcpStream) -> Result<Application, ProxyError> {
    let config = &worker.mesh.config;
    let refuse = |detail: &'static str| Err(ProxyError::new(ErrorCode::PortDenied, detail));
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
