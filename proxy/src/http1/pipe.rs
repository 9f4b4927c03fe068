//! A body on its way from the task that reads a connection to the one that wants it, a piece at a
//! time and only when it is asked for: the sender is stopped where the reader is.

use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker};

use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};

use crate::body::BodyError;

/// The end of the pipe that reads.
#[derive(Debug)]
pub struct Piped {
    slot: Arc<Mutex<Slot>>,
    /// What the head says of the bytes that are not read yet.
    left: Option<u64>,
}

/// The end of the pipe that fills it.
#[derive(Debug)]
pub(crate) struct Feed(Arc<Mutex<Slot>>);

#[derive(Debug, Default)]
struct Slot {
    piece: Option<Result<Frame<Bytes>, BodyError>>,
    /// The piece is the last one, or was.
    ended: bool,
    /// Nothing follows the piece, and that is not all of the body.
    cut: bool,
    wanted: bool,
    /// The reader wants nothing any more.
    left: bool,
    reader: Option<Waker>,
    feeder: Option<Waker>,
}

/// What the reader is waiting for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Wants {
    /// The next piece.
    More,
    /// Nothing, for good.
    Nothing,
}

/// A pipe for a body of this length, where it is known.
pub(crate) fn pipe(length: Option<u64>) -> (Feed, Piped) {
    let slot = Arc::default();
    (Feed(Arc::clone(&slot)), Piped { slot, left: length })
}

/// A poisoned lock means that a task panicked between two whole states.
fn lock(slot: &Mutex<Slot>) -> MutexGuard<'_, Slot> {
    slot.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Feed {
    /// Resolves when the reader has none left and wants another piece, or nothing any more.
    pub(super) fn poll_wants(&self, cx: &mut Context<'_>) -> Poll<Wants> {
        let mut slot = lock(&self.0);
        if slot.left {
            return Poll::Ready(Wants::Nothing);
        }
        if slot.wanted && slot.piece.is_none() {
            return Poll::Ready(Wants::More);
        }
        if !slot.feeder.as_ref().is_some_and(|waker| waker.will_wake(cx.waker())) {
            slot.feeder = Some(cx.waker().clone());
        }
        Poll::Pending
    }

    /// Whether the reader wants nothing any more.
    pub(super) fn is_left(&self) -> bool {
        lock(&self.0).left
    }

    /// Gives the reader a piece; whether it is the `last`.
    pub(crate) fn give(&self, piece: Result<Frame<Bytes>, BodyError>, last: bool) {
        let mut slot = lock(&self.0);
        slot.ended = last || piece.is_err();
        slot.piece = Some(piece);
        slot.wanted = false;
        wake(slot.reader.take());
    }

    /// Ends the body.
    pub(super) fn end(&self) {
        let mut slot = lock(&self.0);
        slot.ended = true;
        wake(slot.reader.take());
    }
}

impl Drop for Feed {
    /// A body that was not ended is cut off.
    fn drop(&mut self) {
        let mut slot = lock(&self.0);
        slot.cut = !slot.ended;
        wake(slot.reader.take());
    }
}

impl Drop for Piped {
    fn drop(&mut self) {
        let mut slot = lock(&self.slot);
        slot.left = true;
        wake(slot.feeder.take());
    }
}

fn wake(waker: Option<Waker>) {
    if let Some(waker) = waker {
        waker.wake();
    }
}

impl Body for Piped {
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        let this = self.get_mut();
        let mut slot = lock(&this.slot);
        if let Some(piece) = slot.piece.take() {
            let length = piece.as_ref().ok().and_then(Frame::data_ref).map_or(0, Bytes::len);
            this.left = this.left.map(|left| left.saturating_sub(length as u64));
            return Poll::Ready(Some(piece));
        }
        if slot.ended {
            return Poll::Ready(None);
        }
        if slot.cut {
            slot.ended = true;
            return Poll::Ready(Some(Err(BodyError::Cut)));
        }
        slot.wanted = true;
        slot.reader = Some(cx.waker().clone());
        wake(slot.feeder.take());
        Poll::Pending
    }

    fn is_end_stream(&self) -> bool {
        let slot = lock(&self.slot);
        slot.ended && slot.piece.is_none()
    }

    fn size_hint(&self) -> SizeHint {
        self.left.map_or_else(SizeHint::default, SizeHint::with_exact)
    }
}

#[cfg(test)]
mod tests {
    use std::future::poll_fn;

    use tokio::task::yield_now;

    use super::*;

    async fn next(body: &mut Piped) -> Option<Result<Frame<Bytes>, BodyError>> {
        poll_fn(|cx| Pin::new(&mut *body).poll_frame(cx)).await
    }

    fn data(text: &'static str) -> Result<Frame<Bytes>, BodyError> {
        Ok(Frame::data(Bytes::from_static(text.as_bytes())))
    }

    #[tokio::test]
    async fn a_piece_is_asked_for_one_at_a_time() {
        let (feed, mut body) = pipe(Some(6));
        let feeding = tokio::spawn(async move {
            for (piece, last) in [("one", false), ("two", true)] {
                assert_eq!(poll_fn(|cx| feed.poll_wants(cx)).await, Wants::More);
                feed.give(data(piece), last);
                yield_now().await;
            }
        });
        assert_eq!(body.size_hint().exact(), Some(6));
        assert_eq!(next(&mut body).await.unwrap().unwrap().into_data().unwrap(), "one");
        assert_eq!(body.size_hint().exact(), Some(3));
        assert!(!body.is_end_stream());
        assert_eq!(next(&mut body).await.unwrap().unwrap().into_data().unwrap(), "two");
        assert!(body.is_end_stream() && next(&mut body).await.is_none());
        feeding.await.unwrap();
    }

    #[tokio::test]
    async fn a_body_that_is_not_ended_is_cut_off_after_its_last_piece() {
        let (feed, mut body) = pipe(None);
        feed.give(data("half"), false);
        drop(feed);
        assert!(!body.is_end_stream());
        assert!(next(&mut body).await.unwrap().is_ok());
        assert!(matches!(next(&mut body).await, Some(Err(BodyError::Cut))));
        assert!(next(&mut body).await.is_none());
    }

    #[tokio::test]
    async fn the_sender_hears_that_nobody_reads_any_more() {
        let (feed, body) = pipe(None);
        drop(body);
        assert_eq!(poll_fn(|cx| feed.poll_wants(cx)).await, Wants::Nothing);
        assert!(feed.is_left());
    }
}
