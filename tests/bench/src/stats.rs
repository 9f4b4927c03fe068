//! Medians with their spread, and ratios within rounds.

use serde::Serialize;

use crate::sample::{Figure, Sample};

/// The median of the rounds, and how far they lie apart.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub(crate) struct Spread {
    /// The median.
    pub(crate) median: f64,
    /// The least.
    pub(crate) min: f64,
    /// The most.
    pub(crate) max: f64,
}

impl Spread {
    /// That of some values; `None` of none.
    pub(crate) fn of(values: impl IntoIterator<Item = f64>) -> Option<Self> {
        let mut values: Vec<f64> = values.into_iter().collect();
        values.sort_by(f64::total_cmp);
        let (min, max) = (*values.first()?, *values.last()?);
        let middle = values.len() / 2;
        let median = match values.len() % 2 {
            0 => (values[middle - 1] + values[middle]) / 2.0,
            _ => values[middle],
        };
        Some(Self { median, min, max })
    }
}

/// The runs of one case.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Runs<'a> {
    samples: &'a [Sample],
    case: &'a str,
}

impl<'a> Runs<'a> {
    /// Those of `case`.
    pub(crate) fn of(samples: &'a [Sample], case: &'a str) -> Self {
        Self { samples, case }
    }

    /// Those against a peer, in the order of the rounds.
    pub(crate) fn of_peer(self, peer: &'a str) -> impl Iterator<Item = &'a Sample> {
        self.samples.iter().filter(move |run| run.case == self.case && run.peer == peer)
    }

    /// A figure of a peer over all rounds that count.
    pub(crate) fn spread(self, peer: &'a str, figure: Figure) -> Option<Spread> {
        Spread::of(self.of_peer(peer).filter_map(|run| run.get(figure)))
    }

    /// How many times as much a peer has of a figure as another in the same round.
    pub(crate) fn ratio(self, peer: &'a str, other: &'a str, figure: Figure) -> Option<Spread> {
        Spread::of(self.of_peer(peer).filter_map(|run| {
            let beside = self.of_peer(other).find(|beside| beside.round == run.round)?;
            Some(run.get(figure)? / beside.get(figure)?)
        }))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn run(peer: &str, round: u32, cpu: f64, failure: Option<&str>) -> Sample {
        Sample {
            case: "c".into(),
            peer: peer.into(),
            round,
            figures: [(Figure::Cpu, cpu)].into(),
            failure: failure.map(Into::into),
            ..Sample::default()
        }
    }

    #[test]
    fn a_median_lies_in_the_middle() {
        assert_eq!(Spread::of([]), None);
        let spread = Spread::of([3.0, 1.0, 10.0]).unwrap();
        assert_eq!((spread.median, spread.min, spread.max), (3.0, 1.0, 10.0));
        assert_eq!(Spread::of([4.0, 2.0]).unwrap().median, 3.0);
    }

    #[test]
    fn ratios_are_of_runs_in_the_same_round_and_failed_ones_do_not_count() {
        let samples = [
            run("a", 1, 2.0, None),
            run("b", 1, 1.0, None),
            run("a", 2, 30.0, None),
            run("b", 2, 10.0, None),
            run("a", 3, 5.0, None),
            run("b", 3, 1.0, Some("errors")),
        ];
        let ratio = Runs::of(&samples, "c").ratio("a", "b", Figure::Cpu).unwrap();
        assert_eq!((ratio.median, ratio.min, ratio.max), (2.5, 2.0, 3.0));
    }
}
