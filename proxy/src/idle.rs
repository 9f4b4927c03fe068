//! A bound on how long somebody is waited for, which begins again whenever there is progress.

use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use tokio::time::{Instant, Sleep, sleep_until};

/// The time since the last progress of whoever is waited for. It costs nothing until there is
/// something to wait for, and hardly more while there always is progress: a timer that rings too
/// early is set anew then, not at each wait.
#[derive(Debug)]
pub(crate) struct Idle {
    limit: Duration,
    timer: Option<Pin<Box<Sleep>>>,
    /// Since when there is no progress, while somebody waits for it.
    since: Option<Instant>,
}

impl Idle {
    /// Nobody is waited for yet, and nobody for longer than `limit`.
    pub(crate) const fn new(limit: Duration) -> Self {
        Self { limit, timer: None, since: None }
    }

    /// How long anybody is waited for.
    pub(crate) const fn limit(&self) -> Duration {
        self.limit
    }

    /// There was progress: the next wait begins anew.
    pub(crate) const fn moved(&mut self) {
        self.since = None;
    }

    /// Resolves when there was no progress for too long.
    pub(crate) fn poll(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        let deadline = *self.since.get_or_insert_with(Instant::now) + self.limit;
        let timer = self.timer.get_or_insert_with(|| Box::pin(sleep_until(deadline)));
        loop {
            ready!(timer.as_mut().poll(cx));
            if Instant::now() >= deadline {
                return Poll::Ready(());
            }
            timer.as_mut().reset(deadline);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::future::poll_fn;

    use tokio::time::{sleep, timeout};

    use super::*;

    #[tokio::test]
    async fn progress_puts_the_end_off() {
        let limit = Duration::from_millis(100);
        let mut idle = Idle::new(limit);
        let begun = Instant::now();
        for _ in 0..4 {
            let early = timeout(limit / 2, poll_fn(|cx| idle.poll(cx))).await;
            assert!(early.is_err(), "{:?}", begun.elapsed());
            idle.moved();
        }
        sleep(2 * limit).await;
        let waited = Instant::now();
        poll_fn(|cx| idle.poll(cx)).await;
        assert!(waited.elapsed() >= limit, "nobody was waited for meanwhile");
        poll_fn(|cx| idle.poll(cx)).await;
    }
}
