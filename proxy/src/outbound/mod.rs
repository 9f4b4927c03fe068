//! What the application sends into the mesh. The port is an ordinary HTTP proxy: absolute-form,
//! origin-form with a Host, and CONNECT for everything that is not HTTP.

pub mod attempt;
pub mod destination;
pub mod http;
pub mod tunnel;
pub mod upgrade;

use std::io;

use ::http::Method;
use tokio::net::TcpStream;
use tokio::time::timeout;

use crate::mesh::Mesh;
use crate::server::{self, HEAD_TIMEOUT};
use crate::sniff::{Spoken, sniff};
use crate::worker::Worker;

/// Serves one connection of the application until it ends.
pub async fn serve(worker: Worker, socket: TcpStream) {
    if !is_own(&worker.mesh, &socket) {
        return tracing::warn!(peer = ?socket.peer_addr(), "outbound: only the workload may use it");
    }
    let drain = worker.mesh.drain.clone();
    let handle = move |request| dispatch(worker.clone(), request);
    let ended = match timeout(HEAD_TIMEOUT, sniff(socket)).await {
        Ok(Ok((Spoken::Http2, io))) => server::http2(io, drain.begun(), handle).await,
        // What is no HTTP gets HTTP/1's 400.
        Ok(Ok((Spoken::Http1 | Spoken::Other, io))) => server::http1(io, &drain, handle).await,
        Ok(Err(error)) => return log_lost(&error),
        Err(_) => return tracing::debug!("outbound: no first byte in {HEAD_TIMEOUT:?}"),
    };
    if let Err(error) = ended {
        tracing::debug!(%error, "outbound: connection ended with an error");
    }
}

async fn dispatch(
    worker: Worker,
    request: ::http::Request<hyper::body::Incoming>,
) -> ::http::Response<crate::body::Body> {
    if request.method() == Method::CONNECT {
        tunnel::handle(&worker, request).await
    } else {
        http::handle(&worker, request).await
    }
}

/// Whether the connection comes from this workload: whoever else used the port would speak with
/// its identity.
fn is_own(mesh: &Mesh, socket: &TcpStream) -> bool {
    socket.peer_addr().is_ok_and(|peer| {
        let address = peer.ip().to_canonical();
        address.is_loopback() || address == mesh.config.address
    })
}

fn log_lost(error: &io::Error) {
    tracing::debug!(%error, "outbound: connection lost before its first bytes");
}
