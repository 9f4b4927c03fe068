//! Which charts there are.

use crate::case::Case;
use crate::sample::Figure;
use crate::stats::Runs;
use crate::targets::decides;

use super::Results;
use super::svg::{Bar, Group, chart};

/// The charts of all sections that were measured: names of files, and what is in them.
pub(super) fn all(results: &Results) -> Vec<(String, String)> {
    let wanted = [
        (
            "requests",
            "requests-cpu",
            "CPU seconds of both proxies per 100,000 requests",
            Figure::Cpu,
        ),
        (
            "requests",
            "requests-rate",
            "requests per second, both proxies on one core",
            Figure::Rate,
        ),
        ("latency", "latency-p50", "added median latency, ms", Figure::AddedP50),
        ("latency", "latency-p99", "added 99th percentile of latency, ms", Figure::AddedP99),
        ("latency", "latency-cpu", "CPU seconds of both proxies per 100,000 requests", Figure::Cpu),
        (
            "connections",
            "connections-cpu",
            "CPU seconds of both proxies per 100,000 connections",
            Figure::Cpu,
        ),
        ("bulk", "bulk-rate", "GiB per second", Figure::Rate),
    ];
    let charts = wanted.into_iter().filter_map(|(section, name, title, figure)| {
        let groups = shown(results, section).into_iter();
        let groups = groups.map(|case| group(results, case, figure));
        let groups: Vec<Group> = groups.filter(|group| !group.bars.is_empty()).collect();
        (!groups.is_empty()).then(|| (format!("{name}.svg"), chart(title, &groups)))
    });
    charts.collect()
}

/// The cases of a section that decide on what must be reached, which a page has room for; all of
/// them where none does.
fn shown<'a>(results: &'a Results, section: &str) -> Vec<&'a Case> {
    let all = || results.cases.iter().filter(|case| case.section == section);
    let deciding: Vec<_> =
        all().filter(|case| section != "requests" || decides(&case.name)).collect();
    if deciding.is_empty() { all().collect() } else { deciding }
}

fn group(results: &Results, case: &Case, figure: Figure) -> Group {
    let runs = Runs::of(&results.samples, &case.name);
    let bars = results.peers.iter().filter_map(|peer| {
        let spread = runs.spread(&peer.name, figure)?;
        Some(Bar { name: peer.name.clone(), spread, ours: peer.is_pillion() })
    });
    Group { name: case.name.clone(), bars: bars.collect() }
}
