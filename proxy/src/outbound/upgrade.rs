//! HTTP Upgrade on its way out: over a connection of its own to one endpoint.

use std::sync::Arc;

use http::Response;
use model::code::ErrorCode;
use model::endpoint::Endpoint;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::time::{Instant, timeout_at};

use super::attempt::{Forward, Outgoing, received};
use super::tunnel::{self, Upstream, Way};
use crate::body::Body;
use crate::error::ProxyError;
use crate::exchange::Exchange;
use crate::relay::Session;
use crate::telemetry::metrics::Direction;
use crate::upgrade::{Upgrade, is_granted};
use crate::upstream::{Connection, Lease};
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
    let service = forward.backend.to_string();
    let upstream = tunnel::reach(worker, forward.endpoints, &service).await?;
    let endpoint = Arc::clone(&upstream.endpoint);
    exchange.endpoint = Some(endpoint.target_address());
    exchange.tls = tunnel::tls(&endpoint);
    exchange.attempts = upstream.attempts;
    let mut request = outgoing.http1_request()?;
    worker.mesh.tracing.inject(&exchange.span, request.headers_mut());
    let Upstream { way, load, attempts, .. } = upstream;
    let label = exchange.labels().0.into();
    let mut session = Session::open(&worker.mesh, Direction::Outbound, label);
    session.attempts(endpoint.target_address(), tunnel::tls(&endpoint), attempts);
    let switch = Switch { upgrade, session, endpoint };
    match way {
        Way::Mesh(io, stream) => {
            let held = Lease::new(Connection::Http2(stream)).with_load(load);
            switch.over(io, request, held).await
        }
        Way::Plaintext(io) => {
            let held = Lease::new(Connection::Own).with_load(load);
            switch.over(io, request, held).await
        }
    }
}

struct Switch {
    upgrade: Upgrade,
    session: Session,
    endpoint: Arc<Endpoint>,
}

impl Switch {
    async fn over<I>(
        self,
        io: I,
        request: http::Request<crate::body::RequestBody>,
        held: Lease,
    ) -> Result<Response<Body>, ProxyError>
    where
        I: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    {
        let response = self.upgrade.send(io, self.endpoint.target_address(), request).await?;
        if is_granted(&response) {
            return Ok(self.upgrade.grant(response, self.session, held));
        }
        Ok(received(&self.endpoint, response, held))
    }
}
