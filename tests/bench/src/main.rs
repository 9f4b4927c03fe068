//! What Pillion costs beside what users would pick instead. `tests/bench/run` builds what this
//! needs and starts it; README.md beside it says what is measured and how.

// A benchmark prints its figures.
#![allow(clippy::print_stdout, clippy::print_stderr)]

mod args;
mod case;
mod cpu;
mod load;
mod measure;
mod peer;
mod report;
mod sample;
mod section;
mod stage;
mod stats;
mod targets;

use std::fs::File;
use std::io::IsTerminal;
use std::path::PathBuf;

use anyhow::Context;
use clap::Parser;

use self::args::Args;
use self::case::Case;
use self::load::Scale;
use self::peer::Topology;
use self::report::Results;
use self::sample::{Figure, Sample};
use self::section::Section;
use self::stage::files::{BIG, Files};
use self::stats::{Runs, Spread};

fn main() -> anyhow::Result<()> {
    let args = Args::parse();
    let _alone = wait_for_others()?;
    stage::netns::sweep();
    let files = Files::make()?;
    let outcome = measure_all(&args, &files);
    if args.keep || outcome.is_err() {
        eprintln!("configurations and logs: {}", files.keep()?.display());
    }
    let results = outcome?;
    if let Some(targets) = report::targets(&results.samples) {
        println!("What must be reached:\n\n{targets}");
    }
    report::write(&args.out, &results)?;
    eprintln!("results: {}", args.out.display());
    Ok(())
}

/// Two benchmarks at once would measure each other: the second waits until the first has ended.
fn wait_for_others() -> anyhow::Result<File> {
    let file = File::create(std::env::temp_dir().join("pillion-bench.lock"))?;
    if file.try_lock().is_err() {
        eprintln!("another benchmark runs; waiting for its end");
        file.lock()?;
    }
    Ok(file)
}

fn measure_all(args: &Args, files: &Files) -> anyhow::Result<Results> {
    let bins = bins(args)?;
    let mut topologies = Vec::new();
    for peer in &args.peers {
        eprintln!("starting {}", peer.name);
        topologies.push(Topology::start(files, peer, &bins)?);
    }
    let (cases, mut samples) = (cases(args), Vec::new());
    for case in &cases {
        let mut runs = run_case(args, case, &topologies, &samples);
        sample::add_latencies(&mut runs);
        println!("{}", report::case(case, &args.peers, &runs));
        samples.extend(runs);
    }
    for topology in &topologies {
        topology.verify()?;
    }
    topologies.into_iter().try_for_each(Topology::end)?;
    let manner = format!("{} rounds of {:?} each", args.rounds(), args.time());
    Ok(Results { cases, peers: args.peers.clone(), samples, manner })
}

/// Every peer once, then every peer again: what changes on the machine meets all of them.
fn run_case(args: &Args, case: &Case, topologies: &[Topology], before: &[Sample]) -> Vec<Sample> {
    let topologies: Vec<_> =
        topologies.iter().filter(|topology| topology.peer.carries(case.app)).collect();
    let envoy = || envoy_rate(args, &topologies, before);
    let envoy = case.needs_envoy_rate().then(envoy).flatten();
    let scale = Scale { time: args.time(), mib: args.mib(), envoy };
    let warm = Scale { time: scale.time / 2, mib: BIG[0], ..scale };
    // In a tight loop once for an application must do.
    let is_warm = args.quick && before.last().is_some_and(|run| run.app == case.app);
    for topology in topologies.iter().filter(|_| !is_warm) {
        progress(case, "warm-up", topology);
        measure::run(case, topology, 0, &warm);
    }
    let mut samples = Vec::new();
    for round in 1..=args.rounds() {
        // Another one begins each time: nobody always follows the same neighbour.
        let first = round as usize % topologies.len().max(1);
        for topology in topologies[first..].iter().chain(&topologies[..first]) {
            progress(case, &format!("round {round}"), topology);
            samples.push(measure::run(case, topology, round, &scale));
        }
    }
    samples
}

/// The most requests per second that Envoy reached at 64 connections of HTTP/1.1, in this run if
/// that was measured before, else now.
fn envoy_rate(args: &Args, topologies: &[&Topology], before: &[Sample]) -> Option<f64> {
    const CASE: &str = "http1-64";
    if let Some(spread) = Runs::of(before, CASE).spread("envoy", Figure::Rate) {
        return Some(spread.median);
    }
    let envoy = topologies.iter().find(|topology| topology.peer.name == "envoy")?;
    let case = Section::Requests.cases().into_iter().find(|case| case.name == CASE)?;
    let scale = Scale { time: args.time(), mib: args.mib(), envoy: None };
    let rates = (0..3).map(|round| measure::run(&case, envoy, round, &scale));
    Some(Spread::of(rates.filter_map(|run| run.get(Figure::Rate)))?.median)
}

fn progress(case: &Case, what: &str, topology: &Topology) {
    if std::io::stderr().is_terminal() {
        eprint!("\r\x1b[K{} {what} {}\r", case.name, topology.peer.name);
    }
}

fn cases(args: &Args) -> Vec<Case> {
    let sections = args.sections();
    let cases = sections.iter().flat_map(|section| section.cases());
    let wanted = |case: &Case| {
        args.cases.is_empty() || args.cases.iter().any(|part| case.name.contains(part.as_str()))
    };
    cases.filter(wanted).collect()
}

fn bins(args: &Args) -> anyhow::Result<PathBuf> {
    if let Some(dir) = &args.bin_dir {
        return Ok(dir.clone());
    }
    let own = std::env::current_exe()?;
    Ok(own.parent().context("the driver lies in no directory")?.to_owned())
}
