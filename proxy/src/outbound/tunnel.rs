//! CONNECT: anything that is not HTTP, carried as bytes to an endpoint of the Service named.

use http::{Request, Response, Uri};
use model::code::ErrorCode;

use super::destination::{self, Destination};
use super::reach::{self, Upstream, tls};
use crate::body::Body;
use crate::error::ProxyError;
use crate::exchange::UNKNOWN;
use crate::received::Received;
use crate::relay::Session;
use crate::switch::Switch;
use crate::telemetry::metrics::Direction;
use crate::worker::Worker;

/// Answers a CONNECT: once an endpoint is reached, 200 and then bytes both ways.
pub async fn handle(worker: &Worker, mut request: Request<Received>) -> Response<Body> {
    match open(worker, &request).await {
        Ok((session, upstream)) => {
            tokio::spawn(carry(Switch::of(&mut request), session, upstream));
            Response::new(Body::empty())
        }
        Err(error) => error.response(false),
    }
}

async fn open(
    worker: &Worker,
    request: &Request<Received>,
) -> Result<(Session, Upstream), ProxyError> {
    let found = match worker.mesh.memory.check().and_then(|()| authority(request.uri())) {
        Ok(wanted) => destination::named(&worker.mesh, &wanted).await,
        Err(error) => Err(error),
    };
    let label = found.as_ref().map_or_else(|_| UNKNOWN.into(), Destination::label);
    let mut session = Session::open(&worker.mesh, Direction::Outbound, label);
    let reached = match found {
        Ok(destination) => reach::to(worker, &destination).await,
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

async fn carry(client: Switch, mut session: Session, upstream: Upstream) {
    let client = match client.granted().await {
        Ok(client) => client,
        Err(error) => return session.fail(error),
    };
    let Upstream { io, lease: _lease, .. } = upstream;
    session.relay(client, io).await;
}
