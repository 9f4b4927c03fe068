//! Results for readers: tables, JSON.

mod table;

use std::fs;
use std::path::Path;

use anyhow::Context;

use crate::case::Case;
use crate::peer::Peer;
use crate::sample::{Figure, Sample};
use crate::stats::{Runs, Spread};

use self::table::Table;

/// The share of a processor that goes elsewhere from which on a run is called noisy.
const NOISY: f64 = 0.05;

/// A case as a table, with Pillion's ratios to the others below.
pub(crate) fn case(case: &Case, peers: &[Peer], samples: &[Sample]) -> String {
    let per = format!("CPU s/{}", case.unit.per);
    let head = [&case.name, case.unit.rate, "min..max", &per, "min..max"];
    let head = head.into_iter().chain(["user", "system", "outbound", "inbound", "notes"]);
    let mut table = Table::new(head);
    let runs = Runs::of(samples, &case.name);
    for peer in peers {
        table.row(row(runs, &peer.name));
    }
    table.to_string() + &ratios(runs, peers)
}

fn row(runs: Runs<'_>, peer: &str) -> Vec<String> {
    let spread = |figure| runs.spread(peer, figure);
    let median = |figure| spread(figure).map_or_else(dash, |s| number(s.median));
    let range = |figure| spread(figure).map_or_else(dash, |s| range(&s));
    vec![
        peer.to_owned(),
        median(Figure::Rate),
        range(Figure::Rate),
        median(Figure::Cpu),
        range(Figure::Cpu),
        median(Figure::User),
        median(Figure::System),
        median(Figure::Outbound),
        median(Figure::Inbound),
        notes(runs, peer),
    ]
}

fn notes(runs: Runs<'_>, peer: &str) -> String {
    let noisy = runs.of_peer(peer).filter(|run| run.noise > NOISY).count();
    let most = runs.of_peer(peer).map(|run| run.noise).fold(0.0, f64::max);
    let failure = runs.of_peer(peer).find_map(|run| run.failure.clone());
    let noisy = (noisy > 0).then(|| format!("{noisy} noisy (to {:.0} %)", most * 100.0));
    let failed = failure.map(|why| format!("FAILED: {}", why.lines().next().unwrap_or_default()));
    [noisy, failed].into_iter().flatten().collect::<Vec<_>>().join("; ")
}

fn ratios(runs: Runs<'_>, peers: &[Peer]) -> String {
    let mut lines = String::new();
    for ours in peers.iter().filter(|peer| peer.is_pillion()) {
        let others = peers.iter().filter(|other| other.name != ours.name);
        let ratios = others.filter_map(|other| {
            let ratio = runs.ratio(&ours.name, &other.name, Figure::Cpu)?;
            Some(format!("{:.2} of {} ({})", ratio.median, other.name, range(&ratio)))
        });
        let ratios: Vec<String> = ratios.collect();
        if !ratios.is_empty() {
            lines += &format!("{}: CPU {}\n", ours.name, ratios.join(", "));
        }
    }
    lines
}

/// Writes all runs as they were.
///
/// # Errors
/// When a file cannot be written.
pub(crate) fn write(dir: &Path, samples: &[Sample]) -> anyhow::Result<()> {
    fs::create_dir_all(dir).with_context(|| dir.display().to_string())?;
    fs::write(dir.join("runs.json"), serde_json::to_vec_pretty(samples)?)?;
    Ok(())
}

fn dash() -> String {
    "-".to_owned()
}

fn range(spread: &Spread) -> String {
    format!("{}..{}", number(spread.min), number(spread.max))
}

/// Three digits that count.
fn number(value: f64) -> String {
    match value.abs() {
        v if v >= 100.0 => format!("{value:.0}"),
        v if v >= 10.0 => format!("{value:.1}"),
        _ => format!("{value:.2}"),
    }
}
