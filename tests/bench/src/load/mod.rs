//! Loads: what a client does, and what it saw.

mod wrk;

use std::time::Duration;

use crate::peer::Topology;
use crate::stage::program::Program;
use crate::stage::server::App;

/// A load, of a fixed kind; it runs for a time that the round says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Load {
    /// wrk: HTTP/1.1 on so many connections, as fast as it goes.
    Wrk {
        /// How many.
        connections: u32,
    },
}

/// What a load saw.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Outcome {
    /// What was done, in the unit of the case.
    pub(crate) done: f64,
    /// How long it took, in seconds.
    pub(crate) seconds: f64,
    /// How often something else came than what was asked for.
    pub(crate) errors: u64,
}

impl Load {
    /// Runs it against an application of a topology.
    ///
    /// # Errors
    /// When it cannot run at all.
    pub(crate) fn run(
        &self,
        topology: &Topology,
        app: App,
        time: Duration,
    ) -> anyhow::Result<Outcome> {
        match self {
            Self::Wrk { connections } => wrk::run(topology, app, *connections, time),
        }
    }
}

/// Asks an application for one answer.
///
/// # Errors
/// When there is none.
pub(crate) fn probe(topology: &Topology, app: App) -> anyhow::Result<()> {
    let limit = Duration::from_secs(5);
    let target = topology.target(app);
    let url = format!("http://{target}/");
    let curl = Program::find("curl", "curl").args(["-sS", "--fail", "--max-time", "2"]);
    let program = match app {
        App::Http1 => curl.args([&url]),
        App::Http2 => curl.args(["--http2-prior-knowledge", &url]),
        App::Grpc | App::Bytes => return Ok(()),
    };
    program.run(&topology.pods.client, limit).map(drop)
}
