//! Connections, each for one echo.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::outcome::Outcome;

/// What is sent: the word for an echo, then what comes back.
const SENT: &[u8] = b"eping, and a pong";

/// Longest wait for an echo.
const LIMIT: Duration = Duration::from_secs(5);

/// Opens one after the other in each of `at_once` tasks.
pub(crate) async fn run(
    target: SocketAddr,
    at_once: usize,
    seconds: f64,
) -> anyhow::Result<Outcome> {
    let start = Instant::now();
    let end = start + Duration::from_secs_f64(seconds);
    let clients = (0..at_once).map(|_| tokio::spawn(client(target, end)));
    let clients: Vec<_> = clients.collect();
    let mut outcome = Outcome::default();
    for client in clients {
        let (done, errors) = client.await?;
        outcome.done += f64::from(done);
        outcome.errors += errors;
    }
    outcome.seconds = start.elapsed().as_secs_f64();
    Ok(outcome)
}

async fn client(target: SocketAddr, end: Instant) -> (u32, u64) {
    let (mut done, mut errors) = (0, 0);
    while Instant::now() < end {
        match tokio::time::timeout(LIMIT, echo(target)).await {
            Ok(Ok(true)) => done += 1,
            _ => errors += 1,
        }
    }
    (done, errors)
}

async fn echo(target: SocketAddr) -> std::io::Result<bool> {
    let mut stream = TcpStream::connect(target).await?;
    stream.set_nodelay(true)?;
    stream.write_all(SENT).await?;
    let mut answer = [0; SENT.len() - 1];
    stream.read_exact(&mut answer).await?;
    Ok(answer == SENT[1..])
}
