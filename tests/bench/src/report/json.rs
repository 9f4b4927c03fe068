//! Results for programs.

use std::collections::BTreeMap;

use serde::Serialize;

use crate::sample::{Figure, Sample};
use crate::stats::{Runs, Spread};
use crate::targets::TARGETS;

use super::Results;

#[derive(Serialize)]
struct Document<'a> {
    machine: BTreeMap<&'a str, &'a str>,
    cases: Vec<Summary<'a>>,
    targets: Vec<Judged>,
    runs: &'a [Sample],
}

#[derive(Serialize)]
struct Summary<'a> {
    section: &'a str,
    case: &'a str,
    peer: &'a str,
    figures: BTreeMap<Figure, Spread>,
}

#[derive(Serialize)]
struct Judged {
    case: &'static str,
    figure: Figure,
    beside: &'static str,
    ratio: f64,
    rounds: Spread,
    reached: bool,
}

/// All results as one document: medians with their spread, what must be reached, every run.
///
/// # Errors
/// Never; a figure that is no number is left out by the format.
pub(super) fn text(results: &Results, machine: &[(String, String)]) -> anyhow::Result<String> {
    let document = Document {
        machine: machine.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect(),
        cases: summaries(results),
        targets: TARGETS.iter().filter_map(|target| judged(target, &results.samples)).collect(),
        runs: &results.samples,
    };
    Ok(serde_json::to_string_pretty(&document)?)
}

fn summaries(results: &Results) -> Vec<Summary<'_>> {
    let pairs = results.cases.iter().flat_map(|case| {
        results.peers.iter().map(move |peer| (case, peer)) //
    });
    let summaries = pairs.map(|(case, peer)| {
        let runs = Runs::of(&results.samples, &case.name);
        let figures = Figure::ALL.into_iter();
        let figures = figures.filter_map(|figure| Some((figure, runs.spread(&peer.name, figure)?)));
        Summary {
            section: case.section,
            case: &case.name,
            peer: &peer.name,
            figures: figures.collect(),
        }
    });
    summaries.filter(|summary| !summary.figures.is_empty()).collect()
}

fn judged(target: &crate::targets::Target, samples: &[Sample]) -> Option<Judged> {
    let reached = target.judge(samples)?;
    Some(Judged {
        case: target.case,
        figure: target.figure,
        beside: target.beside,
        ratio: reached.ratio,
        rounds: reached.rounds,
        reached: reached.kept,
    })
}
