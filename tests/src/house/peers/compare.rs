//! What the mesh adds for each peer: the time to the first byte of a new connection, directly and
//! through two sidecars, as a table for the documentation.

use std::fmt::Write;
use std::panic::AssertUnwindSafe;
use std::time::Duration;

use futures_util::FutureExt;

use super::{FirstByte, PEERS, Pair, Peer};
use crate::house::{Mesh, Options, Program};

/// Connections of one measurement.
const CONNECTIONS: &str = "50";

/// One way to speak: whether it works, and how long it takes.
#[derive(Debug)]
struct Way {
    works: Result<(), String>,
    first_byte: Result<Duration, String>,
}

/// Runs every peer directly and through the mesh, one after the other, and returns a table in
/// Markdown. A pair that does not work is a row, not a panic; why it does not is on standard error.
pub async fn table() -> String {
    let mut table = String::from(
        "| protocol | server | client | works directly | through the mesh \
         | first byte directly | through the mesh | added |\n|---|---|---|---|---|---|---|---|\n",
    );
    for peer in PEERS {
        let (off, on) = (way(peer, Mesh::Off).await, way(peer, Mesh::On).await);
        let added = match (&off.first_byte, &on.first_byte) {
            (Ok(off), Ok(on)) => format!("{:.2} ms", milliseconds(*on) - milliseconds(*off)),
            _ => "-".to_owned(),
        };
        let Peer { protocol, server, client, .. } = peer;
        let works = |way: &Way| if way.works.is_ok() { "yes" } else { "**no**" };
        let first = |way: &Way| {
            let shown = way.first_byte.as_ref().map(|t| format!("{:.2} ms", milliseconds(*t)));
            shown.unwrap_or_else(|_| "-".to_owned())
        };
        writeln!(
            table,
            "| {protocol} | {server} | {client} | {} | {} | {} | {} | {added} |",
            works(&off),
            works(&on),
            first(&off),
            first(&on)
        )
        .expect("a String takes all");
    }
    table
}

async fn way(peer: &'static Peer, mesh: Mesh) -> Way {
    let measured = async {
        let pair = peer.open(Options { mesh, ..Options::default() }).await;
        Way { works: pair.talk().await, first_byte: pair.first_byte().await }
    };
    // If the pair does not even start, the table still has its row, and the panic is printed.
    let way = AssertUnwindSafe(measured).catch_unwind().await.unwrap_or_else(|_| Way {
        works: Err("it did not start".to_owned()),
        first_byte: Err("it did not start".to_owned()),
    });
    for failed in [way.works.as_ref().err(), way.first_byte.as_ref().err()].into_iter().flatten() {
        eprintln!("{}, mesh {mesh:?}: {failed}", peer.protocol);
    }
    way
}

impl Pair {
    /// The median time from a new connection to its first byte.
    ///
    /// # Errors
    /// When a connection fails.
    pub async fn first_byte(&self) -> Result<Duration, String> {
        let program = match self.peer.first_byte {
            FirstByte::By(program) => program(&self.kit()),
            FirstByte::After(opening) => {
                let opening = hexadecimal(opening);
                Program::peer(&["first-byte", &self.target(), &opening, CONNECTIONS])
            }
        };
        let output = self.client.run(&program).await;
        let times: Result<Vec<u64>, _> = output.stdout.lines().map(str::parse).collect();
        match times {
            Ok(mut times) if output.code == Some(0) && !times.is_empty() => {
                times.sort_unstable();
                Ok(Duration::from_micros(times[times.len() / 2]))
            }
            _ => Err(format!("{output:?}")),
        }
    }
}

/// What the helper says first for a peer, in hexadecimal.
pub(super) fn opening(peer: &Peer) -> Option<String> {
    match peer.first_byte {
        FirstByte::After(opening) => Some(hexadecimal(opening)),
        FirstByte::By(_) => None,
    }
}

fn hexadecimal(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn milliseconds(duration: Duration) -> f64 {
    duration.as_secs_f64() * 1000.0
}
