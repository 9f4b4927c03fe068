//! Bytes: the first one says what to do with the connection.

use anyhow::bail;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

/// Bytes that are read or written at once.
const PIECE: usize = 256 * 1024;

/// Serves a connection.
pub(super) async fn serve(mut stream: TcpStream) -> anyhow::Result<()> {
    match stream.read_u8().await? {
        b'e' => echo(stream).await,
        b'd' => source(stream).await,
        b'u' => sink(stream).await,
        other => bail!("unknown word {other}"),
    }
}

/// Sends back what comes, until the client closes.
async fn echo(mut stream: TcpStream) -> anyhow::Result<()> {
    let mut buffer = vec![0; 4096];
    loop {
        match stream.read(&mut buffer).await? {
            0 => return Ok(()),
            count => stream.write_all(&buffer[..count]).await?,
        }
    }
}

/// Sends as many bytes as the client says.
async fn source(mut stream: TcpStream) -> anyhow::Result<()> {
    let mut left = stream.read_u64().await?;
    let piece = vec![0; PIECE];
    while left > 0 {
        let count = stream.write(&piece[..piece.len().min(usize::try_from(left)?)]).await?;
        left -= count as u64;
    }
    Ok(stream.shutdown().await?)
}

/// Counts what comes until the client half-closes, and says how much it was.
async fn sink(mut stream: TcpStream) -> anyhow::Result<()> {
    let (mut piece, mut sum) = (vec![0; PIECE], 0);
    loop {
        match stream.read(&mut piece).await? {
            0 => break,
            count => sum += count as u64,
        }
    }
    stream.write_u64(sum).await?;
    Ok(stream.shutdown().await?)
}
