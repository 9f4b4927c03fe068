//! HTTP Upgrade on its way out: over a connection of its own to one endpoint.

use http::Response;
use model::code::ErrorCode;
use tokio::time::{Instant, timeout, timeout_at};

use super::attempt::{Forward, Outgoing, received};
use super::reach::{Upstream, reach, tls};
use crate::body::Body;
use crate::error::ProxyError;
use crate::exchange::Exchange;
use crate::http1::Answer;
use crate::relay::Session;
use crate::telemetry::metrics::Direction;
use crate::upgrade::Upgrade;
use crate::worker::Worker;

/// Sends the request to an endpoint, and switches if the application does.
///
/// # Errors
/// As for any request.
pub async fn send(
    worker: &Worker,
    exchange: &mut Exchange,
    forward: &Forward<'_>,
    upgrade: Upgrade,
    outgoing: &Outgoing,
) -> Result<Response<Body>, ProxyError> {
    let asked = ask(worker, exchange, forward, upgrade, outgoing);
    match forward.timeouts.request {
        None => asked.await,
        Some(limit) => {
            let deadline = Instant::now() + limit;
            timeout_at(deadline, asked).await.unwrap_or_else(|_| {
                let detail = format!("no response in {limit:?}");
                Err(ProxyError::new(ErrorCode::RequestTimeout, detail))
            })
        }
    }
}

async fn ask(
    worker: &Worker,
    exchange: &mut Exchange,
    forward: &Forward<'_>,
    upgrade: Upgrade,
    outgoing: &Outgoing,
) -> Result<Response<Body>, ProxyError> {
    let upstream = reach(worker, forward.endpoints, forward.backend).await?;
    let Upstream { io, lease, endpoint, attempts } = upstream;
    let address = endpoint.target_address();
    exchange.endpoint = Some(address);
    exchange.tls = tls(&endpoint);
    exchange.attempts = attempts;
    let mut request = outgoing.http1_request(&endpoint);
    worker.mesh.tracing.inject(&exchange.span, request.headers_mut());
    let sent = upgrade.send(io, address, request);
    let answer = match forward.timeouts.backend_request {
        None => sent.await?,
        Some(limit) => timeout(limit, sent).await.unwrap_or_else(|_| {
            let detail = format!("{address}: no response in {limit:?}");
            Err(ProxyError::new(ErrorCode::AttemptTimeout, detail))
        })?,
    };
    match answer {
        Answer::Switch(response, upstream) => {
            let label = exchange.labels().0.into();
            let mut session = Session::open(&worker.mesh, Direction::Outbound, label);
            session.attempts(address, tls(&endpoint), attempts);
            Ok(upgrade.grant(response, upstream, session, lease))
        }
        Answer::Response(response) => Ok(received(&endpoint, response, lease)),
    }
}
