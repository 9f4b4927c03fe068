//! Reading what a connection has for us, into no more room than that takes.

use std::io;
use std::mem::MaybeUninit;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bytes::{BufMut, BytesMut};
use tokio::io::{AsyncRead, ReadBuf};

use crate::server::MESH_FRAME;

/// Most bytes that are read aside.
pub(crate) const LITTLE: usize = 8 * 1024;

/// Room for what comes in pieces larger than that: a frame's.
const MUCH: usize = MESH_FRAME as usize;

/// Room for what fills that too. The kernel answers each read of a connection with an ACK, in whose
/// name its sender's next packets are carried.
const FLOOD: usize = 4 * MUCH;

/// How much is to be expected.
#[derive(Debug, Clone, Copy, Default)]
pub enum Expected {
    /// Up to [`LITTLE`], or nothing for hours: it is read aside first, so that whoever waits has no
    /// room for it.
    #[default]
    Little,
    /// More, up to so many bytes where that is known.
    Much(Option<u64>),
    /// As much as can be carried, up to so many bytes where that is known.
    Flood(Option<u64>),
}

impl Expected {
    /// What is to be expected when so many bytes came at once.
    pub(crate) const fn after(bytes: usize) -> Self {
        if bytes < LITTLE {
            Self::Little
        } else if bytes < MUCH / 2 {
            Self::Much(None)
        } else {
            Self::Flood(None)
        }
    }

    /// The same within a body of which so much is left.
    pub(crate) const fn within(self, left: Option<u64>) -> Self {
        match self {
            Self::Little | Self::Much(_) => Self::Much(left),
            Self::Flood(_) => Self::Flood(left),
        }
    }
}

/// Reads into `read` and says how much; 0 at the end of the connection.
pub(crate) fn poll_fill<I: AsyncRead + Unpin>(
    io: &mut I,
    read: &mut BytesMut,
    expected: Expected,
    cx: &mut Context<'_>,
) -> Poll<io::Result<usize>> {
    let (left, room) = match expected {
        Expected::Little => return poll_fill_aside(io, read, cx),
        Expected::Much(left) => (left, MUCH),
        Expected::Flood(left) => (left, FLOOD),
    };
    let left = left.and_then(|left| usize::try_from(left).ok()).unwrap_or(room);
    poll_fill_straight(io, read, left.clamp(LITTLE, room), cx)
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
