//! Addresses that nobody answers at: connections to them are dropped, reset or ignored.

use std::net::SocketAddr;
use std::time::Duration;

use tokio::net::{TcpListener, TcpSocket, TcpStream};
use tokio::task::JoinHandle;
use tokio::time::timeout;

/// How long a connection to loopback may take that is answered.
const ANSWERED: Duration = Duration::from_millis(500);

/// Most connections that fill the shortest queue of a listener.
const QUEUE: usize = 16;

/// An address whose SYNs the kernel drops; dropped itself, they are refused.
#[derive(Debug)]
pub struct BlackHole {
    _listener: TcpListener,
    _queue: Vec<TcpStream>,
}

impl BlackHole {
    /// Opens one: a listener that accepts nothing, with its queue full.
    ///
    /// # Panics
    /// When the address is taken, or answers still.
    pub async fn open(at: SocketAddr) -> Self {
        let socket = TcpSocket::new_v4().unwrap();
        socket.bind(at).unwrap_or_else(|error| panic!("the black hole at {at}: {error}"));
        let listener = socket.listen(1).unwrap();
        let mut queue = Vec::new();
        while let Ok(connected) = timeout(ANSWERED, TcpStream::connect(at)).await {
            queue.push(connected.unwrap());
            assert!(queue.len() < QUEUE, "{at} takes every connection");
        }
        Self { _listener: listener, _queue: queue }
    }
}

/// A process that is stopped: its connections are made, and nothing else.
#[derive(Debug)]
pub struct Frozen {
    _listener: std::net::TcpListener,
}

impl Frozen {
    /// Opens one.
    ///
    /// # Panics
    /// When the address is taken.
    pub fn open(at: SocketAddr) -> Self {
        let listener = std::net::TcpListener::bind(at);
        Self { _listener: listener.unwrap_or_else(|error| panic!("{at}: {error}")) }
    }
}

/// An address that resets every connection as soon as something is sent on it.
#[derive(Debug)]
pub struct Resetting {
    accepting: JoinHandle<()>,
}

impl Resetting {
    /// Opens one.
    ///
    /// # Panics
    /// When the address is taken.
    pub async fn open(at: SocketAddr) -> Self {
        let listener = TcpListener::bind(at).await;
        let listener = listener.unwrap_or_else(|error| panic!("{at}: {error}"));
        let accepting = tokio::spawn(async move {
            loop {
                let (socket, _) = listener.accept().await.expect("a connection");
                tokio::spawn(async move {
                    // Closed with bytes unread, a socket says RST in place of FIN.
                    let _ = socket.readable().await;
                });
            }
        });
        Self { accepting }
    }
}

impl Drop for Resetting {
    fn drop(&mut self) {
        self.accepting.abort();
    }
}
