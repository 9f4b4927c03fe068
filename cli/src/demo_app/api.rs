//! `api`: what `web` calls; it calls `data`. A replica may be slow, or fail now and then.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use http::{HeaderMap, StatusCode};
use rand::Rng;
use serde_json::json;

use super::Callee;
use super::server::Answer;

/// The application.
#[derive(Debug)]
pub(crate) struct Api {
    name: String,
    data: Callee,
    slow: Duration,
    fail: u8,
}

impl Api {
    /// A replica of this name, whose requests go through `proxy`; that waits `slow` to twice
    /// `slow` before an answer, and fails `fail` of a hundred requests.
    pub(crate) fn new(name: String, proxy: SocketAddr, slow: Duration, fail: u8) -> Self {
        Self { name, data: Callee::new(proxy, "http://data.demo/"), slow, fail }
    }

    /// Answers a request that had these headers.
    pub(crate) async fn answer(self: Arc<Self>, headers: HeaderMap) -> Answer {
        let Self { name, data, .. } = &*self;
        let (wait, fails) = self.quirk();
        if fails {
            let error = "this replica fails now and then, on purpose";
            let body = json!({"service": "api", "replica": name, "error": error});
            return (StatusCode::SERVICE_UNAVAILABLE, body);
        }
        tokio::time::sleep(wait).await;
        match data.call(&headers).await {
            Ok(data) => (StatusCode::OK, json!({"service": "api", "replica": name, "data": data})),
            Err(error) => {
                let body = json!({"service": "api", "replica": name, "error": error});
                (StatusCode::BAD_GATEWAY, body)
            }
        }
    }

    /// How long this request waits, and whether it fails.
    fn quirk(&self) -> (Duration, bool) {
        let mut rng = rand::rng();
        let wait = self.slow.mul_f64(rng.random_range(1.0..=2.0));
        (wait, rng.random_range(0..100) < self.fail)
    }
}
