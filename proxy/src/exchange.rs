//! The one ending of every HTTP request: opened with the request, finished once when the response
//! has been sent or anything went wrong before. It writes metric, access log and span.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Instant, SystemTime};

use http::header::CONTENT_LENGTH;
use http::{HeaderMap, HeaderName, Method, Response, StatusCode, Version};
use http_body::Body as _;
use model::code::ErrorCode;
use model::spiffe::SpiffeId;
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;
use tracing::Span;

use crate::body::Body;
use crate::error::ProxyError;
use crate::headers;
use crate::mesh::Mesh;
use crate::telemetry::access_log::{Line, cut};
use crate::telemetry::metrics::{Direction, Ended, Tls};
use crate::telemetry::trace;

const GRPC_STATUS: HeaderName = HeaderName::from_static("grpc-status");

/// The label of a Service that nobody configured.
pub const UNKNOWN: &str = "unknown";

/// One request from its head to its end.
#[derive(Debug)]
pub struct Exchange {
    mesh: Arc<Mesh>,
    direction: Direction,
    started: Instant,
    /// `None` of a head that could not be read.
    method: Option<Method>,
    path: Box<str>,
    version: Version,
    /// Whether errors are told in gRPC's way.
    pub grpc: bool,
    /// The span of the whole request.
    pub span: Span,
    /// The Service, once it is found.
    pub service: Option<Arc<str>>,
    /// The route, once one matched.
    pub route: Option<Arc<str>>,
    /// Whether the other sidecar proved its identity.
    pub tls: Tls,
    /// Who called, where the caller proved it (inbound).
    pub peer: Option<SpiffeId>,
    /// Where the last attempt went (outbound).
    pub endpoint: Option<SocketAddr>,
    /// How often the request was sent.
    pub attempts: u32,
    received: Option<u64>,
    sent: u64,
    status: Option<StatusCode>,
    grpc_status: Option<u16>,
    error: Option<ErrorCode>,
    detail: Option<Box<str>>,
    complete: bool,
}

impl Exchange {
    /// Opens the exchange of a request that has just come in.
    pub fn open<B>(
        mesh: &Arc<Mesh>,
        direction: Direction,
        request: &http::Request<B>,
    ) -> Box<Self> {
        let mut exchange = Self::new(mesh, direction);
        exchange.method = Some(request.method().clone());
        if mesh.access_log.wants(true) {
            exchange.path = cut(request.uri().path()).into();
        }
        exchange.version = request.version();
        // What is said in gRPC's way with a 200 would be a tunnel.
        exchange.grpc = *request.method() != Method::CONNECT && headers::is_grpc(request.headers());
        exchange.span = mesh.tracing.request(direction, request.method(), request.headers());
        exchange.received = headers::content_length(request.headers());
        Box::new(exchange)
    }

    /// Opens the exchange of a request whose head cannot be read.
    pub fn unread(mesh: &Arc<Mesh>, direction: Direction) -> Box<Self> {
        Box::new(Self::new(mesh, direction))
    }

    fn new(mesh: &Arc<Mesh>, direction: Direction) -> Self {
        mesh.metrics.http.in_flight(direction).inc();
        Self {
            mesh: Arc::clone(mesh),
            direction,
            started: Instant::now(),
            method: None,
            path: "".into(),
            version: Version::HTTP_11,
            grpc: false,
            span: Span::none(),
            service: None,
            route: None,
            tls: Tls::None,
            peer: None,
            endpoint: None,
            attempts: 0,
            received: None,
            sent: 0,
            status: None,
            grpc_status: None,
            error: None,
            detail: None,
            complete: false,
        }
    }

    /// When the request came.
    pub const fn started(&self) -> Instant {
        self.started
    }

    /// The label values of Service and route for metrics of this request.
    pub fn labels(&self) -> (&str, &str) {
        (self.service.as_deref().unwrap_or(UNKNOWN), self.route.as_deref().unwrap_or(""))
    }

    /// Sends the response; the exchange ends with its body.
    pub fn deliver(mut self: Box<Self>, response: Response<Body>) -> Response<Body> {
        self.responded(response.status(), response.headers());
        response.map(|body| body.finishing(self))
    }

    /// Sends the response of an endpoint, whose sidecar may have reported an error of its own.
    pub fn deliver_reported(
        mut self: Box<Self>,
        response: Response<Body>,
        error: Option<ErrorCode>,
    ) -> Response<Body> {
        self.error = error;
        self.deliver(response)
    }

    /// Answers with an error of the sidecar's own. Who comes from outside of the mesh learns
    /// neither code nor detail.
    pub fn refuse(mut self: Box<Self>, error: &ProxyError) -> Response<Body> {
        self.blame(error);
        let response = match self.is_for_strangers() {
            true => error.public_response(self.grpc),
            false => error.response(self.grpc),
        };
        let response =
            if self.method == Some(Method::HEAD) { without_body(response) } else { response };
        self.deliver(response)
    }

    /// A retry was wanted and not made.
    pub fn retry_denied(&self, reason: &str) {
        let (service, route) = self.labels();
        self.mesh.metrics.http.retries_denied.with_label_values(&[service, route, reason]).inc();
    }

    /// The head of the response is about to be sent.
    fn responded(&mut self, status: StatusCode, fields: &HeaderMap) {
        self.status = Some(status);
        self.trailers(fields);
    }

    /// Whether who asks comes from outside of the mesh.
    fn is_for_strangers(&self) -> bool {
        self.direction == Direction::Inbound && self.peer.is_none()
    }

    fn blame(&mut self, error: &ProxyError) {
        self.error = Some(error.code);
        self.detail = Some(cut(&error.detail).into());
    }

    /// An error of the sidecar's own ends a response that has begun: in these trailers, where the
    /// client looks there for what became of it.
    pub fn break_off(&mut self, error: &ProxyError) -> Option<HeaderMap> {
        self.blame(error);
        self.complete = true;
        let tells = self.grpc && self.version == Version::HTTP_2;
        let trailers = tells.then(|| error.trailers(self.is_for_strangers()))?;
        self.trailers(&trailers);
        Some(trailers)
    }

    /// The response's trailers, which may bring gRPC's status.
    pub fn trailers(&mut self, fields: &HeaderMap) {
        if !self.grpc {
            return;
        }
        if let Some(status) = fields.get(GRPC_STATUS) {
            self.grpc_status =
                status.to_str().ok().and_then(|text| text.parse().ok()).filter(|s| *s <= 16);
        }
    }

    /// `bytes` of the response were handed to the client's connection.
    pub const fn sent(&mut self, bytes: usize) {
        self.sent += bytes as u64;
    }

    /// The response was sent whole.
    pub const fn complete(&mut self) {
        self.complete = true;
    }

    /// The response broke off.
    pub const fn failed(&mut self, code: ErrorCode) {
        self.error = Some(code);
        self.complete = true;
    }

    fn finish(&mut self) {
        if !self.complete && self.error.is_none() {
            self.error = Some(ErrorCode::ClientClosed);
        }
        let took = self.started.elapsed().as_secs_f64();
        let status = self.status.map(|status| status.as_u16());
        self.count(took, status);
        trace::ended(&self.span, status, self.error);
        let failed = self.error.is_some() || status.is_some_and(|status| status >= 500);
        if self.mesh.access_log.wants(failed) {
            self.log(took, status);
        }
    }

    fn count(&self, took: f64, status: Option<u16>) {
        let labels = Ended {
            direction: self.direction,
            status,
            grpc_status: self.grpc_status,
            error: self.error,
            tls: self.tls,
            service: self.service.clone(),
            route: self.route.clone(),
        };
        self.mesh.metrics.http.in_flight(self.direction).dec();
        self.mesh.metrics.http.ended(labels, took);
    }

    fn log(&self, took: f64, status: Option<u16>) {
        let (service, route) = self.labels();
        let endpoint = self.endpoint.map(|endpoint| endpoint.to_string());
        self.mesh.access_log.write(&Line {
            timestamp: now_rfc3339(),
            direction: self.direction.as_str(),
            protocol: protocol(self.version, self.grpc),
            method: self.method.as_ref().map(Method::as_str),
            path: self.method.as_ref().map(|_| &*self.path),
            service,
            route,
            status,
            grpc_status: self.grpc_status,
            error: self.error,
            error_detail: self.detail.as_deref(),
            tls: self.tls.as_str(),
            sni: None,
            peer: self.peer.as_ref().map(SpiffeId::as_str),
            endpoint: endpoint.as_deref(),
            attempts: self.attempts,
            received_bytes: self.received,
            sent_bytes: self.sent,
            duration_seconds: took,
            trace_id: trace::trace_id(&self.span),
        });
    }
}

impl Drop for Exchange {
    fn drop(&mut self) {
        self.finish();
    }
}

/// What answers HEAD has the length of a body and no body (RFC 9110 §9.3.2).
fn without_body(response: Response<Body>) -> Response<Body> {
    let (mut parts, body) = response.into_parts();
    if let Some(length) = body.size_hint().exact() {
        parts.headers.insert(CONTENT_LENGTH, length.into());
    }
    Response::from_parts(parts, Body::empty())
}

/// The time of a line in the access log.
pub fn now_rfc3339() -> String {
    OffsetDateTime::from(SystemTime::now()).format(&Rfc3339).unwrap_or_default()
}

fn protocol(version: Version, grpc: bool) -> &'static str {
    match version {
        _ if grpc => "grpc",
        Version::HTTP_2 => "h2",
        Version::HTTP_10 => "http/1.0",
        _ => "http/1.1",
    }
}
