//! `data`: what `api` calls. It calls nobody.

use std::sync::atomic::{AtomicU64, Ordering};

use http::StatusCode;
use serde_json::json;

use super::server::Answer;

/// The application.
#[derive(Debug)]
pub(crate) struct Data {
    name: String,
    answered: AtomicU64,
}

impl Data {
    /// A replica of this name.
    pub(crate) const fn new(name: String) -> Self {
        Self { name, answered: AtomicU64::new(0) }
    }

    /// Answers a request: with how many were answered before.
    pub(crate) fn answer(&self) -> Answer {
        let before = self.answered.fetch_add(1, Ordering::Relaxed);
        let body = json!({"service": "data", "replica": self.name, "answered_before": before});
        (StatusCode::OK, body)
    }
}
