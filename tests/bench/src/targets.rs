//! What must be reached, by issue 4: ratios to others in the same run.

use crate::sample::{Figure, Sample};
use crate::stats::{Runs, Spread};

/// Whose figures are judged.
const OURS: &str = "pillion";

/// One thing that must be reached.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Target {
    /// In this case.
    pub(crate) case: &'static str,
    /// Of this figure.
    pub(crate) figure: Figure,
    /// Beside this peer.
    pub(crate) beside: &'static str,
    /// The ratio must be at most, or at least, this.
    pub(crate) bound: Bound,
}

/// A bound of a ratio.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Bound {
    /// No more.
    Most(f64),
    /// No less.
    Least(f64),
}

const fn most(case: &'static str, figure: Figure, beside: &'static str, most: f64) -> Target {
    Target { case, figure, beside, bound: Bound::Most(most) }
}

const fn as_fast(case: &'static str, beside: &'static str) -> Target {
    Target { case, figure: Figure::Rate, beside, bound: Bound::Least(1.0) }
}

/// All of them; to cost less than HAProxy goes beyond what must be.
pub(crate) const TARGETS: [Target; 19] = [
    most("http1-64", Figure::Cpu, "envoy", 0.27),
    most("http1-64", Figure::Cpu, "haproxy", 1.1),
    most("http1-64", Figure::Cpu, "floor", 1.0),
    most("http1-64", Figure::Cpu, "haproxy", 1.0),
    most("http2-8x16", Figure::Cpu, "envoy", 0.27),
    most("http2-8x16", Figure::Cpu, "floor", 1.1),
    most("http2-8x16", Figure::Cpu, "haproxy", 1.0),
    most("grpc-8x16", Figure::Cpu, "envoy", 0.27),
    most("grpc-8x16", Figure::Cpu, "floor", 1.1),
    most("rate-1000", Figure::Cpu, "envoy", 0.5),
    most("rate-1000", Figure::Cpu, "floor", 1.1),
    most("rate-1000", Figure::AddedP50, "envoy", 0.45),
    most("rate-1000", Figure::AddedP99, "envoy", 0.6),
    most("connections-http", Figure::Cpu, "envoy", 0.45),
    most("connections-tcp", Figure::Cpu, "envoy", 0.45),
    as_fast("bulk-http-down", "envoy"),
    as_fast("bulk-http-up", "envoy"),
    // Envoy is faster without tunnels here.
    as_fast("bulk-tcp-down", "envoy-tls"),
    as_fast("bulk-tcp-up", "envoy-tls"),
];

/// Whether a case decides on one of them.
pub(crate) fn decides(case: &str) -> bool {
    TARGETS.iter().any(|target| target.case == case)
}

/// What was reached of a target.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Reached {
    /// The ratio of the medians of all rounds.
    pub(crate) ratio: f64,
    /// The ratios of the rounds.
    pub(crate) rounds: Spread,
    /// Whether the ratio keeps the bound.
    pub(crate) kept: bool,
}

impl Target {
    /// Judges the runs; `None` where the case or a peer was not run.
    pub(crate) fn judge(&self, samples: &[Sample]) -> Option<Reached> {
        let runs = Runs::of(samples, self.case);
        let ours = runs.spread(OURS, self.figure)?.median;
        let theirs = runs.spread(self.beside, self.figure)?.median;
        let ratio = ours / theirs;
        let rounds = runs.ratio(OURS, self.beside, self.figure)?;
        let holds = match self.bound {
            Bound::Most(most) => ratio <= most,
            Bound::Least(least) => ratio >= least,
        };
        // Noise may make what is added to a time less than nothing: beside that nothing is shown.
        Some(Reached { ratio, rounds, kept: theirs > 0.0 && holds })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn added(peer: &str, milliseconds: f64) -> Sample {
        Sample {
            case: "rate-1000".into(),
            peer: peer.into(),
            figures: [(Figure::AddedP99, milliseconds)].into(),
            ..Sample::default()
        }
    }

    #[test]
    fn beside_less_than_nothing_nothing_is_reached() {
        let target = most("rate-1000", Figure::AddedP99, "envoy", 0.6);
        for (ours, theirs, kept) in [(0.5, 1.0, true), (0.7, 1.0, false), (5.0, -1.0, false)] {
            let reached = target.judge(&[added(OURS, ours), added("envoy", theirs)]);
            assert_eq!(reached.unwrap().kept, kept, "{ours} beside {theirs}");
        }
    }
}
