//! What the control plane counts, for Prometheus.

use std::time::{Duration, SystemTime};

use certs::Authority;
use daemon::metrics::{counter, counters, float_gauges, gauges, histogram, int_gauge};
use prometheus::{GaugeVec, Histogram, IntCounter, IntCounterVec, IntGauge, IntGaugeVec, Registry};
use wire::Kind;

use crate::problem::{Cause, Problem};
use crate::publish::Publication;
use crate::world::World;

/// Upper bounds of the histogram of publishing, in seconds.
const PUBLISH_BUCKETS: [f64; 11] =
    [0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5];

/// The metrics of a control plane.
#[derive(Debug)]
pub struct Metrics {
    /// Where all of them are registered.
    pub registry: Registry,
    /// Streams of sidecars that are open.
    pub streams: IntGauge,
    /// TLS handshakes that failed.
    pub handshake_failures: IntCounter,
    /// Certificates signed for sidecars.
    pub certificates_signed: IntCounter,
    /// Connections that found no place, by port.
    pub refused: IntCounterVec,
    /// How long it takes to translate and publish, in seconds.
    pub publish_seconds: Histogram,
    updates: IntCounter,
    pushed: IntCounterVec,
    nacks: IntCounterVec,
    publication: IntGauge,
    resources: IntGaugeVec,
    objects: IntGaugeVec,
    problems: IntGaugeVec,
    workloads: IntGauge,
    authority: IntGaugeVec,
    /// Pods that the webhook was asked about, by outcome.
    pub injections: IntCounterVec,
    staleness: GaugeVec,
}

impl Metrics {
    /// Makes and registers them all.
    ///
    /// # Errors
    /// When two have one name, which is a defect.
    pub fn new() -> prometheus::Result<Self> {
        let on = &daemon::metrics::registry(env!("CARGO_PKG_VERSION"))?;
        let counted = |name, help, by| counters(on, name, help, &[by]);
        let shown = |name, help, by| gauges(on, name, help, &[by]);
        Ok(Self {
            streams: int_gauge(on, "pillion_streams", "Streams of sidecars that are open.")?,
            handshake_failures: counter(
                on,
                "pillion_api_handshake_failures_total",
                "TLS handshakes with the API that failed.",
            )?,
            refused: counted(
                "pillion_connections_refused_total",
                "Connections closed because there were too many, by port.",
                "port",
            )?,
            certificates_signed: counter(
                on,
                "pillion_certificates_signed_total",
                "Certificates signed for sidecars.",
            )?,
            publish_seconds: histogram(
                on,
                "pillion_publish_duration_seconds",
                "Time to translate all objects and publish what changed.",
                &PUBLISH_BUCKETS,
            )?,
            updates: counter(on, "pillion_updates_total", "Updates sent to sidecars.")?,
            pushed: counted("pillion_pushed_resources_total", "Resources sent, by kind.", "kind")?,
            nacks: counted(
                "pillion_nacks_total",
                "Resources that sidecars refused, by kind.",
                "kind",
            )?,
            publication: int_gauge(
                on,
                "pillion_publication_number",
                "The number of the publication in force.",
            )?,
            resources: shown("pillion_resources", "Resources published, by kind.", "kind")?,
            objects: shown("pillion_objects", "Objects in force, by kind.", "kind")?,
            problems: shown(
                "pillion_problems",
                "Problems of the configuration, by cause.",
                "cause",
            )?,
            workloads: int_gauge(
                on,
                "pillion_registered_workloads",
                "Workloads that registered themselves.",
            )?,
            authority: shown(
                "pillion_authority_expiry_timestamp_seconds",
                "When the authority ends, in seconds since the epoch, by its part.",
                "part",
            )?,
            injections: counted(
                "pillion_injections_total",
                "Pods that the webhook was asked about, by outcome.",
                "outcome",
            )?,
            staleness: float_gauges(
                on,
                "pillion_source_staleness_seconds",
                "Time since the API server was last heard of, by kind of object.",
                &["kind"],
            )?,
            registry: on.clone(),
        })
    }

    /// Counts an Update that is sent, with resources of these kinds.
    pub(crate) fn push(&self, kinds: impl Iterator<Item = Kind>) {
        self.updates.inc();
        for kind in kinds {
            self.pushed.with_label_values(&[kind.as_str()]).inc();
        }
    }

    /// Counts a resource that a sidecar refused.
    pub(crate) fn nack(&self, kind: Kind) {
        self.nacks.with_label_values(&[kind.as_str()]).inc();
    }

    /// Shows what is published.
    pub(crate) fn published(&self, publication: &Publication) {
        self.publication.set(i64::try_from(publication.number).unwrap_or(i64::MAX));
        for (kind, count) in publication.counts() {
            set(&self.resources, kind.as_str(), count);
        }
    }

    /// Shows what there is to publish from.
    pub(crate) fn known(&self, world: &World, workloads: usize) {
        self.objects.reset();
        for (kind, count) in world.counts() {
            set(&self.objects, kind, count);
        }
        self.workloads.set(i64::try_from(workloads).unwrap_or(i64::MAX));
    }

    /// Shows when the authority that is in force ends.
    pub(crate) fn authority(&self, authority: &Authority) {
        let parts = [("root", authority.root_not_after()), ("issuer", authority.not_after())];
        for (part, end) in parts {
            let since = end.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
            let seconds = i64::try_from(since.as_secs()).unwrap_or(i64::MAX);
            self.authority.with_label_values(&[part]).set(seconds);
        }
    }

    /// Shows how old what is known of each kind may be.
    pub(crate) fn staleness(&self, kinds: &[(&'static str, Duration)]) {
        for (kind, since) in kinds {
            self.staleness.with_label_values(&[kind]).set(since.as_secs_f64());
        }
    }

    /// Shows the problems there are.
    pub(crate) fn problems(&self, problems: &[Problem]) {
        for cause in Cause::ALL {
            let count = problems.iter().filter(|problem| problem.cause == cause).count();
            set(&self.problems, cause.as_str(), count);
        }
    }
}

fn set(gauges: &IntGaugeVec, label: &str, count: usize) {
    gauges.with_label_values(&[label]).set(i64::try_from(count).unwrap_or(i64::MAX));
}

#[cfg(test)]
mod tests {
    #[test]
    fn the_documentation_lists_every_metric() {
        let page = include_str!("../../docs/METRICS.md");
        let names: Vec<_> = include_str!("metrics.rs")
            .split('"')
            .filter(|text| text.starts_with("pillion_") && *text != "pillion_")
            .collect();
        assert!(names.len() > 10, "the names are found: {names:?}");
        for name in names {
            assert!(page.contains(&format!("| `{name}` |")), "docs/METRICS.md has no {name}");
        }
    }
}
