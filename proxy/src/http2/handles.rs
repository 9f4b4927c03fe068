//! The two halves of a stream, as whoever handles it has them. When both are dropped before the
//! stream has ended, it is reset.

use std::sync::Arc;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use http::{HeaderMap, Response, StatusCode};
use http_body::Frame;

use super::error::Error;
use super::frame::Reason;
use super::state::{Shared, gone, trailers};
use super::stream::Next;

/// What is sent on a stream.
#[derive(Debug)]
pub struct SendStream {
    shared: Arc<Shared>,
    id: u32,
}

/// What comes on a stream.
#[derive(Debug)]
pub struct RecvStream {
    shared: Arc<Shared>,
    id: u32,
    /// All of it was read.
    over: bool,
    /// What is left of the length that the head says.
    left: Option<u64>,
}

impl SendStream {
    pub(super) const fn new(shared: Arc<Shared>, id: u32) -> Self {
        Self { shared, id }
    }

    /// Sends the head of the response.
    ///
    /// # Errors
    /// Why the stream has ended.
    pub(crate) fn respond(&mut self, response: &Response<()>, last: bool) -> Result<(), Error> {
        let mut guard = self.shared.lock();
        let state = &mut *guard;
        let stream = state.streams.get_mut(&self.id).ok_or_else(gone)?;
        if let Some(error) = &stream.failed {
            return Err(error.clone());
        }
        stream.incoming.expects = false;
        stream.outgoing.ended = last;
        state.head(self.id, response, last);
        if last {
            state.settle(self.id);
        }
        Ok(())
    }

    /// Resolves when the last piece is on its way, so that another one may be sent.
    pub(crate) fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Error>> {
        let mut state = self.shared.lock();
        let stream = state.streams.get_mut(&self.id).ok_or_else(gone)?;
        if let Some(error) = &stream.failed {
            return Poll::Ready(Err(error.clone()));
        }
        if stream.outgoing.is_empty() {
            return Poll::Ready(Ok(()));
        }
        stream.outgoing.wait(cx);
        Poll::Pending
    }

    /// Resolves when the stream fails.
    pub(crate) fn poll_failed(&mut self, cx: &mut Context<'_>) -> Poll<Error> {
        let mut state = self.shared.lock();
        let Some(stream) = state.streams.get_mut(&self.id) else { return Poll::Ready(gone()) };
        if let Some(error) = &stream.failed {
            return Poll::Ready(error.clone());
        }
        stream.outgoing.wait(cx);
        Poll::Pending
    }

    /// Whether any byte went out since that was asked.
    pub(crate) fn has_moved(&mut self) -> bool {
        let mut state = self.shared.lock();
        let stream = state.streams.get_mut(&self.id);
        stream.is_some_and(|stream| std::mem::take(&mut stream.outgoing.moved))
    }

    /// Sends a piece, the `last` one perhaps, when [`Self::poll_ready`] has said so.
    ///
    /// # Errors
    /// Why the stream has ended.
    pub(crate) fn data(&mut self, data: Bytes, last: bool) -> Result<(), Error> {
        let next = if last { Next::End } else { Next::More };
        self.shared.lock().send(self.id, data, next)
    }

    /// Sends trailers, which end the stream.
    ///
    /// # Errors
    /// Why the stream has ended.
    pub(crate) fn trailers(&mut self, fields: HeaderMap) -> Result<(), Error> {
        self.shared.lock().send(self.id, Bytes::new(), trailers(fields))
    }

    /// Ends the stream after what is on its way.
    ///
    /// # Errors
    /// Why it has ended already.
    pub(crate) fn end(&mut self) -> Result<(), Error> {
        self.data(Bytes::new(), true)
    }

    /// Ends it at once.
    pub(crate) fn reset(&mut self, reason: Reason) {
        self.shared.lock().reset(self.id, reason);
    }
}

impl Drop for SendStream {
    fn drop(&mut self) {
        self.shared.lock().release(self.id);
    }
}

impl RecvStream {
    /// The other half of a stream; all of it was read where it is `over`.
    pub(super) const fn new(shared: Arc<Shared>, id: u32, over: bool, left: Option<u64>) -> Self {
        Self { shared, id, over, left }
    }

    /// The head of the response.
    pub(super) fn poll_head(&mut self, cx: &mut Context<'_>) -> Poll<Result<Response<()>, Error>> {
        let mut state = self.shared.lock();
        let stream = state.streams.get_mut(&self.id).ok_or_else(gone)?;
        if let Some(head) = stream.incoming.head.take() {
            self.over = stream.incoming.is_over();
            self.left = stream.incoming.left;
            return Poll::Ready(Ok(*head));
        }
        if let Some(error) = &stream.failed {
            return Poll::Ready(Err(error.clone()));
        }
        stream.incoming.wait(cx);
        Poll::Pending
    }

    /// Whether all was read.
    pub(crate) const fn is_over(&self) -> bool {
        self.over
    }

    /// How much is still to be read, where the head says that.
    pub(crate) const fn left(&self) -> Option<u64> {
        self.left
    }

    /// The next piece; none at the end, or before trailers.
    pub(crate) fn poll_data(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Bytes, Error>>> {
        let mut state = self.shared.lock();
        let Some(stream) = state.streams.get_mut(&self.id) else { return Poll::Ready(None) };
        let incoming = &mut stream.incoming;
        if let Some(data) = incoming.data.pop() {
            incoming.expects = false;
            self.over = incoming.is_over();
            self.left = self.left.map(|left| left.saturating_sub(data.len() as u64));
            state.read(self.id, data.len());
            return Poll::Ready(Some(Ok(data)));
        }
        if incoming.ended {
            return Poll::Ready(None);
        }
        if let Some(error) = &stream.failed {
            return Poll::Ready(Some(Err(error.clone())));
        }
        incoming.wait(cx);
        if std::mem::take(&mut incoming.expects) {
            state.head(self.id, &go_on(), false);
        }
        Poll::Pending
    }

    /// The next piece, or trailers; none at the end.
    pub(crate) fn poll_frame(
        &mut self,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Error>>> {
        if self.over {
            return Poll::Ready(None);
        }
        let next = match ready!(self.poll_data(cx)) {
            Some(data) => Some(data.map(Frame::data)),
            None => {
                self.over = true;
                let mut state = self.shared.lock();
                let stream = state.streams.get_mut(&self.id);
                let trailers = stream.and_then(|stream| stream.incoming.trailers.take());
                trailers.map(|trailers| Ok(Frame::trailers(*trailers)))
            }
        };
        Poll::Ready(next)
    }
}

impl Drop for RecvStream {
    fn drop(&mut self) {
        let mut state = self.shared.lock();
        if !self.over {
            state.unread(self.id);
        }
        state.release(self.id);
    }
}

/// What a client is told that waits with its body until somebody reads it.
fn go_on() -> Response<()> {
    let mut response = Response::new(());
    *response.status_mut() = StatusCode::CONTINUE;
    response
}
