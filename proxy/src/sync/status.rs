//! How the stream to the control plane stands, for those who ask: `/ready`, `/config`, metrics.

use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

/// Whether there is a stream, and if not, since when and why.
#[derive(Debug, Default)]
pub struct Status(Mutex<State>);

#[derive(Debug)]
enum State {
    Starting(Instant),
    Connected,
    Lost { since: Instant, reason: String },
}

impl Default for State {
    fn default() -> Self {
        Self::Starting(Instant::now())
    }
}

impl Status {
    /// A stream is open.
    pub(super) fn connected(&self) {
        *self.lock() = State::Connected;
    }

    /// There is none, for this reason; since when is kept over failed attempts.
    pub(super) fn lost(&self, reason: &impl ToString) {
        let mut state = self.lock();
        let since = match &*state {
            State::Starting(since) | State::Lost { since, .. } => *since,
            State::Connected => Instant::now(),
        };
        *state = State::Lost { since, reason: reason.to_string() };
    }

    /// Time without a stream; zero while there is one.
    pub fn staleness(&self) -> Duration {
        match &*self.lock() {
            State::Connected => Duration::ZERO,
            State::Starting(since) | State::Lost { since, .. } => since.elapsed(),
        }
    }

    /// In a few words.
    pub fn describe(&self) -> String {
        match &*self.lock() {
            State::Starting(_) => "the control plane has not been reached yet".into(),
            State::Connected => "connected to the control plane".into(),
            State::Lost { since, reason } => {
                format!("not connected for {:.1} s: {reason}", since.elapsed().as_secs_f64())
            }
        }
    }

    /// A poisoned lock means a panic between two whole states.
    fn lock(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
