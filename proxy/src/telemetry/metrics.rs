//! The metrics of one sidecar, in Prometheus's conventions: seconds, bytes, `_total`.
//!
//! Every label value comes from the configuration or from a closed list, never from a client:
//! a Service that nobody configured is counted as `unknown`.

mod ended;
mod http;
mod process;
mod sync;
mod tcp;
mod tls;

use std::time::SystemTime;

use prometheus::Registry;

pub use ended::Ended;
pub use http::HttpMetrics;
pub use process::ProcessMetrics;
pub use sync::SyncMetrics;
pub use tcp::TcpMetrics;
pub use tls::TlsMetrics;

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

/// Handles to every metric, by what they are of.
#[derive(Debug)]
#[allow(missing_docs)] // each field's type says what it is
pub struct Metrics {
    pub registry: Registry,
    pub http: HttpMetrics,
    pub tcp: TcpMetrics,
    pub tls: TlsMetrics,
    pub sync: SyncMetrics,
    pub process: ProcessMetrics,
}

impl Metrics {
    /// All metrics, registered.
    ///
    /// # Errors
    /// When two have the same name, which a test excludes.
    pub fn new() -> prometheus::Result<Self> {
        let registry = daemon::metrics::registry(env!("CARGO_PKG_VERSION"))?;
        Ok(Self {
            http: HttpMetrics::new(&registry)?,
            tcp: TcpMetrics::new(&registry)?,
            tls: TlsMetrics::new(&registry)?,
            sync: SyncMetrics::new(&registry)?,
            process: ProcessMetrics::new(&registry)?,
            registry,
        })
    }
}

/// Seconds since the epoch, for timestamps in metrics.
pub fn epoch_seconds(time: SystemTime) -> f64 {
    time.duration_since(SystemTime::UNIX_EPOCH).map_or(0.0, |since| since.as_secs_f64())
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use model::code::ErrorCode;

    use super::*;

    #[test]
    fn every_metric_registers_once() {
        let metrics = Metrics::new().unwrap();
        metrics.tls.handshake_done(Direction::Inbound, Duration::from_millis(2));
        metrics.tls.handshake_failed(Direction::Outbound, ErrorCode::TlsCertExpired);
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
        let sources = [
            include_str!("metrics/http.rs"),
            include_str!("metrics/process.rs"),
            include_str!("metrics/sync.rs"),
            include_str!("metrics/tcp.rs"),
            include_str!("metrics/tls.rs"),
            include_str!("../../../daemon/src/log.rs"),
        ];
        let names: Vec<_> =
            sources.iter().flat_map(|source| source.split('"')).filter(is_name).collect();
        assert!(names.len() > 20, "the names are found: {names:?}");
        for name in names {
            assert!(page.contains(&format!("| `{name}` |")), "docs/METRICS.md has no {name}");
        }
    }
}
