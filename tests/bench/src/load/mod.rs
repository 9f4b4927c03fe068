//! Loads: what a client does, and what it saw.

mod curl;
mod h2load;
mod own;
mod wrk;

use std::time::Duration;

use anyhow::{Context, ensure};
use serde::Deserialize;

use crate::peer::Topology;
use crate::stage::program::Program;
use crate::stage::server::App;

/// The unary call.
const GRPC_PATH: &str = "/pillion.test.v1.Echo/Unary";

/// An empty message: not compressed, no byte long.
const MESSAGE: [u8; 5] = [0; 5];

/// A load, of a fixed kind; how long it runs is for the [`Scale`] to say.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) enum Load {
    /// wrk: HTTP/1.1, as fast as it goes.
    Wrk {
        /// How many connections.
        connections: u32,
        /// Whether each is for one request only.
        close: bool,
    },
    /// h2load: HTTP/2, as fast as it goes.
    H2load {
        /// How many connections.
        clients: u32,
        /// How many requests at once on each.
        streams: u32,
    },
    /// HTTP/1.1 at a fixed rate, whatever the answers do.
    Open {
        /// How many connections.
        connections: u32,
        /// Requests per second.
        rate: Rate,
    },
    /// So many clients, each of which connects for one echo after the other.
    Connect {
        /// How many.
        at_once: u32,
    },
    /// One large transfer.
    Bulk(Way),
}

/// Requests per second.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) enum Rate {
    /// So many.
    Fixed(f64),
    /// A share of the most that Envoy reached.
    OfEnvoy(f64),
}

/// Which way the bytes go.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Way {
    /// From the server.
    Down,
    /// To the server.
    Up,
}

/// How much a run does.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Scale {
    /// How long it is, for loads that have a length.
    pub(crate) time: Duration,
    /// MiB of a transfer.
    pub(crate) mib: u64,
    /// The requests per second that Envoy reached at saturation, as far as that is known.
    pub(crate) envoy: Option<f64>,
}

/// What a load saw.
#[derive(Debug, Clone, Copy, Default, Deserialize)]
pub(crate) struct Outcome {
    /// What was done, in the unit of the case.
    pub(crate) done: f64,
    /// How long it took, in seconds.
    pub(crate) seconds: f64,
    /// How often something else came than what was asked for.
    pub(crate) errors: u64,
    /// The latencies' median, 99th and 99.9th percentile, in milliseconds, where they count.
    #[serde(default)]
    pub(crate) latency: Option<[f64; 3]>,
}

impl Load {
    /// Runs it against an application of a topology.
    ///
    /// # Errors
    /// When it cannot run at all.
    pub(crate) fn run(
        self,
        topology: &Topology,
        app: App,
        scale: &Scale,
    ) -> anyhow::Result<Outcome> {
        let time = scale.time;
        match self {
            Self::Wrk { connections, close } => wrk::run(topology, app, connections, close, time),
            Self::H2load { clients, streams } => h2load::run(topology, app, clients, streams, time),
            Self::Open { connections, rate } => {
                let rate = rate.per_second(scale)?;
                own::open(topology, app, connections, rate, time)
            }
            Self::Connect { at_once } => own::connect(topology, app, at_once, time),
            Self::Bulk(way) if app == App::Bytes => own::bulk(topology, app, way, scale.mib),
            Self::Bulk(way) => curl::bulk(topology, app, way, scale.mib),
        }
    }
}

impl Rate {
    fn per_second(self, scale: &Scale) -> anyhow::Result<f64> {
        match self {
            Self::Fixed(rate) => Ok(rate),
            Self::OfEnvoy(share) => {
                Ok(share * scale.envoy.context("Envoy's maximum is not known")?)
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
        App::Http1 | App::Upload => curl.args([&url]),
        App::Http2 => curl.args([http2, &url]),
        App::Grpc => {
            std::fs::write(&message, MESSAGE)?;
            let headers = ["-H", "content-type: application/grpc", "-H", "te: trailers"];
            let data = format!("@{}", message.display());
            curl.args(headers)
                .args([http2, "-o", "/dev/null", "--data-binary", &data])
                .args([url + GRPC_PATH])
        }
        App::Bytes => return own::echo(topology),
    };
    let said = program.run(&topology.pods.client, Duration::from_secs(5))?;
    ensure!(app != App::Grpc || said.contains("grpc-status: 0"), "{said}");
    Ok(())
}
