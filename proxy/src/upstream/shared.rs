//! Connections in HTTP/2 that many share: how many there are to one peer, which of them takes the
//! next stream, and when one is used no more.

use std::fmt;
use std::future::Future;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant, SystemTime};

use certs::Side;
use futures_util::FutureExt;
use futures_util::future::{BoxFuture, Shared as SharedFuture};
use model::code::ErrorCode;
use model::spiffe::SpiffeId;
use rand::Rng;
use tokio::net::TcpStream;
use tokio::time::sleep;

use super::connect;
use super::http2::Requests;
use super::pool::{Peer, Peers, Shared, lock};
use super::tunnels::Tunnels;
use crate::error::ProxyError;
use crate::proof::Proof;
use crate::tls::TlsStream;

/// After this time, give or take a tenth, a connection takes no more streams, so that
/// certificates and endpoints that change are taken up.
pub(super) const MAX_AGE: Duration = Duration::from_secs(3600);

/// How long a connection without a stream is kept.
const MAX_IDLE: Duration = Duration::from_secs(300);

/// What opens streams on a connection.
pub(super) trait Sender: Send + Sync + Sized + 'static {
    /// Connections to one peer, at most.
    const MAX_CONNECTIONS: usize;

    /// Streams that wait for a place on one connection, at most, when there can be no other.
    const MAX_WAITING: u32;

    /// All that a worker has of this kind.
    fn peers(pool: &Shared) -> &Mutex<Peers<Connections<Self>>>;

    /// Opens one more, which is driven until its life is cut.
    fn open(
        pool: Arc<Shared>,
        peer: Peer,
    ) -> impl Future<Output = Result<(Self, Life), ProxyError>> + Send;

    /// Whether no stream can be opened any more.
    fn is_closed(&self) -> bool;

    /// How many streams it can carry at the same time.
    fn max_streams(&self) -> u32;
}

/// For how long a connection may be used.
pub(super) struct Life {
    longest: Duration,
    /// Set when what the peer proved holds no more.
    retired: Arc<AtomicBool>,
    proof: Option<Proof>,
}

impl Life {
    /// That of a connection whose peer proves nothing.
    pub(super) fn unproved() -> Self {
        Self { longest: MAX_AGE, retired: Arc::default(), proof: None }
    }

    fn proved(proof: Proof) -> Self {
        let longest = until_shortly_before(proof.not_after());
        Self { longest, retired: Arc::default(), proof: Some(proof) }
    }

    /// Resolves when what the peer proved holds no more and what runs has had its time.
    pub(super) fn cut(&self) -> impl Future<Output = ()> + Send + use<> {
        let (retired, proof) = (Arc::clone(&self.retired), self.proof.clone());
        async move {
            let Some(proof) = proof else { return std::future::pending().await };
            let over = proof.over().await;
            retired.store(true, Ordering::Relaxed);
            sleep(over.grace()).await;
            tracing::info!(?over, "outbound: mesh connection cut");
        }
    }
}

/// The connections to one peer.
pub(super) struct Connections<S> {
    open: Vec<Arc<Counted<S>>>,
    /// The connection that is being opened, which all who wait for it share.
    opening: Option<Opening>,
}

type Opening = SharedFuture<BoxFuture<'static, Result<(), ProxyError>>>;

/// A connection and the streams on it.
struct Counted<S> {
    sender: S,
    streams: AtomicU32,
    /// A stream began since the last look.
    used: AtomicBool,
    /// When it was last seen in use, in seconds since it was opened.
    last_used: AtomicU32,
    opened: Instant,
    retire_at: Instant,
    retired: Arc<AtomicBool>,
}

/// One stream's place on a connection; free again when dropped.
pub(super) struct Place<S>(Arc<Counted<S>>);

/// A place whose sender is not needed any more.
#[derive(Debug)]
pub struct StreamGuard(Held);

/// What is only held.
#[derive(Debug)]
enum Held {
    Request(Place<Requests>),
    Tunnel(Place<Tunnels>),
}

impl StreamGuard {
    /// When the connection was made.
    pub fn opened(&self) -> Instant {
        match &self.0 {
            Held::Request(place) => place.opened(),
            Held::Tunnel(place) => place.opened(),
        }
    }
}

impl<S> Place<S> {
    /// What opens the stream.
    pub(super) fn sender(&self) -> &S {
        &self.0.sender
    }

    /// When the connection was made.
    pub(super) fn opened(&self) -> Instant {
        self.0.opened
    }
}

impl From<Place<Requests>> for StreamGuard {
    fn from(place: Place<Requests>) -> Self {
        Self(Held::Request(place))
    }
}

impl From<Place<Tunnels>> for StreamGuard {
    fn from(place: Place<Tunnels>) -> Self {
        Self(Held::Tunnel(place))
    }
}

impl<S> Drop for Place<S> {
    fn drop(&mut self) {
        self.0.streams.fetch_sub(1, Ordering::Relaxed);
    }
}

impl<S> fmt::Debug for Place<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Place")
    }
}

impl<S> fmt::Debug for Connections<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Connections").field("open", &self.open.len()).finish_non_exhaustive()
    }
}

impl<S> Default for Connections<S> {
    fn default() -> Self {
        Self { open: Vec::new(), opening: None }
    }
}

/// A free place on a connection to `peer`, on a new one if need be.
///
/// # Errors
/// Those of opening one; `overload` when all are full and too many wait.
pub(super) async fn acquire<S: Sender>(
    pool: &Arc<Shared>,
    peer: &Peer,
) -> Result<Place<S>, ProxyError> {
    loop {
        let opening = {
            let mut peers = lock(S::peers(pool));
            let connections = match peers.get_mut(peer) {
                Some(connections) => connections,
                None => peers.entry(peer.clone()).or_default(),
            };
            if let Some(place) = connections.least_busy(Instant::now(), peer)? {
                return Ok(place);
            }
            connections.opening(pool, peer)
        };
        opening.await?;
    }
}

impl<S: Sender> Connections<S> {
    /// A place on the connection with the fewest streams; none where another is to be opened.
    fn least_busy(&mut self, now: Instant, peer: &Peer) -> Result<Option<Place<S>>, ProxyError> {
        self.open.retain(|connection| connection.is_usable(now));
        let Some(least) = self.open.iter().min_by_key(|connection| connection.streams()) else {
            return Ok(None);
        };
        let (busy, most) = (least.streams(), least.sender.max_streams());
        if busy >= most && self.open.len() < S::MAX_CONNECTIONS {
            return Ok(None);
        }
        if busy >= most.saturating_add(S::MAX_WAITING) {
            let detail = format!("{peer}: {busy} requests on each of its connections");
            return Err(ProxyError::new(ErrorCode::Overload, detail));
        }
        least.streams.fetch_add(1, Ordering::Relaxed);
        least.used.store(true, Ordering::Relaxed);
        Ok(Some(Place(Arc::clone(least))))
    }

    /// The connection that is being opened, by whoever asked first. It goes on when all who wait for
    /// it have gone: it would stand still with its timers, and the next one would find it late.
    fn opening(&mut self, pool: &Arc<Shared>, peer: &Peer) -> Opening {
        let open = || {
            let (pool, peer) = (Arc::clone(pool), peer.clone());
            async move {
                let opened = S::open(Arc::clone(&pool), peer.clone()).await;
                let mut peers = lock(S::peers(&pool));
                let connections = peers.entry(peer).or_default();
                connections.opening = None;
                opened.map(|(sender, life)| {
                    connections.open.push(Arc::new(Counted::new(sender, &life)));
                })
            }
            .boxed()
            .shared()
        };
        let begin = || {
            let opening = open();
            tokio::spawn(opening.clone().map(drop));
            opening
        };
        self.opening.get_or_insert_with(begin).clone()
    }

    /// Closes what has been idle for long; says whether anything is left.
    pub(super) fn sweep(&mut self, now: Instant) -> bool {
        self.open
            .retain(|connection| connection.is_usable(now) && connection.rests(now) <= MAX_IDLE);
        !self.open.is_empty() || self.opening.is_some()
    }
}

impl<S> Counted<S> {
    /// One that takes streams for its `life`, and never for more than [`MAX_AGE`].
    fn new(sender: S, life: &Life) -> Self {
        let opened = Instant::now();
        let age = MAX_AGE.mul_f64(rand::rng().random_range(0.9..1.1));
        let retire_at = opened + age.min(life.longest);
        let (streams, last_used) = (AtomicU32::new(0), AtomicU32::new(0));
        let used = AtomicBool::new(false);
        let retired = Arc::clone(&life.retired);
        Self { sender, streams, used, last_used, opened, retire_at, retired }
    }

    fn streams(&self) -> u32 {
        self.streams.load(Ordering::Relaxed)
    }

    /// For how long it has not been in use, as far as it is looked at: a stream does not read the
    /// clock for that.
    fn rests(&self, now: Instant) -> Duration {
        let age = now.saturating_duration_since(self.opened);
        if self.used.swap(false, Ordering::Relaxed) || self.streams() > 0 {
            let seconds = u32::try_from(age.as_secs()).unwrap_or(u32::MAX);
            self.last_used.store(seconds, Ordering::Relaxed);
        }
        age.saturating_sub(Duration::from_secs(self.last_used.load(Ordering::Relaxed).into()))
    }
}

impl<S: Sender> Counted<S> {
    fn is_usable(&self, now: Instant) -> bool {
        let retired = now >= self.retire_at || self.retired.load(Ordering::Relaxed);
        !retired && !self.sender.is_closed()
    }
}

/// A connection to the sidecar at `address`, and for how long it may be used: until shortly before
/// a certificate ends that opened it, or the root is removed that vouched for the peer.
pub(super) async fn mesh(
    pool: &Shared,
    address: std::net::SocketAddr,
    identity: &SpiffeId,
) -> Result<(TlsStream<TcpStream>, Life), ProxyError> {
    let credentials = pool.mesh.credentials()?;
    let config = pool.client_config(identity)?;
    let limit = pool.mesh.config.connect_timeout;
    let established = connect::mesh(address, config, limit, &pool.mesh.metrics).await?;
    let shown = &established.certificates;
    let proof = Proof::new(&credentials.identity, Side::Server, shown, pool.mesh.trust());
    Ok((established.io, Life::proved(proof)))
}

/// The time until a certificate ends at `end`, less a tenth or a second: what is sent before that
/// arrives while it is good.
fn until_shortly_before(end: SystemTime) -> Duration {
    let left = end.duration_since(SystemTime::now()).unwrap_or_default();
    left.saturating_sub((left / 10).min(Duration::from_secs(1)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_connection_rests_since_it_was_last_seen_in_use() {
        let connection = Counted::new((), &Life::unproved());
        let opened = connection.opened;
        let after = |seconds| opened + Duration::from_secs(seconds);
        let rests = |seconds| connection.rests(after(seconds)).as_secs();
        assert_eq!(rests(10), 10);
        connection.streams.store(1, Ordering::Relaxed);
        assert_eq!(rests(20), 0, "a stream is open");
        connection.streams.store(0, Ordering::Relaxed);
        assert_eq!(rests(30), 10);
        connection.used.store(true, Ordering::Relaxed);
        assert_eq!(rests(40), 0, "one began and ended in between");
        assert_eq!(rests(100), 60);
    }
}
