//! h2load: HTTP/2 with prior knowledge, closed loop; unary gRPC is a POST to it.

use std::time::Duration;

use anyhow::{Context, ensure};

use crate::peer::Topology;
use crate::stage::program::Program;
use crate::stage::server::App;

use super::{GRPC_PATH, Outcome};

/// Bytes of the body of an answer: nginx's, and a message of gRPC that has as many in its text.
const BODY: [f64; 2] = [100.0, 107.0];

/// Runs it.
pub(super) fn run(
    topology: &Topology,
    app: App,
    clients: u32,
    streams: u32,
    time: Duration,
) -> anyhow::Result<Outcome> {
    let (grpc, target) = (app == App::Grpc, topology.target(app));
    let program = Program::find("h2load", "nghttp2-client")
        .args(["-t1", &format!("-c{clients}"), &format!("-m{streams}")])
        .args([format!("-D{}", time.as_secs().max(1))]);
    let program = if grpc {
        let message = topology.pods.file("message");
        program
            .args(["-d", &message.to_string_lossy(), "-H", "content-type: application/grpc"])
            .args(["-H", "te: trailers", &format!("http://{target}{GRPC_PATH}")])
    } else {
        program.args([format!("http://{target}/")])
    };
    let said = program.run(&topology.pods.client, time + Duration::from_secs(20))?;
    let (mut outcome, data) = parse(&said).with_context(|| format!("h2load said\n{said}"))?;
    outcome.seconds = time.as_secs_f64().max(1.0);
    // A failed call of gRPC has status 200 as well, but no message.
    let body = BODY[usize::from(grpc)];
    ensure!(data >= 0.99 * body * outcome.done, "answers without a body: h2load said\n{said}");
    Ok(outcome)
}

/// What was done, and how many bytes of bodies came.
fn parse(said: &str) -> Option<(Outcome, f64)> {
    let requests = line(said, "requests:")?;
    let succeeded = count(requests, "succeeded")?;
    let wrong = ["failed", "timeout"].map(|word| count(requests, word).unwrap_or_default());
    let statuses = line(said, "status codes:")?;
    let unwanted = ["3xx", "4xx", "5xx"].map(|word| count(statuses, word).unwrap_or_default());
    let data = line(said, "traffic:")?.rsplit_once('(')?.1.split_once(')')?.0.parse().ok()?;
    let errors = wrong.into_iter().chain(unwanted).sum::<f64>() as u64;
    Some((Outcome { done: succeeded, errors, ..Outcome::default() }, data))
}

fn line<'a>(said: &'a str, begin: &str) -> Option<&'a str> {
    said.lines().find_map(|line| line.strip_prefix(begin))
}

/// The number before a word: `2000 succeeded, 1 failed`.
fn count(line: &str, word: &str) -> Option<f64> {
    let before = line.split(',').find_map(|part| part.trim().strip_suffix(word))?;
    before.trim().parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_it_says_is_understood() {
        let said = "finished in 1.01s, 2000.00 req/s, 152.47KB/s\n\
            requests: 2001 total, 2004 started, 2001 done, 2000 succeeded, 1 failed, 1 errored, 0 timeout\n\
            status codes: 1990 2xx, 0 3xx, 0 4xx, 10 5xx\n\
            traffic: 152.47KB (156132) total, 95.70KB (98000) headers (space savings 50.51%), 21.48KB (22000) data\n";
        let (outcome, data) = parse(said).unwrap();
        assert_eq!((outcome.done, outcome.errors, data), (2000.0, 11, 22_000.0));
        assert!(parse("").is_none());
    }
}
