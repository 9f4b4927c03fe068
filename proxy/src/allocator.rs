//! What the allocator keeps for each thread.

use std::time::Duration;

use tikv_jemalloc_ctl::{Access, AsName, Result};
use tokio::time::sleep;

/// How often a thread gives back what it keeps.
const EVERY: Duration = Duration::from_secs(15);

/// Whether jemalloc keeps what this thread has freed, for it to use again. When that is turned off
/// it gives back all of it.
const KEEPS: &str = "thread.tcache.enabled\0";

/// Gives back what this thread has freed and not used again, as long as its runtime lives. jemalloc
/// does so by itself only in threads that go on to allocate: one that rests after a burst would keep
/// a megabyte for ever, and pages that are nearly free around it.
pub async fn give_back_regularly() {
    loop {
        sleep(EVERY).await;
        if let Err(error) = give_back() {
            return tracing::debug!(%error, "freed memory cannot be given back");
        }
    }
}

/// Gives it back now.
///
/// # Errors
/// When jemalloc was built without such a thing.
pub fn give_back() -> Result<()> {
    let keeps = KEEPS.name();
    keeps.write(false)?;
    keeps.write(true)
}
