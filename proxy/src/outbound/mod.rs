//! What the application sends: redirected here on its way to somewhere else, or sent to the port as
//! to an ordinary HTTP proxy (absolute-form, origin-form with a Host, and CONNECT for everything
//! that is not HTTP).

pub mod attempt;
pub mod destination;
pub mod http;
mod reach;
mod redirected;
pub mod tunnel;
pub mod upgrade;

use std::future::Future;
use std::io;
use std::sync::Arc;

use ::http::{Method, Request, Response};
use model::code::ErrorCode;
use tokio::net::TcpStream;

use self::destination::Via;
use crate::body::Body;
use crate::carried::Carried;
use crate::error::ProxyError;
use crate::exchange::Exchange;
use crate::http1::BadHead;
use crate::mesh::Mesh;
use crate::original;
use crate::placed::Socket;
use crate::received::Received;
use crate::server::{self, HEAD_TIMEOUT};
use crate::sniff::{Prefixed, Spoken, sniff};
use crate::soon::within;
use crate::telemetry::metrics::Direction;
use crate::upgrade::is_extended;
use crate::worker::Worker;

/// Serves one connection of the application until it ends.
pub async fn serve(worker: Worker, socket: Socket) {
    if worker.mesh.config.redirected
        && let Some(original) = original::destination(&socket)
    {
        return redirected::serve(worker, socket, original).await;
    }
    if !is_own(&worker.mesh, &socket) {
        return tracing::warn!(peer = ?socket.peer_addr(), "outbound: only the workload may use it");
    }
    serve_http(worker, Via::Proxy, socket).await;
}

/// Serves HTTP in the version that the client speaks.
async fn serve_http(worker: Worker, via: Via, socket: Socket) {
    match within(HEAD_TIMEOUT, sniff(socket)).await {
        Ok(Ok((spoken, io))) => serve_spoken(worker, via, spoken, io).await,
        Ok(Err(error)) => log_lost(&error),
        Err(_) => tracing::debug!("outbound: no first byte in {HEAD_TIMEOUT:?}"),
    }
}

/// Serves what is spoken on `io`, of which the first words are known.
async fn serve_spoken<I>(worker: Worker, via: Via, spoken: Spoken, io: Prefixed<I>)
where
    I: Carried + Send + 'static,
{
    let drain = worker.mesh.drain.clone();
    let handle = |request| dispatch(worker.clone(), via, request);
    let refuse = |bad| refuse_unread(&worker.mesh, bad);
    if let Err(error) = server::serve(spoken, io, &drain, handle, refuse).await {
        tracing::debug!(%error, "outbound: connection ended with an error");
    }
}

fn dispatch(
    worker: Worker,
    via: Via,
    mut request: Request<Received>,
) -> impl Future<Output = Response<Body>> + Send {
    let is_tunnel = *request.method() == Method::CONNECT && !is_extended(&request);
    // Not in an `async fn`, which would hold the request twice.
    async move {
        if !is_tunnel {
            return http::handle(&worker, via, &mut request).await;
        }
        match via {
            Via::Proxy => Box::pin(tunnel::handle(&worker, request)).await,
            Via::Redirect(_) => {
                let detail =
                    "CONNECT is for a proxy; one in the mesh is a Service of appProtocol tcp";
                let exchange = Exchange::open(&worker.mesh, Direction::Outbound, &request);
                exchange.refuse(&ProxyError::new(ErrorCode::MethodNotAllowed, detail))
            }
        }
    }
}

/// Answers a request that cannot be read.
fn refuse_unread(mesh: &Arc<Mesh>, bad: BadHead) -> Response<Body> {
    Exchange::unread(mesh, Direction::Outbound).refuse(&bad.into())
}

/// Whether the connection comes from this workload: whoever else used the port would speak with
/// its identity.
fn is_own(mesh: &Mesh, socket: &TcpStream) -> bool {
    socket.peer_addr().is_ok_and(|peer| mesh.config.is_own(peer.ip().to_canonical()))
}

fn log_lost(error: &io::Error) {
    tracing::debug!(%error, "outbound: connection lost before its first bytes");
}
