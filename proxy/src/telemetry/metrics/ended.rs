//! Counting a request that has ended, on the handles that the last ones with the same labels had: to
//! find a handle by its labels costs more than to count.

use std::cell::RefCell;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use model::code::ErrorCode;
use prometheus::{Histogram, IntCounter};

use super::{Direction, HttpMetrics, Tls};
use crate::exchange::UNKNOWN;

/// Handles that one worker keeps at hand.
const AT_HAND: usize = 16;

/// The labels of a request that has ended.
#[derive(Debug, Clone, PartialEq, Eq)]
#[allow(missing_docs)] // the help text of the metric documents each
pub struct Ended {
    pub direction: Direction,
    pub status: Option<u16>,
    pub grpc_status: Option<u16>,
    pub error: Option<ErrorCode>,
    pub tls: Tls,
    pub service: Option<Arc<str>>,
    pub route: Option<Arc<str>>,
}

/// Tells the metrics of one registry from those of another.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Of(u64);

struct Handles {
    of: Of,
    labels: Ended,
    requests: IntCounter,
    duration: Histogram,
}

thread_local! {
    /// The newest at the end.
    static RECENT: RefCell<Vec<Handles>> = const { RefCell::new(Vec::new()) };
}

impl Of {
    /// Another than all before.
    pub(super) fn next() -> Self {
        static NEXT: AtomicU64 = AtomicU64::new(0);
        Self(NEXT.fetch_add(1, Ordering::Relaxed))
    }
}

impl HttpMetrics {
    /// Counts a request that has ended, `took` seconds after its head.
    pub fn ended(&self, labels: Ended, took: f64) {
        RECENT.with_borrow_mut(|recent| {
            let known = recent.iter().find(|known| known.of == self.of && known.labels == labels);
            if let Some(known) = known {
                return known.count(took);
            }
            let found = self.find(labels);
            found.count(took);
            if recent.len() == AT_HAND {
                recent.remove(0);
            }
            recent.push(found);
        });
    }

    fn find(&self, labels: Ended) -> Handles {
        let text = |number: Option<u16>| number.map(|it| it.to_string()).unwrap_or_default();
        let (status, grpc_status) = (text(labels.status), text(labels.grpc_status));
        let direction = labels.direction.as_str();
        let service = labels.service.as_deref().unwrap_or(UNKNOWN);
        let route = labels.route.as_deref().unwrap_or_default();
        let error = labels.error.map_or("", ErrorCode::as_str);
        let tls = labels.tls.as_str();
        let ended = [direction, service, route, &status, &grpc_status, error, tls];
        let requests = self.requests.with_label_values(&ended);
        let duration = self.request_duration.with_label_values(&[direction, service, route]);
        Handles { of: self.of, labels, requests, duration }
    }
}

impl Handles {
    fn count(&self, took: f64) {
        self.requests.inc();
        self.duration.observe(took);
    }
}

#[cfg(test)]
mod tests {
    use super::super::Metrics;
    use super::*;

    fn labels(status: u16, service: &str) -> Ended {
        Ended {
            direction: Direction::Outbound,
            status: Some(status),
            grpc_status: None,
            error: None,
            tls: Tls::Mutual,
            service: Some(service.into()),
            route: None,
        }
    }

    fn counted(metrics: &Metrics, status: &str, service: &str) -> u64 {
        let labels = ["outbound", service, "", status, "", "", "mutual"];
        metrics.http.requests.with_label_values(&labels).get()
    }

    #[test]
    fn each_is_counted_under_its_own_labels_and_registry() {
        let (one, other) = (Metrics::new().unwrap(), Metrics::new().unwrap());
        for _ in 0..2 {
            for number in 0..2 * AT_HAND as u16 {
                one.http.ended(labels(200 + number, "shop/a"), 0.1);
                one.http.ended(labels(200 + number, "shop/b"), 0.1);
            }
            other.http.ended(labels(200, "shop/a"), 0.1);
        }
        for number in 0..2 * AT_HAND {
            for service in ["shop/a", "shop/b"] {
                assert_eq!(counted(&one, &(200 + number).to_string(), service), 2);
            }
        }
        assert_eq!(counted(&other, "200", "shop/a"), 2);
        assert_eq!(counted(&other, "200", "shop/b"), 0);
    }
}
