//! Small pieces of a body, joined. On a shared connection each piece is a frame with a cost of its
//! own, which a window does not count: a megabyte in pieces of one byte would be ten on the wire.

use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::{Bytes, BytesMut};
use http_body::{Body, Frame, SizeHint};

use crate::body::BodyError;

/// A piece from this length on costs what it weighs.
const SMALL: usize = 512;

/// Joined pieces are not longer than this: one frame of HTTP/2 (RFC 9113 §6.5.2).
const MOST: usize = 16 * 1024;

/// A body whose small pieces are joined as far as they are there, and whose empty ones are left
/// out.
#[derive(Debug)]
pub(crate) struct Gather<B> {
    body: B,
    held: BytesMut,
    /// What came after the pieces held. Boxed, for there seldom is one.
    next: Option<Box<Piece>>,
    /// The sender was given the time to send more.
    waited: bool,
}

impl<B> Gather<B> {
    /// Joins the small pieces of `body`.
    pub(crate) fn new(body: B) -> Self {
        Self { body, held: BytesMut::new(), next: None, waited: false }
    }
}

impl<B: Body> Gather<B> {
    /// What is held, and `next` after it.
    fn before(&mut self, next: Piece) -> Piece {
        if self.held.is_empty() {
            return next;
        }
        self.next = Some(Box::new(next));
        self.held()
    }

    fn held(&mut self) -> Piece {
        self.waited = false;
        Some(Ok(Frame::data(self.held.split().freeze())))
    }

    /// Takes a piece that has come; gives what is to be handed on before another is asked for.
    fn take(&mut self, frame: Frame<Bytes>) -> Option<Piece> {
        let data = match frame.into_data() {
            Ok(data) => data,
            Err(trailers) => return Some(self.before(Some(Ok(trailers)))),
        };
        let (last, alone) = (self.body.is_end_stream(), self.held.is_empty());
        if data.len() >= SMALL || (alone && last && !data.is_empty()) {
            return Some(self.before(Some(Ok(Frame::data(data)))));
        }
        self.waited = false;
        self.held.extend_from_slice(&data);
        let full = self.held.len() + SMALL > MOST;
        (full || (last && !self.held.is_empty())).then(|| self.held())
    }
}

/// What a body gives when it is asked.
type Piece = Option<Result<Frame<Bytes>, BodyError>>;

impl<B> Body for Gather<B>
where
    B: Body<Data = Bytes> + Unpin,
    BodyError: From<B::Error>,
{
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Piece> {
        let this = self.get_mut();
        if let Some(next) = this.next.take() {
            return Poll::Ready(*next);
        }
        loop {
            match Pin::new(&mut this.body).poll_frame(cx) {
                Poll::Ready(Some(Ok(frame))) => {
                    if let Some(piece) = this.take(frame) {
                        return Poll::Ready(piece);
                    }
                }
                Poll::Ready(end) => {
                    let end = end.map(|end| end.map_err(BodyError::from));
                    return Poll::Ready(this.before(end));
                }
                Poll::Pending if this.held.is_empty() => return Poll::Pending,
                Poll::Pending if this.waited => return Poll::Ready(this.held()),
                // The task that reads the sender's connection may have more of it, and runs now.
                Poll::Pending => {
                    this.waited = true;
                    cx.waker().wake_by_ref();
                    return Poll::Pending;
                }
            }
        }
    }

    fn is_end_stream(&self) -> bool {
        let nothing_follows = match &self.next {
            None => self.body.is_end_stream(),
            Some(next) => next.is_none(),
        };
        self.held.is_empty() && nothing_follows
    }

    fn size_hint(&self) -> SizeHint {
        let untouched = self.held.is_empty() && self.next.is_none();
        if untouched { self.body.size_hint() } else { SizeHint::default() }
    }
}

#[cfg(test)]
mod tests {
    use std::future::poll_fn;

    use http::HeaderMap;

    use super::*;

    /// Pieces in the order in which they come; `None` where there is nothing yet.
    struct Sent(Vec<Option<Frame<Bytes>>>);

    impl Body for Sent {
        type Data = Bytes;
        type Error = BodyError;

        fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Piece> {
            if self.0.is_empty() {
                return Poll::Ready(None);
            }
            match self.0.remove(0) {
                Some(frame) => Poll::Ready(Some(Ok(frame))),
                None => {
                    cx.waker().wake_by_ref();
                    Poll::Pending
                }
            }
        }

        fn is_end_stream(&self) -> bool {
            self.0.is_empty()
        }
    }

    fn piece(length: usize) -> Option<Frame<Bytes>> {
        Some(Frame::data(Bytes::from(vec![b'a'; length])))
    }

    /// The lengths of the pieces as they are handed on; 1,000,000 for trailers.
    async fn lengths(sent: Vec<Option<Frame<Bytes>>>) -> Vec<usize> {
        let mut body = Gather::new(Sent(sent));
        let mut lengths = Vec::new();
        while !body.is_end_stream() {
            let next = poll_fn(|cx| Pin::new(&mut body).poll_frame(cx)).await;
            let Some(Ok(frame)) = next else { break };
            lengths.push(frame.into_data().map_or(1_000_000, |data| data.len()));
        }
        lengths
    }

    #[tokio::test]
    async fn small_pieces_are_joined_and_empty_ones_left_out() {
        let trailers = || Some(Frame::trailers(HeaderMap::new()));
        let cases = [
            (vec![], vec![]),
            (vec![piece(0), piece(0)], vec![]),
            (vec![piece(5)], vec![5]),
            (vec![piece(5), piece(0), piece(6)], vec![11]),
            (vec![piece(5), None, piece(6)], vec![11]),
            (vec![piece(5), None, None, piece(6)], vec![5, 6]),
            (vec![piece(5), piece(2_000), piece(6)], vec![5, 2_000, 6]),
            (vec![piece(5), piece(6), trailers()], vec![11, 1_000_000]),
            (vec![piece(0), trailers()], vec![1_000_000]),
        ];
        for (sent, expected) in cases {
            let text = format!("{sent:?}");
            assert_eq!(lengths(sent).await, expected, "{text}");
        }
        let joined = lengths((0..40_000).map(|_| piece(1)).collect()).await;
        assert_eq!(joined.iter().sum::<usize>(), 40_000);
        assert!(joined.len() <= 3 && joined.iter().all(|length| *length <= MOST), "{joined:?}");
    }
}
