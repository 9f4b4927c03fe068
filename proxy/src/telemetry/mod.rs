//! What the sidecar tells of itself: metrics, spans and the access log.

pub mod access_log;
pub mod bounded;
pub mod metrics;
pub mod trace;
