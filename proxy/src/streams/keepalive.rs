//! PING: how a connection in HTTP/2 whose other end is gone without a word is found out.

use std::future::poll_fn;

use h2::{Ping, PingPong};
use tokio::time::{sleep, timeout};

use crate::server::{PING_INTERVAL, PING_TIMEOUT};

/// Resolves when the other end does not answer any more.
pub(crate) async fn lost(ping: Option<PingPong>) {
    // invariant: a connection gives its pings once, and nobody else asks.
    let Some(mut ping) = ping else { return std::future::pending().await };
    loop {
        sleep(PING_INTERVAL).await;
        if ping.send_ping(Ping::opaque()).is_err() {
            // The connection ends by itself.
            return std::future::pending().await;
        }
        match timeout(PING_TIMEOUT, poll_fn(|cx| ping.poll_pong(cx))).await {
            Ok(Ok(_)) => {}
            Ok(Err(_)) => return std::future::pending().await,
            Err(_) => return,
        }
    }
}
