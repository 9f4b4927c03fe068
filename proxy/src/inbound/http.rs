//! The story of an HTTP request on its way in.

use http::header::HOST;
use http::request::Parts;
use http::{HeaderMap, HeaderValue, Request, Response, Version};
use http_body::Body as _;
use hyper::body::Incoming;
use model::code::ErrorCode;
use model::headers as names;

use super::Caller;
use super::application::Application;
use crate::body::{Body, RequestBody};
use crate::error::ProxyError;
use crate::exchange::Exchange;
use crate::headers;
use crate::outbound::{attempt, destination};
use crate::telemetry::metrics::{Direction, Tls};
use crate::upstream::Lease;
use crate::upstream::pool::Peer;
use crate::worker::Worker;

/// Answers one request from the mesh or from outside of it, whatever happens.
pub async fn handle(worker: &Worker, caller: Caller, request: Request<Incoming>) -> Response<Body> {
    let mut exchange = Exchange::open(&worker.mesh, Direction::Inbound, &request);
    exchange.service = Some(worker.mesh.own_label());
    if let Caller::Mesh(peer) = &caller {
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
    request: Request<Incoming>,
) -> Result<Response<Body>, ProxyError> {
    let (parts, body) = request.into_parts();
    let wanted = destination::authority(&parts)?;
    let target = Target::read(worker, caller, &parts)?;
    let application = Application::find(&worker.mesh, target.port)?;
    exchange.endpoint = Some(application.address);
    exchange.service = Some(application.service);

    let body = if body.is_end_stream() { RequestBody::Empty } else { RequestBody::Stream(body) };
    let mut request = Request::new(body);
    *request.method_mut() = parts.method;
    *request.headers_mut() = parts.headers;
    clean(request.headers_mut(), caller);
    worker.mesh.tracing.inject(&exchange.span, request.headers_mut());
    let host = host(&wanted)?;
    attempt::address(&mut request, &parts.uri, &host, target.http2)?;

    let peer = if target.http2 {
        Peer::Http2(application.address)
    } else {
        Peer::Http1(application.address)
    };
    exchange.attempts = 1;
    let (response, connection) = worker.pool.send(&peer, request).await?;
    Ok(received(response, Lease::new(connection)))
}

/// Which port of the application is meant, and what is spoken to it.
struct Target {
    port: u16,
    http2: bool,
}

impl Target {
    /// From the headers of the calling sidecar; in plaintext, from what the client speaks.
    fn read(worker: &Worker, caller: &Caller, parts: &Parts) -> Result<Self, ProxyError> {
        let bad = |detail: &'static str| ProxyError::new(ErrorCode::BadRequest, detail);
        if let Caller::Plaintext = caller {
            let port = worker.mesh.config.app.port.ok_or_else(|| bad("no --app-port is set"))?;
            return Ok(Self { port, http2: parts.version == Version::HTTP_2 });
        }
        let port = parts.headers.get(names::PORT).and_then(|port| port.to_str().ok()?.parse().ok());
        let port = port.ok_or_else(|| bad("x-pillion-port is missing, or no port"))?;
        let http2 = match parts.headers.get(names::PROTOCOL).map(HeaderValue::as_bytes) {
            None | Some(b"http/1.1") => false,
            Some(b"h2") => true,
            Some(_) => return Err(bad("x-pillion-protocol is neither http/1.1 nor h2")),
        };
        Ok(Self { port, http2 })
    }
}

/// Leaves only what the application may see, and tells it who calls.
fn clean(fields: &mut HeaderMap, caller: &Caller) {
    headers::strip_hop_by_hop(fields);
    headers::strip_reserved(fields);
    fields.remove(HOST);
    if let Caller::Mesh(peer) = caller
        && let Ok(peer) = HeaderValue::from_str(peer.as_str())
    {
        fields.insert(names::PEER, peer);
    }
}

fn host(wanted: &model::host::Authority) -> Result<HeaderValue, ProxyError> {
    HeaderValue::from_str(&wanted.to_string())
        .map_err(|error| ProxyError::new(ErrorCode::BadRequest, error.to_string()))
}

/// The application's response as the caller gets it.
fn received(response: Response<Incoming>, lease: Lease) -> Response<Body> {
    let (mut parts, body) = response.into_parts();
    headers::strip_hop_by_hop(&mut parts.headers);
    headers::strip_reserved(&mut parts.headers);
    parts.version = Version::HTTP_11;
    Response::from_parts(parts, Body::stream(body, lease))
}
