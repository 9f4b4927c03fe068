//! HTTP/2 connections: many requests on each, a bounded number of streams a connection.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::time::{Duration, Instant, SystemTime};

use certs::Side;
use futures_util::FutureExt;
use futures_util::future::{BoxFuture, Shared as SharedFuture};
use http::{Request, Response};
use hyper::body::Incoming;
use hyper::client::conn::http2::{self, SendRequest};
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use model::code::ErrorCode;
use rand::Rng;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::time::sleep;

use super::failure::{self, Used};
use super::pool::{Peer, Shared, lock};
use super::{Connection, connect};
use crate::body::RequestBody;
use crate::error::ProxyError;
use crate::proof::Proof;
use crate::server::{
    CONNECTION_WINDOW, MAX_HEAD, MAX_STREAMS, PING_INTERVAL, PING_TIMEOUT, STREAM_WINDOW,
};

/// Connections to one peer; past them, requests wait for a stream.
const MAX_CONNECTIONS: usize = 8;

/// Requests that wait for a stream of each of them. Past that the peer is not slow but stuck, and
/// one more in the queue would help nobody.
const MAX_WAITING: u32 = 128;

/// After this time, give or take a tenth, a connection takes no more requests, so that
/// certificates and endpoints that change are taken up.
const MAX_AGE: Duration = Duration::from_secs(3600);

/// How long a connection without a stream is kept.
const MAX_IDLE: Duration = Duration::from_secs(300);

/// The connections to one peer.
#[derive(Default)]
pub(super) struct Connections {
    open: Vec<Arc<Http2Connection>>,
    /// The connection that is being opened, which all who wait for it share.
    opening: Option<Opening>,
}

type Opening = SharedFuture<BoxFuture<'static, Result<(), ProxyError>>>;

struct Http2Connection {
    sender: SendRequest<RequestBody>,
    streams: AtomicU32,
    used: AtomicU32,
    opened: Instant,
    retire_at: Instant,
    /// Set when what the peer proved holds no more.
    retired: Arc<AtomicBool>,
}

/// One stream's place on a connection; free again when dropped.
pub struct StreamGuard(Arc<Http2Connection>);

impl Drop for StreamGuard {
    fn drop(&mut self) {
        self.0.streams.fetch_sub(1, Ordering::Relaxed);
        self.0.touch();
    }
}

impl fmt::Debug for StreamGuard {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("StreamGuard")
    }
}

impl fmt::Debug for Connections {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Connections").field("open", &self.open.len()).finish_non_exhaustive()
    }
}

/// Sends a request whose response is an ordinary one.
pub(super) async fn send(
    shared: &Arc<Shared>,
    peer: &Peer,
    request: Request<RequestBody>,
) -> Result<(Response<Incoming>, Connection), ProxyError> {
    let (response, guard) = send_stream(shared, peer, request).await?;
    Ok((response, Connection::Http2(guard)))
}

/// Sends a request on a stream of its own.
pub(super) async fn send_stream(
    shared: &Arc<Shared>,
    peer: &Peer,
    mut request: Request<RequestBody>,
) -> Result<(Response<Incoming>, StreamGuard), ProxyError> {
    // A connection may close between our look and our request: hyper then gives the request back.
    for _ in 0..=MAX_CONNECTIONS {
        let stream = acquire(shared, peer).await?;
        let mut sender = stream.0.sender.clone();
        if sender.ready().await.is_err() {
            continue;
        }
        match sender.try_send_request(request).await {
            Ok(response) => return Ok((response, stream)),
            Err(mut failed) => match failed.take_message() {
                Some(unsent) => request = unsent,
                None => return Err(failure::of_request(failed.error(), peer, Used::First)),
            },
        }
    }
    Err(ProxyError::new(ErrorCode::UpstreamRefused, format!("{peer}: every connection closes")))
}

/// A free place on a connection to `peer`, on a new one if need be.
async fn acquire(shared: &Arc<Shared>, peer: &Peer) -> Result<StreamGuard, ProxyError> {
    loop {
        let opening = {
            let mut peers = lock(&shared.http2);
            if !peers.contains_key(peer) {
                peers.insert(peer.clone(), Connections::default());
            }
            // invariant: inserted above if it was not there.
            let Some(connections) = peers.get_mut(peer) else { continue };
            if let Some(stream) = connections.least_busy(peer, Instant::now())? {
                return Ok(stream);
            }
            connections.opening(shared, peer)
        };
        opening.await?;
    }
}

impl Connections {
    /// A place on the connection with the fewest streams; none where another connection is to be
    /// opened.
    fn least_busy(&mut self, peer: &Peer, now: Instant) -> Result<Option<StreamGuard>, ProxyError> {
        self.open.retain(|connection| connection.is_usable(now));
        let busy = |connection: &&Arc<Http2Connection>| connection.streams.load(Ordering::Relaxed);
        let Some(least) = self.open.iter().min_by_key(busy) else { return Ok(None) };
        let streams = busy(&least);
        if streams >= MAX_STREAMS && self.open.len() < MAX_CONNECTIONS {
            return Ok(None);
        }
        if streams >= MAX_STREAMS + MAX_WAITING {
            let detail = format!("{peer}: {MAX_WAITING} requests wait for each connection");
            return Err(ProxyError::new(ErrorCode::Overload, detail));
        }
        least.streams.fetch_add(1, Ordering::Relaxed);
        least.touch();
        Ok(Some(StreamGuard(Arc::clone(least))))
    }

    /// The connection that is being opened, by whoever asked first.
    fn opening(&mut self, shared: &Arc<Shared>, peer: &Peer) -> Opening {
        let open = || {
            let (shared, peer) = (Arc::clone(shared), peer.clone());
            async move {
                let opened = open(&shared, &peer).await;
                let mut peers = lock(&shared.http2);
                let connections = peers.entry(peer).or_default();
                connections.opening = None;
                opened.map(|connection| connections.open.push(Arc::new(connection)))
            }
            .boxed()
            .shared()
        };
        self.opening.get_or_insert_with(open).clone()
    }

    /// Closes what has been idle for long; says whether anything is left.
    pub(super) fn sweep(&mut self, now: Instant) -> bool {
        self.open.retain(|connection| {
            let busy = connection.streams.load(Ordering::Relaxed) > 0;
            let used = now.saturating_duration_since(connection.last_used()) <= MAX_IDLE;
            connection.is_usable(now) && (busy || used)
        });
        !self.open.is_empty() || self.opening.is_some()
    }
}

impl Http2Connection {
    /// Whether it takes further requests.
    fn is_usable(&self, now: Instant) -> bool {
        let retired = now >= self.retire_at || self.retired.load(Ordering::Relaxed);
        !retired && !self.sender.is_closed()
    }

    /// Notes that the connection is in use at this moment, in seconds since it was opened.
    fn touch(&self) {
        let age = self.opened.elapsed().as_secs();
        self.used.store(u32::try_from(age).unwrap_or(u32::MAX), Ordering::Relaxed);
    }

    fn last_used(&self) -> Instant {
        self.opened + Duration::from_secs(self.used.load(Ordering::Relaxed).into())
    }
}

async fn open(shared: &Arc<Shared>, peer: &Peer) -> Result<Http2Connection, ProxyError> {
    let limit = shared.mesh.config.connect_timeout;
    match peer {
        Peer::Mesh(address, identity) => {
            let credentials = shared.mesh.credentials()?;
            let config = shared.client_config(identity)?;
            let io = connect::mesh(*address, config, limit, &shared.mesh.metrics).await?;
            let shown = io.get_ref().1.peer_certificates().unwrap_or_default();
            let trust = shared.mesh.trust();
            let proof = Proof::new(&credentials.identity, Side::Server, shown, trust);
            handshake(peer, io, Some(proof)).await
        }
        Peer::Http1(address) | Peer::Http2(address) => {
            handshake(peer, connect::tcp(*address, limit).await?, None).await
        }
    }
}

/// The time until a certificate ends at `end`, less a tenth or a second: what is sent before that
/// arrives while it is good.
fn until_shortly_before(end: SystemTime) -> Duration {
    let left = end.duration_since(SystemTime::now()).unwrap_or_default();
    left.saturating_sub((left / 10).min(Duration::from_secs(1)))
}

/// HTTP/2 on `io`, which takes requests while `proof` holds and never for more than [`MAX_AGE`].
async fn handshake<I>(
    peer: &Peer,
    io: I,
    proof: Option<Proof>,
) -> Result<Http2Connection, ProxyError>
where
    I: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let (sender, connection) = http2::Builder::new(TokioExecutor::new())
        .timer(TokioTimer::new())
        .initial_stream_window_size(STREAM_WINDOW)
        .initial_connection_window_size(CONNECTION_WINDOW)
        .initial_max_send_streams(MAX_STREAMS as usize)
        .max_header_list_size(MAX_HEAD as u32)
        .max_send_buf_size(STREAM_WINDOW as usize)
        .keep_alive_interval(PING_INTERVAL)
        .keep_alive_timeout(PING_TIMEOUT)
        .keep_alive_while_idle(true)
        .handshake(TokioIo::new(io))
        .await
        .map_err(|error| failure::of_request(&error, peer, Used::First))?;
    let proved = proof.as_ref().map(|proof| until_shortly_before(proof.not_after()));
    let retired = Arc::new(AtomicBool::new(false));
    // The requests on the connection hear how it ended; nobody else asks.
    let connection = connection.map(drop);
    tokio::spawn(keep(connection, proof, Arc::clone(&retired)));
    let opened = Instant::now();
    let age = MAX_AGE.mul_f64(rand::rng().random_range(0.9..1.1));
    Ok(Http2Connection {
        sender,
        streams: AtomicU32::new(0),
        used: AtomicU32::new(0),
        opened,
        retire_at: opened + proved.map_or(age, |proved| age.min(proved)),
        retired,
    })
}

/// Drives a connection: to its end, or until what its peer proved holds no more, and what runs on
/// it then has had its time.
async fn keep(
    connection: impl Future<Output = ()>,
    proof: Option<Proof>,
    retired: Arc<AtomicBool>,
) {
    let Some(proof) = proof else { return connection.await };
    let spent = async {
        let over = proof.over().await;
        retired.store(true, Ordering::Relaxed);
        sleep(over.grace()).await;
        tracing::info!(?over, "outbound: mesh connection cut");
    };
    tokio::select! {
        () = connection => {}
        () = spent => {}
    }
}
