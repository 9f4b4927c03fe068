//! Reading what a connection has for us.

use std::io;
use std::mem::MaybeUninit;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bytes::{BufMut, BytesMut};
use tokio::io::{AsyncRead, ReadBuf};

/// Most bytes read at once of what is no body. They are read aside first, so that a connection that
/// waits for a head keeps no room for it.
const ASIDE: usize = 8 * 1024;

/// Most bytes of a body read at once.
const BODY: usize = 64 * 1024;

/// Reads into `read` and says how much; 0 at the end of the connection. `body` is given while a
/// body is read: how much of it is left, where that is known.
pub(super) fn poll_fill<I: AsyncRead + Unpin>(
    io: &mut I,
    read: &mut BytesMut,
    body: Option<Option<u64>>,
    cx: &mut Context<'_>,
) -> Poll<io::Result<usize>> {
    let Some(left) = body else {
        let mut aside = [const { MaybeUninit::uninit() }; ASIDE];
        let mut buffer = ReadBuf::uninit(&mut aside);
        ready!(Pin::new(io).poll_read(cx, &mut buffer))?;
        read.extend_from_slice(buffer.filled());
        return Poll::Ready(Ok(buffer.filled().len()));
    };
    let most = left.map_or(BODY, |left| usize::try_from(left).map_or(BODY, |left| left.min(BODY)));
    let most = most.max(ASIDE);
    // Pieces that somebody keeps must not each keep a whole buffer: one is filled to its end.
    if read.capacity() - read.len() < ASIDE {
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
