//! A connection with at most one request of HTTP/1.1 on it.

use std::io::{ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::Instant;

use anyhow::{Context, bail, ensure};

/// What stands between the head and the body of a response.
const END: &[u8] = b"\r\n\r\n";

/// One connection.
pub(super) struct Connection {
    stream: TcpStream,
    request: Vec<u8>,
    received: Vec<u8>,
    due: Option<Instant>,
}

impl Connection {
    /// Opens it, and has one request answered: what a first request costs is not measured.
    pub(super) fn open(target: SocketAddr) -> anyhow::Result<Self> {
        let stream = TcpStream::connect(target)?;
        stream.set_nodelay(true)?;
        let request = format!("GET / HTTP/1.1\r\nHost: {target}\r\n\r\n").into_bytes();
        let mut connection = Self { stream, request, received: Vec::new(), due: None };
        connection.send(Instant::now())?;
        while connection.receive()?.is_none() {}
        connection.stream.set_nonblocking(true)?;
        Ok(connection)
    }

    pub(super) fn socket(&self) -> &TcpStream {
        &self.stream
    }

    /// Sends the request that was due then.
    pub(super) fn send(&mut self, due: Instant) -> anyhow::Result<()> {
        self.due = Some(due);
        self.received.clear();
        // It is far smaller than any socket's buffer, which is empty.
        Ok(self.stream.write_all(&self.request)?)
    }

    /// Reads what there is; when the response is whole, when its request was due, and whether it
    /// was one of success.
    pub(super) fn receive(&mut self) -> anyhow::Result<Option<(Instant, bool)>> {
        let mut piece = [0; 4096];
        match self.stream.read(&mut piece) {
            Ok(0) => bail!("the connection was closed"),
            Ok(count) => self.received.extend_from_slice(&piece[..count]),
            Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(None),
            Err(error) => return Err(error.into()),
        }
        let Some(end) = self.received.windows(END.len()).position(|bytes| bytes == END) else {
            return Ok(None);
        };
        let head = std::str::from_utf8(&self.received[..end])?;
        let whole = end + END.len() + content_length(head)?;
        ensure!(self.received.len() <= whole, "more than one response");
        if self.received.len() < whole {
            return Ok(None);
        }
        let due = self.due.take().context("a response without a request")?;
        Ok(Some((due, head.starts_with("HTTP/1.1 200 "))))
    }
}

fn content_length(head: &str) -> anyhow::Result<usize> {
    let fields = head.lines().filter_map(|line| line.split_once(':'));
    let mut lengths = fields.filter(|(name, _)| name.eq_ignore_ascii_case("content-length"));
    let (_, value) = lengths.next().context("a response without a length")?;
    Ok(value.trim().parse()?)
}
