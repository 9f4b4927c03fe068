//! One stream: what has come on it and was not read, and what is to be sent and was not.

use std::collections::VecDeque;
use std::task::{Context, Waker};

use bytes::{Bytes, BytesMut};
use http::{HeaderMap, StatusCode};
use tokio::sync::OwnedSemaphorePermit;

use super::error::Error;
use super::fields::{Fields, Response};
use super::frame::Reason;
use super::window::Window;
use crate::server::STREAM_WINDOW;

/// Pieces below this length are joined while nobody reads them, so that each does not keep the
/// whole of what it was read with.
const SMALL: usize = 512;

/// Most interim responses (1xx) before the response.
const MAX_INTERIM: u8 = 64;

/// A stream that is open, or that somebody still holds.
#[derive(Debug)]
pub(super) struct Stream {
    /// How many handles there are of it.
    pub(super) handles: u8,
    /// Why it ended before its end.
    pub(super) failed: Option<Error>,
    /// It is counted as open no more.
    pub(super) over: bool,
    pub(super) incoming: Incoming,
    pub(super) outgoing: Outgoing,
    /// Its place among those that the other side permits.
    pub(super) place: Option<OwnedSemaphorePermit>,
}

/// What comes on it.
#[derive(Debug)]
pub(super) struct Incoming {
    /// The head of a response, until it is asked for.
    pub(super) head: Option<Box<Response>>,
    pub(super) data: Pieces,
    pub(super) trailers: Option<Box<HeaderMap>>,
    /// The other side has ended it.
    pub(super) ended: bool,
    /// What is left of the length that the head says.
    pub(super) left: Option<u64>,
    /// The head has come: what comes after it are trailers.
    pub(super) begun: bool,
    /// What is to come after the head of a response.
    pub(super) expected: Expected,
    /// Heads before the one of the response.
    pub(super) interim: u8,
    /// The client waits for a word before it sends its body (RFC 9110 §10.1.1).
    pub(super) expects: bool,
    /// Nobody reads it any more.
    pub(super) unwanted: bool,
    pub(super) window: Window,
    reader: Option<Waker>,
}

/// What may come after the head of a response.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Expected {
    /// A body.
    Body,
    /// Nothing, for it answers HEAD: a length is that of another response.
    Nothing,
    /// Bytes without a length, for it answers CONNECT.
    Tunnel,
}

/// What is sent on it.
#[derive(Debug)]
pub(super) struct Outgoing {
    /// Bytes of a piece that are not sent.
    pub(super) data: Bytes,
    /// What comes after them.
    pub(super) next: Next,
    /// What the other side still takes, in bytes; below 0 where it has changed its mind.
    pub(super) window: i64,
    /// Whether it waits for its turn.
    pub(super) in_line: bool,
    /// Whether it moved since that was asked.
    pub(super) moved: bool,
    /// We have ended it.
    pub(super) ended: bool,
    writer: Option<Waker>,
}

/// What comes after the data.
#[derive(Debug, Default)]
pub(super) enum Next {
    /// More data, when there is some.
    #[default]
    More,
    /// The end.
    End,
    /// Trailers, and the end.
    Trailers(Box<HeaderMap>),
}

impl Stream {
    /// A stream that nothing was sent or received on, with so many handles; it may be sent `ours`
    /// bytes, and send `theirs`.
    pub(super) fn new(handles: u8, ours: u32, theirs: i64) -> Self {
        Self {
            handles,
            failed: None,
            over: false,
            incoming: Incoming {
                head: None,
                data: Pieces::default(),
                trailers: None,
                ended: false,
                left: None,
                begun: false,
                expected: Expected::Body,
                interim: 0,
                expects: false,
                unwanted: false,
                window: Window::of_stream(ours),
                reader: None,
            },
            outgoing: Outgoing {
                data: Bytes::new(),
                next: Next::More,
                window: theirs,
                in_line: false,
                moved: false,
                ended: false,
                writer: None,
            },
            place: None,
        }
    }

    /// Whether nothing comes or goes on it any more.
    pub(super) const fn is_closed(&self) -> bool {
        self.failed.is_some() || (self.incoming.ended && self.outgoing.ended)
    }

    /// Whether something may come on it.
    pub(super) const fn is_receiving(&self) -> bool {
        self.failed.is_none() && !self.incoming.ended
    }

    /// It ends here, and whoever waits is told.
    pub(super) fn fail(&mut self, error: Error) {
        self.failed.get_or_insert(error);
        self.outgoing.drop_all();
        self.incoming.wake();
        self.outgoing.wake();
    }
}

impl Incoming {
    pub(super) fn wait(&mut self, cx: &Context<'_>) {
        wait(&mut self.reader, cx);
    }

    pub(super) fn wake(&mut self) {
        if let Some(reader) = self.reader.take() {
            reader.wake();
        }
    }

    /// Takes data up that counts as so many bytes, when so much has come on the connection; says how
    /// many of them nobody is going to read.
    ///
    /// # Errors
    /// What the stream ends with.
    pub(super) fn data(
        &mut self,
        data: Bytes,
        counted: u32,
        at: u64,
        last: bool,
    ) -> Result<usize, Option<Reason>> {
        if !self.window.take(counted) {
            return Err(Some(Reason::FLOW_CONTROL_ERROR));
        }
        let length = data.len();
        let left = self.left.map(|left| left.checked_sub(length as u64));
        let wrong = left.is_some_and(|left| left.is_none_or(|left| last && left > 0));
        if wrong || !self.begun {
            return Err(Some(Reason::PROTOCOL_ERROR));
        }
        self.left = left.flatten();
        self.ended = last;
        let mut unread = counted as usize;
        if length > 0 && !self.unwanted {
            unread -= length;
            self.data.push(data, at);
        }
        self.wake();
        Ok(unread)
    }

    /// Takes up the fields of a block: the head of a response, or trailers.
    ///
    /// # Errors
    /// What the stream ends with.
    pub(super) fn fields(&mut self, fields: Fields, last: bool) -> Result<(), Reason> {
        if fields.is_too_large() {
            return Err(Reason::ENHANCE_YOUR_CALM);
        }
        let malformed = |_| Reason::PROTOCOL_ERROR;
        if self.begun {
            // A length that was told must have come, and nothing comes after trailers.
            if !last || self.left.is_some_and(|left| left > 0) {
                return Err(Reason::PROTOCOL_ERROR);
            }
            let trailers = fields.trailers().map_err(malformed)?;
            self.trailers = Some(Box::new(trailers)).filter(|_| !self.unwanted);
        } else {
            let length = fields.length();
            let head = fields.response().map_err(malformed)?;
            if head.status().is_informational() {
                self.interim += 1;
                let fits = !last && self.interim <= MAX_INTERIM;
                return fits.then_some(()).ok_or(Reason::PROTOCOL_ERROR);
            }
            let empty = [StatusCode::NO_CONTENT, StatusCode::NOT_MODIFIED].contains(&head.status());
            self.left = match self.expected {
                Expected::Body if !empty => length,
                Expected::Tunnel => None,
                Expected::Body | Expected::Nothing => Some(0),
            };
            if last && self.left.is_some_and(|left| left > 0) {
                return Err(Reason::PROTOCOL_ERROR);
            }
            self.begun = true;
            self.head = Some(Box::new(head));
        }
        self.ended = last;
        self.wake();
        Ok(())
    }

    /// Nothing is left to be read, and nothing comes.
    pub(super) fn is_over(&self) -> bool {
        self.ended && self.data.is_empty() && self.trailers.is_none()
    }
}

impl Outgoing {
    /// Whether there is nothing that waits to be sent.
    pub(super) fn is_empty(&self) -> bool {
        self.data.is_empty() && matches!(self.next, Next::More)
    }

    /// Whether the end is among what is to be sent, or was sent.
    pub(super) const fn ends(&self) -> bool {
        self.ended || !matches!(self.next, Next::More)
    }

    pub(super) fn wait(&mut self, cx: &Context<'_>) {
        wait(&mut self.writer, cx);
    }

    pub(super) fn wake(&mut self) {
        if let Some(writer) = self.writer.take() {
            writer.wake();
        }
    }

    fn drop_all(&mut self) {
        self.data = Bytes::new();
        self.next = Next::More;
    }
}

fn wait(waiting: &mut Option<Waker>, cx: &Context<'_>) {
    match waiting {
        Some(waker) => waker.clone_from(cx.waker()),
        None => *waiting = Some(cx.waker().clone()),
    }
}

/// Data that has come, in order.
#[derive(Debug, Default)]
pub(super) struct Pieces {
    first: Piece,
    more: VecDeque<Piece>,
    /// Small pieces, joined, after all others.
    small: BytesMut,
    /// How many, from the first on, keep nothing but themselves.
    own: usize,
}

/// What came at once, which keeps the whole of what it was read with.
#[derive(Debug, Default)]
struct Piece {
    bytes: Bytes,
    /// How much had come on the connection.
    at: u64,
}

impl Pieces {
    pub(super) fn is_empty(&self) -> bool {
        self.first.bytes.is_empty()
    }

    /// Adds a piece that is not empty, when so much has come on the connection.
    pub(super) fn push(&mut self, bytes: Bytes, at: u64) {
        if self.is_empty() {
            self.first = Piece { bytes, at };
            return;
        }
        if self.kept().next().is_some_and(|oldest| at - oldest.at > u64::from(STREAM_WINDOW)) {
            self.copy_kept();
        }
        if bytes.len() < SMALL {
            self.small.extend_from_slice(&bytes);
        } else {
            self.join(at);
            self.more.push_back(Piece { bytes, at });
        }
    }

    pub(super) fn pop(&mut self) -> Option<Bytes> {
        if self.is_empty() {
            return None;
        }
        if self.more.is_empty() {
            self.join(self.first.at);
        }
        self.own = self.own.saturating_sub(1);
        let next = self.more.pop_front().unwrap_or_default();
        Some(std::mem::replace(&mut self.first, next).bytes)
    }

    /// Drops all; says how many bytes that were.
    pub(super) fn clear(&mut self) -> usize {
        let mut bytes = 0;
        while let Some(piece) = self.pop() {
            bytes += piece.len();
        }
        bytes
    }

    fn join(&mut self, at: u64) {
        if !self.small.is_empty() {
            self.more.push_back(Piece { bytes: self.small.split().freeze(), at });
        }
    }

    /// Pieces that keep more than themselves, the oldest first.
    fn kept(&mut self) -> impl Iterator<Item = &mut Piece> {
        std::iter::once(&mut self.first).chain(&mut self.more).skip(self.own)
    }

    /// Copies what has waited while more than a stream's window came, most of it for others: what
    /// nobody reads must not keep what others have read.
    fn copy_kept(&mut self) {
        for piece in self.kept() {
            piece.bytes = Bytes::copy_from_slice(&piece.bytes);
        }
        self.own = 1 + self.more.len();
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;

    #[test]
    fn pieces_come_out_in_order_and_small_ones_joined() {
        let mut pieces = Pieces::default();
        let mut sent = Vec::new();
        for (number, length) in [1, 2, 3, SMALL, 4, 5, 2 * SMALL, 6].into_iter().enumerate() {
            let piece = vec![b'a' + u8::try_from(number).unwrap(); length];
            sent.extend_from_slice(&piece);
            pieces.push(piece.into(), 0);
        }
        let came: Vec<Bytes> = std::iter::from_fn(|| pieces.pop()).collect();
        assert_eq!(came.concat(), sent);
        let lengths: Vec<usize> = came.iter().map(Bytes::len).collect();
        assert_eq!(lengths, [1, 5, SMALL, 9, 2 * SMALL, 6]);
        assert!(pieces.is_empty());
        pieces.push(Bytes::from_static(b"ab"), 0);
        pieces.push(Bytes::from_static(b"c"), 0);
        assert_eq!(pieces.clear(), 3);
        assert!(pieces.is_empty());
    }

    #[test]
    fn what_waits_while_others_are_served_keeps_nothing_of_theirs() {
        const WINDOW: u64 = STREAM_WINDOW as u64;
        let read = Arc::new(());
        let mut pieces = Pieces::default();
        // (how much had come, how much is kept with what waits then)
        let cases = [(0, 1), (WINDOW, 2), (WINDOW + 1, 1), (2 * WINDOW + 1, 2), (9 * WINDOW, 1)];
        for (number, (at, kept)) in cases.into_iter().enumerate() {
            let piece = Large(Arc::clone(&read), [number as u8; 2 * SMALL]);
            pieces.push(Bytes::from_owner(piece), at);
            assert_eq!(Arc::strong_count(&read) - 1, kept, "when {at} had come");
            if number == 2 {
                assert_eq!(pieces.pop().unwrap()[0], 0, "one that keeps nothing else");
            }
        }
        let rest: Vec<u8> = std::iter::from_fn(|| pieces.pop()).map(|piece| piece[0]).collect();
        assert_eq!(rest, [1, 2, 3, 4]);
        assert_eq!(Arc::strong_count(&read), 1);
    }

    /// A piece of something larger.
    struct Large(#[expect(dead_code, reason = "it is counted")] Arc<()>, [u8; 2 * SMALL]);

    impl AsRef<[u8]> for Large {
        fn as_ref(&self) -> &[u8] {
            &self.1
        }
    }
}
