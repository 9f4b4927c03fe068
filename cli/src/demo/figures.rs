//! From counters to figures: increases between two readings, shares and quantiles.

use serde::Serialize;

use super::metrics::{Series, Values};

/// The counters that the figures are made of; the rest of a page is not kept.
const KEPT: [&str; 5] = [REQUESTS, DURATION, RETRIES, TCP, EJECTIONS];
const REQUESTS: &str = "pillion_requests_total";
const DURATION: &str = "pillion_request_duration_seconds_bucket";
const RETRIES: &str = "pillion_retries_total";
const TCP: &str = "pillion_tcp_connections_total";
const EJECTIONS: &str = "pillion_ejections_total";

/// How a service fared over a span of time, as its callers' sidecars saw it.
#[derive(Debug, Clone, Default, PartialEq, Serialize)]
pub(crate) struct Figures {
    /// Requests, and TCP connections, that ended.
    pub(crate) requests: u64,
    /// Those of them whose client got an error, or a status of 500 and above.
    pub(crate) failures: u64,
    /// Those of them that went over mutual TLS.
    #[serde(skip)]
    pub(crate) mutual: u64,
    /// `mutual` as a share of `requests`; nothing where there were none.
    pub(crate) mtls_share: Option<f64>,
    /// Attempts after the first.
    pub(crate) retries: u64,
    /// Endpoints taken out of balancing.
    pub(crate) ejections: u64,
    /// Half of the requests took no longer than this.
    pub(crate) p50_seconds: Option<f64>,
    /// 99 of 100 requests took no longer than this.
    pub(crate) p99_seconds: Option<f64>,
}

/// What of a reading is kept: the counters that figures are made of.
pub(crate) fn relevant(mut reading: Values) -> Values {
    reading.retain(|series, value| KEPT.contains(&series.name.as_str()) && value.is_finite());
    reading
}

/// How much each counter grew between two readings of the same page. One that is smaller than
/// before was begun anew in between, so all of it is growth.
pub(crate) fn increase(before: &Values, after: Values) -> Values {
    let grown = after.into_iter().map(|(series, now)| {
        let then = before.get(&series).copied().unwrap_or(0.0);
        (series, if now < then { now } else { now - then })
    });
    grown.collect()
}

/// Adds values to values.
pub(crate) fn add(to: &mut Values, from: &Values) {
    for (series, value) in from {
        match to.get_mut(series) {
            Some(sum) => *sum += value,
            None => {
                to.insert(series.clone(), *value);
            }
        }
    }
}

impl Figures {
    /// The figures of one service, named `namespace/name`, from increases of counters.
    pub(crate) fn of(increases: &Values, service: &str) -> Self {
        Self::where_service(increases, |name| name == service)
    }

    /// The figures of all services together.
    pub(crate) fn of_all(increases: &Values) -> Self {
        Self::where_service(increases, |_| true)
    }

    fn where_service(increases: &Values, is_meant: impl Fn(&str) -> bool) -> Self {
        let sum = |name: &str, counts: fn(&Series) -> bool| {
            let of_name = increases.iter().filter(|(series, _)| series.name == name);
            let meant = of_name.filter(|(s, _)| is_meant(s.label("service")) && counts(s));
            whole(meant.map(|(_, value)| value).sum())
        };
        let both = |counts| sum(REQUESTS, counts) + sum(TCP, counts);
        let (requests, mutual) = (both(is_outbound), both(is_mutual));
        let buckets = buckets(increases, &is_meant);
        Self {
            requests,
            failures: both(is_failure),
            mutual,
            mtls_share: share(mutual, requests),
            retries: sum(RETRIES, |_| true),
            ejections: sum(EJECTIONS, |_| true),
            p50_seconds: quantile(&buckets, 0.5).map(microseconds),
            p99_seconds: quantile(&buckets, 0.99).map(microseconds),
        }
    }
}

/// The callers' view: what came in at the other end is the same requests once more.
fn is_outbound(series: &Series) -> bool {
    series.label("direction") == "outbound"
}

fn is_mutual(series: &Series) -> bool {
    is_outbound(series) && series.label("tls") == "mutual"
}

fn is_failure(series: &Series) -> bool {
    let is_bad = !series.label("error").is_empty() || series.label("status").starts_with('5');
    is_outbound(series) && is_bad
}

/// A part as a share of the whole, from 0 to 1. Exactly 1 only for all of it.
pub(crate) fn share(part: u64, all: u64) -> Option<f64> {
    (all > 0).then(|| to_float(part) / to_float(all))
}

/// Counters count in whole numbers.
#[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss)]
fn whole(count: f64) -> u64 {
    count.round().max(0.0) as u64
}

/// Exact for counts below 2^53.
#[allow(clippy::cast_precision_loss)]
pub(crate) const fn to_float(count: u64) -> f64 {
    count as f64
}

/// The cumulative buckets of the outbound durations: upper bound and count, by bound.
fn buckets(increases: &Values, is_meant: impl Fn(&str) -> bool) -> Vec<(f64, f64)> {
    let mut buckets: Vec<(f64, f64)> = Vec::new();
    for (series, count) in increases {
        let counts =
            series.name == DURATION && is_outbound(series) && is_meant(series.label("service"));
        let Ok(bound) = series.label("le").parse::<f64>() else { continue };
        if !counts {
            continue;
        }
        match buckets.iter_mut().find(|(other, _)| *other == bound) {
            Some((_, sum)) => *sum += count,
            None => buckets.push((bound, *count)),
        }
    }
    buckets.sort_by(|a, b| a.0.total_cmp(&b.0));
    buckets
}

/// Seconds to the microsecond: the digits after that are an accident of the arithmetic.
fn microseconds(seconds: f64) -> f64 {
    (seconds * 1e6).round() / 1e6
}

/// The value that a share `q` of the observations does not exceed, drawn as a straight line
/// within its bucket, as Prometheus's `histogram_quantile` does it.
fn quantile(buckets: &[(f64, f64)], q: f64) -> Option<f64> {
    let rank = q * buckets.last()?.1;
    let (mut lower, mut below) = (0.0, 0.0);
    for &(bound, count) in buckets {
        if count >= rank && count > below {
            // In the last bucket, of no bound, there is no more to say than "above the one before".
            let within = if bound.is_finite() { bound - lower } else { 0.0 };
            return Some(lower + within * (rank - below) / (count - below));
        }
        (lower, below) = (bound, count);
    }
    None
}

#[cfg(test)]
mod tests {
    use super::super::metrics::parse;
    use super::*;

    #[test]
    fn growth_survives_a_restart() {
        let cases = [
            ("a 5", "a 8", Some(3.0)),
            ("a 5", "a 5", Some(0.0)),
            ("", "a 5", Some(5.0)),
            ("a 5", "a 2", Some(2.0)), // began anew
            ("a 5", "", None),
        ];
        for (before, after, expected) in cases {
            let grown = increase(&parse(before).unwrap(), parse(after).unwrap());
            assert_eq!(grown.values().next().copied(), expected, "{before} -> {after}");
        }
    }

    const PAGE: &str = r#"
        pillion_requests_total{direction="outbound",service="demo/web",status="200",error="",tls="mutual"} 90
        pillion_requests_total{direction="outbound",service="demo/web",status="503",error="no_endpoints",tls="none"} 6
        pillion_requests_total{direction="outbound",service="demo/web",status="500",error="",tls="mutual"} 3
        pillion_requests_total{direction="outbound",service="demo/web",status="",error="client_closed",tls="mutual"} 1
        pillion_requests_total{direction="outbound",service="demo/api",status="200",error="",tls="mutual"} 50
        pillion_requests_total{direction="inbound",service="demo/web",status="200",error="",tls="mutual"} 1000
        pillion_tcp_connections_total{direction="outbound",service="demo/echo",error="",tls="mutual"} 4
        pillion_tcp_connections_total{direction="inbound",service="demo/echo",error="",tls="mutual"} 4
        pillion_retries_total{service="demo/api",route="demo/api",reason="status"} 7
        pillion_ejections_total{service="demo/api"} 2
        pillion_endpoints{service="demo/api",state="ready"} 3"#;

    #[test]
    fn figures_are_the_callers_view() {
        let values = relevant(parse(PAGE).unwrap());
        let web = Figures::of(&values, "demo/web");
        assert_eq!((web.requests, web.failures, web.mutual), (100, 10, 94));
        assert_eq!(web.mtls_share, Some(0.94));
        let api = Figures::of(&values, "demo/api");
        assert_eq!((api.requests, api.retries, api.ejections), (50, 7, 2));
        let echo = Figures::of(&values, "demo/echo");
        assert_eq!((echo.requests, echo.mtls_share), (4, Some(1.0)));
        let all = Figures::of_all(&values);
        assert_eq!((all.requests, all.mutual, all.retries), (154, 148, 7));
        assert_eq!(Figures::of(&values, "demo/none").mtls_share, None);
    }

    #[test]
    fn only_counters_that_matter_are_kept() {
        assert_eq!(relevant(parse(PAGE).unwrap()).len(), parse(PAGE).unwrap().len() - 1);
    }

    #[test]
    fn quantiles_lie_within_their_bucket() {
        let inf = f64::INFINITY;
        type Case<'a> = (&'a [(f64, f64)], f64, Option<f64>);
        let cases: [Case<'_>; 7] = [
            (&[], 0.5, None),
            (&[(1.0, 0.0), (inf, 0.0)], 0.5, None),
            (&[(1.0, 100.0), (inf, 100.0)], 0.5, Some(0.5)),
            (&[(1.0, 0.0), (2.0, 100.0), (inf, 100.0)], 0.5, Some(1.5)),
            (&[(1.0, 50.0), (2.0, 100.0), (inf, 100.0)], 0.99, Some(1.98)),
            (&[(1.0, 98.0), (inf, 100.0)], 0.99, Some(1.0)),
            (&[(1.0, 50.0), (2.0, 50.0), (3.0, 100.0)], 0.5, Some(1.0)),
        ];
        for (buckets, q, expected) in cases {
            assert_eq!(quantile(buckets, q), expected, "{buckets:?} {q}");
        }
    }

    #[test]
    fn durations_of_all_routes_make_one_histogram() {
        let page = r#"
            pillion_request_duration_seconds_bucket{direction="outbound",service="a",route="x",le="0.1"} 10
            pillion_request_duration_seconds_bucket{direction="outbound",service="a",route="x",le="+Inf"} 10
            pillion_request_duration_seconds_bucket{direction="outbound",service="a",route="",le="0.1"} 10
            pillion_request_duration_seconds_bucket{direction="outbound",service="a",route="",le="+Inf"} 10
            pillion_request_duration_seconds_bucket{direction="inbound",service="a",route="",le="+Inf"} 99"#;
        let figures = Figures::of(&parse(page).unwrap(), "a");
        assert_eq!(figures.p50_seconds, Some(0.05));
    }

    #[test]
    fn all_is_exactly_one() {
        assert_eq!(share(3, 3), Some(1.0));
        assert!(share(999_999, 1_000_000).unwrap() < 1.0);
        assert_eq!(share(0, 0), None);
    }
}
