//! Connections of one kind, of which there are never more than so many at the same time.

use std::collections::VecDeque;
use std::future::Future;

use tokio::task::AbortHandle;

use crate::log::Seldom;

/// The places for connections of one kind. Where all are taken, whoever has been there longest is
/// closed: so one that asks and goes, as a probe does, is served however many others hold their places
/// and say nothing.
#[derive(Debug)]
pub struct Room {
    port: &'static str,
    places: usize,
    taken: VecDeque<AbortHandle>,
    told: Seldom,
}

impl Room {
    /// A room for so many connections to this port.
    pub fn new(port: &'static str, places: usize) -> Self {
        Self { port, places, taken: VecDeque::new(), told: Seldom::default() }
    }

    /// Has a connection served by a task of its own. Says whether another one had to go for it.
    pub fn admit(&mut self, connection: impl Future<Output = ()> + Send + 'static) -> bool {
        self.taken.retain(|one| !one.is_finished());
        let is_full = self.taken.len() >= self.places;
        if is_full && let Some(oldest) = self.taken.pop_front() {
            oldest.abort();
            if self.told.is_due() {
                let (port, places) = (self.port, self.places);
                tracing::warn!(port, places, "too many connections: the oldest are closed");
            }
        }
        // What a handle is kept of keeps the room that its future had: boxed, that is little.
        self.taken.push_back(tokio::spawn(Box::pin(connection)).abort_handle());
        is_full
    }
}

#[cfg(test)]
mod tests {
    use std::future::pending;
    use std::time::Duration;

    use tokio::sync::oneshot::{self, error::TryRecvError};

    use super::*;

    /// A connection that never ends by itself, and who learns that it was closed.
    fn silent() -> (impl Future<Output = ()> + Send + 'static, oneshot::Receiver<()>) {
        let (closed, is_closed) = oneshot::channel::<()>();
        let connection = async {
            let _closed = closed;
            pending::<()>().await;
        };
        (connection, is_closed)
    }

    #[tokio::test]
    async fn the_oldest_makes_place_for_the_newest() {
        let mut room = Room::new("test", 2);
        let [(first, first_closed), (second, mut second_closed), (third, _)] =
            [silent(), silent(), silent()];
        assert_eq!(
            [room.admit(first), room.admit(second), room.admit(third)],
            [false, false, true]
        );
        let closed = tokio::time::timeout(Duration::from_secs(5), first_closed).await;
        assert!(closed.expect("it is closed").is_err());
        assert_eq!(second_closed.try_recv(), Err(TryRecvError::Empty), "it is there");
    }

    #[tokio::test]
    async fn whoever_has_ended_has_no_place() {
        let mut room = Room::new("test", 1);
        for _ in 0..3 {
            assert!(!room.admit(async {}));
            tokio::task::yield_now().await;
        }
    }
}
