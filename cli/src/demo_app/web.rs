//! `web`: what the client calls; it calls `api`.

use std::net::SocketAddr;
use std::sync::Arc;

use http::{HeaderMap, StatusCode};
use serde_json::json;

use super::Callee;
use super::server::Answer;

/// The application.
#[derive(Debug)]
pub(crate) struct Web {
    name: String,
    api: Callee,
}

impl Web {
    /// A replica of this name, whose requests go through `proxy`.
    pub(crate) fn new(name: String, proxy: SocketAddr) -> Self {
        Self { name, api: Callee::new(proxy, "http://api.demo/") }
    }

    /// Answers a request that had these headers.
    pub(crate) async fn answer(self: Arc<Self>, headers: HeaderMap) -> Answer {
        let Self { name, api } = &*self;
        match api.call(&headers).await {
            Ok(api) => (StatusCode::OK, json!({"service": "web", "replica": name, "api": api})),
            Err(error) => {
                let body = json!({"service": "web", "replica": name, "error": error});
                (StatusCode::BAD_GATEWAY, body)
            }
        }
    }
}
