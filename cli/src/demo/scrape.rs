//! Asks the sidecars: their metrics, and what they know of endpoints.

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};
use std::time::{Duration, Instant};

use bytes::Bytes;
use futures_util::future::join_all;
use http::{HeaderMap, StatusCode, Uri};
use serde::Deserialize;

use super::figures::{add, increase, relevant};
use super::metrics::{self, Values};
use super::plan::{ADMIN_PORT, NAMESPACE, Plan};
use crate::client::Client;

/// How long a sidecar may take to answer.
const TIMEOUT: Duration = Duration::from_secs(2);

/// The sidecars that are asked.
#[derive(Debug)]
pub(crate) struct Scraper {
    sidecars: Vec<Sidecar>,
}

#[derive(Debug)]
struct Sidecar {
    pod: &'static str,
    client: Client,
    /// The last reading of the process that runs now; nothing before the first.
    last: Option<Values>,
    /// When it answered last.
    answered: Instant,
    /// What it answered instead of metrics.
    trouble: String,
    is_alive: bool,
}

impl Scraper {
    /// Of the plan's sidecars, none of which was asked yet.
    pub(crate) fn new(plan: &Plan, now: Instant) -> Self {
        let sidecars = plan.pods.iter().map(|pod| Sidecar {
            pod: pod.name,
            client: Client::new(pod.at(ADMIN_PORT), TIMEOUT),
            last: None,
            answered: now,
            trouble: String::new(),
            is_alive: true,
        });
        Self { sidecars: sidecars.collect() }
    }

    /// Asks all that are alive, and returns how much their counters grew since they were asked
    /// last. The first reading of each is what growth is counted from.
    pub(crate) async fn scrape(&mut self) -> Values {
        let alive = self.sidecars.iter_mut().filter(|sidecar| sidecar.is_alive);
        let mut grown = Values::new();
        for values in join_all(alive.map(Sidecar::scrape)).await {
            add(&mut grown, &values);
        }
        grown
    }

    /// A sidecar is gone, and its counters with it.
    pub(crate) fn gone(&mut self, pod: &str) {
        self.with(pod, |sidecar| sidecar.is_alive = false);
    }

    /// A new sidecar was started in the place of one that is gone: it counts from nothing.
    pub(crate) fn returned(&mut self, pod: &str, now: Instant) {
        self.with(pod, |sidecar| {
            (sidecar.last, sidecar.answered) = (Some(Values::new()), now);
            sidecar.is_alive = true;
        });
    }

    fn with(&mut self, pod: &str, change: impl FnOnce(&mut Sidecar)) {
        self.sidecars.iter_mut().find(|sidecar| sidecar.pod == pod).map(change);
    }

    /// A sidecar that is alive and has not answered for `patience`, and what it answered instead.
    pub(crate) fn silent(&self, patience: Duration, now: Instant) -> Option<(&str, &str)> {
        let is_silent = |sidecar: &&Sidecar| {
            sidecar.is_alive && now.saturating_duration_since(sidecar.answered) > patience
        };
        self.sidecars.iter().find(is_silent).map(|silent| (silent.pod, silent.trouble.as_str()))
    }

    /// The states of a service's endpoints by address, as the first of its callers that answers
    /// knows them.
    pub(crate) async fn endpoints(&self, plan: &Plan, service: &str) -> BTreeMap<IpAddr, String> {
        for caller in plan.callers(service) {
            let sidecar = self.sidecars.iter().find(|s| s.pod == caller.name && s.is_alive);
            let Some(sidecar) = sidecar else { continue };
            if let Ok(page) = get(&sidecar.client, "/config").await {
                return endpoints_of(&page, &format!("{NAMESPACE}/{service}"));
            }
        }
        BTreeMap::new()
    }
}

impl Sidecar {
    async fn scrape(&mut self) -> Values {
        match get(&self.client, "/metrics").await.and_then(|page| read(&page)) {
            Ok(now) => {
                let last = self.last.replace(now.clone());
                self.answered = Instant::now();
                last.map(|last| increase(&last, now)).unwrap_or_default()
            }
            Err(trouble) => {
                self.trouble = trouble;
                Values::new()
            }
        }
    }
}

fn read(page: &Bytes) -> Result<Values, String> {
    let text = String::from_utf8_lossy(page);
    metrics::parse(&text).map(relevant).map_err(|error| error.to_string())
}

/// Gets a page that must be there.
pub(crate) async fn get(client: &Client, path: &'static str) -> Result<Bytes, String> {
    let answer = client.get(&Uri::from_static(path), &HeaderMap::new()).await;
    let answer = answer.map_err(|error| format!("{path}: {error}"))?;
    if answer.status() == StatusCode::OK {
        return Ok(answer.into_body());
    }
    let body: String = String::from_utf8_lossy(answer.body()).chars().take(200).collect();
    Err(format!("{path} answers {}: {}", answer.status(), body.trim_end()))
}

/// What the demo reads of a sidecar's `/config`.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Config {
    services: Vec<Service>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Service {
    name: String,
    ports: Vec<Port>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Port {
    endpoints: Vec<Endpoint>,
}

#[derive(Debug, Deserialize)]
struct Endpoint {
    address: String,
    state: String,
}

fn endpoints_of(page: &[u8], service: &str) -> BTreeMap<IpAddr, String> {
    let config: Config = serde_json::from_slice(page).unwrap_or_default();
    let service = config.services.into_iter().find(|other| other.name == service);
    let endpoints = service.into_iter().flat_map(|s| s.ports).flat_map(|port| port.endpoints);
    endpoints.filter_map(|endpoint| Some((ip(&endpoint.address)?, endpoint.state))).collect()
}

/// The IP of an address with or without a port.
fn ip(text: &str) -> Option<IpAddr> {
    text.parse::<SocketAddr>().map(|address| address.ip()).or_else(|_| text.parse()).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn endpoints_are_read_from_the_page_of_a_sidecar() {
        let page = br#"{"identity": null, "publication": 3, "services": [
            {"name": "demo/web", "ports": []},
            {"name": "demo/api", "routes": 1, "ports": [{"port": 80, "protocol": "http", "endpoints": [
                {"address": "127.0.2.3:8080", "workload": "api-1", "state": "ready", "in_flight": 1},
                {"address": "127.0.2.4", "workload": "api-2", "state": "ejected"}]}]}], "inbound": {}}"#;
        let states: Vec<_> = endpoints_of(page, "demo/api")
            .into_iter()
            .map(|(ip, state)| format!("{ip} {state}"))
            .collect();
        assert_eq!(states, ["127.0.2.3 ready", "127.0.2.4 ejected"]);
        assert!(endpoints_of(page, "demo/web").is_empty());
        assert!(endpoints_of(b"nothing", "demo/api").is_empty());
    }
}
