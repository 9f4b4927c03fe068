//! What a load saw.

use serde::Serialize;

/// As the driver reads it.
#[derive(Debug, Default, Serialize)]
pub(crate) struct Outcome {
    /// Requests, connections or bytes.
    pub(crate) done: f64,
    /// How long they took.
    pub(crate) seconds: f64,
    /// What went wrong.
    pub(crate) errors: u64,
    /// The latencies' median, 99th and 99.9th percentile, in milliseconds.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) latency: Option<[f64; 3]>,
}
