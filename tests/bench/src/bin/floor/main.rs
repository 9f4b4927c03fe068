//! The floor: the least that two sidecars of tokio, hyper and rustls cost here.
//!
//! HTTP: HTTP/1.1 or HTTP/2 comes in, goes over HTTP/2 on one connection to each peer, within
//! mutual TLS 1.3, and on to the application in the client's version. Bytes: one TLS connection
//! for each of the client's. There is no routing, no metric, no timeout, no retry and no balancing.
//! It is written as one would write it plainly, neither handicapped nor golfed: a yardstick.

// A benchmark says why it ends.
#![allow(clippy::print_stderr)]

mod application;
mod bytes;
mod inbound;
mod outbound;
mod tls;
mod tuning;

use std::path::PathBuf;

use clap::{Parser, ValueEnum};

/// The flags of one of the two relays.
#[derive(Debug, Parser)]
struct Args {
    /// Which of the two.
    end: End,
    /// Chain and key of this end, PEM in one file.
    #[arg(long)]
    cert: PathBuf,
    /// The roots to believe, PEM.
    #[arg(long)]
    roots: PathBuf,
    /// The name that the other end must prove.
    #[arg(long)]
    peer: String,
    /// Ports of applications that speak HTTP/1.1; all that is not named is bytes.
    #[arg(long, value_delimiter = ',')]
    http1: Vec<u16>,
    /// Ports of applications that speak HTTP/2.
    #[arg(long, value_delimiter = ',')]
    http2: Vec<u16>,
}

#[derive(Debug, Clone, Copy, ValueEnum)]
enum End {
    /// Beside the client.
    Outbound,
    /// Beside the server.
    Inbound,
}

/// What an application speaks, which is what its clients speak.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Protocol {
    Http1,
    Http2,
    Bytes,
}

impl Args {
    fn protocol(&self, port: u16) -> Protocol {
        if self.http1.contains(&port) {
            Protocol::Http1
        } else if self.http2.contains(&port) {
            Protocol::Http2
        } else {
            Protocol::Bytes
        }
    }
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> anyhow::Result<()> {
    let args = Args::parse();
    match args.end {
        End::Outbound => outbound::run(args).await,
        End::Inbound => inbound::run(args).await,
    }
}
