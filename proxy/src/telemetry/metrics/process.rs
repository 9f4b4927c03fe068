//! Of the sidecar as a process.

use daemon::metrics::{counter, gauges, int_gauge};
use prometheus::{IntCounter, IntGauge, IntGaugeVec, Registry};

/// Of the sidecar as a process.
#[derive(Debug)]
#[allow(missing_docs)] // the help text at its registration documents each
pub struct ProcessMetrics {
    pub connections_open: IntGaugeVec,
    pub accept_errors: IntCounter,
    pub memory_pressure: IntGauge,
    pub access_log_dropped: IntCounter,
    pub panics: IntCounter,
}

impl ProcessMetrics {
    /// The metrics, registered at `r`.
    pub(super) fn new(r: &Registry) -> prometheus::Result<Self> {
        Ok(Self {
            connections_open: gauges(
                r,
                "pillion_connections_open",
                "Connections accepted and not closed yet, by port.",
                &["port"],
            )?,
            accept_errors: counter(
                r,
                "pillion_accept_errors_total",
                "Connections that could not be accepted (out of descriptors, aborted).",
            )?,
            memory_pressure: int_gauge(
                r,
                "pillion_memory_pressure",
                "1 while connections wait, 2 while requests are refused, for the memory that the \
                 sidecar may use is nearly used up.",
            )?,
            access_log_dropped: counter(
                r,
                "pillion_access_log_dropped_total",
                "Lines of the access log dropped because standard error was too slow.",
            )?,
            panics: counter(
                r,
                "pillion_panics_total",
                "Defects caught: each ended one connection.",
            )?,
        })
    }
}
