//! What is to be written to a connection: small pieces joined, large ones as they are.

use std::collections::VecDeque;
use std::io::{self, IoSlice};
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bytes::{Buf, Bytes, BytesMut};
use tokio::io::AsyncWrite;

use crate::server::WRITE;

/// A piece from this length on is not copied, though it keeps what it was read with: at most four
/// do until nothing more is taken up.
const LARGE: usize = 16 * 1024;

/// Room for the first small pieces: what a few messages take.
const FIRST: usize = 1024;

/// Most pieces that are written at once.
const AT_ONCE: usize = 16;

/// Bytes on their way out, in order.
#[derive(Debug, Default)]
pub(crate) struct Out {
    pieces: VecDeque<Bytes>,
    /// What comes after the pieces.
    tail: BytesMut,
    length: usize,
}

impl Out {
    /// Whether nothing is left to be written.
    pub(crate) const fn is_empty(&self) -> bool {
        self.length == 0
    }

    /// How many bytes are left to be written.
    pub(crate) const fn length(&self) -> usize {
        self.length
    }

    /// Whether nothing more is taken up before what is there was written.
    pub(crate) const fn is_full(&self) -> bool {
        self.length >= WRITE
    }

    /// Adds a small piece.
    pub(crate) fn text(&mut self, bytes: &[u8]) {
        self.tail.extend_from_slice(bytes);
        self.length += bytes.len();
    }

    /// Adds what `write` writes.
    pub(crate) fn append(&mut self, write: impl FnOnce(&mut BytesMut)) {
        if self.tail.capacity() == 0 {
            self.tail.reserve(FIRST);
        }
        let before = self.tail.len();
        write(&mut self.tail);
        self.length += self.tail.len() - before;
    }

    /// Adds a piece of a body.
    pub(crate) fn data(&mut self, data: Bytes) {
        if data.len() < LARGE {
            return self.text(&data);
        }
        if !self.tail.is_empty() {
            self.pieces.push_back(self.tail.split().freeze());
        }
        self.length += data.len();
        self.pieces.push_back(data);
    }

    /// Makes room for a head of about so many bytes.
    pub(crate) fn reserve(&mut self, bytes: usize) {
        self.tail.reserve(bytes);
    }

    /// Writes all of it.
    pub(crate) fn poll_write(
        &mut self,
        cx: &mut Context<'_>,
        io: &mut (impl AsyncWrite + Unpin),
    ) -> Poll<io::Result<()>> {
        while !self.is_empty() {
            let written = if self.pieces.is_empty() {
                ready!(Pin::new(&mut *io).poll_write(cx, &self.tail))?
            } else {
                ready!(self.poll_write_pieces(cx, io))?
            };
            if written == 0 {
                return Poll::Ready(Err(io::ErrorKind::WriteZero.into()));
            }
            self.advance(written);
        }
        self.tail = BytesMut::new(); // nothing is kept until there is more to write
        Poll::Ready(Ok(()))
    }

    fn poll_write_pieces(
        &self,
        cx: &mut Context<'_>,
        io: &mut (impl AsyncWrite + Unpin),
    ) -> Poll<io::Result<usize>> {
        let mut slices = [IoSlice::new(&[]); AT_ONCE];
        let pieces = self.pieces.iter().map(|piece| &**piece).chain([&*self.tail]);
        let mut count = 0;
        for (slice, piece) in slices.iter_mut().zip(pieces) {
            *slice = IoSlice::new(piece);
            count += 1;
        }
        Pin::new(io).poll_write_vectored(cx, &slices[..count])
    }

    fn advance(&mut self, mut written: usize) {
        self.length -= written;
        while let Some(piece) = self.pieces.front_mut() {
            if written < piece.len() {
                return piece.advance(written);
            }
            written -= piece.len();
            self.pieces.pop_front();
        }
        self.tail.advance(written);
    }
}

#[cfg(test)]
impl Out {
    /// All that is to be written.
    pub(crate) fn into_text(self) -> String {
        let all: Vec<u8> = self.pieces.iter().flatten().chain(&self.tail).copied().collect();
        String::from_utf8(all).expect("text")
    }
}

#[cfg(test)]
mod tests {
    use std::future::poll_fn;

    use tokio::io::AsyncReadExt;

    use super::*;

    #[tokio::test]
    async fn pieces_large_and_small_are_written_in_order_by_a_narrow_pipe() {
        let (mut near, mut far) = tokio::io::duplex(1000);
        let (mut out, mut expected) = (Out::default(), Vec::new());
        for (number, length) in [10, LARGE, 1, 3 * LARGE, LARGE - 1, 0, LARGE].iter().enumerate() {
            let piece = vec![b'a' + u8::try_from(number).unwrap(); *length];
            expected.extend_from_slice(&piece);
            out.data(piece.into());
        }
        assert_eq!(out.length(), expected.len());
        let reading = tokio::spawn(async move {
            let mut read = Vec::new();
            far.read_to_end(&mut read).await.map(|_| read)
        });
        poll_fn(|cx| out.poll_write(cx, &mut near)).await.unwrap();
        assert!(out.is_empty());
        drop(near);
        assert_eq!(reading.await.unwrap().unwrap(), expected);
    }
}
