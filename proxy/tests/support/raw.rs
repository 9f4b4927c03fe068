//! A client that sends bytes as they are.

use std::io::{ErrorKind, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpStream};
use std::time::Duration;

use super::PATIENCE;

/// How long nothing must follow an answer until its connection counts as left open.
const QUIET: Duration = Duration::from_millis(200);

/// What came back.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) bytes: Vec<u8>,
    /// Whether the other side closed the connection.
    pub(crate) closed: bool,
}

impl Answer {
    /// The status of every response, in order.
    pub(crate) fn statuses(&self) -> Vec<u16> {
        self.text()
            .split("HTTP/1.")
            .skip(1)
            .filter_map(|response| response.get(2..5)?.parse().ok())
            .collect()
    }

    pub(crate) fn text(&self) -> String {
        String::from_utf8_lossy(&self.bytes).into_owned()
    }
}

/// Sends `bytes` and reads until the connection is closed or nothing more comes.
pub(crate) fn send(to: SocketAddr, bytes: &[u8]) -> Answer {
    let mut socket = connect(to);
    // The other side may close before all is sent.
    let _ = socket.write_all(bytes);
    read(&mut socket)
}

/// Sends `bytes` and nothing after them.
pub(crate) fn send_and_end(to: SocketAddr, bytes: &[u8]) -> Answer {
    let mut socket = connect(to);
    let _ = socket.write_all(bytes);
    let _ = socket.shutdown(Shutdown::Write);
    read(&mut socket)
}

pub(crate) fn connect(to: SocketAddr) -> TcpStream {
    let socket = TcpStream::connect(to).unwrap();
    socket.set_nodelay(true).unwrap();
    socket.set_write_timeout(Some(PATIENCE)).unwrap();
    socket
}

/// Reads until the connection is closed or nothing more comes.
pub(crate) fn read(socket: &mut TcpStream) -> Answer {
    socket.set_read_timeout(Some(PATIENCE)).unwrap();
    let mut bytes = Vec::new();
    let mut buffer = [0; 16 * 1024];
    loop {
        match socket.read(&mut buffer) {
            Ok(0) => return Answer { bytes, closed: true },
            Ok(read) => {
                bytes.extend_from_slice(&buffer[..read]);
                socket.set_read_timeout(Some(QUIET)).unwrap();
            }
            Err(error) => {
                let open = [ErrorKind::WouldBlock, ErrorKind::TimedOut].contains(&error.kind());
                return Answer { bytes, closed: !open };
            }
        }
    }
}

/// A POST with these fields and this body.
pub(crate) fn post(fields: &str, body: &str) -> String {
    format!("POST /x HTTP/1.1\r\nhost: api\r\n{fields}\r\n{body}")
}

/// A GET with these fields.
pub(crate) fn get(fields: &str) -> String {
    format!("GET /x HTTP/1.1\r\nhost: api\r\n{fields}\r\n")
}

/// A POST with this chunked body.
pub(crate) fn chunked(body: &str) -> String {
    post("transfer-encoding: chunked\r\n", body)
}

/// A case, for whom it fails.
pub(crate) fn describe(row: u8, port: SocketAddr, sent: &[u8], answer: &Answer) -> String {
    let sent = &sent[..sent.len().min(300)];
    format!(
        "row {row}, {port}: {} -> {}, closed: {}",
        sent.escape_ascii(),
        answer.text(),
        answer.closed
    )
}
