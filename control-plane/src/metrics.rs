//! What the control plane counts, for Prometheus.

use prometheus::process_collector::ProcessCollector;
use prometheus::{
    Histogram, HistogramOpts, IntCounter, IntCounterVec, IntGauge, IntGaugeVec, Opts, Registry,
};
use wire::Kind;

use crate::problem::{Cause, Problem};
use crate::publish::Publication;
use crate::world::World;

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
}

impl Metrics {
    /// Makes and registers them all.
    ///
    /// # Errors
    /// When two have one name, which is a defect.
    pub fn new() -> prometheus::Result<Self> {
        let registry = Registry::new();
        registry.register(Box::new(ProcessCollector::for_self()))?;
        let on = &registry;
        Ok(Self {
            streams: gauge(on, "streams", "Streams of sidecars that are open.")?,
            handshake_failures: counter(
                on,
                "api_handshake_failures_total",
                "TLS handshakes with the API that failed.",
            )?,
            certificates_signed: counter(
                on,
                "certificates_signed_total",
                "Certificates signed for sidecars.",
            )?,
            publish_seconds: histogram(
                on,
                "publish_duration_seconds",
                "Time to translate all objects and publish what changed.",
            )?,
            updates: counter(on, "updates_total", "Updates sent to sidecars.")?,
            pushed: counters(on, "pushed_resources_total", "Resources sent, by kind.", "kind")?,
            nacks: counters(
                on,
                "nacks_total",
                "Resources that sidecars refused, by kind.",
                "kind",
            )?,
            publication: gauge(
                on,
                "publication_number",
                "The number of the publication in force.",
            )?,
            resources: gauges(on, "resources", "Resources published, by kind.", "kind")?,
            objects: gauges(on, "objects", "Objects in force, by kind.", "kind")?,
            problems: gauges(on, "problems", "Problems of the configuration, by cause.", "cause")?,
            workloads: gauge(on, "registered_workloads", "Workloads that registered themselves.")?,
            registry,
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

fn options(name: &str, help: &str) -> Opts {
    Opts::new(format!("pillion_{name}"), help)
}

fn gauge(registry: &Registry, name: &str, help: &str) -> prometheus::Result<IntGauge> {
    let metric = IntGauge::with_opts(options(name, help))?;
    registry.register(Box::new(metric.clone()))?;
    Ok(metric)
}

fn gauges(
    registry: &Registry,
    name: &str,
    help: &str,
    label: &str,
) -> prometheus::Result<IntGaugeVec> {
    let metric = IntGaugeVec::new(options(name, help), &[label])?;
    registry.register(Box::new(metric.clone()))?;
    Ok(metric)
}

fn counter(registry: &Registry, name: &str, help: &str) -> prometheus::Result<IntCounter> {
    let metric = IntCounter::with_opts(options(name, help))?;
    registry.register(Box::new(metric.clone()))?;
    Ok(metric)
}

fn counters(
    registry: &Registry,
    name: &str,
    help: &str,
    label: &str,
) -> prometheus::Result<IntCounterVec> {
    let metric = IntCounterVec::new(options(name, help), &[label])?;
    registry.register(Box::new(metric.clone()))?;
    Ok(metric)
}

fn histogram(registry: &Registry, name: &str, help: &str) -> prometheus::Result<Histogram> {
    let buckets = vec![0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5];
    let options = HistogramOpts::from(options(name, help)).buckets(buckets);
    let metric = Histogram::with_opts(options)?;
    registry.register(Box::new(metric.clone()))?;
    Ok(metric)
}
