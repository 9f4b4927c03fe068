//! Making and registering Prometheus metrics, in one step each: a name, a help text, labels.

use prometheus::core::{Collector, GenericCounter, GenericGauge};
use prometheus::process_collector::ProcessCollector;
use prometheus::{
    Gauge, GaugeVec, Histogram, HistogramOpts, HistogramVec, IntCounter, IntCounterVec, IntGauge,
    IntGaugeVec, Opts, Registry, Result,
};

/// A registry with the `process_*` metrics and `pillion_build_info`.
///
/// # Errors
/// When two metrics have one name, which is a defect.
pub fn registry(version: &str) -> Result<Registry> {
    let registry = Registry::new();
    registry.register(Box::new(ProcessCollector::for_self()))?;
    let help = "1, labelled with the version.";
    gauges(&registry, "pillion_build_info", help, &["version"])?
        .with_label_values(&[version])
        .set(1);
    Ok(registry)
}

/// A counter, registered.
///
/// # Errors
/// As all functions here: when two metrics have one name, which is a defect.
pub fn counter(r: &Registry, name: &str, help: &str) -> Result<IntCounter> {
    register(r, GenericCounter::new(name, help))
}

/// Counters by label, registered.
///
/// # Errors
/// As [`counter`].
pub fn counters(r: &Registry, name: &str, help: &str, by: &[&str]) -> Result<IntCounterVec> {
    register(r, IntCounterVec::new(Opts::new(name, help), by))
}

/// A gauge of fractions, registered.
///
/// # Errors
/// As [`counter`].
pub fn gauge(r: &Registry, name: &str, help: &str) -> Result<Gauge> {
    register(r, GenericGauge::new(name, help))
}

/// A gauge of whole numbers, registered.
///
/// # Errors
/// As [`counter`].
pub fn int_gauge(r: &Registry, name: &str, help: &str) -> Result<IntGauge> {
    register(r, GenericGauge::new(name, help))
}

/// Gauges of whole numbers by label, registered.
///
/// # Errors
/// As [`counter`].
pub fn gauges(r: &Registry, name: &str, help: &str, by: &[&str]) -> Result<IntGaugeVec> {
    register(r, IntGaugeVec::new(Opts::new(name, help), by))
}

/// Gauges of fractions by label, registered.
///
/// # Errors
/// As [`counter`].
pub fn float_gauges(r: &Registry, name: &str, help: &str, by: &[&str]) -> Result<GaugeVec> {
    register(r, GaugeVec::new(Opts::new(name, help), by))
}

/// A histogram with these upper bounds, registered.
///
/// # Errors
/// As [`counter`].
pub fn histogram(r: &Registry, name: &str, help: &str, buckets: &[f64]) -> Result<Histogram> {
    let opts = HistogramOpts::new(name, help).buckets(buckets.to_vec());
    register(r, Histogram::with_opts(opts))
}

/// Histograms by label with these upper bounds, registered.
///
/// # Errors
/// As [`counter`].
pub fn histograms(
    r: &Registry,
    name: &str,
    help: &str,
    by: &[&str],
    buckets: &[f64],
) -> Result<HistogramVec> {
    register(r, HistogramVec::new(HistogramOpts::new(name, help).buckets(buckets.to_vec()), by))
}

fn register<C: Collector + Clone + 'static>(registry: &Registry, metric: Result<C>) -> Result<C> {
    let metric = metric?;
    registry.register(Box::new(metric.clone()))?;
    Ok(metric)
}
