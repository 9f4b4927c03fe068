//! A client that lives through the restart of its server and tells what it saw.

use std::io::{self, ErrorKind, Read, Write};
use std::net::TcpStream;
use std::thread;
use std::time::Duration;

use crate::client::connect;

/// The pause between two attempts, as an eager client has it.
const PAUSE: Duration = Duration::from_millis(50);

/// Holds a connection and prints `open`, then `ended` and how; then tries again and prints
/// `attempt` with each outcome that is not the one before, up to the next `open`.
///
/// The outcomes: `refused` (no connection), `closed` or `reset` (by the other side), `silent` (no
/// byte in time), `failed` (anything else).
pub(crate) fn watch(target: &str, opening: &[u8]) -> io::Result<()> {
    let held = attempt(target, opening)?;
    println!("open");
    // However long it lives; only attempts are in a hurry.
    held.set_read_timeout(None)?;
    println!("ended {}", outcome(read_to_end(held)));
    let mut last = "";
    loop {
        match attempt(target, opening) {
            Ok(_) => break,
            Err(error) => {
                let seen = outcome(Err(error));
                if seen != last {
                    println!("attempt {seen}");
                }
                last = seen;
            }
        }
        thread::sleep(PAUSE);
    }
    println!("open");
    Ok(())
}

/// A connection on which the server has said its first byte.
fn attempt(target: &str, opening: &[u8]) -> io::Result<TcpStream> {
    let mut socket = connect(target)?;
    socket.write_all(opening)?;
    socket.read_exact(&mut [0])?;
    Ok(socket)
}

fn read_to_end(mut socket: TcpStream) -> io::Result<()> {
    io::copy(&mut socket, &mut io::sink()).map(drop)
}

fn outcome(ended: io::Result<()>) -> &'static str {
    match ended.map_err(|error| error.kind()) {
        Ok(()) | Err(ErrorKind::UnexpectedEof) => "closed",
        Err(ErrorKind::ConnectionReset | ErrorKind::BrokenPipe) => "reset",
        Err(ErrorKind::ConnectionRefused) => "refused",
        Err(ErrorKind::WouldBlock | ErrorKind::TimedOut) => "silent",
        Err(_) => "failed",
    }
}
