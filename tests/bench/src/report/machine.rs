//! Where and with what it was measured.

use std::fs;
use std::process::Command;
use std::time::{SystemTime, UNIX_EPOCH};

use tests::tools;

use super::Results;

/// Names and values, for a list.
pub(super) fn describe(results: &Results) -> Vec<(String, String)> {
    let has = |name: &str| results.peers.iter().any(|peer| peer.name.starts_with(name));
    let mut all = vec![
        ("day", day()),
        ("processor", processor()),
        ("kernel", fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default()),
        ("runs", results.manner.clone()),
        ("wrk", said("wrk", "wrk", "-v")),
        ("h2load", said("h2load", "nghttp2-client", "--version")),
        ("nginx", said("nginx", "nginx-light", "-v")),
    ];
    if has("haproxy") {
        all.push(("HAProxy", said("haproxy", "haproxy", "-v")));
    }
    if has("envoy") {
        all.push(("Envoy", crate::peer::envoy::version()));
    }
    let all = all.into_iter().map(|(name, value)| (name.to_owned(), value.trim().to_owned()));
    all.filter(|(_, value)| !value.is_empty()).collect()
}

fn processor() -> String {
    let info = fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let values = |name: &str| {
        let lines = info.lines().filter(|line| line.starts_with(name));
        lines.filter_map(|line| Some(line.split_once(':')?.1.trim().to_owned())).collect::<Vec<_>>()
    };
    let (names, count) = (values("model name"), values("processor").len());
    format!("{count} of {}", names.first().map_or("a kind without a name", String::as_str))
}

/// The first line that a program says of its version.
fn said(program: &str, package: &str, flag: &str) -> String {
    let output = Command::new(tools::find(program, package)).arg(flag).output();
    let Ok(output) = output else { return String::new() };
    let all = [output.stdout, output.stderr].concat();
    String::from_utf8_lossy(&all).lines().next().unwrap_or_default().to_owned()
}

/// Today, as YYYY-MM-DD in UTC (Howard Hinnant's `civil_from_days`).
fn day() -> String {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    let days = since.as_secs() / 86_400 + 719_468;
    let (era, day_of_era) = (days / 146_097, days % 146_097);
    let year_of_era =
        (day_of_era - day_of_era / 1460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let shifted = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * shifted + 2) / 5 + 1;
    let month = if shifted < 10 { shifted + 3 } else { shifted - 9 };
    let year = year_of_era + era * 400 + u64::from(month <= 2);
    format!("{year}-{month:02}-{day:02}")
}
