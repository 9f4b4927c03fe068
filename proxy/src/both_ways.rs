//! Bytes carried both ways between two connections, each half until its sender ends it. Where
//! nothing happens there is no buffer; where much comes it is a large one.

use std::future::poll_fn;
use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bytes::{Buf, BytesMut};
use tokio::io::{AsyncRead, AsyncWrite};

use crate::fill::{Expected, LITTLE, poll_fill};

/// Carries until both have ended.
///
/// # Errors
/// The first of either connection.
pub(crate) async fn carry<A, B>(one: &mut A, other: &mut B) -> io::Result<()>
where
    A: AsyncRead + AsyncWrite + Unpin,
    B: AsyncRead + AsyncWrite + Unpin,
{
    let (mut there, mut back) = (Half::default(), Half::default());
    poll_fn(|cx| {
        let there = there.poll(cx, one, other)?;
        let back = back.poll(cx, other, one)?;
        ready!(there);
        ready!(back);
        Poll::Ready(Ok(()))
    })
    .await
}

/// One direction.
#[derive(Default)]
struct Half {
    /// What was read and is not written yet.
    bytes: BytesMut,
    /// The last read was as large as it could be.
    much: bool,
    /// Something was written since the last flush.
    unflushed: bool,
    /// The sender has ended.
    ended: bool,
    /// And the receiver was told.
    over: bool,
}

impl Half {
    fn poll<F, T>(&mut self, cx: &mut Context<'_>, from: &mut F, to: &mut T) -> Poll<io::Result<()>>
    where
        F: AsyncRead + Unpin,
        T: AsyncWrite + Unpin,
    {
        while !self.over {
            ready!(self.poll_write(cx, to))?;
            if self.ended {
                ready!(Pin::new(&mut *to).poll_shutdown(cx))?;
                self.over = true;
            } else if let Poll::Ready(read) = self.poll_read(cx, from)? {
                self.ended = read == 0;
            } else {
                self.bytes = BytesMut::new();
                if self.unflushed {
                    ready!(Pin::new(&mut *to).poll_flush(cx))?;
                    self.unflushed = false;
                }
                return Poll::Pending;
            }
        }
        Poll::Ready(Ok(()))
    }

    fn poll_read<F>(&mut self, cx: &mut Context<'_>, from: &mut F) -> Poll<io::Result<usize>>
    where
        F: AsyncRead + Unpin,
    {
        let expected = if self.much { Expected::Much(None) } else { Expected::Little };
        let read = ready!(poll_fill(from, &mut self.bytes, expected, cx))?;
        self.much = read >= LITTLE;
        Poll::Ready(Ok(read))
    }

    fn poll_write<T>(&mut self, cx: &mut Context<'_>, to: &mut T) -> Poll<io::Result<()>>
    where
        T: AsyncWrite + Unpin,
    {
        while !self.bytes.is_empty() {
            match ready!(Pin::new(&mut *to).poll_write(cx, &self.bytes))? {
                0 => return Poll::Ready(Err(io::ErrorKind::WriteZero.into())),
                written => self.bytes.advance(written),
            }
            self.unflushed = true;
        }
        Poll::Ready(Ok(()))
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt, AsyncWriteExt, duplex};

    use super::*;

    #[tokio::test]
    async fn each_half_ends_by_itself_and_nothing_is_lost() {
        let ((mut near, mut one), (mut other, mut far)) = (duplex(3_000), duplex(50_000));
        let carried = tokio::spawn(async move { carry(&mut one, &mut other).await });
        let sent: Vec<u8> = (0..1_000_000_u32).map(|n| n.to_le_bytes()[0]).collect();
        let expected = sent.clone();
        let sending = tokio::spawn(async move {
            near.write_all(&sent).await.unwrap();
            near.shutdown().await.unwrap();
            let mut back = String::new();
            near.read_to_string(&mut back).await.unwrap();
            back
        });
        let mut received = Vec::new();
        far.read_to_end(&mut received).await.unwrap();
        assert!(received == expected);
        far.write_all(b"after the end").await.unwrap();
        drop(far);
        assert_eq!(sending.await.unwrap(), "after the end");
        carried.await.unwrap().unwrap();
    }
}
