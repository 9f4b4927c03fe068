//! Reading what a connection has for us, into no more room than that takes.

use std::io;
use std::mem::MaybeUninit;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bytes::{BufMut, BytesMut};
use tokio::io::{AsyncRead, ReadBuf};

/// Most bytes that are read aside.
pub(crate) const LITTLE: usize = 8 * 1024;

/// Most bytes that are read at once.
const MUCH: usize = 64 * 1024;

/// How much is to be expected.
#[derive(Debug, Clone, Copy)]
pub enum Expected {
    /// Up to [`LITTLE`], or nothing for hours: it is read aside first, so that whoever waits has no
    /// room for it.
    Little,
    /// All that comes, up to so many bytes where that is known.
    Much(Option<u64>),
}

/// Reads into `read` and says how much; 0 at the end of the connection.
pub(crate) fn poll_fill<I: AsyncRead + Unpin>(
    io: &mut I,
    read: &mut BytesMut,
    expected: Expected,
    cx: &mut Context<'_>,
) -> Poll<io::Result<usize>> {
    match expected {
        Expected::Little => poll_fill_aside(io, read, cx),
        Expected::Much(left) => {
            let most = left.and_then(|left| usize::try_from(left).ok()).unwrap_or(MUCH);
            poll_fill_straight(io, read, most.clamp(LITTLE, MUCH), cx)
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
    if read.capacity() - read.len() < LITTLE {
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
