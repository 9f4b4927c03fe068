//! A bound on how long somebody is waited for, which begins again whenever there is progress.

use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use tokio::time::{Instant, Sleep, sleep};

/// The time since the last progress of whoever is waited for. It costs nothing until there is
/// something to wait for.
#[derive(Debug)]
pub(crate) struct Idle {
    limit: Duration,
    timer: Option<Pin<Box<Sleep>>>,
    waiting: bool,
}

impl Idle {
    /// Nobody is waited for yet, and nobody for longer than `limit`.
    pub(crate) const fn new(limit: Duration) -> Self {
        Self { limit, timer: None, waiting: false }
    }

    /// How long anybody is waited for.
    pub(crate) const fn limit(&self) -> Duration {
        self.limit
    }

    /// There was progress: the next wait begins anew.
    pub(crate) const fn moved(&mut self) {
        self.waiting = false;
    }

    /// Resolves when there was no progress for too long.
    pub(crate) fn poll(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        let limit = self.limit;
        let timer = self.timer.get_or_insert_with(|| Box::pin(sleep(limit)));
        if !self.waiting {
            timer.as_mut().reset(Instant::now() + limit);
            self.waiting = true;
        }
        timer.as_mut().poll(cx)
    }
}
