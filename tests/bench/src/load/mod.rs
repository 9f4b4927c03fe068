//! Loads: what a client does, and what it saw.

mod h2load;
mod wrk;

use std::time::Duration;

use anyhow::ensure;

use crate::peer::Topology;
use crate::stage::program::Program;
use crate::stage::server::App;

/// The unary call.
const GRPC_PATH: &str = "/pillion.test.v1.Echo/Unary";

/// An empty message: not compressed, no byte long.
const MESSAGE: [u8; 5] = [0; 5];

/// A load, of a fixed kind; it runs for a time that the round says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Load {
    /// wrk: HTTP/1.1 on so many connections, as fast as it goes.
    Wrk {
        /// How many.
        connections: u32,
    },
    /// h2load: HTTP/2, as fast as it goes.
    H2load {
        /// How many connections.
        clients: u32,
        /// How many requests at once on each.
        streams: u32,
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
            Self::H2load { clients, streams } => {
                h2load::run(topology, app, *clients, *streams, time)
            }
        }
    }
}

/// Asks an application for one answer, and writes what loads need where it is missing.
///
/// # Errors
/// When there is none.
pub(crate) fn probe(topology: &Topology, app: App) -> anyhow::Result<()> {
    let url = format!("http://{}", topology.target(app));
    let curl = Program::find("curl", "curl").args(["-sS", "--fail", "--max-time", "2", "-D", "-"]);
    let http2 = "--http2-prior-knowledge";
    let message = topology.pods.file("message");
    let program = match app {
        App::Http1 => curl.args([&url]),
        App::Http2 => curl.args([http2, &url]),
        App::Grpc => {
            std::fs::write(&message, MESSAGE)?;
            let headers = ["-H", "content-type: application/grpc", "-H", "te: trailers"];
            let data = format!("@{}", message.display());
            curl.args(headers)
                .args([http2, "-o", "/dev/null", "--data-binary", &data])
                .args([url + GRPC_PATH])
        }
        App::Bytes => return Ok(()),
    };
    let said = program.run(&topology.pods.client, Duration::from_secs(5))?;
    ensure!(app != App::Grpc || said.contains("grpc-status: 0"), "{said}");
    Ok(())
}
