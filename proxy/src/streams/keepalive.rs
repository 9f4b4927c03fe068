//! PING: how a connection in HTTP/2 whose other end is gone without a word is found out.

use tokio::time::sleep;

use crate::http2::Watch;
use crate::server::{PING_INTERVAL, PING_TIMEOUT};

/// Resolves when the other end does not answer any more.
pub(crate) async fn lost(watch: Watch) {
    loop {
        sleep(PING_INTERVAL).await;
        watch.ask();
        sleep(PING_TIMEOUT).await;
        if !watch.has_heard() {
            return;
        }
    }
}
