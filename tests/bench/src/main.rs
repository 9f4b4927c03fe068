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

use std::fs::File;
use std::path::PathBuf;

use anyhow::Context;
use clap::Parser;

use self::args::Args;
use self::case::Case;
use self::peer::Topology;
use self::sample::Sample;
use self::section::Section;
use self::stage::files::Files;

fn main() -> anyhow::Result<()> {
    let args = Args::parse();
    let _alone = wait_for_others()?;
    stage::netns::sweep();
    let files = Files::make()?;
    let outcome = measure_all(&args, &files);
    if args.keep || outcome.is_err() {
        eprintln!("configurations and logs: {}", files.keep().display());
    }
    let samples = outcome?;
    report::write(&args.out, &samples)
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

fn measure_all(args: &Args, files: &Files) -> anyhow::Result<Vec<Sample>> {
    let bins = bins(args)?;
    let mut topologies = Vec::new();
    for peer in &args.peers {
        eprintln!("starting {}", peer.name);
        topologies.push(Topology::start(files, peer, &bins)?);
    }
    let mut samples = Vec::new();
    for case in cases(args) {
        let runs = run_case(args, &case, &topologies);
        println!("{}", report::case(&case, &args.peers, &runs));
        samples.extend(runs);
    }
    Ok(samples)
}

/// Every peer once, then every peer again: what changes on the machine meets all of them.
fn run_case(args: &Args, case: &Case, topologies: &[Topology]) -> Vec<Sample> {
    let mut samples = Vec::new();
    for topology in topologies {
        eprint!("\r\x1b[K{} warm-up {}", case.name, topology.peer.name);
        measure::run(case, topology, 0, args.time() / 2);
    }
    for round in 1..=args.rounds() {
        for topology in topologies {
            eprint!("\r\x1b[K{} round {round} {}", case.name, topology.peer.name);
            samples.push(measure::run(case, topology, round, args.time()));
        }
    }
    eprint!("\r\x1b[K");
    samples
}

fn cases(args: &Args) -> Vec<Case> {
    let sections = if args.sections.is_empty() { &Section::ALL[..] } else { &args.sections };
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
