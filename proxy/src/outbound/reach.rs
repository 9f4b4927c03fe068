//! A connection to one of several endpoints that carries nothing else: a stream to its sidecar,
//! or TCP where it is outside of the mesh.

use std::sync::Arc;
use std::time::{Duration, Instant};

use model::balance;
use model::code::{ErrorCode, Fault};
use model::endpoint::{Endpoint, EndpointKey};
use model::outlier;
use tokio::net::TcpStream;
use tokio_util::either::Either;

use super::destination::Destination;
use crate::error::ProxyError;
use crate::telemetry::metrics::Tls;
use crate::tunnel::Tunnel;
use crate::upstream::pool::Peer;
use crate::upstream::{Lease, LoadGuard, StreamGuard, connect};
use crate::worker::Worker;

/// For a TCP connection out of the mesh, which may be a long way off.
const OUTSIDE_CONNECT_TIMEOUT: Duration = Duration::from_secs(10);

/// Endpoints tried for one connection.
const MAX_ATTEMPTS: usize = 3;

/// A connection to an endpoint.
pub(super) struct Upstream {
    pub(super) io: Way,
    /// Its place on a shared connection and its share of the endpoint's load, to be held for as
    /// long as it is used.
    pub(super) lease: Lease,
    pub(super) endpoint: Arc<Endpoint>,
    /// How many endpoints were tried.
    pub(super) attempts: u32,
}

/// By a stream to the endpoint's sidecar, or straight.
pub(super) type Way = Either<Tunnel, TcpStream>;

/// A connection to the destination.
pub(super) async fn to(worker: &Worker, destination: &Destination) -> Result<Upstream, ProxyError> {
    match destination {
        Destination::Service(to) => reach(worker, &to.port().endpoints, &to.service.label).await,
        Destination::Workload(to) => reach(worker, &to.endpoint, &to.workload.name).await,
        Destination::Outside(endpoint) => outside(endpoint).await,
    }
}

/// A connection out of the mesh is the application's own affair: one attempt.
async fn outside(endpoint: &Arc<Endpoint>) -> Result<Upstream, ProxyError> {
    let io = connect::tcp(endpoint.target_address(), OUTSIDE_CONNECT_TIMEOUT).await?;
    let (io, lease) = (Either::Right(io), Lease::default());
    Ok(Upstream { io, lease, endpoint: Arc::clone(endpoint), attempts: 1 })
}

/// Tries endpoints until one is reached: nothing was sent yet, so each failure may be tried again.
pub(super) async fn reach(
    worker: &Worker,
    endpoints: &[Arc<Endpoint>],
    service: &str,
) -> Result<Upstream, ProxyError> {
    let mut tried: Vec<&EndpointKey> = Vec::new();
    loop {
        let picked = balance::pick(endpoints, &tried, Instant::now(), &mut rand::rng());
        let endpoint = picked.ok_or_else(|| {
            let detail = format!("Service {service} has no ready endpoint");
            ProxyError::new(ErrorCode::NoEndpoints, detail)
        })?;
        tried.push(&endpoint.key);
        let result = dial(worker, endpoint).await;
        // What is no fault of the endpoint's says nothing of it.
        let failed = match &result {
            Ok(_) => Some(false),
            Err(error) => (error.code.fault() == Fault::Upstream).then_some(true),
        };
        let now = Instant::now();
        let ejected = failed
            .and_then(|failed| outlier::record(endpoints, endpoint, failed, now, &mut rand::rng()));
        if let Some(time) = ejected {
            worker.mesh.ejected(service, endpoint, time);
        }
        match result {
            Err(error) if error.code.not_processed() && tried.len() < MAX_ATTEMPTS => {
                let metrics = &worker.mesh.metrics;
                metrics.http.retries.with_label_values(&[service, "", error.code.as_str()]).inc();
            }
            Err(error) => return Err(error),
            Ok((io, lease)) => {
                let attempts = u32::try_from(tried.len()).unwrap_or(u32::MAX);
                return Ok(Upstream { io, lease, endpoint: Arc::clone(endpoint), attempts });
            }
        }
    }
}

/// Whether the endpoint proves its identity.
pub(super) const fn tls(endpoint: &Endpoint) -> Tls {
    if endpoint.key.mesh.is_some() { Tls::Mutual } else { Tls::None }
}

async fn dial(worker: &Worker, endpoint: &Arc<Endpoint>) -> Result<(Way, Lease), ProxyError> {
    let mut load = LoadGuard::begin(endpoint, Instant::now());
    match open(worker, endpoint).await {
        Ok((io, connection)) => {
            load.answered(connection.as_ref().map(StreamGuard::opened));
            Ok((io, Lease::new(connection).with_load(load)))
        }
        Err(error) => {
            load.failed();
            Err(error)
        }
    }
}

async fn open(
    worker: &Worker,
    endpoint: &Arc<Endpoint>,
) -> Result<(Way, Option<StreamGuard>), ProxyError> {
    let target = endpoint.target_address();
    match Peer::sidecar(endpoint) {
        Some(sidecar) => {
            let (tunnel, stream) = worker.pool.open_tunnel(&sidecar, target).await?;
            Ok((Either::Left(tunnel), Some(stream)))
        }
        None => {
            let io = connect::tcp(target, worker.mesh.config.connect_timeout).await?;
            Ok((Either::Right(io), None))
        }
    }
}
