//! Waiting for what must come true: ask again until it does, or fail with what was seen last.

use std::fmt::Debug;
use std::time::{Duration, Instant};

/// The pause between two questions.
const PAUSE: Duration = Duration::from_millis(50);

/// How long things may take that normally take far less than a second: generous, for a busy
/// machine that runs many tests at once.
pub const SOON: Duration = Duration::from_secs(30);

/// Asks until the answer is `Ok` and returns it.
///
/// # Panics
/// When `limit` has passed; the message has `what` was awaited and the last answer.
pub async fn until<T, E: Debug>(
    what: &str,
    limit: Duration,
    mut ask: impl AsyncFnMut() -> Result<T, E>,
) -> T {
    let deadline = Instant::now() + limit;
    loop {
        match ask().await {
            Ok(answer) => return answer,
            Err(last) if Instant::now() >= deadline => {
                panic!("{what}: not within {limit:?}; seen last: {last:?}")
            }
            Err(_) => tokio::time::sleep(PAUSE).await,
        }
    }
}

/// Asks until the answer is yes.
///
/// # Panics
/// When `limit` has passed.
pub async fn until_true(what: &str, limit: Duration, mut ask: impl AsyncFnMut() -> bool) {
    until(what, limit, async || if ask().await { Ok(()) } else { Err("no") }).await;
}
