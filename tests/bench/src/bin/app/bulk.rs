//! Many bytes over one connection.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::Instant;

use anyhow::{Context, bail};

use crate::outcome::Outcome;

/// Bytes that are read or written at once.
const PIECE: usize = 256 * 1024;

/// Asks for so many and reads them.
pub(crate) fn down(target: SocketAddr, bytes: u64) -> anyhow::Result<Outcome> {
    let start = Instant::now();
    let mut stream = begin(target, b'd', bytes)?;
    let (mut piece, mut left) = (vec![0; PIECE], bytes);
    while left > 0 {
        match stream.read(&mut piece)? {
            0 => bail!("{left} bytes did not come"),
            count => left = left.checked_sub(count as u64).context("more than was asked for")?,
        }
    }
    Ok(outcome(bytes, start))
}

/// Writes so many and waits until the server says that it has them.
pub(crate) fn up(target: SocketAddr, bytes: u64) -> anyhow::Result<Outcome> {
    let start = Instant::now();
    let mut stream = begin(target, b'u', bytes)?;
    let (piece, mut left) = (vec![0; PIECE], bytes);
    while left > 0 {
        let count = piece.len().min(usize::try_from(left)?);
        stream.write_all(&piece[..count])?;
        left -= count as u64;
    }
    stream.read_exact(&mut [0])?;
    Ok(outcome(bytes, start))
}

fn begin(target: SocketAddr, word: u8, bytes: u64) -> anyhow::Result<TcpStream> {
    let mut stream = TcpStream::connect(target)?;
    stream.write_all(&[[word].as_slice(), &bytes.to_be_bytes()].concat())?;
    Ok(stream)
}

fn outcome(bytes: u64, start: Instant) -> Outcome {
    let seconds = start.elapsed().as_secs_f64();
    Outcome { done: bytes as f64, seconds, ..Outcome::default() }
}
