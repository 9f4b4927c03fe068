//! The metrics of one sidecar, in Prometheus's conventions: seconds, bytes, `_total`.
//!
//! Every label value comes from the configuration or from a closed list, never from a client:
//! a Service that nobody configured is counted as `unknown`.

use std::time::{Duration, SystemTime};

use model::code::ErrorCode;
use prometheus::core::{Collector, GenericCounter, GenericGauge};
use prometheus::process_collector::ProcessCollector;
use prometheus::{
    Gauge, HistogramOpts, HistogramVec, IntCounter, IntCounterVec, IntGauge, IntGaugeVec, Opts,
    Registry,
};

/// Upper bounds of the latency histograms, in seconds: 1 ms to 60 s.
const LATENCY_BUCKETS: [f64; 16] =
    [0.001, 0.002, 0.003, 0.005, 0.01, 0.02, 0.03, 0.05, 0.1, 0.2, 0.3, 0.5, 1.0, 5.0, 10.0, 60.0];

/// Which way a request or connection goes, seen from the workload.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Direction {
    /// From the application into the mesh.
    Outbound,
    /// From the mesh, or from outside of it, to the application.
    Inbound,
}

impl Direction {
    /// The label value.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Outbound => "outbound",
            Self::Inbound => "inbound",
        }
    }
}

/// Whether the other end proved its identity.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Tls {
    /// Mutual TLS with a SPIFFE identity on both ends.
    Mutual,
    /// Plaintext.
    None,
}

impl Tls {
    /// The label value.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Mutual => "mutual",
            Self::None => "none",
        }
    }
}

/// Handles to every metric.
#[derive(Debug)]
#[allow(missing_docs)] // the help text at its registration documents each
pub struct Metrics {
    pub registry: Registry,
    pub requests: IntCounterVec,
    pub request_duration: HistogramVec,
    pub requests_in_flight: IntGaugeVec,
    pub retries: IntCounterVec,
    pub retries_denied: IntCounterVec,
    pub ejections: IntCounterVec,
    pub endpoints: IntGaugeVec,
    pub tcp_connections: IntCounterVec,
    pub tcp_open: IntGaugeVec,
    pub tcp_received: IntCounterVec,
    pub tcp_sent: IntCounterVec,
    pub tls_handshakes: IntCounterVec,
    pub tls_handshake_duration: HistogramVec,
    pub connections_open: IntGaugeVec,
    pub accept_errors: IntCounter,
    pub certificate_expiry: Gauge,
    pub certificate_renewals: IntCounterVec,
    pub control_plane_connected: IntGauge,
    pub config_publication: IntGauge,
    pub config_updates: IntCounter,
    pub config_resources_received: IntCounter,
    pub config_resources_rejected: IntCounter,
    pub config_update_timestamp: Gauge,
    pub config_staleness: Gauge,
    pub access_log_dropped: IntCounter,
    pub panics: IntCounter,
}

impl Metrics {
    /// All metrics, registered.
    ///
    /// # Errors
    /// When two have the same name, which a test excludes.
    pub fn new() -> prometheus::Result<Self> {
        let r = Registry::new();
        r.register(Box::new(ProcessCollector::for_self()))?;
        build_info(&r)?;
        Ok(Self {
            requests: counters(
                &r,
                "pillion_requests_total",
                "HTTP requests ended, by what their client got.",
                &["direction", "service", "route", "status", "grpc_status", "error", "tls"],
            )?,
            request_duration: histograms(
                &r,
                "pillion_request_duration_seconds",
                "Time from a request's head to the end of its response.",
                &["direction", "service", "route"],
            )?,
            requests_in_flight: gauges(
                &r,
                "pillion_requests_in_flight",
                "HTTP requests under way.",
                &["direction"],
            )?,
            retries: counters(
                &r,
                "pillion_retries_total",
                "Attempts after the first, by why the one before failed.",
                &["service", "route", "reason"],
            )?,
            retries_denied: counters(
                &r,
                "pillion_retries_denied_total",
                "Retries wanted and not made: the budget was spent, or the body too large to be sent again.",
                &["service", "route", "reason"],
            )?,
            ejections: counters(
                &r,
                "pillion_ejections_total",
                "Endpoints taken out of balancing for consecutive failures.",
                &["service"],
            )?,
            endpoints: gauges(
                &r,
                "pillion_endpoints",
                "Endpoints of the Services in use, by state (ready, ejected).",
                &["service", "state"],
            )?,
            tcp_connections: counters(
                &r,
                "pillion_tcp_connections_total",
                "TCP connections carried and ended.",
                &["direction", "service", "error", "tls"],
            )?,
            tcp_open: gauges(
                &r,
                "pillion_tcp_connections_open",
                "TCP connections carried at this moment.",
                &["direction", "service"],
            )?,
            tcp_received: counters(
                &r,
                "pillion_tcp_received_bytes_total",
                "Bytes that clients of carried TCP connections sent.",
                &["direction", "service"],
            )?,
            tcp_sent: counters(
                &r,
                "pillion_tcp_sent_bytes_total",
                "Bytes sent to clients of carried TCP connections.",
                &["direction", "service"],
            )?,
            tls_handshakes: counters(
                &r,
                "pillion_tls_handshakes_total",
                "TLS handshakes between sidecars, by result (ok, or why not).",
                &["direction", "result"],
            )?,
            tls_handshake_duration: histograms(
                &r,
                "pillion_tls_handshake_duration_seconds",
                "Time of successful TLS handshakes between sidecars.",
                &["direction"],
            )?,
            connections_open: gauges(
                &r,
                "pillion_connections_open",
                "Connections accepted and not closed yet, by port.",
                &["port"],
            )?,
            accept_errors: counter(
                &r,
                "pillion_accept_errors_total",
                "Connections that could not be accepted (out of descriptors, aborted).",
            )?,
            certificate_expiry: gauge(
                &r,
                "pillion_certificate_expiry_timestamp_seconds",
                "When this sidecar's certificate ends, in seconds since the epoch; 0 without one.",
            )?,
            certificate_renewals: counters(
                &r,
                "pillion_certificate_renewals_total",
                "Certificates asked for, by result (ok, error).",
                &["result"],
            )?,
            control_plane_connected: int_gauge(
                &r,
                "pillion_control_plane_connected",
                "1 while the stream to the control plane is open.",
            )?,
            config_publication: int_gauge(
                &r,
                "pillion_config_publication",
                "Number of the publication in use.",
            )?,
            config_updates: counter(
                &r,
                "pillion_config_updates_total",
                "Updates received from the control plane.",
            )?,
            config_resources_received: counter(
                &r,
                "pillion_config_resources_received_total",
                "Resources received from the control plane, over all updates.",
            )?,
            config_resources_rejected: counter(
                &r,
                "pillion_config_resources_rejected_total",
                "Resources refused (NACK); the last good ones stay in use.",
            )?,
            config_update_timestamp: gauge(
                &r,
                "pillion_config_last_update_timestamp_seconds",
                "When the last update came, in seconds since the epoch; 0 before the first.",
            )?,
            config_staleness: gauge(
                &r,
                "pillion_config_staleness_seconds",
                "Time since the stream to the control plane was lost; 0 while it is open.",
            )?,
            access_log_dropped: counter(
                &r,
                "pillion_access_log_dropped_total",
                "Lines of the access log dropped because standard error was too slow.",
            )?,
            panics: counter(
                &r,
                "pillion_panics_total",
                "Defects caught: each ended one connection.",
            )?,
            registry: r,
        })
    }

    /// One TLS handshake that succeeded after `took`.
    pub fn handshake_done(&self, direction: Direction, took: Duration) {
        self.tls_handshakes.with_label_values(&[direction.as_str(), "ok"]).inc();
        self.tls_handshake_duration
            .with_label_values(&[direction.as_str()])
            .observe(took.as_secs_f64());
    }

    /// One TLS handshake that failed.
    pub fn handshake_failed(&self, direction: Direction, code: ErrorCode) {
        self.tls_handshakes.with_label_values(&[direction.as_str(), code.as_str()]).inc();
    }
}

/// Seconds since the epoch, for timestamps in metrics.
pub fn epoch_seconds(time: SystemTime) -> f64 {
    time.duration_since(SystemTime::UNIX_EPOCH).map_or(0.0, |since| since.as_secs_f64())
}

fn build_info(registry: &Registry) -> prometheus::Result<()> {
    let info =
        gauges(registry, "pillion_build_info", "1, labelled with the version.", &["version"])?;
    info.with_label_values(&[env!("CARGO_PKG_VERSION")]).set(1);
    Ok(())
}

fn register<C: Collector + Clone + 'static>(
    registry: &Registry,
    metric: prometheus::Result<C>,
) -> prometheus::Result<C> {
    let metric = metric?;
    registry.register(Box::new(metric.clone()))?;
    Ok(metric)
}

fn counter(r: &Registry, name: &str, help: &str) -> prometheus::Result<IntCounter> {
    register(r, GenericCounter::new(name, help))
}

fn counters(
    r: &Registry,
    name: &str,
    help: &str,
    by: &[&str],
) -> prometheus::Result<IntCounterVec> {
    register(r, IntCounterVec::new(Opts::new(name, help), by))
}

fn gauge(r: &Registry, name: &str, help: &str) -> prometheus::Result<Gauge> {
    register(r, GenericGauge::new(name, help))
}

fn int_gauge(r: &Registry, name: &str, help: &str) -> prometheus::Result<IntGauge> {
    register(r, GenericGauge::new(name, help))
}

fn gauges(r: &Registry, name: &str, help: &str, by: &[&str]) -> prometheus::Result<IntGaugeVec> {
    register(r, IntGaugeVec::new(Opts::new(name, help), by))
}

fn histograms(
    r: &Registry,
    name: &str,
    help: &str,
    by: &[&str],
) -> prometheus::Result<HistogramVec> {
    let opts = HistogramOpts::new(name, help).buckets(LATENCY_BUCKETS.to_vec());
    register(r, HistogramVec::new(opts, by))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_metric_registers_once() {
        let metrics = Metrics::new().unwrap();
        metrics.handshake_done(Direction::Inbound, Duration::from_millis(2));
        metrics.handshake_failed(Direction::Outbound, ErrorCode::TlsCertExpired);
        let names: Vec<_> =
            metrics.registry.gather().iter().map(|f| f.name().to_string()).collect();
        assert!(names.contains(&"pillion_tls_handshakes_total".to_string()), "{names:?}");
        assert!(names.contains(&"process_resident_memory_bytes".to_string()), "{names:?}");
    }

    #[test]
    fn the_documentation_lists_every_metric() {
        let page = include_str!("../../../docs/METRICS.md");
        let is_name = |text: &&str| {
            text.strip_prefix("pillion_").is_some_and(|rest| {
                !rest.is_empty() && rest.bytes().all(|b| b.is_ascii_lowercase() || b == b'_')
            })
        };
        let names: Vec<_> = include_str!("metrics.rs").split('"').filter(is_name).collect();
        assert!(names.len() > 20, "the names are found: {names:?}");
        for name in names {
            assert!(page.contains(&format!("| `{name}` |")), "docs/METRICS.md has no {name}");
        }
    }
}
