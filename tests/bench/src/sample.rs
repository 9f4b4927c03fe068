//! What one run of one case against one peer gave.

use std::collections::BTreeMap;

use serde::Serialize;

use crate::stage::server::App;

/// The figures of a run.
#[derive(Debug, Clone, Default, Serialize)]
pub(crate) struct Sample {
    /// The section of the benchmark.
    pub(crate) section: String,
    /// The case within it.
    pub(crate) case: String,
    /// Whom the load was for.
    pub(crate) app: App,
    /// The peer.
    pub(crate) peer: String,
    /// The round, from 1.
    pub(crate) round: u32,
    /// Each figure by its name; see [`Figure`].
    pub(crate) figures: BTreeMap<Figure, f64>,
    /// The share of the time in which the processors worked for others than this run's processes:
    /// that of the load, and that of the proxies.
    pub(crate) noise: [f64; 2],
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
    /// The median latency, in milliseconds.
    P50,
    /// Its 99th percentile.
    P99,
    /// Its 99.9th percentile.
    P999,
    /// [`P50`](Self::P50) above that of `direct` in the same round.
    AddedP50,
    /// [`P99`](Self::P99) above that of `direct`.
    AddedP99,
    /// [`P999`](Self::P999) above that of `direct`.
    AddedP999,
}

impl Figure {
    /// All of them.
    pub(crate) const ALL: [Self; 12] = [
        Self::Rate,
        Self::Cpu,
        Self::User,
        Self::System,
        Self::Outbound,
        Self::Inbound,
        Self::P50,
        Self::P99,
        Self::P999,
        Self::AddedP50,
        Self::AddedP99,
        Self::AddedP999,
    ];

    /// For readers.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Rate => "rate",
            Self::Cpu => "CPU",
            Self::User => "CPU, user",
            Self::System => "CPU, system",
            Self::Outbound => "CPU, outbound",
            Self::Inbound => "CPU, inbound",
            Self::P50 => "p50",
            Self::P99 => "p99",
            Self::P999 => "p99.9",
            Self::AddedP50 => "added p50",
            Self::AddedP99 => "added p99",
            Self::AddedP999 => "added p99.9",
        }
    }
}

impl Sample {
    /// A figure, unless the run failed.
    pub(crate) fn get(&self, figure: Figure) -> Option<f64> {
        self.figures.get(&figure).copied().filter(|_| self.failure.is_none())
    }
}

/// Fills in what was added to the latencies of `direct` in the same rounds.
pub(crate) fn add_latencies(samples: &mut [Sample]) {
    const PAIRS: [(Figure, Figure); 3] = [
        (Figure::P50, Figure::AddedP50),
        (Figure::P99, Figure::AddedP99),
        (Figure::P999, Figure::AddedP999),
    ];
    let direct: Vec<Sample> = samples.iter().filter(|run| run.peer == "direct").cloned().collect();
    for run in samples.iter_mut().filter(|run| run.peer != "direct") {
        let beside = direct.iter().find(|d| d.case == run.case && d.round == run.round);
        for (of, added) in PAIRS {
            if let Some((all, least)) = run.get(of).zip(beside.and_then(|d| d.get(of))) {
                run.figures.insert(added, all - least);
            }
        }
    }
}
