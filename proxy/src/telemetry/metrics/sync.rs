//! Of the stream to the control plane and what it brought.

use daemon::metrics::{counter, gauge, int_gauge};
use prometheus::{Gauge, IntCounter, IntGauge, Registry};

/// Of the stream to the control plane and what it brought.
#[derive(Debug)]
#[allow(missing_docs)] // the help text at its registration documents each
pub struct SyncMetrics {
    pub connected: IntGauge,
    pub publication: IntGauge,
    pub updates: IntCounter,
    pub resources_received: IntCounter,
    pub resources_rejected: IntCounter,
    pub update_timestamp: Gauge,
    pub staleness: Gauge,
}

impl SyncMetrics {
    /// The metrics, registered at `r`.
    pub(super) fn new(r: &Registry) -> prometheus::Result<Self> {
        Ok(Self {
            connected: int_gauge(
                r,
                "pillion_control_plane_connected",
                "1 while the stream to the control plane is open.",
            )?,
            publication: int_gauge(
                r,
                "pillion_config_publication",
                "Number of the publication in use.",
            )?,
            updates: counter(
                r,
                "pillion_config_updates_total",
                "Updates received from the control plane.",
            )?,
            resources_received: counter(
                r,
                "pillion_config_resources_received_total",
                "Resources received from the control plane, over all updates.",
            )?,
            resources_rejected: counter(
                r,
                "pillion_config_resources_rejected_total",
                "Resources refused (NACK); the last good ones stay in use.",
            )?,
            update_timestamp: gauge(
                r,
                "pillion_config_last_update_timestamp_seconds",
                "When the last update came, in seconds since the epoch; 0 before the first.",
            )?,
            staleness: gauge(
                r,
                "pillion_config_staleness_seconds",
                "Time since the stream to the control plane was lost; 0 while it is open.",
            )?,
        })
    }
}
