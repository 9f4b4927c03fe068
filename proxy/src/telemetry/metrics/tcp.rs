//! Of TCP connections that are carried as bytes.

use daemon::metrics::{counters, gauges};
use prometheus::{IntCounterVec, IntGaugeVec, Registry};

use crate::telemetry::bounded::Bounded;

/// Of TCP connections that are carried as bytes.
#[derive(Debug)]
#[allow(missing_docs)] // the help text at its registration documents each
pub struct TcpMetrics {
    pub connections: IntCounterVec,
    pub open: IntGaugeVec,
    pub received: IntCounterVec,
    pub sent: IntCounterVec,
    pub server_names: IntCounterVec,
    /// Of the label `sni`, which clients write.
    pub known_server_names: Bounded,
}

impl TcpMetrics {
    /// The metrics, registered at `r`.
    pub(super) fn new(r: &Registry) -> prometheus::Result<Self> {
        Ok(Self {
            connections: counters(
                r,
                "pillion_tcp_connections_total",
                "TCP connections carried and ended.",
                &["direction", "service", "error", "tls"],
            )?,
            open: gauges(
                r,
                "pillion_tcp_connections_open",
                "TCP connections carried at this moment.",
                &["direction", "service"],
            )?,
            received: counters(
                r,
                "pillion_tcp_received_bytes_total",
                "Bytes that clients of carried TCP connections sent.",
                &["direction", "service"],
            )?,
            sent: counters(
                r,
                "pillion_tcp_sent_bytes_total",
                "Bytes sent to clients of carried TCP connections.",
                &["direction", "service"],
            )?,
            server_names: counters(
                r,
                "pillion_tcp_tls_connections_total",
                "Carried TCP connections that begin with a TLS ClientHello, by the server name in it (at most 1,000, then other).",
                &["direction", "service", "sni"],
            )?,
            known_server_names: Bounded::default(),
        })
    }
}
