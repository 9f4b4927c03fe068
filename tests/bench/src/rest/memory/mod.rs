//! What a sidecar holds in memory: idle, for idle connections, after a burst, and in a large mesh.

mod burst;
mod connections;
mod held;
mod idle;
mod services;

use clap::ValueEnum;

use self::held::Kind;
use crate::report::Report;

/// What `memory` is told.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Measure only these parts.
    #[arg(long = "part", value_name = "PART")]
    parts: Vec<Part>,
    /// Start the sidecars under this program and its arguments, such as `env MALLOC_ARENA_MAX=1`.
    #[arg(long, value_name = "WORDS", default_value = "")]
    under: String,
    /// Connections of the burst.
    #[arg(long, value_name = "N", default_value_t = 512)]
    burst: usize,
}

/// What is measured by itself, in a mesh of its own.
#[derive(Debug, Clone, Copy, ValueEnum)]
enum Part {
    /// Nothing to do.
    Idle,
    /// Idle connections in HTTP/1.1 to the outbound port.
    Outbound,
    /// Idle connections in HTTP/2 to the outbound port.
    OutboundHttp2,
    /// Idle connections in HTTP/1.1 to the port for plaintext.
    Inbound,
    /// Idle connections of other sidecars.
    Mesh,
    /// Idle tunnels of bytes that nobody looks into.
    Tunnels,
    /// After many connections with large bodies.
    Burst,
    /// Few Services used, of many.
    Services,
}

/// Measures.
///
/// # Errors
/// When something cannot be measured. A target that is not reached is no error.
pub(crate) async fn run(args: Args) -> anyhow::Result<()> {
    crate::released()?;
    let mut report = Report::default();
    let under: Vec<String> = args.under.split_whitespace().map(ToOwned::to_owned).collect();
    let parts = if args.parts.is_empty() { Part::value_variants() } else { &args.parts };
    for part in parts {
        match part {
            Part::Idle => idle::measure(&mut report, &under).await?,
            Part::Outbound => connections::measure(&mut report, &under, Kind::Outbound).await?,
            Part::OutboundHttp2 => {
                connections::measure(&mut report, &under, Kind::OutboundHttp2).await?
            }
            Part::Inbound => connections::measure(&mut report, &under, Kind::Inbound).await?,
            Part::Mesh => connections::measure(&mut report, &under, Kind::Mesh).await?,
            Part::Tunnels => connections::measure(&mut report, &under, Kind::Tunnel).await?,
            Part::Burst => burst::measure(&mut report, &under, args.burst).await?,
            Part::Services => services::measure(&mut report, &under).await?,
        }
    }
    report.end();
    Ok(())
}
