//! Sending a request until it is answered: pick an endpoint, try, judge, and try again where that
//! is safe, allowed and affordable.

use std::sync::Arc;
use std::time::{Duration, Instant};

use http::request::Parts;
use http::{HeaderValue, Request, Response, Version};
use model::balance;
use model::budget::RetryBudget;
use model::code::{ErrorCode, Fault};
use model::endpoint::{Endpoint, EndpointKey};
use model::headers as names;
use model::outlier;
use model::retry::{self, Decision, Outcome};
use model::route::{Retry, Timeouts};
use tokio::time::{sleep, timeout};
use tracing::Span;

use super::reach;
use crate::body::{Body, RequestBody};
use crate::error::ProxyError;
use crate::exchange::Exchange;
use crate::headers;
use crate::mesh::Mesh;
use crate::received::Received;
use crate::replay::Replay;
use crate::target::{self, Wanted};
use crate::telemetry::trace;
use crate::upload::Upload;
use crate::upstream::pool::Peer;
use crate::upstream::{Answered, Lease, LoadGuard};
use crate::worker::Worker;

/// Where a request may go and what may be done for it.
#[derive(Debug)]
pub struct Forward<'a> {
    /// The Service whose endpoints these are, for people.
    pub backend: &'a str,
    /// The endpoints to choose from.
    pub endpoints: &'a [Arc<Endpoint>],
    /// What pays for retries.
    pub budget: &'a RetryBudget,
    /// The route's timeouts.
    pub timeouts: Timeouts,
    /// Whether the client gives the request less time than the route: that it runs out says nothing
    /// of an endpoint.
    pub hurried: bool,
    /// The route's retry policy.
    pub retry: Option<&'a Retry>,
}

/// A request as each attempt sends it.
#[derive(Debug)]
pub struct Outgoing {
    /// Its head; the body is the attempt's.
    request: Request<RequestBody>,
    /// How often the request has gone through the mesh.
    hops: u8,
    /// What the client spoke, and the application will be spoken to in.
    http2: bool,
    body: Option<Replay>,
}

impl Outgoing {
    /// The request of `parts` for `wanted`, which has gone through the mesh `hops` times.
    pub fn new(parts: Parts, hops: u8, wanted: &Wanted, body: Option<Upload>, mesh: &Mesh) -> Self {
        let mut request = Request::new(RequestBody::Empty);
        *request.method_mut() = parts.method;
        *request.headers_mut() = parts.headers;
        target::write(&mut request, &parts.uri, &wanted.host);
        Self {
            request,
            hops,
            http2: parts.version == Version::HTTP_2,
            body: body.map(|body| Replay::new(body, Arc::clone(&mesh.replay_bytes))),
        }
    }
}

impl Outgoing {
    /// The request for an application that is spoken to directly, in HTTP/1.1, if through a tunnel
    /// of its sidecar.
    pub(super) fn http1_request(&self, endpoint: &Endpoint) -> Request<RequestBody> {
        let mut request = Request::new(RequestBody::Empty);
        *request.method_mut() = self.request.method().clone();
        *request.uri_mut() = self.request.uri().clone();
        *request.headers_mut() = self.request.headers().clone();
        if endpoint.key.is_pillion() {
            request.headers_mut().insert(names::HOPS, headers::times(self.hops + 1));
        }
        request
    }

    /// Makes it the request for this endpoint.
    fn prepare(&mut self, endpoint: &Endpoint) {
        *self.request.body_mut() = match &self.body {
            None => RequestBody::Empty,
            Some(replay) => RequestBody::Replayed(replay.attempt()),
        };
        let fields = self.request.headers_mut();
        if endpoint.key.is_pillion() {
            fields.insert(names::PORT, endpoint.port.clone());
            let spoken = if self.http2 { "h2" } else { "http/1.1" };
            fields.insert(names::PROTOCOL, HeaderValue::from_static(spoken));
            fields.insert(names::HOPS, headers::times(self.hops + 1));
        } else {
            // What only a sidecar is told, another attempt may have added.
            for name in [names::PORT, names::PROTOCOL, names::HOPS] {
                fields.remove(name);
            }
        }
    }
}

/// Sends the request, again if need be, and gives the response of the last attempt.
///
/// # Errors
/// The error of the last attempt.
pub async fn send(
    worker: &Worker,
    exchange: &mut Exchange,
    forward: &Forward<'_>,
    outgoing: &mut Outgoing,
) -> Result<Response<Body>, ProxyError> {
    let deadline = forward.timeouts.request.map(|limit| exchange.started() + limit);
    let mut tried: Vec<&EndpointKey> = Vec::new();
    loop {
        let begun = Instant::now();
        let endpoint = pick(forward, &tried, begun)?;
        exchange.attempts += 1;
        let mut attempt = Attempt { worker, forward, outgoing: &mut *outgoing, endpoint, begun };
        let span = attempt.span(exchange);
        let result = attempt.run(exchange, &span, deadline).await;
        let outcome = outcome(&result);
        let status = result.as_ref().ok().map(|response| response.status().as_u16());
        attempt.judge(exchange, &span, status, outcome);
        let Some((reason, wait)) = again(exchange, forward, outgoing, outcome, deadline) else {
            outgoing.body.as_ref().inspect(|body| body.settle());
            return result;
        };
        let (service, route) = exchange.labels();
        worker.mesh.metrics.http.retries.with_label_values(&[service, route, &reason]).inc();
        // The failed response, if there is one, is not read any further.
        drop(result);
        tried.push(&endpoint.key);
        sleep(wait).await;
    }
}

fn pick<'a>(
    forward: &Forward<'a>,
    tried: &[&EndpointKey],
    now: Instant,
) -> Result<&'a Arc<Endpoint>, ProxyError> {
    balance::pick(forward.endpoints, tried, now, &mut rand::rng()).ok_or_else(|| {
        let detail = format!("Service {} has no ready endpoint", forward.backend);
        ProxyError::new(ErrorCode::NoEndpoints, detail)
    })
}

/// Whether the request is sent again: why, and after how long.
fn again(
    exchange: &Exchange,
    forward: &Forward<'_>,
    outgoing: &Outgoing,
    outcome: Outcome,
    deadline: Option<Instant>,
) -> Option<(String, Duration)> {
    let decision = retry::decide(
        forward.retry,
        outgoing.request.method(),
        outcome,
        exchange.attempts,
        &mut rand::rng(),
    );
    let Decision::Again { after } = decision else { return None };
    let now = Instant::now();
    if deadline.is_some_and(|deadline| now + after >= deadline) {
        return None;
    }
    let denied = if outgoing.body.as_ref().is_some_and(|body| !body.is_possible()) {
        Some("body_too_large")
    } else if !forward.budget.try_withdraw(now) {
        Some("budget")
    } else {
        None
    };
    if let Some(reason) = denied {
        exchange.retry_denied(reason);
        return None;
    }
    outgoing.body.as_ref().inspect(|body| body.supersede());
    let reason = match outcome {
        Outcome::Response(status) => status.as_u16().to_string(),
        Outcome::Failed(code) => code.to_string(),
    };
    Some((reason, after))
}

/// What an attempt came to: an error that the endpoint's sidecar reports is as good as our own.
fn outcome(result: &Result<Response<Body>, ProxyError>) -> Outcome {
    match result {
        Err(error) => Outcome::Failed(error.code),
        Ok(response) => match reported(response) {
            Some(code) => Outcome::Failed(code),
            None => Outcome::Response(response.status()),
        },
    }
}

/// The error that the endpoint's sidecar reports; an extension of its response.
#[derive(Debug, Clone, Copy)]
struct Reported(ErrorCode);

/// The error that the endpoint's sidecar reports, if it does.
pub(super) fn reported(response: &Response<Body>) -> Option<ErrorCode> {
    response.extensions().get().map(|Reported(code)| *code)
}

/// One attempt at one endpoint.
struct Attempt<'a> {
    worker: &'a Worker,
    forward: &'a Forward<'a>,
    outgoing: &'a mut Outgoing,
    endpoint: &'a Arc<Endpoint>,
    begun: Instant,
}

impl Attempt<'_> {
    fn span(&self, exchange: &Exchange) -> Span {
        self.worker.mesh.tracing.attempt(
            &exchange.span,
            self.outgoing.request.method(),
            exchange.attempts,
            self.endpoint.target_address(),
        )
    }

    /// Sends the request to the endpoint, within its time.
    async fn run(
        &mut self,
        exchange: &mut Exchange,
        span: &Span,
        deadline: Option<Instant>,
    ) -> Result<Response<Body>, ProxyError> {
        let address = self.endpoint.target_address();
        exchange.endpoint = Some(address);
        exchange.tls = reach::tls(self.endpoint);
        let (limit, code) = self.limit(deadline);
        match limit {
            None => self.send(span).await,
            Some(limit) => timeout(limit, self.send(span)).await.unwrap_or_else(|_| {
                Err(ProxyError::new(code, format!("{address}: no response in {limit:?}")))
            }),
        }
    }

    /// How long the attempt may take, and which timeout that is.
    fn limit(&self, deadline: Option<Instant>) -> (Option<Duration>, ErrorCode) {
        let left = deadline.map(|deadline| deadline.saturating_duration_since(self.begun));
        match (left, self.forward.timeouts.backend_request) {
            (Some(left), Some(attempt)) if attempt < left => {
                (Some(attempt), ErrorCode::AttemptTimeout)
            }
            (None, Some(attempt)) => (Some(attempt), ErrorCode::AttemptTimeout),
            (left, _) => (left, ErrorCode::RequestTimeout),
        }
    }

    async fn send(&mut self, span: &Span) -> Result<Response<Body>, ProxyError> {
        let mut load = LoadGuard::begin(self.endpoint, self.begun);
        let peer = Peer::of(self.endpoint, self.outgoing.http2);
        self.outgoing.prepare(self.endpoint);
        let request = &mut self.outgoing.request;
        self.worker.mesh.tracing.inject(span, request.headers_mut());
        let sent = self.worker.pool.send(&peer, request).await;
        let Answered { response, stream, connected } = match sent {
            Ok(answered) => answered,
            Err(error) => {
                load.failed();
                return Err(self.blame(error));
            }
        };
        match response.status().as_u16() {
            ..500 => load.answered(connected),
            _ => load.failed(),
        }
        let lease = Lease::new(stream).with_load(load);
        Ok(received(self.endpoint, response, lease))
    }

    /// The error of a request whose own body broke off is the client's.
    fn blame(&self, error: ProxyError) -> ProxyError {
        match self.outgoing.body.as_ref().and_then(Replay::failure) {
            Some(code) => ProxyError { code, ..error },
            None => error,
        }
    }

    /// Tells the span, and the endpoint's health, how the attempt went.
    fn judge(&self, exchange: &Exchange, span: &Span, status: Option<u16>, outcome: Outcome) {
        let error = match outcome {
            Outcome::Failed(code) => Some(code),
            Outcome::Response(_) => None,
        };
        trace::ended(span, status, error);
        let failed = match error {
            // The client's fault, the route's or our own says nothing of the endpoint.
            Some(code) if code.fault() != Fault::Upstream => return,
            Some(ErrorCode::RequestTimeout) if self.forward.hurried => return,
            Some(_) => true,
            None => status.is_some_and(|status| status >= 500),
        };
        let (now, endpoints) = (Instant::now(), self.forward.endpoints);
        let ejected = outlier::record(endpoints, self.endpoint, failed, now, &mut rand::rng());
        if let Some(time) = ejected {
            self.worker.mesh.ejected(exchange.labels().0, self.endpoint, time);
        }
    }
}

/// The response of `endpoint` as the client gets it.
pub(super) fn received(
    endpoint: &Endpoint,
    response: Response<Received>,
    lease: Lease,
) -> Response<Body> {
    let (mut parts, body) = response.into_parts();
    let ours = headers::strip(&mut parts.headers);
    // Only a sidecar may report an error of the mesh's.
    if let Some(reported) = ours.error.filter(|_| endpoint.key.is_pillion()) {
        if let Some(code) = reported.to_str().ok().and_then(ErrorCode::from_name) {
            parts.extensions.insert(Reported(code));
        }
        parts.headers.insert(names::ERROR, reported);
    }
    parts.version = Version::HTTP_11;
    Response::from_parts(parts, Body::stream(body, lease))
}

impl<'a> Forward<'a> {
    /// Straight to one of `endpoints`, where no route applies.
    pub fn plain(
        backend: &'a str,
        endpoints: &'a [Arc<Endpoint>],
        budget: &'a RetryBudget,
    ) -> Self {
        let timeouts = Timeouts::default();
        Self { backend, endpoints, budget, timeouts, hurried: false, retry: None }
    }
}
