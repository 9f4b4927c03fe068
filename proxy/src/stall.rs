//! Streams whose reader stalls. hyper asks for the next piece of a response only when the last one
//! is under way, so that a reader who takes nothing holds a bounded part of it, and the one who
//! sends it waits; but it would wait for ever.

use std::cell::Cell;
use std::future::{Future, poll_fn};
use std::pin::pin;
use std::time::Duration;

use hyper::rt::Executor;

use crate::idle::Idle;

/// Who is waited for after a stream was asked to go on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Awaited {
    /// The one who reads the response: a piece of it was handed out.
    Reader,
    /// The one who makes it.
    Sender,
}

tokio::task_local! {
    /// Whom the stream that runs waits for; nothing where that has not changed.
    static AWAITED: Cell<Option<Awaited>>;
}

/// A piece of a response was handed to the stream that runs.
pub(crate) fn handed_out() {
    let _ = AWAITED.try_with(|awaited| awaited.set(Some(Awaited::Reader)));
}

/// There is nothing yet to hand to the stream that runs.
pub(crate) fn nothing_yet() {
    let _ = AWAITED.try_with(|awaited| awaited.set(Some(Awaited::Sender)));
}

/// Runs the streams of a connection, and resets those whose reader takes nothing for a while.
#[derive(Debug, Clone)]
pub(crate) struct Streams {
    /// How long a reader is waited for.
    pub(crate) reader: Duration,
}

impl<F> Executor<F> for Streams
where
    F: Future<Output = ()> + Send + 'static,
{
    fn execute(&self, stream: F) {
        tokio::spawn(read_within(self.reader, stream));
    }
}

/// Runs `stream` to its end, or drops it when its reader takes nothing for `limit`: h2 resets
/// what is dropped.
async fn read_within<F: Future<Output = ()>>(limit: Duration, stream: F) {
    let mut stream = pin!(stream);
    let (mut idle, mut awaited) = (Idle::new(limit), Awaited::Sender);
    poll_fn(|cx| {
        let run = || (stream.as_mut().poll(cx), AWAITED.with(Cell::take));
        let (ended, changed) = AWAITED.sync_scope(Cell::new(None), run);
        if let Some(changed) = changed {
            awaited = changed;
            idle.moved();
        }
        if ended.is_ready() || awaited == Awaited::Sender {
            return ended;
        }
        idle.poll(cx).map(|()| tracing::debug!("stream reset: nobody reads it for {limit:?}"))
    })
    .await;
}

#[cfg(test)]
mod tests {
    use std::future::pending;
    use std::sync::Arc;
    use std::sync::atomic::{AtomicBool, Ordering};

    use tokio::time::{sleep, timeout};

    use super::*;

    const LIMIT: Duration = Duration::from_millis(200);

    #[tokio::test]
    async fn a_stream_that_nobody_reads_is_dropped() {
        let stream = async {
            handed_out();
            pending::<()>().await;
        };
        timeout(20 * LIMIT, read_within(LIMIT, stream)).await.unwrap();
    }

    #[tokio::test]
    async fn one_that_has_nothing_to_send_is_not() {
        let ended = AtomicBool::new(false);
        let stream = async {
            handed_out();
            nothing_yet();
            sleep(3 * LIMIT).await;
            ended.store(true, Ordering::Relaxed);
        };
        read_within(LIMIT, stream).await;
        assert!(ended.load(Ordering::Relaxed));
    }

    #[tokio::test]
    async fn a_slow_reader_is_no_stalled_one() {
        let ended = Arc::new(AtomicBool::new(false));
        let read = Arc::clone(&ended);
        let stream = async move {
            for _ in 0..4 {
                handed_out();
                sleep(LIMIT / 2).await;
            }
            read.store(true, Ordering::Relaxed);
        };
        read_within(LIMIT, stream).await;
        assert!(ended.load(Ordering::Relaxed));
    }
}
