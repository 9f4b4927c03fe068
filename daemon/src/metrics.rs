//! Making and registering Prometheus metrics, in one step each: a name, a help text, labels.

use prometheus::core::{Collector, Desc, GenericCounter, GenericGauge};
use prometheus::process_collector::ProcessCollector;
use prometheus::proto::MetricFamily;
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

/// A counter of what is counted elsewhere, registered: it is asked for at each scrape.
///
/// # Errors
/// As [`counter`].
pub fn asked_counter(
    r: &Registry,
    name: &str,
    help: &str,
    count: impl Fn() -> u64 + Send + Sync + 'static,
) -> Result<()> {
    let counter = IntCounter::new(name, help)?;
    r.register(Box::new(Asked { name: name.into(), help: help.into(), counter, count }))
}

struct Asked<F> {
    name: String,
    help: String,
    /// For its description alone: a value that is added to would count twice in scrapes that meet.
    counter: IntCounter,
    count: F,
}

impl<F: Fn() -> u64 + Send + Sync> Collector for Asked<F> {
    fn desc(&self) -> Vec<&Desc> {
        self.counter.desc()
    }

    fn collect(&self) -> Vec<MetricFamily> {
        let Ok(counter) = IntCounter::new(&*self.name, &*self.help) else { return Vec::new() };
        counter.inc_by((self.count)());
        counter.collect()
    }
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

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::sync::atomic::{AtomicU64, Ordering};

    use super::*;

    #[test]
    fn what_is_counted_elsewhere_is_asked_for_at_each_scrape() {
        let (registry, count) = (Registry::new(), Arc::new(AtomicU64::new(2)));
        let counted = Arc::clone(&count);
        asked_counter(&registry, "a_total", "A.", move || counted.load(Ordering::Relaxed)).unwrap();
        for expected in [2.0, 2.0, 5.0] {
            if expected > 2.0 {
                count.fetch_add(3, Ordering::Relaxed);
            }
            let families = registry.gather();
            let counter = families[0].get_metric()[0].get_counter();
            assert_eq!((families[0].name(), counter.get_value()), ("a_total", expected));
        }
    }
}
