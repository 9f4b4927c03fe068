//! The story of an HTTP request on its way in.

use std::sync::Arc;

use http::{HeaderMap, HeaderValue, Request, Response, Version};
use http_body::Body as _;
use model::code::ErrorCode;
use model::headers as names;
use tokio_util::either::Either;

use super::application::Application;
use super::{Arrival, Caller, carry};
use crate::body::{Body, RequestBody};
use crate::edge;
use crate::error::ProxyError;
use crate::exchange::Exchange;
use crate::headers::{self, Ours};
use crate::http1::Answer;
use crate::received::Received;
use crate::target;
use crate::telemetry::metrics::{Direction, Tls};
use crate::upgrade::Upgrade;
use crate::upload::Upload;
use crate::upstream::pool::Peer;
use crate::upstream::{Answered, Lease};
use crate::worker::Worker;

/// Answers one request from the mesh or from outside of it, whatever happens.
pub async fn handle(
    worker: &Worker,
    caller: Caller,
    request: &mut Request<Received>,
) -> Response<Body> {
    let mut exchange = Exchange::open(&worker.mesh, Direction::Inbound, request);
    exchange.service = Some(worker.mesh.own_label());
    if let Some(peer) = caller.peer() {
        exchange.tls = Tls::Mutual;
        exchange.peer = Some(peer.clone());
    }
    match forward(worker, &mut exchange, &caller, request).await {
        Ok(response) => exchange.deliver(response),
        Err(error) => exchange.refuse(&error),
    }
}

async fn forward(
    worker: &Worker,
    exchange: &mut Exchange,
    caller: &Caller,
    request: &mut Request<Received>,
) -> Result<Response<Body>, ProxyError> {
    let upgrade = Upgrade::asked(request);
    let (mut parts, body) = std::mem::take(request).into_parts();
    edge::request(&parts)?;
    worker.mesh.memory.check()?;
    let ours = headers::strip(&mut parts.headers);
    let target = Target::read(worker, caller, &ours, parts.version)?;
    let application = target.application;
    let wanted = target::read(&parts, Some(application.address))?;
    exchange.endpoint = Some(application.address);
    exchange.service = Some(Arc::clone(&application.service));

    let body = if body.is_end_stream() {
        RequestBody::Empty
    } else {
        RequestBody::Stream(Box::new(Upload::new(body, &parts)))
    };
    let mut request = Request::new(body);
    *request.method_mut() = parts.method;
    *request.headers_mut() = parts.headers;
    introduce(request.headers_mut(), caller, ours.hops);
    worker.mesh.tracing.inject(&exchange.span, request.headers_mut());
    target::write(&mut request, &parts.uri, &wanted.host);

    let peer = if target.http2 {
        Peer::Http2(application.address)
    } else {
        Peer::Http1(application.address)
    };
    exchange.attempts = 1;
    if let Some(upgrade) = upgrade {
        return Box::pin(switch(worker, caller, application, upgrade, request)).await;
    }
    let Answered { response, stream, .. } = worker.pool.send(&peer, &mut request).await?;
    Ok(received(response, Lease::new(stream)))
}

/// Asks the application to leave HTTP, on a connection of its own.
async fn switch(
    worker: &Worker,
    caller: &Caller,
    application: Arc<Application>,
    upgrade: Upgrade,
    request: Request<RequestBody>,
) -> Result<Response<Body>, ProxyError> {
    let io = Either::Right(carry::reach(worker, &application).await?);
    match upgrade.send(io, application.address, request).await? {
        Answer::Switch(response, upstream) => {
            let arrival = Arrival { peer: caller.peer().cloned(), application };
            Ok(upgrade.grant(response, upstream, carry::open(worker, &arrival), ()))
        }
        Answer::Response(response) => Ok(received(response, Lease::default())),
    }
}

/// Which port of the application is meant, and what is spoken to it.
struct Target {
    application: Arc<Application>,
    http2: bool,
}

impl Target {
    /// On a connection to one port, that port and what is spoken on it; else what the headers of
    /// the calling sidecar say.
    fn read(
        worker: &Worker,
        caller: &Caller,
        said: &Ours,
        version: Version,
    ) -> Result<Self, ProxyError> {
        let bad = |detail: &'static str| ProxyError::new(ErrorCode::BadRequest, detail);
        let at = match caller {
            Caller::Connection(arrival) => {
                let application = Arc::clone(&arrival.application);
                return Ok(Self { application, http2: version == Version::HTTP_2 });
            }
            Caller::Stream(sidecar) => sidecar.at,
        };
        let port = said.port.as_ref().and_then(|port| port.to_str().ok()?.parse().ok());
        let port = port.ok_or_else(|| bad("x-pillion-port is missing, or no port"))?;
        let http2 = match said.protocol.as_ref().map(HeaderValue::as_bytes) {
            None | Some(b"http/1.1") => false,
            Some(b"h2") => true,
            Some(_) => return Err(bad("x-pillion-protocol is neither http/1.1 nor h2")),
        };
        Ok(Self { application: Arc::new(Application::find(&worker.mesh, at, port)?), http2 })
    }
}

/// Tells the application who calls, where that was proved.
fn introduce(fields: &mut HeaderMap, caller: &Caller, hops: u8) {
    if let Some(name) = caller.name() {
        fields.insert(names::PEER, name);
        fields.insert(names::HOPS, headers::times(hops));
    }
}

/// The application's response as the caller gets it.
fn received(response: Response<Received>, lease: Lease) -> Response<Body> {
    let (mut parts, body) = response.into_parts();
    headers::strip(&mut parts.headers);
    parts.version = Version::HTTP_11;
    Response::from_parts(parts, Body::stream(body, lease))
}
