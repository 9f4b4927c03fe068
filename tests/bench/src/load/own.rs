//! Loads of our own (`src/bin/app`).

use std::time::Duration;

use anyhow::Context;

use crate::peer::Topology;
use crate::stage::program::Program;
use crate::stage::server::App;

use super::{Outcome, Way};

/// Longest time of a load beyond what it was given.
const GRACE: Duration = Duration::from_secs(20);

/// Longest time of a transfer.
const TRANSFER: Duration = Duration::from_secs(120);

/// Bytes of a GiB.
const GIB: f64 = (1 << 30) as f64;

/// Requests at a fixed rate.
pub(super) fn open(
    topology: &Topology,
    app: App,
    connections: u32,
    rate: f64,
    time: Duration,
) -> anyhow::Result<Outcome> {
    let args = [
        format!("--connections={connections}"),
        format!("--rate={rate}"),
        format!("--seconds={}", time.as_secs_f64()),
    ];
    run(topology, app, "open", args, time + GRACE)
}

/// Connections for one echo each.
pub(super) fn connect(
    topology: &Topology,
    app: App,
    at_once: u32,
    time: Duration,
) -> anyhow::Result<Outcome> {
    let args = [format!("--at-once={at_once}"), format!("--seconds={}", time.as_secs_f64())];
    run(topology, app, "connect", args, time + GRACE)
}

/// One transfer of bytes.
pub(super) fn bulk(topology: &Topology, app: App, way: Way, mib: u64) -> anyhow::Result<Outcome> {
    let word = match way {
        Way::Down => "down",
        Way::Up => "up",
    };
    let outcome = run(topology, app, word, [format!("--mib={mib}")], TRANSFER)?;
    Ok(Outcome { done: outcome.done / GIB, ..outcome })
}

/// One connection for one echo.
pub(super) fn echo(topology: &Topology) -> anyhow::Result<()> {
    let outcome = connect(topology, App::Bytes, 1, Duration::from_millis(1))?;
    anyhow::ensure!(outcome.errors == 0, "no echo");
    Ok(())
}

fn run(
    topology: &Topology,
    app: App,
    word: &str,
    args: impl IntoIterator<Item = String>,
    limit: Duration,
) -> anyhow::Result<Outcome> {
    let program = Program::app(topology.own_app()).args([word, &topology.target(app).to_string()]);
    let said = program.args(args).run(&topology.pods.client, limit)?;
    serde_json::from_str(&said).with_context(|| format!("the load said\n{said}"))
}
