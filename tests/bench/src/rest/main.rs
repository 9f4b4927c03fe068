//! What one process of Pillion costs, measured by itself: instructions and allocations of a request,
//! memory, the time to start, and the control plane. The README of the bench says what each command
//! measures.

// A benchmark prints its figures.
#![allow(clippy::print_stdout, clippy::print_stderr)]

mod app;
mod burst;
mod callgrind;
mod ciphers;
mod control_plane;
mod footprint;
mod instructions;
mod layout;
mod memory;
mod report;
mod scene;
mod start;

use std::process::ExitCode;

use anyhow::{anyhow, ensure};
use clap::Parser;

/// Measures one process of Pillion by itself.
#[derive(Debug, Parser)]
enum Command {
    /// Instructions and heap allocations of a request, in each sidecar, under callgrind.
    Instructions(instructions::Args),
    /// Which functions of the sidecar the linker puts side by side: those that sidecars run.
    Layout(layout::Args),
    /// What a sidecar holds in memory.
    Memory(memory::Args),
    /// From a sidecar's start until it is ready, and the sizes of the binaries.
    Start(start::Args),
    /// What TLS itself costs for each byte, by cipher and size of record.
    Ciphers(ciphers::Args),
    /// How soon a change reaches many streams, and what streams and certificates cost.
    ControlPlane(control_plane::Args),
    /// The same of a control plane that reads an API server with thousands of Services.
    Kubernetes(control_plane::cluster::Args),
}

#[tokio::main]
async fn main() -> ExitCode {
    // What was started ends with the values that stand for it, which a signal must not skip.
    let done = tokio::select! {
        done = run(Command::parse()) => done,
        _ = tokio::signal::ctrl_c() => Err(anyhow!("interrupted")),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}

async fn run(command: Command) -> anyhow::Result<()> {
    match command {
        Command::Instructions(args) => instructions::run(args).await,
        Command::Layout(args) => layout::run(args).await,
        Command::Memory(args) => memory::run(args).await,
        Command::Start(args) => start::run(args).await,
        Command::Ciphers(args) => ciphers::run(&args),
        Command::ControlPlane(args) => control_plane::run(args).await,
        Command::Kubernetes(args) => control_plane::cluster::run(args).await,
    }
}

/// The harness builds for development where it is not told better: no figures of those.
fn released() -> anyhow::Result<()> {
    let told = std::env::var_os("PILLION_BIN_DIR").is_some();
    ensure!(told, "set PILLION_BIN_DIR to the release binaries (target/release)");
    Ok(())
}
