//! The story of an HTTP request on its way out.

use std::sync::Arc;
use std::time::Duration;

use http::request::Parts;
use http::{Request, Response};
use http_body::Body as _;
use model::code::ErrorCode;
use model::grpc;
use model::name::ServiceName;
use model::route::{Action, BackendTarget, Selected};
use model::table::{Lookup, PortEntry, ServiceEntry, Table};

use super::attempt::{self, Forward, Outgoing};
use super::destination::{Destination, ServicePort, Via};
use super::upgrade;
use crate::body::Body;
use crate::edge;
use crate::error::ProxyError;
use crate::exchange::Exchange;
use crate::headers::{self, MAX_HOPS};
use crate::received::Received;
use crate::target;
use crate::telemetry::metrics::Direction;
use crate::upgrade::Upgrade;
use crate::upload::Upload;
use crate::worker::Worker;

/// Answers one request of the application, whatever happens.
pub async fn handle(worker: &Worker, via: Via, request: &mut Request<Received>) -> Response<Body> {
    let mut exchange = Exchange::open(&worker.mesh, Direction::Outbound, request);
    match forward(worker, via, &mut exchange, request).await {
        Ok(response) => {
            let error = attempt::reported(&response);
            exchange.deliver_reported(response, error)
        }
        Err(error) => exchange.refuse(&error),
    }
}

async fn forward(
    worker: &Worker,
    via: Via,
    exchange: &mut Exchange,
    request: &mut Request<Received>,
) -> Result<Response<Body>, ProxyError> {
    let upgrade = Upgrade::asked(request);
    let (mut parts, body) = std::mem::take(request).into_parts();
    edge::request(&parts)?;
    let wanted = target::read(&parts, via.original())?;
    let destination = via.find(&worker.mesh, &wanted.authority).await?;
    exchange.service = Some(destination.label());
    worker.mesh.memory.check()?;

    // Routes see what the client sent, with what ends here.
    let way = way(&destination, exchange, &parts);
    let hops = headers::strip(&mut parts.headers).hops;
    if hops >= MAX_HOPS {
        let detail = format!("it has gone through the mesh {hops} times");
        return Err(ProxyError::new(ErrorCode::LoopDetected, detail));
    }

    let mut forward = way?;
    forward.budget.deposit(exchange.started());
    let limit = grpc_timeout(exchange, &parts);
    forward.hurried = limit.is_some_and(|limit| forward.timeouts.shorten(limit));

    let body = (!body.is_end_stream()).then(|| Upload::new(body, &parts));
    let mut outgoing = Outgoing::new(parts, hops, &wanted, body, &worker.mesh);
    let response = match upgrade {
        Some(upgrade) => {
            Box::pin(upgrade::send(worker, exchange, &forward, upgrade, &outgoing)).await
        }
        None => attempt::send(worker, exchange, &forward, &mut outgoing).await,
    };
    match limit {
        Some(limit) => Ok(response?.map(|body| body.until(exchange.started() + limit))),
        None => response,
    }
}

/// How long a gRPC call may take by its client's word, to the end of its response.
fn grpc_timeout(exchange: &Exchange, parts: &Parts) -> Option<Duration> {
    if !exchange.grpc {
        return None;
    }
    grpc::timeout(parts.headers.get(grpc::TIMEOUT)?.as_bytes())
}

/// The endpoints that the request may go to, and what may be done for it on the way.
fn way<'a>(
    destination: &'a Destination,
    exchange: &mut Exchange,
    parts: &Parts,
) -> Result<Forward<'a>, ProxyError> {
    match destination {
        Destination::Service(to) => route(to, exchange, parts),
        Destination::Workload(to) => {
            Ok(Forward::plain(&to.workload.name, &to.endpoint, &to.workload.budget))
        }
        Destination::Outside(endpoint) => {
            let detail = format!("{} is not in the mesh any more", endpoint.target_address());
            Err(ProxyError::new(ErrorCode::ServiceUnknown, detail))
        }
    }
}

/// Where the routes of a Service send the request.
fn route<'a>(
    to: &'a ServicePort,
    exchange: &mut Exchange,
    parts: &Parts,
) -> Result<Forward<'a>, ProxyError> {
    let selected = select(to.port(), parts)?;
    exchange.route = selected.as_ref().map(|selected| Arc::clone(selected.route));
    plan(&to.table, &to.service, to.port(), selected.as_ref())
}

/// The route that the request matches; none where the port has no routes.
fn select<'a>(port: &'a PortEntry, parts: &Parts) -> Result<Option<Selected<'a>>, ProxyError> {
    let Some(router) = &port.router else { return Ok(None) };
    let (path, query) = (parts.uri.path(), parts.uri.query());
    if edge::has_dot_segments(path) {
        let detail =
            "routes could match another path than the application reads: it has dot segments";
        return Err(ProxyError::new(ErrorCode::BadRequest, detail));
    }
    match router.find(&parts.method, path, query, &parts.headers) {
        Some(selected) => Ok(Some(selected)),
        None => {
            let detail = format!("no route of port {} matches {} {path}", port.port, parts.method);
            Err(ProxyError::new(ErrorCode::RouteNotFound, detail))
        }
    }
}

/// Where the request goes, and what may be done for it on the way.
fn plan<'a>(
    table: &'a Table,
    service: &'a ServiceEntry,
    port: &'a PortEntry,
    selected: Option<&Selected<'a>>,
) -> Result<Forward<'a>, ProxyError> {
    let Some(selected) = selected else {
        return Ok(Forward::plain(&service.label, &port.endpoints, &port.budget));
    };
    let fail = |code, detail: String| {
        let detail = format!("{} rule {}: {detail}", selected.route, selected.rule_label);
        ProxyError::new(code, detail)
    };
    let chosen = match &selected.rule.action {
        Action::Unsupported(what) => return Err(fail(ErrorCode::RouteUnsupported, what.clone())),
        Action::Forward(_) => selected.rule.choose_backend(&mut rand::rng()),
    };
    let invalid = |detail: String| fail(ErrorCode::RouteBackendInvalid, detail);
    let backend = chosen.ok_or_else(|| invalid("it has no backend of a weight above 0".into()))?;
    let (name, number) = match &backend.target {
        BackendTarget::Invalid(reason) => return Err(invalid(reason.clone())),
        BackendTarget::Service { name, port } => (name, *port),
    };
    let service = known(table, name).map_err(|error| invalid(error.detail.into_owned()))?;
    let backend = service
        .port(number)
        .ok_or_else(|| invalid(format!("Service {name} has no port {number}")))?;
    Ok(Forward {
        endpoints: &backend.endpoints,
        backend: &service.label,
        budget: &port.budget,
        timeouts: selected.rule.timeouts,
        hurried: false,
        retry: selected.rule.retry.as_ref(),
    })
}

/// The entry of a Service that a route names.
fn known<'a>(table: &'a Table, name: &ServiceName) -> Result<&'a ServiceEntry, ProxyError> {
    match table.service(name) {
        Lookup::Known(entry) => Ok(entry),
        Lookup::Absent | Lookup::NotAsked => {
            Err(ProxyError::new(ErrorCode::ServiceUnknown, format!("there is no Service {name}")))
        }
    }
}
