//! A way between two pods that a test can make slow, or cut: a relay in the test's own process.

use std::net::SocketAddr;
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{mpsc, watch};
use tokio::task::{JoinHandle, JoinSet};
use tokio::time::{Instant, sleep_until};

/// Pieces on their way in one direction of one connection; past them, the sender waits.
const UNDER_WAY: usize = 256;

/// A running relay; dropped, it is gone with all its connections.
#[derive(Debug)]
pub struct Link {
    cut: watch::Sender<bool>,
    accepting: JoinHandle<()>,
}

impl Link {
    /// Carries what comes at `from` to `to` and back, each way with this delay.
    ///
    /// # Panics
    /// When `from` is taken.
    pub async fn start(from: SocketAddr, to: SocketAddr, delay: Duration) -> Self {
        let listener = TcpListener::bind(from)
            .await
            .unwrap_or_else(|error| panic!("the link at {from}: {error}"));
        let cut = watch::Sender::new(false);
        let accepting = tokio::spawn(accept(listener, to, delay, cut.clone()));
        Self { cut, accepting }
    }

    /// From now on nothing passes, and nobody is told.
    pub fn cut(&self) {
        self.cut.send_replace(true);
    }

    /// What waits goes on.
    pub fn heal(&self) {
        self.cut.send_replace(false);
    }
}

impl Drop for Link {
    fn drop(&mut self) {
        self.accepting.abort();
    }
}

async fn accept(listener: TcpListener, to: SocketAddr, delay: Duration, cut: watch::Sender<bool>) {
    // Dropped with this task, so that no connection outlives the link.
    let mut connections = JoinSet::new();
    loop {
        let (near, _) = listener.accept().await.expect("a connection");
        let cut = cut.subscribe();
        connections.spawn(async move {
            passable(&mut cut.clone()).await;
            let Ok(far) = TcpStream::connect(to).await else { return };
            let _ = (near.set_nodelay(true), far.set_nodelay(true));
            let ((near_read, near_write), (far_read, far_write)) =
                (near.into_split(), far.into_split());
            tokio::join!(
                carry(near_read, far_write, delay, cut.clone()),
                carry(far_read, near_write, delay, cut),
            );
        });
        while connections.try_join_next().is_some() {}
    }
}

async fn passable(cut: &mut watch::Receiver<bool>) {
    // The link itself is gone when this fails.
    let _ = cut.wait_for(|cut| !cut).await;
}

/// Carries one direction to its end.
async fn carry(
    mut from: OwnedReadHalf,
    mut to: OwnedWriteHalf,
    delay: Duration,
    mut cut: watch::Receiver<bool>,
) {
    let (send, mut receive) = mpsc::channel::<(Instant, Vec<u8>)>(UNDER_WAY);
    let read = async move {
        let mut buffer = vec![0; 16 * 1024];
        while let Ok(read @ 1..) = from.read(&mut buffer).await {
            let piece = (Instant::now() + delay, buffer[..read].to_vec());
            if send.send(piece).await.is_err() {
                return;
            }
        }
    };
    let write = async move {
        while let Some((due, piece)) = receive.recv().await {
            sleep_until(due).await;
            passable(&mut cut).await;
            if to.write_all(&piece).await.is_err() {
                return;
            }
        }
        passable(&mut cut).await;
        let _ = to.shutdown().await;
    };
    tokio::join!(read, write);
}
