//! A connection to one of several endpoints that carries nothing else: a stream to its sidecar,
//! or TCP where it is outside of the mesh.

use std::sync::Arc;
use std::time::{Duration, Instant};

use http::{Method, Request, Response};
use model::balance;
use model::code::{ErrorCode, Fault};
use model::endpoint::{Endpoint, EndpointKey};
use model::headers as names;
use model::outlier;
use tokio::net::TcpStream;
use tokio_util::either::Either;

use super::destination::Destination;
use crate::error::ProxyError;
use crate::telemetry::metrics::Tls;
use crate::tunnel::Tunnel;
use crate::upstream::pool::Peer;
use crate::upstream::{Connection, Lease, LoadGuard, connect};
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
    let (io, lease) = (Either::Right(io), Lease::new(Connection::Own));
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
        let failed = result.as_ref().is_err_and(|error| error.code.fault() == Fault::Upstream);
        let ejected =
            outlier::record(endpoints, endpoint, failed, Instant::now(), &mut rand::rng());
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
    let mut load = LoadGuard::begin(endpoint);
    let (io, connection) = if endpoint.key.mesh.is_some() {
        dial_mesh(worker, endpoint).await?
    } else {
        let limit = worker.mesh.config.connect_timeout;
        let io = connect::tcp(endpoint.target_address(), limit).await?;
        (Either::Right(io), Connection::Own)
    };
    load.answered();
    Ok((io, Lease::new(connection).with_load(load)))
}

/// A CONNECT stream to the endpoint's sidecar, whose `:authority` is the application's address
/// (HBONE).
async fn dial_mesh(worker: &Worker, endpoint: &Endpoint) -> Result<(Way, Connection), ProxyError> {
    let mut request = Request::new(());
    *request.method_mut() = Method::CONNECT;
    let target = endpoint.target_address();
    *request.uri_mut() = target.to_string().parse().map_err(|error: http::uri::InvalidUri| {
        ProxyError::new(ErrorCode::Internal, error.to_string())
    })?;
    let peer = Peer::of(endpoint, true);
    let (response, tunnel, stream) = worker.pool.open_tunnel(&peer, request).await?;
    if !response.status().is_success() {
        return Err(refused(&response, &peer));
    }
    Ok((Either::Left(tunnel), Connection::Http2(stream)))
}

fn refused(response: &Response<()>, peer: &Peer) -> ProxyError {
    let reported = response.headers().get(names::ERROR).and_then(|code| code.to_str().ok());
    let code = reported.and_then(ErrorCode::from_name).unwrap_or(ErrorCode::UpstreamProtocol);
    ProxyError::new(code, format!("{peer} refused the connection with {}", response.status()))
}
