//! The end of a connection in order. A socket that is closed with something unread takes back what
//! it has sent, and a client that writes to it may never read why it was sent away: first it hears
//! the end, then it gets a moment to end as well.

use std::io;
use std::mem::MaybeUninit;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use crate::idle::Idle;

/// How long the other side may take to end after it was told.
pub(crate) const FAREWELL: Duration = Duration::from_secs(1);

/// How far a connection has ended.
#[derive(Debug)]
pub(crate) struct Farewell {
    told: bool,
    late: Idle,
}

impl Farewell {
    pub(crate) const fn new() -> Self {
        Self { told: false, late: Idle::new(FAREWELL) }
    }

    /// Ends our side and reads over what still comes; resolves when the other side has ended too,
    /// or when it takes too long.
    ///
    /// # Errors
    /// When our side could not be ended.
    pub(crate) fn poll<I>(&mut self, cx: &mut Context<'_>, io: &mut I) -> Poll<io::Result<()>>
    where
        I: AsyncRead + AsyncWrite + Unpin,
    {
        if !self.told {
            ready!(Pin::new(&mut *io).poll_shutdown(cx))?;
            self.told = true;
        }
        let mut room = [const { MaybeUninit::uninit() }; 4096];
        while self.late.poll(cx).is_pending() {
            let mut unwanted = ReadBuf::uninit(&mut room);
            let read = ready!(Pin::new(&mut *io).poll_read(cx, &mut unwanted));
            if read.is_err() || unwanted.filled().is_empty() {
                break;
            }
        }
        Poll::Ready(Ok(()))
    }
}

#[cfg(test)]
mod tests {
    use std::future::poll_fn;

    use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream, duplex};
    use tokio::time::{Instant, sleep};

    use super::*;

    async fn end(mut io: DuplexStream) {
        let mut farewell = Farewell::new();
        poll_fn(|cx| farewell.poll(cx, &mut io)).await.unwrap();
    }

    #[tokio::test]
    async fn the_other_side_reads_all_while_it_is_still_writing() {
        let (mut near, mut far) = duplex(8);
        near.write_all(b"goodbye").await.unwrap();
        let ending = tokio::spawn(end(near));
        far.write_all(&[0; 100_000]).await.unwrap();
        let mut heard = String::new();
        far.read_to_string(&mut heard).await.unwrap();
        assert_eq!(heard, "goodbye");
        assert!(!ending.is_finished());
        drop(far);
        ending.await.unwrap();
    }

    #[tokio::test]
    async fn one_who_never_ends_is_not_waited_for() {
        let (near, mut far) = duplex(8);
        let begun = Instant::now();
        let ending = tokio::spawn(end(near));
        while far.write_all(b"more").await.is_ok() {
            sleep(FAREWELL / 10).await;
        }
        assert!(begun.elapsed() < 2 * FAREWELL);
        ending.await.unwrap();
    }
}
