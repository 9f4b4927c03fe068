//! What is measured: a load against an application, and the unit of its work.

use crate::load::{Load, Rate};
use crate::stage::server::App;

/// One case of a section.
#[derive(Debug, Clone)]
pub(crate) struct Case {
    /// The section.
    pub(crate) section: &'static str,
    /// Its name.
    pub(crate) name: String,
    /// Whom the load is for.
    pub(crate) app: App,
    /// The load.
    pub(crate) load: Load,
    /// The unit of work.
    pub(crate) unit: Unit,
}

impl Case {
    /// Whether its load measures latencies.
    pub(crate) fn has_latency(&self) -> bool {
        matches!(self.load, Load::Open { .. })
    }

    /// Whether its rate follows from what Envoy reaches.
    pub(crate) fn needs_envoy_rate(&self) -> bool {
        matches!(self.load, Load::Open { rate: Rate::OfEnvoy(_), .. })
    }
}

/// What CPU time is given for.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Unit {
    /// How many of what the load counts.
    pub(crate) amount: f64,
    /// What the rate is called.
    pub(crate) rate: &'static str,
    /// What CPU time is given for.
    pub(crate) per: &'static str,
}

/// Requests.
pub(crate) const REQUESTS: Unit = Unit { amount: 1e5, rate: "requests/s", per: "100k requests" };

/// Connections.
pub(crate) const CONNECTIONS: Unit =
    Unit { amount: 1e5, rate: "connections/s", per: "100k connections" };

/// Bytes.
pub(crate) const GIB: Unit = Unit { amount: 1.0, rate: "GiB/s", per: "GiB" };
