//! Reading what a connection has for us, into no more room than that takes.

use std::io;
use std::mem::MaybeUninit;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bytes::{BufMut, BytesMut};
use tokio::io::{AsyncRead, ReadBuf};
use tokio::sync::{Semaphore, SemaphorePermit};

use crate::server::MESH_FRAME;

/// Most bytes that are read aside.
pub(crate) const LITTLE: usize = 8 * 1024;

/// Room for what comes in pieces larger than that: what a frame carries.
const MUCH: usize = MESH_FRAME as usize;

/// Room for what fills that too. The kernel answers each read of a connection with an ACK, in whose
/// name its sender's next packets are carried.
const FLOOD: usize = 4 * MUCH;

/// Most connections that have room for a flood, so that many at once do not take all memory.
static FLOODS: Semaphore = Semaphore::const_new(64);

/// What is read of a connection next.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Expected {
    /// The little that comes between bodies, if anything.
    Head,
    /// Whatever comes, and be it nothing for hours.
    Anything,
    /// What belongs together, of which so much is missing where that is known.
    Body(Option<u64>),
}

/// How much a connection has to say, by what came of it at once the last time.
#[derive(Debug, Default)]
pub struct Pace {
    rank: Rank,
    /// Of a flood for which there is room.
    permit: Option<SemaphorePermit<'static>>,
    /// Most that is read at once, where that has a bound of its own.
    most: Option<usize>,
}

#[derive(Debug, Clone, Copy, Default)]
enum Rank {
    /// Up to [`LITTLE`]: it is read aside first, so that whoever waits has no room for it.
    #[default]
    Little,
    Much,
    /// Half of the room for much, or all that was left of it.
    Flood,
}

impl Pace {
    /// The pace of a connection that is read a frame at a time, of at most so many bytes.
    pub(crate) fn bounded(most: usize) -> Self {
        Self { most: Some(most), ..Self::default() }
    }

    /// Reads into `read` and says how much; 0 at the end of the connection.
    pub(crate) fn poll_fill<I: AsyncRead + Unpin>(
        &mut self,
        io: &mut I,
        read: &mut BytesMut,
        expected: Expected,
        cx: &mut Context<'_>,
    ) -> Poll<io::Result<usize>> {
        let room = self.room(expected);
        let polled = match expected {
            _ if room == 0 => poll_fill_aside(io, read, cx),
            Expected::Body(Some(left)) => {
                let left = usize::try_from(left).unwrap_or(room);
                poll_fill_straight(io, read, left.clamp(LITTLE, room), cx)
            }
            _ => poll_fill_straight(io, read, room, cx),
        };
        if let Poll::Ready(Ok(bytes)) = polled {
            self.rank = Rank::of(bytes);
        }
        if polled.is_pending() || !matches!(self.rank, Rank::Flood) {
            self.permit = None; // nobody rests on one
        }
        polled
    }

    /// How much is read at once; 0 for what is read aside.
    fn room(&mut self, expected: Expected) -> usize {
        match (self.rank, expected, self.most) {
            (_, Expected::Head, _) | (Rank::Little, Expected::Anything, _) => 0,
            (_, _, Some(most)) => most,
            (Rank::Little | Rank::Much, ..) => MUCH,
            (Rank::Flood, ..) => {
                self.permit = self.permit.take().or_else(|| FLOODS.try_acquire().ok());
                if self.permit.is_some() { FLOOD } else { MUCH }
            }
        }
    }
}

impl Rank {
    const fn of(bytes: usize) -> Self {
        if bytes < LITTLE {
            Self::Little
        } else if bytes < MUCH / 2 {
            Self::Much
        } else {
            Self::Flood
        }
    }
}

fn poll_fill_aside<I: AsyncRead + Unpin>(
    io: &mut I,
    read: &mut BytesMut,
    cx: &mut Context<'_>,
) -> Poll<io::Result<usize>> {
    let mut aside = [const { MaybeUninit::uninit() }; LITTLE];
    let mut buffer = ReadBuf::uninit(&mut aside);
    ready!(Pin::new(io).poll_read(cx, &mut buffer))?;
    read.extend_from_slice(buffer.filled());
    Poll::Ready(Ok(buffer.filled().len()))
}

fn poll_fill_straight<I: AsyncRead + Unpin>(
    io: &mut I,
    read: &mut BytesMut,
    most: usize,
    cx: &mut Context<'_>,
) -> Poll<io::Result<usize>> {
    // Pieces that somebody keeps must not each keep a whole buffer: one is filled to its end.
    if read.capacity() - read.len() < (most / 8).max(LITTLE) {
        read.reserve(most);
    }
    let most = most.min(read.capacity() - read.len());
    let mut room = (&mut *read).limit(most);
    let polled = tokio_util::io::poll_read_buf(Pin::new(io), cx, &mut room);
    if read.is_empty() {
        *read = BytesMut::new(); // nothing came: nothing is kept for it
    }
    polled
}

#[cfg(test)]
mod tests {
    use std::future::poll_fn;

    use tokio::io::{AsyncWriteExt, duplex};

    use super::*;

    #[tokio::test]
    async fn who_sends_much_is_read_in_larger_pieces_and_rests_without_room() {
        let (mut near, mut far) = duplex(4 * FLOOD);
        near.write_all(&vec![7; LITTLE + MUCH + FLOOD + 1]).await.unwrap();
        let (mut pace, mut came) = (Pace::default(), Vec::new());
        let mut read = BytesMut::new();
        for _ in 0..4 {
            let fill =
                |cx: &mut Context<'_>| pace.poll_fill(&mut far, &mut read, Expected::Anything, cx);
            came.push(poll_fn(fill).await.unwrap());
            read = BytesMut::new();
        }
        assert_eq!(came, [LITTLE, MUCH, FLOOD, 1]);
        pace.rank = Rank::Flood;
        poll_fn(|cx| {
            let polled = pace.poll_fill(&mut far, &mut read, Expected::Anything, cx);
            assert!(polled.is_pending() && read.capacity() == 0 && pace.permit.is_none());
            Poll::Ready(())
        })
        .await;
        // In this test, for the other reads would find none: room for a flood is bounded.
        let all = FLOODS.acquire_many(64).await.unwrap();
        assert_eq!(pace.room(Expected::Anything), MUCH);
        drop(all);
        assert_eq!(pace.room(Expected::Anything), FLOOD);
    }
}
