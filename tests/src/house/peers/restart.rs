//! The kill and restart of a server under clients that are connected to it.

use super::{Life, Pair, Peer};
use crate::house::{Mesh, Options, Program};
use crate::poll::{self, SOON};
use crate::process::Process;

/// What clients saw, line by line.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Seen {
    /// A bare connection, and what became of the next ones (`peer watch`).
    pub bare: Vec<String>,
    /// The real client, where the peer has one that lives through it; what it printed.
    pub real: Vec<String>,
}

/// Kills the server's application, waits until the clients have seen it gone, starts it again and
/// waits until they have come back.
pub async fn restart(peer: &'static Peer, mesh: Mesh) -> Seen {
    let pair = peer.open(Options { mesh, ..Options::default() }).await;
    let (mut bare, mut real) = (pair.watch(), pair.live());
    until(&mut bare, "it is connected", |lines| lines == ["open"]).await;
    if let Some((process, _)) = &mut real {
        until(process, "it is connected", |lines| lines == ["connected"]).await;
    }
    pair.server.kill_app();
    until(&mut bare, "its connection has ended", |lines| ended(lines, 1)).await;
    until(&mut bare, "it is told that the server is down", |lines| ended(lines, 2)).await;
    if let Some((process, life)) = &mut real {
        let down = life.lines.iter().position(|line| *line == "reconnected").unwrap_or_default();
        until(process, "it knows", |lines| lines.len() >= down).await;
    }
    pair.server.start_app().await;
    until(&mut bare, "it is connected again", |lines| lines.last() == Some(&"open")).await;
    if let Some((process, life)) = &mut real {
        until(process, "it has all again", |lines| lines.len() >= life.lines.len()).await;
    }
    let lines = |process: Process| process.log().lines().map(ToOwned::to_owned).collect();
    Seen { bare: lines(bare), real: real.map(|(process, _)| lines(process)).unwrap_or_default() }
}

impl Seen {
    /// The first words of what the real client printed.
    pub fn words(&self) -> Vec<&str> {
        self.real.iter().filter_map(|line| line.split(' ').next()).collect()
    }
}

impl Peer {
    /// What the real client must print, as first words, where there is one.
    pub fn life(&self) -> &'static [&'static str] {
        self.lives.as_ref().map_or(&[], |life| life.lines)
    }
}

impl Pair {
    fn watch(&self) -> Process {
        let opening = super::compare::opening(self.peer).expect("brokers speak bytes");
        self.client.spawn("watch", &Program::peer(&["watch", &self.target(), &opening]))
    }

    fn live(&self) -> Option<(Process, &'static Life)> {
        let life = self.peer.lives.as_ref()?;
        Some((self.client.spawn("client", &(life.client)(&self.kit())), life))
    }
}

/// `open`, then so many different ends.
fn ended(lines: &[&str], ends: usize) -> bool {
    lines.first() == Some(&"open") && lines.len() > ends
}

async fn until(process: &mut Process, what: &str, holds: impl Fn(&[&str]) -> bool) {
    poll::until(&format!("of the client: {what}"), SOON, async || {
        let log = process.log();
        let lines: Vec<&str> = log.lines().collect();
        if holds(&lines) { Ok(()) } else { Err(log) }
    })
    .await;
}
