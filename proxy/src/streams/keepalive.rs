//! PING: how a connection in HTTP/2 whose other end is gone without a word is found out.

use std::time::Duration;

use tokio::time::sleep;

use crate::http2::Watch;
use crate::server::PING_INTERVAL;

/// Resolves when the other end has left a PING unanswered for so long, and said nothing else.
pub(crate) async fn lost(watch: Watch, limit: Duration) {
    loop {
        sleep(PING_INTERVAL).await;
        watch.ask();
        sleep(limit).await;
        if !watch.has_heard() {
            return;
        }
    }
}
