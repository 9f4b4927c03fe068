//! CONNECT streams of other sidecars (HBONE): a connection to one port of the application.

use std::sync::Arc;

use http::{Request, Response};
use model::code::ErrorCode;
use model::host::{Authority, Host};
use model::spiffe::SpiffeId;

use super::Arrival;
use super::application::Application;
use super::carry::{carry, open, reach};
use crate::body::Body;
use crate::error::ProxyError;
use crate::received::Received;
use crate::relay::Session;
use crate::switch::Switch;
use crate::telemetry::metrics::{Direction, Tls};
use crate::worker::Worker;

/// Answers a CONNECT of another sidecar: once the application is reached, 200 and then bytes.
pub async fn handle(
    worker: &Worker,
    peer: SpiffeId,
    mut request: Request<Received>,
) -> Response<Body> {
    let application = match target(worker, &request) {
        Ok(application) => Arc::new(application),
        Err(error) => {
            let own = worker.mesh.own_label();
            let mut session = Session::open(&worker.mesh, Direction::Inbound, own);
            session.tls = Tls::Mutual;
            session.peer = Some(peer);
            return refuse(session, error);
        }
    };
    let arrival = Arrival { peer: Some(peer), application };
    let upstream = match reach(worker, &arrival.application).await {
        Ok(upstream) => upstream,
        Err(error) => return refuse(open(worker, &arrival), error),
    };
    let (worker, caller) = (worker.clone(), Switch::of(&mut request));
    tokio::spawn(async move {
        match caller.granted().await {
            Ok(caller) => carry(worker, arrival, caller, Some(upstream)).await,
            // One that was given up before it began is nothing to tell of.
            Err(error) => tracing::debug!(%error, "inbound: tunnel not used"),
        }
    });
    Response::new(Body::empty())
}

fn refuse(mut session: Session, error: ProxyError) -> Response<Body> {
    let response = error.response(false);
    session.fail(error);
    response
}

/// The port that the `:authority` of a CONNECT names; its address must be this workload's.
fn target(worker: &Worker, request: &Request<Received>) -> Result<Application, ProxyError> {
    worker.mesh.memory.check()?;
    let bad = |detail: String| ProxyError::new(ErrorCode::BadRequest, detail);
    let text = request.uri().authority().ok_or_else(|| bad("CONNECT without a target".into()))?;
    let wanted: Authority =
        text.as_str().parse().map_err(|error| bad(format!("CONNECT {text}: {error}")))?;
    let config = &worker.mesh.config;
    match (wanted.host, wanted.port) {
        (Host::Ip(address), Some(port))
            if config.addresses.contains(&address) || config.app.address == Some(address) =>
        {
            Application::find(&worker.mesh, address, port)
        }
        _ => {
            let detail = format!("CONNECT {text}: this is the sidecar of {}", config.address);
            Err(ProxyError::new(ErrorCode::PortDenied, detail))
        }
    }
}
