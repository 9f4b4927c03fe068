//! Of TCP connections that are carried as bytes.

use daemon::metrics::{counters, gauges};
use prometheus::{IntCounterVec, IntGaugeVec, Registry};

/// Of TCP connections that are carried as bytes.
#[derive(Debug)]
#[allow(missing_docs)] // the help text at its registration documents each
pub struct TcpMetrics {
    pub connections: IntCounterVec,
    pub open: IntGaugeVec,
    pub received: IntCounterVec,
    pub sent: IntCounterVec,
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
        })
    }
}
