//! What is measured: a load against an application, and the unit of its work.

use crate::load::Load;
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
