//! One worker's connections, by whom they lead to.

use std::collections::HashMap;
use std::fmt;
use std::future::poll_fn;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::task::{Context, Poll, Waker};
use std::time::{Duration, Instant};

use http::{Request, Response};
use model::endpoint::Endpoint;
use model::spiffe::SpiffeId;
use rustls::ClientConfig;
use tokio_util::either::Either;

use super::http2::Requests;
use super::idle::Idle;
use super::shared::Connections;
use super::tunnels::{self, Tunnels};
use super::{StreamGuard, connect, http1, http2};
use crate::body::RequestBody;
use crate::error::ProxyError;
use crate::http1::Dialled;
use crate::mesh::{Credentials, MESH_ALPN, Mesh};
use crate::received::Received;
use crate::tunnel::Tunnel;

/// How often idle connections are looked through.
const SWEEP: Duration = Duration::from_secs(10);

/// Whom a connection leads to, and what is spoken on it.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Peer {
    /// A sidecar that must prove this identity.
    Mesh(SocketAddr, SpiffeId),
    /// HTTP through a tunnel of a sidecar that takes nothing else.
    Tunnel(Box<Tunnelled>),
    /// HTTP/1.1 in plaintext.
    Http1(SocketAddr),
    /// HTTP/2 with prior knowledge in plaintext.
    Http2(SocketAddr),
}

/// HTTP inside of a tunnel: the sidecar that it goes through, and where it leads.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Tunnelled {
    /// [`Peer::Mesh`].
    pub sidecar: Peer,
    /// The application.
    pub target: SocketAddr,
    /// Whether HTTP/2 is spoken to it.
    pub http2: bool,
}

impl Peer {
    /// The sidecar in front of `endpoint`, where there is one.
    pub fn sidecar(endpoint: &Endpoint) -> Option<Self> {
        let mesh = endpoint.key.mesh.as_ref()?;
        Some(Self::Mesh(endpoint.dial_address(), mesh.identity.clone()))
    }

    /// The peer that requests to `endpoint` go through; `http2` is what the client speaks.
    pub fn of(endpoint: &Endpoint, http2: bool) -> Self {
        let target = endpoint.target_address();
        match Self::sidecar(endpoint) {
            Some(sidecar) if endpoint.key.is_pillion() => sidecar,
            Some(sidecar) => Self::Tunnel(Box::new(Tunnelled { sidecar, target, http2 })),
            None if http2 => Self::Http2(target),
            None => Self::Http1(target),
        }
    }
}

impl fmt::Display for Peer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Mesh(address, identity) => write!(f, "{address} ({identity})"),
            Self::Tunnel(tunnel) => write!(f, "{} through {}", tunnel.target, tunnel.sidecar),
            Self::Http1(address) | Self::Http2(address) => write!(f, "{address}"),
        }
    }
}

/// What came of a request.
pub struct Answered {
    /// The peer's response.
    pub response: Response<Received>,
    /// Its place on a connection that others share.
    pub stream: Option<StreamGuard>,
    /// When its connection was made, where that may have been after the request began.
    pub connected: Option<Instant>,
}

/// What a pool has, by whom it leads to. Peers come from the control plane, not from a client.
pub(super) type Peers<T> = HashMap<Peer, T, foldhash::fast::RandomState>;

/// One worker's connections. Cloning it is cheap and gives the same pool.
#[derive(Debug, Clone)]
pub struct Pool(pub(super) Arc<Shared>);

/// Its locks are never held across an await, and only one thread uses a pool: they are always
/// free.
#[derive(Debug)]
pub(super) struct Shared {
    pub(super) mesh: Arc<Mesh>,
    pub(super) http1: Mutex<Peers<Idle>>,
    pub(super) http2: Mutex<Peers<Connections<Requests>>>,
    pub(super) tunnels: Mutex<Peers<Connections<Tunnels>>>,
    configs: Mutex<Configs>,
    /// Wakes whoever looks after idle connections, once there is one.
    watcher: OnceLock<Waker>,
}

/// TLS configurations by the identity expected, all made from the same credentials.
#[derive(Debug, Default)]
struct Configs {
    made_from: Option<Arc<Credentials>>,
    by_identity: HashMap<SpiffeId, Arc<ClientConfig>>,
}

/// A poisoned lock means that a task panicked between two whole states.
pub(super) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Pool {
    /// An empty pool, which closes idle connections from time to time. Must run inside the
    /// worker's runtime.
    pub fn start(mesh: Arc<Mesh>) -> Self {
        let pool = Self(Arc::new(Shared {
            mesh,
            http1: Mutex::default(),
            http2: Mutex::default(),
            tunnels: Mutex::default(),
            configs: Mutex::default(),
            watcher: OnceLock::new(),
        }));
        let swept = Arc::downgrade(&pool.0);
        tokio::spawn(async move {
            loop {
                tokio::time::sleep(SWEEP).await;
                let Some(shared) = swept.upgrade() else { return };
                shared.sweep(Instant::now());
            }
        });
        let watched = Arc::downgrade(&pool.0);
        tokio::spawn(poll_fn(move |cx| match watched.upgrade() {
            Some(shared) => {
                shared.watch(cx);
                Poll::Pending
            }
            None => Poll::Ready(()),
        }));
        pool
    }

    /// Sends a request to `peer`, on a connection of the pool or a new one. What is sent of it is
    /// taken from it.
    ///
    /// # Errors
    /// The code says whether the request may have been processed.
    pub async fn send(
        &self,
        peer: &Peer,
        request: &mut Request<RequestBody>,
    ) -> Result<Answered, ProxyError> {
        // Boxed, for a future is copied whole into each one that waits for it.
        match peer {
            Peer::Tunnel(tunnel) if !tunnel.http2 => {
                Box::pin(http1::send(&self.0, peer, request)).await
            }
            Peer::Http1(_) => Box::pin(http1::send(&self.0, peer, request)).await,
            Peer::Mesh(..) | Peer::Http2(_) | Peer::Tunnel(_) => {
                Box::pin(http2::send(&self.0, peer, request)).await
            }
        }
    }

    /// A tunnel through a sidecar to the application at `target`.
    ///
    /// # Errors
    /// As [`Pool::send`]; the sidecar's own, where it refuses.
    pub async fn open_tunnel(
        &self,
        sidecar: &Peer,
        target: SocketAddr,
    ) -> Result<(Tunnel, StreamGuard), ProxyError> {
        tunnels::open(&self.0, sidecar, target).await
    }
}

impl Shared {
    /// The TLS configuration for connections to `identity`, from the newest credentials.
    pub(super) fn client_config(
        &self,
        identity: &SpiffeId,
    ) -> Result<Arc<ClientConfig>, ProxyError> {
        let credentials = self.mesh.credentials()?;
        let mut configs = lock(&self.configs);
        let current =
            configs.made_from.as_ref().is_some_and(|made| Arc::ptr_eq(made, &credentials));
        if !current {
            configs.by_identity.clear();
            configs.made_from = Some(Arc::clone(&credentials));
        }
        let make = || credentials.identity.client_config(identity.clone(), &[MESH_ALPN]);
        Ok(Arc::clone(configs.by_identity.entry(identity.clone()).or_insert_with(make)))
    }

    /// A connection to an application, straight or through a tunnel.
    pub(super) async fn dial(
        self: &Arc<Self>,
        peer: &Peer,
    ) -> Result<(Dialled, Option<StreamGuard>), ProxyError> {
        match peer {
            Peer::Tunnel(tunnel) => {
                let opened = tunnels::open(self, &tunnel.sidecar, tunnel.target).await;
                opened.map(|(io, stream)| (Either::Left(io), Some(stream)))
            }
            Peer::Mesh(address, _) | Peer::Http1(address) | Peer::Http2(address) => {
                let io = connect::tcp(*address, self.mesh.config.connect_timeout).await?;
                Ok((Either::Right(io), None))
            }
        }
    }

    /// What idle connections wake when they can be used no more.
    pub(super) fn watcher(&self) -> &Waker {
        self.watcher.get().unwrap_or_else(|| Waker::noop())
    }

    fn watch(&self, cx: &mut Context<'_>) {
        self.watcher.get_or_init(|| cx.waker().clone());
        let now = Instant::now();
        lock(&self.http1).values_mut().for_each(|idle| idle.watch(now, cx));
    }

    fn sweep(&self, now: Instant) {
        lock(&self.http1).retain(|_, idle| idle.sweep(now));
        lock(&self.http2).retain(|_, connections| connections.sweep(now));
        lock(&self.tunnels).retain(|_, connections| connections.sweep(now));
    }
}
