//! What one process of Pillion costs, measured by itself: instructions and allocations of a request,
//! memory, the time to start, and the control plane. REST.md says what each command measures.

// A benchmark prints its figures.
#![allow(clippy::print_stdout, clippy::print_stderr)]

mod app;
mod callgrind;
mod instructions;

use clap::Parser;

/// Measures one process of Pillion by itself.
#[derive(Debug, Parser)]
enum Command {
    /// Instructions and heap allocations of a request, in each sidecar, under callgrind.
    Instructions(instructions::Args),
}

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    match Command::parse() {
        Command::Instructions(args) => instructions::run(args).await,
    }
}
