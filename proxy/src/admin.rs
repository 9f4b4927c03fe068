//! The operator's port: `/live`, `/ready` and `/metrics` for everyone, `/config` from loopback.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use daemon::admin::{Answer, is_local, json, metrics, text};
use http::{Method, Request, StatusCode};
use hyper::body::Incoming;
use model::endpoint::Endpoint;
use model::inbound::{InboundPort, Plaintext};
use model::service::Protocol;
use model::table::{PortEntry, ServiceEntry};
use serde::Serialize;

use crate::mesh::Mesh;

/// Answers one request to the admin port.
pub fn answer(mesh: &Arc<Mesh>, request: &Request<Incoming>, peer: SocketAddr) -> Answer {
    match (request.method(), request.uri().path()) {
        (&Method::GET, "/live") => text(StatusCode::OK, "live\n"),
        (&Method::GET, "/ready") => ready(mesh),
        (&Method::GET, "/metrics") => {
            refresh(mesh);
            metrics(&mesh.metrics.registry)
        }
        (_, "/config" | "/drain") if !is_local(peer.ip()) => {
            text(StatusCode::FORBIDDEN, "only from loopback\n")
        }
        (&Method::GET, "/config") => config(mesh),
        (&Method::POST, "/drain") => {
            mesh.drain.begin();
            text(StatusCode::OK, "draining\n")
        }
        (_, "/live" | "/ready" | "/metrics" | "/config" | "/drain") => {
            text(StatusCode::METHOD_NOT_ALLOWED, "GET, or POST for /drain\n")
        }
        _ => text(StatusCode::NOT_FOUND, "there are /live /ready /metrics /config /drain\n"),
    }
}

fn ready(mesh: &Mesh) -> Answer {
    if mesh.is_ready() {
        return text(StatusCode::OK, "ready\n");
    }
    let reason = if mesh.drain.has_begun() {
        "draining".to_string()
    } else {
        format!("no certificate and configuration yet: {}", mesh.status.describe())
    };
    text(StatusCode::SERVICE_UNAVAILABLE, format!("{reason}\n"))
}

/// Sets the metrics that follow from the state at this moment.
fn refresh(mesh: &Mesh) {
    let now = Instant::now();
    mesh.metrics.sync.staleness.set(mesh.status.staleness().as_secs_f64());
    // Services that are gone keep no series.
    mesh.metrics.http.endpoints.reset();
    for service in mesh.table().services() {
        let all = || service.ports.iter().flat_map(|port| &port.endpoints);
        let ejected = all().filter(|endpoint| endpoint.health.is_ejected(now)).count();
        let set = |state, number: usize| {
            let gauge = mesh.metrics.http.endpoints.with_label_values(&[&*service.label, state]);
            gauge.set(i64::try_from(number).unwrap_or(i64::MAX));
        };
        set("ready", all().count() - ejected);
        set("ejected", ejected);
    }
}

#[derive(Serialize)]
struct ConfigView {
    version: &'static str,
    identity: Option<IdentityView>,
    control_plane: String,
    publication: u64,
    services: Vec<ServiceView>,
    inbound: Vec<InboundPort>,
    plaintext: Option<Plaintext>,
}

#[derive(Serialize)]
struct IdentityView {
    id: String,
    expires_in_seconds: u64,
}

#[derive(Serialize)]
struct ServiceView {
    name: Arc<str>,
    addresses: Vec<std::net::IpAddr>,
    ports: Vec<PortView>,
    routes: Option<Arc<model::route::ServiceRoutes>>,
}

#[derive(Serialize)]
struct PortView {
    port: u16,
    protocol: Protocol,
    endpoints: Vec<EndpointView>,
}

#[derive(Serialize)]
struct EndpointView {
    address: SocketAddr,
    workload: Arc<str>,
    identity: Option<String>,
    state: &'static str,
    latency_seconds: f64,
    in_flight: u32,
}

/// The Table in use, with the live state of its endpoints.
fn config(mesh: &Mesh) -> Answer {
    let table = mesh.table();
    let now = Instant::now();
    let mut services: Vec<_> = table.services().map(|s| ServiceView::new(s, now)).collect();
    services.sort_by(|a, b| a.name.cmp(&b.name));
    let view = ConfigView {
        version: env!("CARGO_PKG_VERSION"),
        identity: mesh.last_credentials().as_ref().map(|credentials| IdentityView {
            id: credentials.identity.id().to_string(),
            expires_in_seconds: seconds_left(credentials.identity.not_after()),
        }),
        control_plane: mesh.status.describe(),
        publication: table.publication(),
        services,
        inbound: table.inbound().iter().map(|entry| entry.port.clone()).collect(),
        plaintext: table.plaintext(),
    };
    match serde_json::to_vec_pretty(&view) {
        Ok(body) => json(StatusCode::OK, body),
        Err(error) => text(StatusCode::INTERNAL_SERVER_ERROR, format!("{error}\n")),
    }
}

fn seconds_left(end: std::time::SystemTime) -> u64 {
    end.duration_since(std::time::SystemTime::now()).as_ref().map_or(0, Duration::as_secs)
}

impl ServiceView {
    fn new(entry: &Arc<ServiceEntry>, now: Instant) -> Self {
        Self {
            name: Arc::clone(&entry.label),
            addresses: entry.service.addresses.clone(),
            ports: entry.ports.iter().map(|port| PortView::new(port, now)).collect(),
            routes: entry.routes.clone(),
        }
    }
}

impl PortView {
    fn new(port: &PortEntry, now: Instant) -> Self {
        let endpoints = port.endpoints.iter().map(|e| EndpointView::new(e, now)).collect();
        Self { port: port.port, protocol: port.protocol, endpoints }
    }
}

impl EndpointView {
    fn new(endpoint: &Endpoint, now: Instant) -> Self {
        Self {
            address: endpoint.target_address(),
            workload: Arc::clone(&endpoint.workload),
            identity: endpoint.key.mesh.as_ref().map(|mesh| mesh.identity.to_string()),
            state: if endpoint.health.is_ejected(now) { "ejected" } else { "ready" },
            latency_seconds: endpoint.load.latency(now).as_secs_f64(),
            in_flight: endpoint.load.in_flight(),
        }
    }
}
