//! A bound on what is there at once as a rule.

use std::future::Future;
use std::pin::pin;
use std::time::Duration;

use tokio::task::yield_now;
use tokio::time::error::Elapsed;
use tokio::time::timeout;

/// Waits for `future`, but no longer than `limit`. There is no timer before the runtime has looked
/// once for what the kernel has: one that rings sooner than all others interrupts it for that, which
/// costs more than what most of them are about, a connection to an application on this machine.
pub(crate) async fn within<F: Future>(limit: Duration, future: F) -> Result<F::Output, Elapsed> {
    let mut future = pin!(future);
    tokio::select! {
        biased;
        output = &mut future => return Ok(output),
        () = yield_now() => {}
    }
    timeout(limit, future).await
}

#[cfg(test)]
mod tests {
    use std::future::pending;

    use tokio::sync::oneshot;
    use tokio::time::Instant;

    use super::*;

    #[tokio::test]
    async fn what_is_there_sooner_or_later_is_not_bounded_and_what_never_comes_is() {
        let limit = Duration::from_millis(50);
        assert_eq!(within(limit, async { 1 }).await, Ok(1));
        let (tell, told) = oneshot::channel();
        tokio::spawn(async move {
            tokio::time::sleep(limit / 5).await;
            tell.send(2)
        });
        assert_eq!(within(limit, told).await, Ok(Ok(2)));
        let begun = Instant::now();
        assert!(within(limit, pending::<()>()).await.is_err());
        assert!(begun.elapsed() >= limit);
    }
}
