//! Bytes carried both ways between two connections, each half until its sender ends it. Where
//! nothing happens there is no buffer; where much comes it is a large one.

use std::future::poll_fn;
use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bytes::{Bytes, BytesMut};
use tokio::io::AsyncWrite;

use crate::carried::Pieces;
use crate::fill::Pace;

/// Carries until both have ended.
///
/// # Errors
/// The first of either connection.
pub(crate) async fn carry<A, B>(one: &mut A, other: &mut B) -> io::Result<()>
where
    A: Pieces + AsyncWrite + Unpin,
    B: Pieces + AsyncWrite + Unpin,
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
    /// What was taken and is not given yet.
    bytes: Bytes,
    /// Where what comes is put.
    room: BytesMut,
    pace: Pace,
    /// Something was given since the last flush.
    unflushed: bool,
    /// The sender has ended.
    ended: bool,
    /// And the receiver was told.
    over: bool,
}

impl Half {
    fn poll<F, T>(&mut self, cx: &mut Context<'_>, from: &mut F, to: &mut T) -> Poll<io::Result<()>>
    where
        F: Pieces,
        T: Pieces + AsyncWrite + Unpin,
    {
        while !self.over {
            while !self.bytes.is_empty() {
                ready!(to.poll_give(cx, &mut self.bytes))?;
                self.unflushed = true;
            }
            if self.ended {
                ready!(Pin::new(&mut *to).poll_shutdown(cx))?;
                self.over = true;
            } else if let Poll::Ready(bytes) = self.poll_take(cx, from)? {
                self.ended = bytes.is_empty();
                self.bytes = bytes;
            } else {
                self.room = BytesMut::new();
                if self.unflushed {
                    ready!(Pin::new(&mut *to).poll_flush(cx))?;
                    self.unflushed = false;
                }
                return Poll::Pending;
            }
        }
        Poll::Ready(Ok(()))
    }

    fn poll_take<F: Pieces>(
        &mut self,
        cx: &mut Context<'_>,
        from: &mut F,
    ) -> Poll<io::Result<Bytes>> {
        from.poll_take(cx, &mut self.pace, &mut self.room)
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream, duplex};

    use super::*;
    use crate::carried;

    impl Pieces for DuplexStream {
        fn poll_take(
            &mut self,
            cx: &mut Context<'_>,
            pace: &mut Pace,
            room: &mut BytesMut,
        ) -> Poll<io::Result<Bytes>> {
            carried::poll_read(self, cx, pace, room)
        }

        fn poll_give(&mut self, cx: &mut Context<'_>, bytes: &mut Bytes) -> Poll<io::Result<()>> {
            carried::poll_write(self, cx, bytes)
        }
    }

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
