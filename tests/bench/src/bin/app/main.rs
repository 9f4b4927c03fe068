//! The bench's own programs inside of pods: the servers that nginx cannot be, and the loads that
//! wrk and h2load cannot be. A load prints what it saw as JSON.

// A benchmark prints its figures.
#![allow(clippy::print_stdout)]

mod bulk;
mod connect;
mod open;
mod outcome;
mod serve;

use std::net::SocketAddr;

use clap::Parser;

/// What to be.
#[derive(Debug, Parser)]
enum Args {
    /// The servers of the server pod: gRPC, a sink of uploads, and bytes.
    Serve,
    /// Requests of HTTP/1.1 at a fixed rate, whatever the answers do.
    Open {
        /// Where to.
        target: SocketAddr,
        /// Requests per second.
        #[arg(long)]
        rate: f64,
        /// Connections; a request waits for one that is free, and that counts.
        #[arg(long)]
        connections: usize,
        /// How long.
        #[arg(long)]
        seconds: f64,
    },
    /// Connections, each for one echo, as fast as they go.
    Connect {
        /// Where to.
        target: SocketAddr,
        /// How many at once.
        #[arg(long)]
        at_once: usize,
        /// How long.
        #[arg(long)]
        seconds: f64,
    },
    /// Bytes from the server.
    Down {
        /// Where from.
        target: SocketAddr,
        /// How many.
        #[arg(long)]
        mib: u64,
    },
    /// Bytes to the server.
    Up {
        /// Where to.
        target: SocketAddr,
        /// How many.
        #[arg(long)]
        mib: u64,
    },
}

fn main() -> anyhow::Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let outcome = match Args::parse() {
        Args::Serve => return runtime.block_on(serve::run()),
        Args::Open { target, rate, connections, seconds } => {
            open::run(target, rate, connections, seconds)?
        }
        Args::Connect { target, at_once, seconds } => {
            runtime.block_on(connect::run(target, at_once, seconds))?
        }
        Args::Down { target, mib } => bulk::down(target, mib << 20)?,
        Args::Up { target, mib } => bulk::up(target, mib << 20)?,
    };
    println!("{}", serde_json::to_string(&outcome)?);
    Ok(())
}
