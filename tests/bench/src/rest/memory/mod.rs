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
    let parts = if args.parts.is_empty() { Part::value_variants() } else { &args.parts };
    for part in parts {
        match part {
            Part::Idle => idle::measure(&mut report).await?,
            Part::Outbound => connections::measure(&mut report, Kind::Outbound).await?,
            Part::OutboundHttp2 => connections::measure(&mut report, Kind::OutboundHttp2).await?,
            Part::Inbound => connections::measure(&mut report, Kind::Inbound).await?,
            Part::Mesh => connections::measure(&mut report, Kind::Mesh).await?,
            Part::Tunnels => connections::measure(&mut report, Kind::Tunnel).await?,
            Part::Burst => burst::measure(&mut report).await?,
            Part::Services => services::measure(&mut report).await?,
        }
    }
    report.end();
    Ok(())
}
