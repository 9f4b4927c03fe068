//! HTTP/1 as bytes: what a library would hide from a test, on either side of a connection.

use std::net::SocketAddr;
use std::time::Duration;

use anyhow::{Context, ensure};
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::TcpStream;

use crate::poll::SOON;

/// One end of a connection on which a test says what it likes. Whatever is awaited and does not
/// come in [`SOON`] is an error.
#[derive(Debug)]
pub struct Talk(BufReader<TcpStream>);

impl Talk {
    /// A client of `address`.
    ///
    /// # Errors
    /// When there is no connection.
    pub async fn to(address: SocketAddr) -> anyhow::Result<Self> {
        Ok(Self::on(TcpStream::connect(address).await?))
    }

    /// On a connection that is there.
    pub fn on(socket: TcpStream) -> Self {
        // Only a connection that is gone refuses it.
        let _ = socket.set_nodelay(true);
        Self(BufReader::new(socket))
    }

    /// Sends these bytes.
    ///
    /// # Errors
    /// When the connection is gone.
    pub async fn say(&mut self, bytes: impl AsRef<[u8]>) -> anyhow::Result<()> {
        soon("sending", self.0.write_all(bytes.as_ref())).await
    }

    /// Sends one chunk (RFC 9112 §7.1); an empty one is the last, and trailers follow it.
    ///
    /// # Errors
    /// When the connection is gone.
    pub async fn say_chunk(&mut self, bytes: &[u8]) -> anyhow::Result<()> {
        let end: &[u8] = if bytes.is_empty() { b"" } else { b"\r\n" };
        let chunk = [format!("{:x}\r\n", bytes.len()).as_bytes(), bytes, end].concat();
        self.say(chunk).await
    }

    /// Reads up to the next empty line: a head, or the trailers after the last chunk. The names of
    /// its fields are in lower case.
    ///
    /// # Errors
    /// When the connection ends before.
    pub async fn head(&mut self) -> anyhow::Result<String> {
        let mut head = String::new();
        loop {
            let line = self.line().await.with_context(|| format!("after {head:?}"))?;
            if line.is_empty() {
                return Ok(head);
            }
            match line.split_once(": ") {
                Some((name, value)) => head += &format!("{}: {value}\n", name.to_lowercase()),
                None => head += &format!("{line}\n"),
            }
        }
    }

    /// Reads one chunk; the last one is empty, and trailers follow it.
    ///
    /// # Errors
    /// When what comes is no chunk.
    pub async fn chunk(&mut self) -> anyhow::Result<Vec<u8>> {
        let size = self.line().await?;
        let size = usize::from_str_radix(&size, 16).with_context(|| format!("{size:?}"))?;
        let chunk = self.exactly(size).await?;
        if size > 0 {
            ensure!(self.line().await?.is_empty(), "a chunk is longer than it says");
        }
        Ok(chunk)
    }

    /// Reads so many bytes.
    ///
    /// # Errors
    /// When the connection ends before.
    pub async fn exactly(&mut self, bytes: usize) -> anyhow::Result<Vec<u8>> {
        let mut read = vec![0; bytes];
        soon("reading", self.0.read_exact(&mut read)).await?;
        Ok(read)
    }

    /// Reads to the connection's end.
    ///
    /// # Errors
    /// When that is no orderly one.
    pub async fn rest(&mut self) -> anyhow::Result<Vec<u8>> {
        let mut rest = Vec::new();
        soon("the end", self.0.read_to_end(&mut rest)).await?;
        Ok(rest)
    }

    /// Whether the other side says nothing, and does not end the connection, for this long.
    pub async fn is_silent_for(&mut self, time: Duration) -> bool {
        tokio::time::timeout(time, self.0.fill_buf()).await.is_err()
    }

    /// The connection, for what is no text. What is awaited on it has no limit.
    pub const fn io(&mut self) -> &mut BufReader<TcpStream> {
        &mut self.0
    }

    async fn line(&mut self) -> anyhow::Result<String> {
        let mut line = String::new();
        soon("a line", self.0.read_line(&mut line)).await?;
        line.strip_suffix("\r\n")
            .map(ToOwned::to_owned)
            .with_context(|| format!("ended in {line:?}"))
    }
}

async fn soon<T>(what: &str, work: impl Future<Output = std::io::Result<T>>) -> anyhow::Result<T> {
    let done = tokio::time::timeout(SOON, work).await;
    done.with_context(|| format!("{what}: not in {SOON:?}"))?.with_context(|| what.to_owned())
}
