//! What a `/metrics` page says.

use std::collections::BTreeMap;
use std::net::SocketAddr;

use crate::client;

/// One scrape.
#[derive(Debug, Clone, Default)]
pub struct Metrics {
    samples: Vec<Sample>,
}

/// One line of the page.
#[derive(Debug, Clone, PartialEq)]
struct Sample {
    name: String,
    labels: BTreeMap<String, String>,
    value: f64,
}

/// The text of the `/metrics` page of the admin port `admin`.
///
/// # Panics
/// When there is none.
pub async fn page(admin: SocketAddr) -> String {
    let answer = client::get_direct(admin, "/metrics").await.expect("an answer to /metrics");
    assert_eq!(answer.status, 200, "{answer:?}");
    answer.text()
}

impl Metrics {
    /// Scrapes the admin port `admin`.
    ///
    /// # Panics
    /// When there is no page or a line of it is none of Prometheus's text format.
    pub async fn scrape(admin: SocketAddr) -> Self {
        Self::parse(&page(admin).await)
    }

    /// Reads a page.
    ///
    /// # Panics
    /// At a line that is none of Prometheus's text format.
    pub fn parse(page: &str) -> Self {
        let lines = page.lines().filter(|line| !line.is_empty() && !line.starts_with('#'));
        let samples =
            lines.map(|line| parse_line(line).unwrap_or_else(|| panic!("not a sample: {line:?}")));
        Self { samples: samples.collect() }
    }

    /// The sum of all samples of `name` that have all of `labels`; 0 if there are none.
    pub fn sum(&self, name: &str, labels: &[(&str, &str)]) -> f64 {
        self.matching(name, labels).map(|sample| sample.value).sum()
    }

    /// Whether there is a sample of `name` that has all of `labels`.
    pub fn has(&self, name: &str, labels: &[(&str, &str)]) -> bool {
        self.matching(name, labels).next().is_some()
    }

    /// The samples of `name`, as they are on the page, for a failing test's message.
    pub fn show(&self, name: &str) -> String {
        let lines =
            self.matching(name, &[]).map(|sample| format!("{:?} {}", sample.labels, sample.value));
        lines.collect::<Vec<_>>().join("\n")
    }

    fn matching<'a>(
        &'a self,
        name: &'a str,
        labels: &'a [(&'a str, &'a str)],
    ) -> impl Iterator<Item = &'a Sample> {
        self.samples.iter().filter(move |sample| {
            let has = |(key, value): &(&str, &str)| {
                sample.labels.get(*key).is_some_and(|found| found == value)
            };
            sample.name == name && labels.iter().all(has)
        })
    }
}

fn parse_line(line: &str) -> Option<Sample> {
    let (series, value) = line.rsplit_once(' ')?;
    let (name, labels) = match series.split_once('{') {
        Some((name, labels)) => (name, parse_labels(labels.strip_suffix('}')?)?),
        None => (series, BTreeMap::new()),
    };
    Some(Sample { name: name.to_owned(), labels, value: value.parse().ok()? })
}

fn parse_labels(mut text: &str) -> Option<BTreeMap<String, String>> {
    let mut labels = BTreeMap::new();
    while !text.is_empty() {
        let (name, rest) = text.split_once("=\"")?;
        let (value, rest) = quoted(rest)?;
        labels.insert(name.to_owned(), value);
        text = rest.strip_prefix(',').unwrap_or(rest);
    }
    Some(labels)
}

/// The value up to the closing quote, and what follows it.
fn quoted(text: &str) -> Option<(String, &str)> {
    let mut value = String::new();
    let mut characters = text.char_indices();
    loop {
        match characters.next()? {
            (at, '"') => return Some((value, &text[at + 1..])),
            (_, '\\') => value.push(match characters.next()?.1 {
                'n' => '\n',
                other => other,
            }),
            (_, other) => value.push(other),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PAGE: &str = r#"# HELP requests_total Requests.
# TYPE requests_total counter
requests_total{service="shop/api",status="200"} 5
requests_total{service="shop/api",status="503"} 2
requests_total{service="a\"b\\c\nd, e=\"f\"",status="200"} 1
up 1
seconds_bucket{le="+Inf"} 1e3
"#;

    #[test]
    fn samples_are_summed_over_labels() {
        let metrics = Metrics::parse(PAGE);
        assert_eq!(metrics.sum("requests_total", &[("service", "shop/api")]), 7.0);
        assert_eq!(metrics.sum("requests_total", &[("status", "200")]), 6.0);
        assert_eq!(metrics.sum("requests_total", &[("service", "a\"b\\c\nd, e=\"f\"")]), 1.0);
        assert_eq!(metrics.sum("up", &[]), 1.0);
        assert_eq!(metrics.sum("seconds_bucket", &[("le", "+Inf")]), 1000.0);
        assert_eq!(metrics.sum("down", &[]), 0.0);
        assert!(!metrics.has("up", &[("a", "b")]));
    }
}
