//! The inbound plaintext port: what comes without the mesh, where policy lets it in.

use std::net::SocketAddr;
use std::sync::Arc;

use model::code::ErrorCode;
use model::service::Protocol;
use tokio::net::TcpStream;

use super::application::Application;
use super::{Caller, dispatch, tunnel};
use crate::args::Plaintext;
use crate::error::ProxyError;
use crate::relay::Session;
use crate::server;
use crate::sniff::{Spoken, sniff};
use crate::telemetry::metrics::Direction;
use crate::upstream::connect;
use crate::worker::Worker;

/// Serves one plaintext connection from outside of the mesh until it ends.
pub async fn serve(worker: Worker, socket: TcpStream) {
    let mesh = Arc::clone(&worker.mesh);
    let application = match allowed(&worker) {
        Ok(application) => application,
        Err(refusal) => {
            let mut session = Session::open(&mesh, Direction::Inbound, mesh.own_label());
            return session.fail(refusal);
        }
    };
    if application.protocol == Protocol::Opaque {
        return tunnel::carry(&worker, Caller::Plaintext, socket, application).await;
    }
    if application.protocol == Protocol::Detect
        && let First::Server(upstream) = first(&socket, &worker, application.address).await
    {
        let session = Session::open(&mesh, Direction::Inbound, application.service);
        return session.relay(socket, upstream).await;
    }
    serve_client_first(worker, socket, application).await;
}

/// The client's first bytes decide between HTTP and bytes that nobody looks into.
async fn serve_client_first(worker: Worker, socket: TcpStream, application: Application) {
    let drain = worker.mesh.drain.clone();
    let handle = {
        let worker = worker.clone();
        move |request| dispatch(worker.clone(), Caller::Plaintext, request)
    };
    let ended = match sniff(socket).await {
        Ok((Spoken::Http1, io)) => server::http1(io, &drain, handle).await,
        Ok((Spoken::Http2, io)) => server::http2(io, &drain, handle).await,
        Ok((Spoken::Other, io)) => {
            return tunnel::carry(&worker, Caller::Plaintext, io, application).await;
        }
        Err(error) => return tracing::debug!(%error, "inbound: plaintext connection lost"),
    };
    if let Err(error) = ended {
        tracing::debug!(%error, "inbound: plaintext connection ended with an error");
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

/// Who spoke first.
enum First {
    Client,
    Server(TcpStream),
}

/// Waits, without a timer, until one of the two says something. An application that cannot be
/// reached leaves the word to the client, who then gets the error.
async fn first(client: &TcpStream, worker: &Worker, application: SocketAddr) -> First {
    let server = async {
        let limit = worker.mesh.config.connect_timeout;
        let upstream = connect::tcp(application, limit).await.ok()?;
        upstream.readable().await.ok()?;
        Some(upstream)
    };
    tokio::select! {
        biased;
        _ = client.readable() => First::Client,
        Some(upstream) = server => First::Server(upstream),
    }
}
