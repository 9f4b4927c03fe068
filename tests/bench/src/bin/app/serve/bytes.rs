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

/// Sends as many bytes as the client says, and waits until it closes: whoever is in between may
/// take the end of one way for the end of both.
async fn source(mut stream: TcpStream) -> anyhow::Result<()> {
    let mut left = stream.read_u64().await?;
    let piece = vec![0; PIECE];
    while left > 0 {
        let count = stream.write(&piece[..piece.len().min(usize::try_from(left)?)]).await?;
        left -= count as u64;
    }
    wait_for_end(stream).await
}

/// Takes as many bytes as the client says, answers that it has them, and waits as well.
async fn sink(mut stream: TcpStream) -> anyhow::Result<()> {
    let mut left = stream.read_u64().await?;
    let mut piece = vec![0; PIECE];
    while left > 0 {
        let most = piece.len().min(usize::try_from(left)?);
        match stream.read(&mut piece[..most]).await? {
            0 => bail!("{left} bytes did not come"),
            count => left -= count as u64,
        }
    }
    stream.write_u8(b'.').await?;
    wait_for_end(stream).await
}

async fn wait_for_end(mut stream: TcpStream) -> anyhow::Result<()> {
    match stream.read(&mut [0]).await? {
        0 => Ok(()),
        _ => bail!("more than was said"),
    }
}
