//! Bytes both ways until both ends have closed, and the one ending of every carried connection.

use std::io::{self, ErrorKind};
use std::net::SocketAddr;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Instant;

use bytes::{Bytes, BytesMut};
use model::code::ErrorCode;
use model::spiffe::SpiffeId;
use prometheus::IntCounter;

use crate::both_ways;
use crate::carried::{Carried, Pieces};
use crate::client_hello::ClientHello;
use crate::drain::Running;
use crate::error::ProxyError;
use crate::exchange::now_rfc3339;
use crate::fill::Pace;
use crate::layer::writes_pass;
use crate::mesh::Mesh;
use crate::telemetry::access_log::{Line, cut};
use crate::telemetry::metrics::{Direction, Tls};

/// One carried TCP connection from its acceptance to its end. Metric and log are written when it
/// is dropped.
#[derive(Debug)]
pub struct Session {
    mesh: Arc<Mesh>,
    direction: Direction,
    started: Instant,
    service: Arc<str>,
    /// Whether the other sidecar proved its identity.
    pub tls: Tls,
    /// Who called, where the caller proved it (inbound).
    pub peer: Option<SpiffeId>,
    /// Where the connection goes.
    pub endpoint: Option<SocketAddr>,
    attempts: u32,
    received: IntCounter,
    sent: IntCounter,
    bytes: (u64, u64),
    /// What the client asks for, where it speaks TLS by itself.
    server_name: Option<Box<str>>,
    error: Option<ProxyError>,
    /// A drain waits for it: an upgraded connection is no longer its acceptor's.
    _running: Running,
}

impl Session {
    /// Opens the session of a connection towards `service`.
    pub fn open(mesh: &Arc<Mesh>, direction: Direction, service: Arc<str>) -> Self {
        let labels = [direction.as_str(), &*service];
        let metrics = &mesh.metrics;
        metrics.tcp.open.with_label_values(&labels).inc();
        Self {
            mesh: Arc::clone(mesh),
            direction,
            started: Instant::now(),
            tls: Tls::None,
            peer: None,
            endpoint: None,
            attempts: 0,
            received: metrics.tcp.received.with_label_values(&labels),
            sent: metrics.tcp.sent.with_label_values(&labels),
            bytes: (0, 0),
            server_name: None,
            error: None,
            _running: mesh.drain.run(),
            service,
        }
    }

    /// The connection is tried towards `endpoint`.
    pub const fn attempt(&mut self, endpoint: SocketAddr, tls: Tls) {
        self.endpoint = Some(endpoint);
        self.tls = tls;
        self.attempts += 1;
    }

    /// The connection was tried that often, the last time towards `endpoint`.
    pub const fn attempts(&mut self, endpoint: SocketAddr, tls: Tls, attempts: u32) {
        self.endpoint = Some(endpoint);
        self.tls = tls;
        self.attempts = attempts;
    }

    /// The connection could not be carried on.
    pub fn fail(&mut self, error: ProxyError) {
        self.error = Some(error);
    }

    /// Carries bytes until both ends have closed, each half as its sender closes it.
    pub async fn relay<C, U>(mut self, client: C, upstream: U)
    where
        C: Carried,
        U: Carried,
    {
        let mut client = Counted::new(client, &self.received);
        client.hello = ClientHello::Awaited;
        let mut upstream = Counted::new(upstream, &self.sent);
        let relayed = both_ways::carry(&mut client, &mut upstream).await;
        self.server_name = client.server_name.take();
        self.bytes = (client.bytes, upstream.bytes);
        match relayed {
            Ok(()) => {}
            // It was opened in case that it is needed, and was not.
            Err(error) if error.kind() == ErrorKind::ConnectionAborted && self.bytes.0 == 0 => {}
            Err(error) => {
                client.io.reset();
                upstream.io.reset();
                self.fail(ProxyError::new(ErrorCode::UpstreamReset, error.to_string()));
            }
        }
    }
}

impl Drop for Session {
    fn drop(&mut self) {
        let direction = self.direction.as_str();
        let metrics = &self.mesh.metrics;
        metrics.tcp.open.with_label_values(&[direction, &self.service]).dec();
        let error = self.error.as_ref().map(|error| error.code);
        let code = error.map_or("", ErrorCode::as_str);
        let labels = [direction, &self.service, code, self.tls.as_str()];
        metrics.tcp.connections.with_label_values(&labels).inc();
        if let Some(name) = &self.server_name {
            let name = metrics.tcp.known_server_names.value(name);
            let labels = [direction, &*self.service, name];
            metrics.tcp.server_names.with_label_values(&labels).inc();
        }
        if !self.mesh.access_log.wants(error.is_some()) {
            return;
        }
        let endpoint = self.endpoint.map(|endpoint| endpoint.to_string());
        self.mesh.access_log.write(&Line {
            timestamp: now_rfc3339(),
            direction,
            protocol: "tcp",
            method: None,
            path: None,
            service: &self.service,
            route: "",
            status: None,
            grpc_status: None,
            error,
            error_detail: self.error.as_ref().map(|error| &*error.detail),
            tls: self.tls.as_str(),
            sni: self.server_name.as_deref().map(cut),
            peer: self.peer.as_ref().map(SpiffeId::as_str),
            endpoint: endpoint.as_deref(),
            attempts: self.attempts,
            received_bytes: Some(self.bytes.0),
            sent_bytes: self.bytes.1,
            duration_seconds: self.started.elapsed().as_secs_f64(),
            trace_id: None,
        });
    }
}

/// Counts what is read, while it is read: a connection that lives for days is seen at once. Of a
/// client, what it says at first is looked at.
struct Counted<I> {
    io: I,
    read: IntCounter,
    bytes: u64,
    hello: ClientHello,
    server_name: Option<Box<str>>,
}

impl<I> Counted<I> {
    fn new(io: I, read: &IntCounter) -> Self {
        Self { io, read: read.clone(), bytes: 0, hello: ClientHello::Over, server_name: None }
    }
}

impl<I: Pieces> Pieces for Counted<I> {
    fn poll_take(
        &mut self,
        cx: &mut Context<'_>,
        pace: &mut Pace,
        room: &mut BytesMut,
    ) -> Poll<io::Result<Bytes>> {
        let read = ready!(self.io.poll_take(cx, pace, room))?;
        self.read.inc_by(read.len() as u64);
        self.bytes += read.len() as u64;
        if !matches!(self.hello, ClientHello::Over)
            && let Some(name) = self.hello.hear(&read)
        {
            self.server_name = Some(name);
        }
        Poll::Ready(Ok(read))
    }

    fn poll_give(&mut self, cx: &mut Context<'_>, bytes: &mut Bytes) -> Poll<io::Result<()>> {
        self.io.poll_give(cx, bytes)
    }
}

writes_pass!(Counted);
