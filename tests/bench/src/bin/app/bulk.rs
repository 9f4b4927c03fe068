//! Many bytes over one connection.

use std::io::{Read, Write};
use std::net::{Shutdown, SocketAddr, TcpStream};
use std::time::Instant;

use anyhow::ensure;

use crate::outcome::Outcome;

/// Bytes that are read or written at once.
const PIECE: usize = 256 * 1024;

/// Asks for so many and reads them.
pub(crate) fn down(target: SocketAddr, bytes: u64) -> anyhow::Result<Outcome> {
    let start = Instant::now();
    let mut stream = TcpStream::connect(target)?;
    stream.write_all(&[b"d".as_slice(), &bytes.to_be_bytes()].concat())?;
    let (mut piece, mut sum) = (vec![0; PIECE], 0);
    loop {
        match stream.read(&mut piece)? {
            0 => break,
            count => sum += count as u64,
        }
    }
    ensure!(sum == bytes, "{sum} bytes came");
    Ok(outcome(bytes, start))
}

/// Writes so many and waits until the server says that it has them.
pub(crate) fn up(target: SocketAddr, bytes: u64) -> anyhow::Result<Outcome> {
    let start = Instant::now();
    let mut stream = TcpStream::connect(target)?;
    stream.write_all(b"u")?;
    let (piece, mut left) = (vec![0; PIECE], bytes);
    while left > 0 {
        let count = piece.len().min(usize::try_from(left)?);
        stream.write_all(&piece[..count])?;
        left -= count as u64;
    }
    stream.shutdown(Shutdown::Write)?;
    let mut count = [0; 8];
    stream.read_exact(&mut count)?;
    ensure!(u64::from_be_bytes(count) == bytes, "{} bytes arrived", u64::from_be_bytes(count));
    Ok(outcome(bytes, start))
}

fn outcome(bytes: u64, start: Instant) -> Outcome {
    let seconds = start.elapsed().as_secs_f64();
    Outcome { done: bytes as f64, seconds, ..Outcome::default() }
}
