//! From the start of a sidecar's process until it is ready, and what it is on disk.

use std::net::SocketAddr;
use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Context, ensure};
use tests::bins::bins;
use tests::mesh::Mesh;
use tests::pod::Pod;
use tests::{process, tools};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::report::{MIB, Report, quantile};

/// What `start` is told.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// How often the sidecar is started.
    #[arg(long, default_value_t = 10)]
    times: usize,
}

/// Between two questions.
const PAUSE: Duration = Duration::from_micros(500);

const LIMIT: Duration = Duration::from_secs(30);

/// In milliseconds.
const MOST: f64 = 100.0;

/// Measures.
///
/// # Errors
/// When a sidecar does not get ready. A target that is not reached is no error.
pub(crate) async fn run(args: Args) -> anyhow::Result<()> {
    crate::released()?;
    let mut report = Report::default();
    report.part("from the start of the process to the first 200 of /ready, with a new certificate");
    let mesh = Mesh::start().await;
    let web = mesh.pod("shop/web").start().await;
    let mut took = Vec::new();
    for _ in 0..args.times {
        took.push(start(&web).await?.as_secs_f64() * 1000.0);
    }
    report.target("median", quantile(&took, 0.5), MOST, "ms");
    report.line("least", format!("{:.1} ms", quantile(&took, 0.0)));
    report.line("most", format!("{:.1} ms", quantile(&took, 1.0)));
    sizes(&report).await?;
    report.end();
    Ok(())
}

async fn start(web: &Pod) -> anyhow::Result<Duration> {
    web.sidecar().kill();
    let begun = Instant::now();
    web.restart_sidecar_unready();
    while !is_ready(web.admin()).await {
        ensure!(begun.elapsed() < LIMIT, "not ready: {}", web.sidecar().log());
        tokio::time::sleep(PAUSE).await;
    }
    Ok(begun.elapsed())
}

/// Refused connections and other answers are what is waited out.
async fn is_ready(admin: SocketAddr) -> bool {
    let answer = async {
        let mut socket = TcpStream::connect(admin).await?;
        socket.write_all(b"GET /ready HTTP/1.1\r\nhost: a\r\nconnection: close\r\n\r\n").await?;
        let mut answer = Vec::new();
        socket.read_to_end(&mut answer).await?;
        std::io::Result::Ok(answer)
    };
    answer.await.is_ok_and(|answer| answer.starts_with(b"HTTP/1.1 200"))
}

async fn sizes(report: &Report) -> anyhow::Result<()> {
    report.part("the binaries");
    let dir = tempfile::tempdir()?;
    let strip = tools::find("strip", "binutils");
    for binary in [&bins().proxy, &bins().control_plane, &bins().pillion] {
        let name = binary.file_name().and_then(|name| name.to_str()).context("a name")?;
        let stripped = dir.path().join(name);
        let args = [Path::new("-o"), &stripped, binary];
        let output = process::run(&strip, args, &[], LIMIT).await;
        ensure!(output.code == Some(0), "strip: {}", output.stderr);
        let size = |path: &Path| anyhow::Ok(std::fs::metadata(path)?.len() as f64 / MIB);
        let (released, stripped) = (size(binary)?, size(&stripped)?);
        report.line(name, format!("{released:.1} MiB as released, {stripped:.1} MiB stripped"));
    }
    Ok(())
}
