//! What reaches the application: from other sidecars over mutual TLS, and from outside of the
//! mesh in plaintext where policy allows it.

pub mod application;
mod carry;
pub mod http;
pub mod plaintext;
pub mod probes;
pub mod tunnel;

use std::future::Future;
use std::io;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Instant;

use ::http::{HeaderValue, Method, Request, Response};
use certs::{HandshakeFailure, Side};
use model::code::ErrorCode;
use model::spiffe::SpiffeId;
use tokio::sync::Notify;
use tokio::time::timeout;

use self::application::Application;
use crate::body::Body;
use crate::error::ProxyError;
use crate::exchange::Exchange;
use crate::http1::BadHead;
use crate::mesh::{MESH_ALPN, Mesh};
use crate::placed::Socket;
use crate::proof::Proof;
use crate::rarely::Rarely;
use crate::received::Received;
use crate::server::HEAD_TIMEOUT;
use crate::streams::{self, Limits};
use crate::telemetry::metrics::Direction;
use crate::tls::{self, Established, TlsStream};
use crate::worker::Worker;

/// How a request came.
#[derive(Debug, Clone)]
pub enum Caller {
    /// As a stream of its own from another sidecar: its headers name the application's port.
    Stream(Arc<Sidecar>),
    /// On a connection to one port of the application.
    Connection(Arrival),
}

impl Caller {
    /// The identity of the sidecar that sends it; none in plaintext.
    pub fn peer(&self) -> Option<&SpiffeId> {
        match self {
            Self::Stream(sidecar) => Some(&sidecar.identity),
            Self::Connection(arrival) => arrival.peer.as_ref(),
        }
    }

    /// That identity as the application is told it.
    pub fn name(&self) -> Option<HeaderValue> {
        match self {
            Self::Stream(sidecar) => Some(sidecar.name.clone()),
            Self::Connection(arrival) => arrival.peer.as_ref().map(name),
        }
    }
}

/// A sidecar on a connection of its own.
#[derive(Debug)]
pub struct Sidecar {
    /// What it has proved to be.
    pub identity: SpiffeId,
    /// The same as applications are told it.
    name: HeaderValue,
    /// The address that it connected to.
    pub at: IpAddr,
}

fn name(identity: &SpiffeId) -> HeaderValue {
    // invariant: a SPIFFE ID is visible ASCII (SPIFFE-ID §2).
    HeaderValue::from_str(identity.as_str()).unwrap_or_else(|_| HeaderValue::from_static(""))
}

/// A connection to one port of the application.
#[derive(Debug, Clone)]
pub struct Arrival {
    /// The identity of the sidecar that sends it; none in plaintext.
    pub peer: Option<SpiffeId>,
    /// The port.
    pub application: Arc<Application>,
}

impl Arrival {
    /// Answers a request that came on it with an error.
    fn refuse(&self, mut exchange: Box<Exchange>, error: &ProxyError) -> Response<Body> {
        exchange.service = Some(Arc::clone(&self.application.service));
        exchange.peer.clone_from(&self.peer);
        exchange.refuse(error)
    }

    /// Answers a request that came on it and cannot be read.
    fn refuse_unread(&self, mesh: &Arc<Mesh>, bad: BadHead) -> Response<Body> {
        self.refuse(Exchange::unread(mesh, Direction::Inbound), &bad.into())
    }
}

/// Serves one connection of another sidecar until it ends.
pub async fn serve(worker: Worker, socket: Socket) {
    let started = Instant::now();
    let at = match socket.local_addr() {
        Ok(at) => at.ip(),
        Err(error) => return tracing::debug!(%error, "inbound: connection lost"),
    };
    // Boxed, so that a connection has no room for its handshake afterwards.
    let (io, identity, proof) = match Box::pin(accept(&worker, socket)).await {
        Ok(accepted) => accepted,
        Err(error) => {
            worker.mesh.metrics.tls.handshake_failed(Direction::Inbound, error.code);
            return tracing::debug!(%error, "inbound: handshake failed");
        }
    };
    worker.mesh.metrics.tls.handshake_done(Direction::Inbound, started.elapsed());
    let drain = worker.mesh.drain.clone();
    let sidecar = Arc::new(Sidecar { name: name(&identity), identity, at });
    // Boxed at once, for it is large, and a task is copied more than once on its way to its place.
    let handle = move |request| Box::pin(dispatch(worker.clone(), Arc::clone(&sidecar), request));
    let retired = Notify::new();
    let leave = async {
        tokio::select! {
            () = drain.begun() => {}
            () = retired.notified() => {}
        }
    };
    let spent = Rarely::new(proof.spent(|over| {
        tracing::debug!(?over, "inbound: mesh connection retired");
        retired.notify_one();
    }));
    tokio::select! {
        biased;
        ended = Box::pin(streams::serve(Limits::SIDECAR, io, leave, handle)) => if let Err(error) = ended {
            tracing::debug!(%error, "inbound: mesh connection ended with an error");
        },
        over = spent => tracing::info!(?over, "inbound: mesh connection cut"),
    }
}

/// The TLS handshake, and with it who is there and for how long that is proved.
async fn accept(
    worker: &Worker,
    socket: Socket,
) -> Result<(TlsStream<Socket>, SpiffeId, Proof), ProxyError> {
    let credentials = worker.mesh.credentials()?;
    let server = credentials.server.clone();
    let failed = |error: &io::Error| match certs::classify(error) {
        HandshakeFailure::Expired(reason) => ProxyError::new(ErrorCode::TlsCertExpired, reason),
        other => ProxyError::new(ErrorCode::TlsHandshakeFailed, other.to_string()),
    };
    let established = match timeout(HEAD_TIMEOUT, tls::accept(socket, server)).await {
        Ok(result) => result.map_err(|error| failed(&error))?,
        Err(_) => {
            let detail = format!("it took longer than {HEAD_TIMEOUT:?}");
            return Err(ProxyError::new(ErrorCode::TlsHandshakeFailed, detail));
        }
    };
    let Established { io, protocol, certificates } = established;
    // rustls refuses another protocol, but not a client that names none.
    if protocol.as_deref() != Some(MESH_ALPN) {
        let detail = "the peer did not ask for h2 by ALPN";
        return Err(ProxyError::new(ErrorCode::TlsHandshakeFailed, detail));
    }
    let peer = certs::peer_identity(&certificates).ok_or_else(|| {
        ProxyError::new(ErrorCode::TlsHandshakeFailed, "the peer showed no identity")
    })?;
    let trust = worker.mesh.trust();
    let proof = Proof::new(&credentials.identity, Side::Client, &certificates, trust);
    Ok((io, peer, proof))
}

fn dispatch(
    worker: Worker,
    sidecar: Arc<Sidecar>,
    mut request: Request<Received>,
) -> impl Future<Output = Response<Body>> + Send {
    let is_tunnel = request.method() == Method::CONNECT;
    // Not in an `async fn`, which would hold the request twice.
    async move {
        if is_tunnel {
            Box::pin(tunnel::handle(&worker, sidecar.identity.clone(), request)).await
        } else {
            http::handle(&worker, Caller::Stream(sidecar), &mut request).await
        }
    }
}
