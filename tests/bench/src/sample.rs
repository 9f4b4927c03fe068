//! What one run of one case against one peer gave.

use std::collections::BTreeMap;

use serde::Serialize;

/// The figures of a run.
#[derive(Debug, Clone, Default, Serialize)]
pub(crate) struct Sample {
    /// The section of the benchmark.
    pub(crate) section: String,
    /// The case within it.
    pub(crate) case: String,
    /// The peer.
    pub(crate) peer: String,
    /// The round, from 1.
    pub(crate) round: u32,
    /// Each figure by its name; see [`Figure`].
    pub(crate) figures: BTreeMap<Figure, f64>,
    /// The share of the processors' time that went to others than this run's processes, the
    /// larger of the two.
    pub(crate) noise: f64,
    /// Why the figures do not count, where they do not.
    pub(crate) failure: Option<String>,
}

/// What is measured. A case has a unit of work: a request, a connection, a GiB.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Figure {
    /// Work done per second.
    Rate,
    /// CPU seconds of all proxies for the case's amount of work.
    Cpu,
    /// The part of [`Cpu`](Self::Cpu) in user space.
    User,
    /// The part of it in the kernel.
    System,
    /// The part of it in the client pod's proxy.
    Outbound,
    /// The part of it in the server pod's proxy.
    Inbound,
}

impl Sample {
    /// A figure, unless the run failed.
    pub(crate) fn get(&self, figure: Figure) -> Option<f64> {
        self.figures.get(&figure).copied().filter(|_| self.failure.is_none())
    }
}
