//! CONNECT: anything that is not HTTP, carried as bytes to an endpoint of the Service named.

use std::sync::Arc;
use std::time::Instant;

use http::{Method, Request, Response, Uri};
use hyper::body::Incoming;
use hyper::upgrade::Upgraded;
use hyper_util::rt::TokioIo;
use model::balance;
use model::code::{ErrorCode, Fault};
use model::endpoint::{Endpoint, EndpointKey};
use model::headers as names;
use model::outlier;
use tokio::net::TcpStream;

use super::{destination, http as outbound_http};
use crate::body::{Body, RequestBody};
use crate::error::ProxyError;
use crate::relay::Session;
use crate::telemetry::metrics::{Direction, Tls};
use crate::upstream::pool::Peer;
use crate::upstream::{LoadGuard, StreamGuard, connect};
use crate::worker::Worker;

/// Endpoints tried for one connection.
const MAX_ATTEMPTS: usize = 3;

/// The Service's label before it is found.
const UNKNOWN: &str = "unknown";

/// A connection to an endpoint, with its share of the endpoint's load.
pub(super) struct Upstream {
    pub(super) way: Way,
    pub(super) load: LoadGuard,
    pub(super) endpoint: Arc<Endpoint>,
    /// How many endpoints were tried.
    pub(super) attempts: u32,
}

/// How the endpoint is reached.
pub(super) enum Way {
    /// By a stream to its sidecar.
    Mesh(TokioIo<Upgraded>, StreamGuard),
    /// Straight, outside of the mesh.
    Plaintext(TcpStream),
}

/// Answers a CONNECT: once an endpoint is reached, 200 and then bytes both ways.
pub async fn handle(worker: &Worker, request: Request<Incoming>) -> Response<Body> {
    match open(worker, &request).await {
        Ok((session, upstream)) => {
            tokio::spawn(carry(request, session, upstream));
            Response::new(Body::empty())
        }
        Err(error) => error.response(false),
    }
}

async fn open(
    worker: &Worker,
    request: &Request<Incoming>,
) -> Result<(Session, Upstream), ProxyError> {
    let unknown = || Session::open(&worker.mesh, Direction::Outbound, UNKNOWN.into());
    let found = match authority(request.uri()) {
        Ok(wanted) => destination::find(&worker.mesh, &wanted).await.map(|found| (wanted, found)),
        Err(error) => Err(error),
    };
    let (wanted, (table, name)) = found.inspect_err(|error| unknown().fail(error.clone()))?;
    let service = outbound_http::known(&table, &name)?;
    let mut session = Session::open(&worker.mesh, Direction::Outbound, Arc::clone(&service.label));
    let reached = match destination::port(service, &wanted) {
        Ok(port) => reach(worker, &port.endpoints, &name.to_string()).await,
        Err(error) => Err(error),
    };
    match reached {
        Ok(upstream) => {
            let endpoint = &upstream.endpoint;
            session.attempts(endpoint.target_address(), tls(endpoint), upstream.attempts);
            Ok((session, upstream))
        }
        Err(error) => {
            session.fail(error.clone());
            Err(error)
        }
    }
}

fn authority(target: &Uri) -> Result<model::host::Authority, ProxyError> {
    let bad = |detail: String| ProxyError::new(ErrorCode::BadRequest, detail);
    let text = target.authority().ok_or_else(|| bad("CONNECT without HOST:PORT".into()))?;
    let wanted: model::host::Authority =
        text.as_str().parse().map_err(|error| bad(format!("CONNECT {text}: {error}")))?;
    match wanted.port {
        Some(_) => Ok(wanted),
        None => Err(bad(format!("CONNECT {text}: the port is missing"))),
    }
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
            Ok((way, load)) => {
                let attempts = u32::try_from(tried.len()).unwrap_or(u32::MAX);
                return Ok(Upstream { way, load, endpoint: Arc::clone(endpoint), attempts });
            }
        }
    }
}

/// Whether the endpoint proves its identity.
pub(super) const fn tls(endpoint: &Endpoint) -> Tls {
    if endpoint.key.mesh.is_some() { Tls::Mutual } else { Tls::None }
}

async fn dial(worker: &Worker, endpoint: &Arc<Endpoint>) -> Result<(Way, LoadGuard), ProxyError> {
    let mut load = LoadGuard::begin(endpoint);
    let way = if endpoint.key.mesh.is_some() {
        let (io, stream) = dial_mesh(worker, endpoint).await?;
        Way::Mesh(io, stream)
    } else {
        let limit = worker.mesh.config.connect_timeout;
        Way::Plaintext(connect::tcp(endpoint.target_address(), limit).await?)
    };
    load.answered();
    Ok((way, load))
}

/// A CONNECT stream to the endpoint's sidecar, whose `:authority` is the application's address
/// (HBONE).
async fn dial_mesh(
    worker: &Worker,
    endpoint: &Endpoint,
) -> Result<(TokioIo<Upgraded>, StreamGuard), ProxyError> {
    let mut request = Request::new(RequestBody::Empty);
    *request.method_mut() = Method::CONNECT;
    let target = endpoint.target_address();
    *request.uri_mut() = target.to_string().parse().map_err(|error: http::uri::InvalidUri| {
        ProxyError::new(ErrorCode::Internal, error.to_string())
    })?;
    let peer = Peer::of(endpoint, true);
    let (response, stream) = worker.pool.open_tunnel(&peer, request).await?;
    if !response.status().is_success() {
        return Err(refused(&response, &peer));
    }
    let lost = |error| ProxyError::new(ErrorCode::UpstreamReset, format!("{peer}: {error}"));
    let io = hyper::upgrade::on(response).await.map_err(lost)?;
    Ok((TokioIo::new(io), stream))
}

fn refused(response: &Response<Incoming>, peer: &Peer) -> ProxyError {
    let reported = response.headers().get(names::ERROR).and_then(|code| code.to_str().ok());
    let code = reported.and_then(ErrorCode::from_name).unwrap_or(ErrorCode::UpstreamProtocol);
    ProxyError::new(code, format!("{peer} refused the connection with {}", response.status()))
}

async fn carry(request: Request<Incoming>, mut session: Session, upstream: Upstream) {
    let client = match hyper::upgrade::on(request).await {
        Ok(client) => TokioIo::new(client),
        Err(error) => {
            return session.fail(ProxyError::new(ErrorCode::ClientClosed, error.to_string()));
        }
    };
    let Upstream { way, load: _load, .. } = upstream;
    match way {
        Way::Mesh(io, _stream) => session.relay(client, io).await,
        Way::Plaintext(io) => session.relay(client, io).await,
    }
}
