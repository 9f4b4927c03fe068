//! What is said at the end: figures, and whether the mesh kept its promise.

use std::collections::BTreeMap;
use std::time::Duration;

use serde::Serialize;

use super::figures::{Figures, to_float};
use super::load::Tally;
use super::metrics::Values;
use super::plan::{NAMESPACE, SERVICES};
use super::text::{milliseconds, percent, row};

/// The end of a demo.
#[derive(Debug, Serialize)]
pub(crate) struct Summary {
    /// Requests and TCP conversations of the demo's client.
    requests: u64,
    /// Those of them that failed.
    failures: u64,
    /// The share that went over mutual TLS of all requests and connections that the sidecars
    /// sent, by their own metrics.
    mtls_share: Option<f64>,
    /// Attempts after the first, of all sidecars.
    retries: u64,
    /// The time over which all this was measured.
    duration_seconds: f64,
    /// The services by name, as their callers' sidecars saw them.
    services: BTreeMap<&'static str, Figures>,
    /// What the client's failures were, and how often.
    errors: BTreeMap<String, u64>,
    /// What the mesh did not do as promised; empty when all is well.
    broken_promises: Vec<String>,
}

impl Summary {
    /// Of what the client saw, how much the sidecars' counters grew, for how long, and at how
    /// many requests a second.
    pub(crate) fn new(tally: &Tally, grown: &Values, length: Duration, rate: u32) -> Self {
        let all = Figures::of_all(grown);
        let of = |service| (service, Figures::of(grown, &format!("{NAMESPACE}/{service}")));
        let services: BTreeMap<_, _> = SERVICES.map(of).into_iter().collect();
        let carried = services["web"].requests + services["echo"].requests;
        let expected = f64::from(rate) * length.as_secs_f64();
        Self {
            requests: tally.all(),
            failures: tally.failed(),
            mtls_share: all.mtls_share,
            retries: all.retries,
            duration_seconds: (length.as_secs_f64() * 1000.0).round() / 1000.0,
            services,
            errors: tally.failures.clone(),
            broken_promises: broken_promises(tally, &all, carried, expected),
        }
    }

    /// Whether every request succeeded, and all went over mutual TLS.
    pub(crate) const fn is_good(&self) -> bool {
        self.broken_promises.is_empty()
    }

    /// The summary for people.
    pub(crate) fn lines(&self) -> Vec<String> {
        let widths = [9, 10, 10, 9, 11, 11, 11, 9];
        let head =
            ["service", "requests", "failures", "retries", "ejections", "p50", "p99", "mTLS"];
        let mut lines = vec![row(widths, head)];
        for service in SERVICES {
            let figures = &self.services[service];
            let counts = [figures.requests, figures.failures, figures.retries, figures.ejections];
            let [requests, failures, retries, ejections] = counts.map(|count| count.to_string());
            let [p50, p99] = [figures.p50_seconds, figures.p99_seconds].map(milliseconds);
            let mtls = percent(figures.mtls_share);
            lines.push(row(
                widths,
                [service, &requests, &failures, &retries, &ejections, &p50, &p99, &mtls],
            ));
        }
        lines.push(String::new());
        lines.push(format!(
            "The client sent {} requests in {:.1} s; {} failed. Retries: {}. Over mutual TLS: {}.",
            self.requests,
            self.duration_seconds,
            self.failures,
            self.retries,
            percent(self.mtls_share)
        ));
        lines.extend(self.errors.iter().map(|(error, count)| format!("  {count} x {error}")));
        if self.is_good() {
            lines.push(
                "As promised: every request succeeded, and all of them over mutual TLS.".into(),
            );
        }
        lines.extend(
            self.broken_promises.iter().map(|broken| format!("Not as promised: {broken}.")),
        );
        lines
    }
}

/// What was promised and is not so.
fn broken_promises(tally: &Tally, all: &Figures, carried: u64, expected: f64) -> Vec<String> {
    let mut broken = Vec::new();
    if tally.failed() > 0 {
        broken.push(format!("{} of the client's {} requests failed", tally.failed(), tally.all()));
    }
    // On a busy machine a client is slower than it is told; but a demo without load shows nothing.
    let enough = expected / 4.0;
    if to_float(tally.http) < enough || tally.conversations == 0 {
        broken.push(format!(
            "the client got to send only {} requests and {} TCP conversations, of about {expected:.0} \
             requests",
            tally.http, tally.conversations
        ));
    }
    if carried < tally.all() {
        broken.push(format!(
            "the sidecars' metrics tell of {carried} of the client's {} requests",
            tally.all()
        ));
    }
    if all.mutual < all.requests {
        let plain = all.requests - all.mutual;
        broken.push(format!("{plain} of {} requests went without mutual TLS", all.requests));
    }
    broken
}

#[cfg(test)]
mod tests {
    use super::super::metrics::parse;
    use super::*;

    const LENGTH: Duration = Duration::from_secs(10);

    fn page(plain: u32) -> Values {
        let page = format!(
            r#"pillion_requests_total{{direction="outbound",service="demo/web",status="200",tls="mutual"}} 1000
               pillion_requests_total{{direction="outbound",service="demo/api",status="200",tls="mutual"}} 999
               pillion_requests_total{{direction="outbound",service="demo/api",status="200",tls="none"}} {plain}
               pillion_retries_total{{service="demo/api",route="demo/api"}} 70
               pillion_tcp_connections_total{{direction="outbound",service="demo/echo",error="",tls="mutual"}} 40"#
        );
        parse(&page).unwrap()
    }

    fn tally(http: u64, conversations: u64, failed: u64) -> Tally {
        let failures = (failed > 0).then(|| ("503".to_owned(), failed)).into_iter().collect();
        Tally { http, conversations, failures }
    }

    #[test]
    fn a_promise_kept_is_good() {
        let summary = Summary::new(&tally(1000, 40, 0), &page(0), LENGTH, 100);
        assert!(summary.is_good(), "{:?}", summary.broken_promises);
        assert_eq!((summary.requests, summary.retries, summary.mtls_share), (1040, 70, Some(1.0)));
        assert!(summary.lines()[2].starts_with("api"), "{:#?}", summary.lines());
    }

    #[test]
    fn every_broken_promise_is_told() {
        let cases = [
            (tally(1000, 40, 1), 0, "1 of the client's 1040 requests failed"),
            (tally(1000, 40, 0), 1, "1 of 2040 requests went without mutual TLS"),
            (tally(200, 40, 0), 0, "only 200 requests"),
            (tally(1000, 0, 0), 0, "0 TCP conversations"),
            (tally(1001, 40, 0), 0, "tell of 1040 of the client's 1041"),
        ];
        for (tally, plain, part) in cases {
            let summary = Summary::new(&tally, &page(plain), LENGTH, 100);
            let [broken] = &summary.broken_promises[..] else { panic!("{part}: {summary:?}") };
            assert!(broken.contains(part), "{broken}");
        }
    }

    #[test]
    fn the_summary_as_json_has_the_promised_keys() {
        let summary = Summary::new(&tally(1000, 40, 0), &page(0), LENGTH, 100);
        let json = serde_json::to_value(&summary).unwrap();
        for pointer in [
            "/requests",
            "/failures",
            "/mtls_share",
            "/retries",
            "/duration_seconds",
            "/services/web/requests",
            "/services/api/retries",
            "/services/data/mtls_share",
            "/services/echo/failures",
        ] {
            assert!(json.pointer(pointer).is_some(), "{pointer} in {json:#}");
        }
        assert_eq!(json["services"]["data"]["mtls_share"], serde_json::Value::Null);
        assert_eq!(json["duration_seconds"], 10.0);
    }
}
