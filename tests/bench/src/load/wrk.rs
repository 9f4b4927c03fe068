//! wrk: HTTP/1.1, closed loop.

use std::time::Duration;

use anyhow::Context;

use crate::peer::Topology;
use crate::stage::program::Program;
use crate::stage::server::App;

use super::Outcome;

/// Runs it.
pub(super) fn run(
    topology: &Topology,
    app: App,
    connections: u32,
    close: bool,
    time: Duration,
) -> anyhow::Result<Outcome> {
    let url = format!("http://{}/", topology.target(app));
    let program = Program::find("wrk", "wrk").args([
        "-t1",
        &format!("-c{connections}"),
        &format!("-d{}s", time.as_secs().max(1)),
        &url,
    ]);
    let program = if close { program.args(["-H", "Connection: close"]) } else { program };
    let said = program.run(&topology.pods.client, time + Duration::from_secs(20))?;
    parse(&said).with_context(|| format!("wrk said\n{said}"))
}

/// `93720 requests in 2.00s, 23.06MB read`, and lines about errors where there were any.
fn parse(said: &str) -> Option<Outcome> {
    let (requests, rest) = said.split_once(" requests in ")?;
    let done = requests.rsplit(char::is_whitespace).next()?.parse().ok()?;
    let seconds = seconds(rest.split_once(',')?.0)?;
    let sockets = numbers_after(said, "Socket errors:");
    let statuses = numbers_after(said, "Non-2xx or 3xx responses:");
    Some(Outcome { done, seconds, errors: sockets + statuses, latency: None })
}

/// `2.00s`, `1.00m`.
fn seconds(text: &str) -> Option<f64> {
    if let Some(minutes) = text.strip_suffix('m') {
        return Some(60.0 * minutes.parse::<f64>().ok()?);
    }
    text.strip_suffix('s')?.parse().ok()
}

/// The sum of the numbers on the line that begins like this, 0 where there is none.
fn numbers_after(said: &str, begin: &str) -> u64 {
    let line = said.lines().find_map(|line| line.trim().strip_prefix(begin)).unwrap_or_default();
    let words = line.split(|c: char| !c.is_ascii_digit());
    words.filter_map(|word| word.parse::<u64>().ok()).sum()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_it_says_is_understood() {
        let fine = "Running 2s test\n  93720 requests in 2.10s, 23.06MB read\nRequests/sec: 1\n";
        let outcome = parse(fine).unwrap();
        assert_eq!((outcome.done, outcome.seconds, outcome.errors), (93_720.0, 2.1, 0));
        let bad = "  7 requests in 1.00m, 2KB read\n  \
                   Socket errors: connect 0, read 3, write 0, timeout 2\n  \
                   Non-2xx or 3xx responses: 4\n";
        let outcome = parse(bad).unwrap();
        assert_eq!((outcome.done, outcome.seconds, outcome.errors), (7.0, 60.0, 9));
        assert!(parse("unable to connect").is_none());
    }
}
