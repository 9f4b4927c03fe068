//! From a file's change to the last of many streams.

use std::net::IpAddr;
use std::time::{Duration, Instant};

use tests::mesh::Mesh;
use tests::pod::APP_PORT;
use tests::yaml;
use tokio::sync::{mpsc, watch};
use tokio::task::JoinSet;

use super::subscriber::{Account, Subscriber};
use super::{Args, services};
use crate::footprint::Footprint;
use crate::report::{KIB, Report, quantile};

/// Between two changes, and before memory is read.
const REST: Duration = Duration::from_millis(300);
const LONG_REST: Duration = Duration::from_secs(5);

/// Streams opened at the same time.
const AT_ONCE: usize = 16;

/// In milliseconds.
const MOST_TIME: f64 = 250.0;

/// In KiB.
const MOST_MEMORY: f64 = 64.0;

pub(super) async fn measure(
    report: &mut Report,
    mesh: &Mesh,
    account: &Account,
    args: &Args,
) -> anyhow::Result<()> {
    report.part(&format!("{} streams of 20 Services, the control plane on one core", args.streams));
    // What the first streams need is there before memory is read.
    drop(open(account, 2 * AT_ONCE).await?);
    tokio::time::sleep(LONG_REST).await;
    let before = Footprint::of(mesh.control_plane().id())?;
    let begun = Instant::now();
    let streams = open(account, args.streams).await?;
    let opened = begun.elapsed().as_secs_f64();
    report.line("all streams opened in", format!("{opened:.1} s"));
    tokio::time::sleep(LONG_REST).await;
    let grown = Footprint::of(mesh.control_plane().id())? - before;
    report.line("without streams", before);
    let each = |bytes: f64| bytes / KIB / args.streams as f64;
    report.target("a stream: resident", each(grown.resident), MOST_MEMORY, "KiB");
    report.line("a stream: anonymous", format!("{:.1} KiB", each(grown.anonymous)));
    let write = |address: IpAddr| {
        mesh.write("endpoints.yaml", &yaml::endpoints("shop/s0", APP_PORT, &[address]));
    };
    time_changes(report, mesh, streams, args.changes, Some(MOST_TIME), write).await
}

pub(super) async fn open(account: &Account, count: usize) -> anyhow::Result<Vec<Subscriber>> {
    let services = services();
    let mut opening = JoinSet::new();
    let mut streams = Vec::new();
    for number in 0..count {
        if opening.len() >= AT_ONCE
            && let Some(stream) = opening.join_next().await
        {
            streams.push(stream??);
        }
        let (account, services) = (account.clone(), services.clone());
        let address = format!("127.1.{}.{}", number / 250, 1 + number % 250);
        opening.spawn(async move { account.open(&address, &services).await });
    }
    while let Some(stream) = opening.join_next().await {
        streams.push(stream??);
    }
    Ok(streams)
}

/// Times changes that `write` makes: each gives the Service `shop/s0` another address.
pub(super) async fn time_changes(
    report: &mut Report,
    mesh: &Mesh,
    streams: Vec<Subscriber>,
    changes: usize,
    aim: Option<f64>,
    write: impl Fn(IpAddr),
) -> anyhow::Result<()> {
    let next = watch::Sender::new(String::new());
    let (seen, mut all_seen) = mpsc::unbounded_channel();
    let count = streams.len();
    for stream in streams {
        tokio::spawn(follow(stream, next.subscribe(), seen.clone()));
    }
    let (mut firsts, mut middles, mut lasts) = (Vec::new(), Vec::new(), Vec::new());
    let mut ticks = 0;
    // The first change finds what the streams were told at their start still on its way.
    for number in 0..=changes {
        if number == 1 {
            ticks = mesh.control_plane().cpu_ticks();
        }
        let address = IpAddr::from([127, 2, (number / 250) as u8, 1 + (number % 250) as u8]);
        next.send_replace(address.to_string());
        let begun = Instant::now();
        write(address);
        let took = times(begun, &mut all_seen, count).await?;
        if number > 0 {
            firsts.push(quantile(&took, 0.0));
            middles.push(quantile(&took, 0.5));
            lasts.push(quantile(&took, 1.0));
        }
        tokio::time::sleep(REST).await;
    }
    let cpu = 10.0 * (mesh.control_plane().cpu_ticks() - ticks) as f64 / changes as f64;
    report
        .line(&format!("{changes} changes: CPU of one, with its streams"), format!("{cpu:.1} ms"));
    let [first, middle] = [&firsts, &middles].map(|times| quantile(times, 0.5));
    report.line("to the first stream, p50", format!("{first:.1} ms"));
    report.line("to the middle of the streams, p50", format!("{middle:.1} ms"));
    report.line("to the last stream, p50", format!("{:.1} ms", quantile(&lasts, 0.5)));
    let late = quantile(&lasts, 0.99);
    match aim {
        Some(most) => report.target("to the last stream, p99", late, most, "ms"),
        None => report.line("to the last stream, p99", format!("{late:.1} ms")),
    }
    report.line("to the last stream, at the most", format!("{:.1} ms", quantile(&lasts, 1.0)));
    Ok(())
}

/// Tells when each next address has come, until the stream ends or nobody wants to know.
async fn follow(
    mut stream: Subscriber,
    mut next: watch::Receiver<String>,
    seen: mpsc::UnboundedSender<anyhow::Result<Instant>>,
) {
    while next.changed().await.is_ok() {
        let address = next.borrow_and_update().clone();
        let came = stream.until_endpoint(&address).await.map(|()| Instant::now());
        if seen.send(came).is_err() {
            return;
        }
    }
}

/// The time that each stream took to have a change, in milliseconds.
async fn times(
    begun: Instant,
    seen: &mut mpsc::UnboundedReceiver<anyhow::Result<Instant>>,
    count: usize,
) -> anyhow::Result<Vec<f64>> {
    let mut took = Vec::with_capacity(count);
    while took.len() < count
        && let Some(came) = seen.recv().await
    {
        took.push((came? - begun).as_secs_f64() * 1000.0);
    }
    Ok(took)
}
