//! The bench's own programs inside of pods: the servers that nginx cannot be, and the loads that
//! wrk and h2load cannot be.

// A benchmark prints its figures.
#![allow(clippy::print_stdout)]

mod serve;

use clap::Parser;

/// What to be.
#[derive(Debug, Parser)]
enum Args {
    /// The servers of the server pod: gRPC, and bytes.
    Serve,
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> anyhow::Result<()> {
    match Args::parse() {
        Args::Serve => serve::run().await,
    }
}
