//! Of HTTP requests: rate, errors, duration, retries.

use daemon::metrics::{counters, gauges, histograms};
use prometheus::{HistogramVec, IntCounterVec, IntGauge, IntGaugeVec, Registry};

use super::ended::Of;
use super::{Direction, LATENCY_BUCKETS};

/// Of HTTP requests: rate, errors, duration, retries.
#[derive(Debug)]
#[allow(missing_docs)] // the help text at its registration documents each
pub struct HttpMetrics {
    pub(super) of: Of,
    outbound: IntGauge,
    inbound: IntGauge,
    pub requests: IntCounterVec,
    pub request_duration: HistogramVec,
    pub retries: IntCounterVec,
    pub retries_denied: IntCounterVec,
    pub ejections: IntCounterVec,
    pub endpoints: IntGaugeVec,
}

impl HttpMetrics {
    /// The metrics, registered at `r`.
    pub(super) fn new(r: &Registry) -> prometheus::Result<Self> {
        let in_flight =
            gauges(r, "pillion_requests_in_flight", "HTTP requests under way.", &["direction"])?;
        let in_flight = |direction: Direction| in_flight.with_label_values(&[direction.as_str()]);
        Ok(Self {
            of: Of::next(),
            outbound: in_flight(Direction::Outbound),
            inbound: in_flight(Direction::Inbound),
            requests: counters(
                r,
                "pillion_requests_total",
                "HTTP requests ended, by what their client got.",
                &["direction", "service", "route", "status", "grpc_status", "error", "tls"],
            )?,
            request_duration: histograms(
                r,
                "pillion_request_duration_seconds",
                "Time from a request's head to the end of its response.",
                &["direction", "service", "route"],
                &LATENCY_BUCKETS,
            )?,
            retries: counters(
                r,
                "pillion_retries_total",
                "Attempts after the first, by why the one before failed.",
                &["service", "route", "reason"],
            )?,
            retries_denied: counters(
                r,
                "pillion_retries_denied_total",
                "Retries wanted and not made: the budget was spent, or the body too large to be sent again.",
                &["service", "route", "reason"],
            )?,
            ejections: counters(
                r,
                "pillion_ejections_total",
                "Endpoints taken out of balancing for consecutive failures.",
                &["service"],
            )?,
            endpoints: gauges(
                r,
                "pillion_endpoints",
                "Endpoints of the Services in use, by state (ready, ejected).",
                &["service", "state"],
            )?,
        })
    }

    /// The requests under way.
    pub const fn in_flight(&self, direction: Direction) -> &IntGauge {
        match direction {
            Direction::Outbound => &self.outbound,
            Direction::Inbound => &self.inbound,
        }
    }
}
