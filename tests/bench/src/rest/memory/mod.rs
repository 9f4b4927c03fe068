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
    /// Idle connections at which memory is read. The most is 10,000 as far as 20,000 descriptors go,
    /// of which a sidecar keeps two for each.
    #[arg(long, value_name = "N", value_delimiter = ',', default_values_t = [1_000, 9_900])]
    connections: Vec<usize>,
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
        let kind = match part {
            Part::Idle => {
                idle::measure(&mut report, &under).await?;
                continue;
            }
            Part::Burst => {
                burst::measure(&mut report, &under, args.burst).await?;
                continue;
            }
            Part::Services => {
                services::measure(&mut report, &under).await?;
                continue;
            }
            Part::Outbound => Kind::Outbound,
            Part::OutboundHttp2 => Kind::OutboundHttp2,
            Part::Inbound => Kind::Inbound,
            Part::Mesh => Kind::Mesh,
            Part::Tunnels => Kind::Tunnel,
        };
        connections::measure(&mut report, &under, &args.connections, kind).await?;
    }
    report.end();
    Ok(())
}
