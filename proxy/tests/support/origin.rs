//! An application that keeps exactly the bytes it got, and answers with bytes as they are.

use std::io::{Read, Write};
use std::net::{IpAddr, SocketAddr, TcpListener, TcpStream};
use std::sync::{Arc, Mutex};

use super::eventually;

/// What to answer a request with, by its bytes; and whether the connection is closed then.
type Script = dyn Fn(&str) -> (Vec<u8>, bool) + Send + Sync;

/// The application.
pub(crate) struct Origin {
    pub(crate) address: SocketAddr,
    connections: Arc<Mutex<Vec<Arc<Mutex<Seen>>>>>,
}

/// What came on one connection.
#[derive(Debug, Clone, Default)]
pub(crate) struct Seen {
    pub(crate) bytes: Vec<u8>,
    /// Whole requests among them.
    pub(crate) requests: usize,
    pub(crate) ended: bool,
}

impl Origin {
    /// One that answers every request with 200.
    pub(crate) fn friendly(address: [u8; 4]) -> Self {
        let ok = b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok";
        Self::scripted(address, |_| (ok.to_vec(), false))
    }

    pub(crate) fn scripted(
        address: [u8; 4],
        script: impl Fn(&str) -> (Vec<u8>, bool) + Send + Sync + 'static,
    ) -> Self {
        let listener = TcpListener::bind((IpAddr::from(address), 0)).unwrap();
        let origin = Self { address: listener.local_addr().unwrap(), connections: Arc::default() };
        let (script, connections) = (Arc::new(script), Arc::clone(&origin.connections));
        std::thread::spawn(move || {
            for socket in listener.incoming() {
                let seen = Arc::new(Mutex::new(Seen::default()));
                connections.lock().unwrap().push(Arc::clone(&seen));
                let (socket, script) = (socket.unwrap(), Arc::clone(&script));
                std::thread::spawn(move || serve(socket, &seen, &*script));
            }
        });
        origin
    }

    /// How many connections were opened to it so far.
    pub(crate) fn connections(&self) -> usize {
        self.connections.lock().unwrap().len()
    }

    /// What has come since the last time this was asked, by connection; those on which nothing
    /// came are left out.
    pub(crate) fn take(&self) -> Vec<Seen> {
        let taken = self.connections.lock().unwrap();
        let taken = taken.iter().map(|seen| {
            let mut seen = seen.lock().unwrap();
            let next = Seen { ended: seen.ended, ..Seen::default() };
            std::mem::replace(&mut *seen, next)
        });
        taken.filter(|seen| !seen.bytes.is_empty()).collect()
    }

    /// What [`Origin::take`] gives, once every connection with something on it has ended.
    pub(crate) fn take_ended(&self) -> Vec<Seen> {
        eventually("the connections to the application have ended", || {
            let connections = self.connections.lock().unwrap();
            connections.iter().all(|seen| {
                let seen = seen.lock().unwrap();
                seen.ended || seen.bytes.is_empty()
            })
        });
        self.take()
    }

    /// All that [`Origin::take`] gives, as one text.
    pub(crate) fn take_text(&self) -> String {
        let taken = self.take();
        taken.iter().map(|seen| String::from_utf8_lossy(&seen.bytes).into_owned()).collect()
    }
}

fn serve(mut socket: TcpStream, seen: &Mutex<Seen>, script: &Script) {
    let (mut unread, mut buffer) = (Vec::new(), [0; 16 * 1024]);
    loop {
        let read = socket.read(&mut buffer).unwrap_or(0);
        if read == 0 {
            seen.lock().unwrap().ended = true;
            return;
        }
        seen.lock().unwrap().bytes.extend_from_slice(&buffer[..read]);
        unread.extend_from_slice(&buffer[..read]);
        while let Some(length) = message(&unread) {
            seen.lock().unwrap().requests += 1;
            let message: Vec<u8> = unread.drain(..length).collect();
            let (answer, close) = script(&String::from_utf8_lossy(&message));
            let _ = socket.write_all(&answer);
            if close {
                let _ = socket.shutdown(std::net::Shutdown::Both);
                seen.lock().unwrap().ended = true;
                return;
            }
        }
    }
}

/// The length of the first request, if all of it is there; one to `/early` is answered by its head.
fn message(bytes: &[u8]) -> Option<usize> {
    let find = |wanted: &[u8]| bytes.windows(wanted.len()).position(|window| window == wanted);
    let head = find(b"\r\n\r\n")? + 4;
    let text = String::from_utf8_lossy(&bytes[..head]).to_ascii_lowercase();
    if text.contains("\r\ntransfer-encoding:") {
        let last = bytes[head - 2..].windows(3).position(|window| window == b"\n0\r")?;
        let end = head - 2 + last;
        let trailers = bytes[end..].windows(4).position(|window| window == b"\r\n\r\n")?;
        return Some(end + trailers + 4);
    }
    if text.contains(" /early ") {
        return Some(head);
    }
    let length = text.split("\r\ncontent-length:").nth(1).and_then(|rest| rest.lines().next());
    let length: usize = length.map_or(0, |length| length.trim().parse().unwrap());
    (bytes.len() >= head + length).then_some(head + length)
}
