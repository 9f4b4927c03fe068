//! Of TLS between sidecars, and this sidecar's certificate.

use std::time::Duration;

use daemon::metrics::{counters, gauge, histograms};
use model::code::ErrorCode;
use prometheus::{Gauge, HistogramVec, IntCounterVec, Registry};

use super::{Direction, LATENCY_BUCKETS};

/// Of TLS between sidecars, and this sidecar's certificate.
#[derive(Debug)]
#[allow(missing_docs)] // the help text at its registration documents each
pub struct TlsMetrics {
    pub handshakes: IntCounterVec,
    pub handshake_duration: HistogramVec,
    pub certificate_expiry: Gauge,
    pub certificate_lifetime: Gauge,
    pub certificate_renewals: IntCounterVec,
}

impl TlsMetrics {
    /// The metrics, registered at `r`.
    pub(super) fn new(r: &Registry) -> prometheus::Result<Self> {
        Ok(Self {
            handshakes: counters(
                r,
                "pillion_tls_handshakes_total",
                "TLS handshakes between sidecars, by result (ok, or why not).",
                &["direction", "result"],
            )?,
            handshake_duration: histograms(
                r,
                "pillion_tls_handshake_duration_seconds",
                "Time of successful TLS handshakes between sidecars.",
                &["direction"],
                &LATENCY_BUCKETS,
            )?,
            certificate_expiry: gauge(
                r,
                "pillion_certificate_expiry_timestamp_seconds",
                "When this sidecar's certificate ends, in seconds since the epoch; 0 without one.",
            )?,
            certificate_lifetime: gauge(
                r,
                "pillion_certificate_lifetime_seconds",
                "How long this sidecar's certificate was to live when it came; 0 without one.",
            )?,
            certificate_renewals: counters(
                r,
                "pillion_certificate_renewals_total",
                "Certificates asked for, by result (ok, error).",
                &["result"],
            )?,
        })
    }

    /// One TLS handshake that succeeded after `took`.
    pub fn handshake_done(&self, direction: Direction, took: Duration) {
        self.handshakes.with_label_values(&[direction.as_str(), "ok"]).inc();
        self.handshake_duration
            .with_label_values(&[direction.as_str()])
            .observe(took.as_secs_f64());
    }

    /// One TLS handshake that failed.
    pub fn handshake_failed(&self, direction: Direction, code: ErrorCode) {
        self.handshakes.with_label_values(&[direction.as_str(), code.as_str()]).inc();
    }
}
