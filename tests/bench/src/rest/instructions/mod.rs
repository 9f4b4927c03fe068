//! Instructions and heap allocations of a request, in the client's sidecar and in the server's.
//!
//! Both sidecars run under callgrind, the control plane and the application do not. Requests go one
//! after another, so that what one costs does not depend on how many wait; what is counted lies
//! between two dumps, so that neither the start nor the first requests are in it.

mod compare;
mod top;

use std::path::{Path, PathBuf};

use anyhow::ensure;
use clap::ValueEnum;

use self::compare::{Figures, Recorded};
use crate::app;
use crate::callgrind::made_with;
use crate::scene::{Case, Measured, Scene};

/// What `instructions` is told.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Measure only these cases.
    #[arg(long = "case", value_name = "CASE")]
    cases: Vec<Case>,
    /// Requests that are counted, of each case.
    #[arg(long, default_value_t = 500)]
    requests: u64,
    /// Write what was measured into the file, in place of comparing it.
    #[arg(long)]
    update: bool,
    /// The sidecar was compiled without its profile (`RUSTC_WRAPPER= cargo build`).
    #[arg(long)]
    without_profile: bool,
    /// Print the functions that cost most, in place of comparing anything.
    #[arg(long, conflicts_with = "update")]
    profile: bool,
    /// How many functions.
    #[arg(long, default_value_t = 40)]
    top: usize,
    /// Print also who calls the functions whose names contain this.
    #[arg(long, value_name = "TEXT", requires = "profile")]
    callers: Option<String>,
}

/// Measures, and compares with the file.
///
/// # Errors
/// When something costs more than the file allows.
pub(crate) async fn run(args: Args) -> anyhow::Result<()> {
    crate::released()?;
    let cases = if args.cases.is_empty() { Case::value_variants() } else { &args.cases };
    let mut scene = Scene::open(app::app()).await?;
    let mut figures = Figures::default();
    for case in cases {
        let measured = scene.measure(*case, args.requests).await?;
        if args.profile {
            print_profile(*case, &measured, &args);
        } else {
            figures.add(*case, &measured)?;
        }
    }
    if args.profile {
        return Ok(());
    }
    println!("{figures}");
    finish(&figures, &args).await
}

fn print_profile(case: Case, measured: &Measured, args: &Args) {
    for (side, profile) in measured.sides() {
        println!("\n{case}, {side} sidecar");
        top::print(profile, measured.requests, args.top);
        if let Some(text) = &args.callers {
            top::print_callers(profile, measured.requests, text);
        }
    }
}

async fn finish(figures: &Figures, args: &Args) -> anyhow::Result<()> {
    let (path, made_with, without_profile) = (file(), made_with().await?, args.without_profile);
    if args.update {
        let recorded = Recorded::read(&path).unwrap_or_default();
        return recorded.updated(figures, made_with, without_profile).write(&path);
    }
    let verdict = Recorded::read(&path)?.compare(figures, &made_with, without_profile);
    for sentence in &verdict.notes {
        println!("{sentence}");
    }
    ensure!(verdict.failures.is_empty(), "{}", verdict.failures.join("\n"));
    Ok(())
}

fn file() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("instructions.json")
}
