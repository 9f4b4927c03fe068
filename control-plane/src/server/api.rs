//! The connections of the API: TLS 1.3, HTTP/2, gRPC.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use certs::peer_identity;
use daemon::log::Seldom;
use daemon::room::Room;
use http::Request;
use hyper::body::Incoming;
use hyper::server::conn::http2;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use model::spiffe::SpiffeId;
use rustls::ServerConfig;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Notify, OwnedSemaphorePermit, Semaphore, watch};
use tokio::time::timeout;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;
use tower::ServiceExt;
use wire::proto::mesh_server::MeshServer;

use super::{Streams, ending};
use crate::metrics::Metrics;

/// How long a TLS handshake may take.
const HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(10);

/// Of all connections, one in so many may be of somebody who has not proved yet who it is.
const NEWCOMERS: usize = 8;

/// How long somebody may be there without a proof: an API server that reviews tokens may be slow.
const PROOF_TIMEOUT: Duration = Duration::from_secs(30);

/// How long the accept loop rests when the process has no descriptor left.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);

/// A sidecar that is silent is asked whether it is there, and gone when it does not answer: so a
/// workload whose host has vanished is out of the mesh within seconds.
const PING_EVERY: Duration = Duration::from_secs(3);
const PING_TIMEOUT: Duration = Duration::from_secs(3);

/// A sidecar has one stream; some more for a change-over.
const MOST_STREAMS: u32 = 16;

/// The largest message of a sidecar: a Hello that names all it holds.
const LARGEST_MESSAGE: usize = 8 << 20;

/// Who is at the other end of a connection.
#[derive(Debug, Clone)]
pub struct Peer {
    /// Its address.
    pub address: SocketAddr,
    /// The identity of its certificate, if it has one; the handshake has checked it.
    pub identity: Option<SpiffeId>,
}

/// Told when whoever is at the other end of a connection has proved who it is.
#[derive(Debug, Clone, Default)]
pub(super) struct Admission(Arc<Notify>);

impl Admission {
    /// It has proved it, once more perhaps.
    pub(super) fn grant(&self) {
        self.0.notify_one();
    }
}

/// Serves the API's connections.
#[derive(Debug)]
pub struct Connections {
    /// The TLS configuration of now.
    pub tls: watch::Receiver<Arc<ServerConfig>>,
    /// What serves the streams.
    pub streams: Streams,
    /// Becomes true when the process is to end.
    pub shutdown: watch::Receiver<bool>,
    /// What is counted.
    pub metrics: Arc<Metrics>,
    /// How many there may be at the same time.
    pub most: usize,
}

impl Connections {
    /// Accepts connections until the process is to end. Whatever `accept` says, it goes on. Those who
    /// have not proved who they are, be they many, take no place from those who have.
    pub async fn serve(mut self, listener: TcpListener) {
        let service = MeshServer::new(self.streams.clone())
            .max_decoding_message_size(LARGEST_MESSAGE)
            .max_encoding_message_size(usize::MAX);
        let places = Arc::new(Semaphore::new(self.most));
        let mut newcomers = Room::new("api", (self.most / NEWCOMERS).max(1));
        let mut told = Seldom::default();
        loop {
            let accepted = tokio::select! {
                accepted = listener.accept() => accepted,
                () = ending(&mut self.shutdown) => return,
            };
            match accepted {
                Ok((socket, seen)) => {
                    let refused = self.metrics.refused.with_label_values(&["api"]);
                    let Ok(place) = Arc::clone(&places).try_acquire_owned() else {
                        refused.inc();
                        if told.is_due() {
                            tracing::warn!(most = self.most, "api: too many connections");
                        }
                        continue;
                    };
                    let address = daemon::listen::peer(seen);
                    let acceptor = TlsAcceptor::from(Arc::clone(&self.tls.borrow()));
                    let (service, shutdown) = (service.clone(), self.shutdown.clone());
                    let metrics = Arc::clone(&self.metrics);
                    let newcomer =
                        connection(acceptor, socket, address, service, shutdown, metrics, place);
                    if newcomers.admit(newcomer) {
                        refused.inc();
                    }
                }
                Err(error) => {
                    tracing::warn!(%error, "api: cannot accept a connection");
                    tokio::time::sleep(ACCEPT_PAUSE).await;
                }
            }
        }
    }
}

/// One connection from its handshake until it is known who is at the other end. From then on it has
/// a task of its own, and is no newcomer any more.
async fn connection(
    acceptor: TlsAcceptor,
    socket: TcpStream,
    address: SocketAddr,
    service: MeshServer<Streams>,
    shutdown: watch::Receiver<bool>,
    metrics: Arc<Metrics>,
    place: OwnedSemaphorePermit,
) {
    match handshake(acceptor, socket).await {
        Ok(socket) => {
            let admission = Admission::default();
            let told = admission.clone();
            let conversation = async move {
                let _place = place;
                converse(socket, address, service, shutdown, told).await;
            };
            if !admit(conversation, &admission, PROOF_TIMEOUT).await {
                tracing::debug!(peer = %address, "has not proved who it is");
            }
        }
        Err(error) => {
            metrics.handshake_failures.inc();
            tracing::debug!(peer = %address, %error, "no TLS handshake");
        }
    }
}

/// Has a conversation go on by itself once its other end is admitted, and breaks it off if that takes
/// too long. Says whether that was not so.
async fn admit(
    conversation: impl Future<Output = ()> + Send + 'static,
    admission: &Admission,
    patience: Duration,
) -> bool {
    let mut conversation = Box::pin(conversation);
    tokio::select! {
        () = &mut conversation => {}
        () = admission.0.notified() => {
            tokio::spawn(conversation);
        }
        () = tokio::time::sleep(patience) => return false,
    }
    true
}

async fn handshake(acceptor: TlsAcceptor, socket: TcpStream) -> io::Result<TlsStream<TcpStream>> {
    socket.set_nodelay(true)?;
    match timeout(HANDSHAKE_TIMEOUT, acceptor.accept(socket)).await {
        Ok(accepted) => accepted,
        Err(_) => Err(io::Error::new(io::ErrorKind::TimedOut, "not finished within 10 s")),
    }
}

/// Serves a connection's requests until either side ends it.
async fn converse(
    socket: TlsStream<TcpStream>,
    address: SocketAddr,
    service: MeshServer<Streams>,
    mut shutdown: watch::Receiver<bool>,
    admission: Admission,
) {
    let certificates = socket.get_ref().1.peer_certificates();
    let peer = Peer { address, identity: certificates.and_then(peer_identity) };
    let service = service.map_request(move |mut request: Request<Incoming>| {
        request.extensions_mut().insert(peer.clone());
        request.extensions_mut().insert(admission.clone());
        request
    });
    let connection = http2::Builder::new(TokioExecutor::new())
        .timer(TokioTimer::new())
        .keep_alive_interval(PING_EVERY)
        .keep_alive_timeout(PING_TIMEOUT)
        .max_concurrent_streams(MOST_STREAMS)
        .serve_connection(TokioIo::new(socket), TowerToHyperService::new(service));
    let mut connection = std::pin::pin!(connection);
    let ended = tokio::select! {
        ended = connection.as_mut() => ended,
        () = ending(&mut shutdown) => {
            connection.as_mut().graceful_shutdown();
            connection.await
        }
    };
    if let Err(error) = ended {
        tracing::debug!(peer = %address, %error, "a connection has broken");
    }
}

#[cfg(test)]
mod tests {
    use std::future::pending;

    use tokio::sync::oneshot;

    use super::*;

    const AT_ONCE: Duration = Duration::from_millis(20);
    const LONG: Duration = Duration::from_secs(60);

    #[tokio::test]
    async fn who_proves_nothing_is_sent_away_and_who_does_is_no_newcomer_any_more() {
        let admission = Admission::default();
        assert!(!admit(pending(), &admission, AT_ONCE).await);
        assert!(admit(async {}, &admission, LONG).await, "it has left by itself");
        let (go_on, goes_on) = oneshot::channel();
        let (over, is_over) = oneshot::channel();
        admission.grant();
        let conversation = async {
            goes_on.await.unwrap();
            over.send(()).unwrap();
        };
        assert!(admit(conversation, &admission, LONG).await);
        go_on.send(()).unwrap();
        is_over.await.unwrap();
    }
}
