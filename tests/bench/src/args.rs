//! What was typed.

use std::path::PathBuf;
use std::time::Duration;

use clap::Parser;

use crate::peer::Peer;
use crate::section::Section;
use crate::stage::files::BIG;

/// Whom to measure, unless said otherwise.
const PEERS: &str = "direct,pillion,pillion-single,envoy,envoy-tls,haproxy,nginx,floor,floor-tcp";

/// Measure what Pillion costs, beside others in the same roles.
#[derive(Debug, Parser)]
#[command(name = "tests/bench/run", max_term_width = 100)]
pub(crate) struct Args {
    /// What to measure [default: all]
    pub(crate) sections: Vec<Section>,

    /// Two short rounds: enough to see a change of some percent in CPU time.
    #[arg(long)]
    pub(crate) quick: bool,

    /// Rounds; each runs every peer once [default: 5, with --quick 2]
    #[arg(long)]
    pub(crate) rounds: Option<u32>,

    /// Seconds of a run [default: 5, with --quick 1]
    #[arg(long)]
    pub(crate) seconds: Option<u64>,

    /// Whom to measure, in this order; pillion@DIR is the build whose binaries lie in DIR.
    #[arg(
        long,
        value_delimiter = ',',
        default_value = PEERS
    )]
    pub(crate) peers: Vec<Peer>,

    /// Only cases whose names contain one of these.
    #[arg(long, value_delimiter = ',')]
    pub(crate) cases: Vec<String>,

    /// Where results are written.
    #[arg(long, default_value = "target/bench")]
    pub(crate) out: PathBuf,

    /// Binaries of `pillion` [default: those beside the driver]
    #[arg(long, env = "PILLION_BIN_DIR")]
    pub(crate) bin_dir: Option<PathBuf>,

    /// Keep configurations and logs of all topologies, and say where they are.
    #[arg(long)]
    pub(crate) keep: bool,
}

impl Args {
    /// How often every peer is run.
    pub(crate) fn rounds(&self) -> u32 {
        self.rounds.unwrap_or(if self.quick { 2 } else { 5 })
    }

    /// How long a run is.
    pub(crate) fn time(&self) -> Duration {
        Duration::from_secs(self.seconds.unwrap_or(if self.quick { 1 } else { 5 }))
    }

    /// MiB of a transfer; the files of these sizes are there.
    pub(crate) fn mib(&self) -> u64 {
        BIG[usize::from(!self.quick)]
    }

    /// The sections, in the order in which they run.
    pub(crate) fn sections(&self) -> Vec<Section> {
        match self.sections.as_slice() {
            [] => Section::ALL.into(),
            some => some.into(),
        }
    }
}
