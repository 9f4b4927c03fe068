//! Everything is restarted in turn under mixed load, again and again, and no request fails.
//!
//! A minute by default; `ROLLING_SECONDS=300` makes it five, in which everything is restarted at
//! least five times.

mod clients;
mod conductor;
mod grpc;
mod persist;
mod record;
mod traffic;
mod websocket;

use std::time::{Duration, Instant};

use self::conductor::Conductor;
use self::record::Record;
use self::traffic::Traffic;

/// How long the load lasts, in seconds.
const SECONDS: &str = "ROLLING_SECONDS";

const DEFAULT: Duration = Duration::from_secs(60);

/// In a time of this length everything is restarted at least five times.
const FIVE_TIMES: Duration = Duration::from_secs(300);

#[tokio::test(flavor = "multi_thread")]
async fn everything_is_restarted_in_turn_under_mixed_load_without_a_failed_request() {
    let length = length();
    let rounds = (5 * length.as_secs() / FIVE_TIMES.as_secs()).max(1);
    let record = Record::start();
    let mut conductor = Conductor::open(record.clone()).await;
    let traffic = Traffic::start(conductor.proxy(), &record);
    let started = Instant::now();
    // A slow machine gets the time that it needs.
    while conductor.rounds() < rounds || started.elapsed() < length {
        conductor.next().await;
    }
    traffic.stop().await;
    let report = record.report();
    eprintln!("{report}\n{}", conductor.restarts());
    report.assert_clean(length);
    conductor.assert_restarted(rounds);
}

fn length() -> Duration {
    std::env::var(SECONDS).map_or(DEFAULT, |text| {
        Duration::from_secs(text.parse().unwrap_or_else(|_| panic!("{SECONDS}={text}")))
    })
}
