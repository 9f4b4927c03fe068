//! A case, and what must be reached, as tables.

use crate::case::Case;
use crate::peer::Peer;
use crate::sample::{Figure, Sample};
use crate::stats::Runs;
use crate::targets::{Bound, TARGETS};

use super::number::{range, short};
use super::table::Table;

/// The share of a processor that goes elsewhere from which on a run is called noisy.
const NOISY: f64 = 0.05;

/// A column: its head, the figure, and whether the spread stands beside the median.
type Column = (String, Figure, bool);

/// A case as a table, with Pillion's ratios to the others below.
pub(crate) fn case(case: &Case, peers: &[Peer], samples: &[Sample]) -> String {
    let (columns, runs) = (columns(case), Runs::of(samples, &case.name));
    let heads = columns.iter().flat_map(|(head, _, spread)| {
        [head.clone()].into_iter().chain(spread.then(|| "min..max".to_owned()))
    });
    let heads = [case.name.clone()].into_iter().chain(heads).chain(["notes".to_owned()]);
    let mut table = Table::new(heads);
    for peer in peers.iter().filter(|peer| peer.carries(case.app)) {
        table.row(row(runs, &columns, &peer.name));
    }
    format!("{table}\n{}", ratios(runs, peers))
}

fn columns(case: &Case) -> Vec<Column> {
    let cpu = (format!("CPU s/{}", case.unit.per), Figure::Cpu, true);
    let parts = [
        ("user", Figure::User),
        ("system", Figure::System),
        ("outbound", Figure::Outbound),
        ("inbound", Figure::Inbound),
    ];
    let parts = parts.map(|(head, figure)| (head.to_owned(), figure, false));
    let rate = (case.unit.rate.to_owned(), Figure::Rate, !case.has_latency());
    if !case.has_latency() {
        return [rate, cpu].into_iter().chain(parts).collect();
    }
    let latencies = [
        ("p50 ms", Figure::P50, false),
        ("p99", Figure::P99, false),
        ("p99.9", Figure::P999, false),
        ("added p50", Figure::AddedP50, true),
        ("added p99", Figure::AddedP99, true),
        ("added p99.9", Figure::AddedP999, false),
    ];
    let latencies = latencies.map(|(head, figure, spread)| (head.to_owned(), figure, spread));
    [rate].into_iter().chain(latencies).chain([cpu]).collect()
}

fn row(runs: Runs<'_>, columns: &[Column], peer: &str) -> Vec<String> {
    let mut cells = vec![peer.to_owned()];
    for (_, figure, with_spread) in columns {
        let spread = runs.spread(peer, *figure);
        let or_dash = |cell: Option<String>| cell.unwrap_or_else(|| "-".to_owned());
        cells.push(or_dash(spread.map(|spread| short(spread.median))));
        if *with_spread {
            cells.push(or_dash(spread.as_ref().map(range)));
        }
    }
    cells.push(notes(runs, peer));
    cells
}

/// What a reader must know of a peer's runs: other load, and failures.
fn notes(runs: Runs<'_>, peer: &str) -> String {
    let most = |core: usize| runs.of_peer(peer).map(|run| run.noise[core]).fold(0.0, f64::max);
    let [load, proxies] = [most(0), most(1)].map(|share| 100.0 * share);
    let noisy = runs.of_peer(peer).filter(|run| run.noise.iter().any(|share| *share > NOISY));
    let noisy = match noisy.count() {
        0 => None,
        count => Some(format!("{count} noisy (load {load:.0} %, proxies {proxies:.0} %)")),
    };
    let failure = runs.of_peer(peer).find_map(|run| run.failure.clone());
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

/// What must be reached, as far as it was measured; `None` where nothing of it was.
pub(crate) fn targets(samples: &[Sample]) -> Option<String> {
    let mut table = Table::new(["case", "figure", "beside", "bound", "ratio", "rounds", "reached"]);
    let mut any = false;
    for target in &TARGETS {
        let Some(reached) = target.judge(samples) else { continue };
        any = true;
        let bound = match target.bound {
            Bound::Most(most) => format!("at most {most}"),
            Bound::Least(least) => format!("at least {least}"),
        };
        table.row(vec![
            target.case.to_owned(),
            target.figure.name().to_owned(),
            target.beside.to_owned(),
            bound,
            format!("{:.2}", reached.ratio),
            range(&reached.rounds),
            if reached.kept { "yes" } else { "NO" }.to_owned(),
        ]);
    }
    any.then(|| table.to_string())
}
