//! The body of a request as its client sends it, judged on the way.

use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::Bytes;
use http::Version;
use http_body::{Body, Frame, SizeHint};
use hyper::body::Incoming;
use tokio::time::{Instant, Sleep, sleep};

use crate::body::BodyError;
use crate::edge;

/// How long a client of HTTP/1 may send nothing of its body. HTTP/2 has no such bound: there a
/// body may be a call whose client has nothing to say for hours.
const IDLE: Duration = Duration::from_secs(60);

/// What a client sends.
#[derive(Debug)]
pub struct Upload<B = Incoming> {
    body: B,
    idle: Option<Idle>,
}

/// The time since the client's last bytes.
#[derive(Debug)]
struct Idle {
    limit: Duration,
    timer: Option<Pin<Box<Sleep>>>,
    waiting: bool,
}

impl<B> Upload<B> {
    /// The body of a request in `version`.
    pub fn new(body: B, version: Version) -> Self {
        Self::within(body, (version <= Version::HTTP_11).then_some(IDLE))
    }

    fn within(body: B, limit: Option<Duration>) -> Self {
        let idle = limit.map(|limit| Idle { limit, timer: None, waiting: false });
        Self { body, idle }
    }
}

impl Idle {
    /// Resolves when the client has been waited for too long.
    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        let limit = self.limit;
        let timer = self.timer.get_or_insert_with(|| Box::pin(sleep(limit)));
        if !self.waiting {
            timer.as_mut().reset(Instant::now() + limit);
            self.waiting = true;
        }
        timer.as_mut().poll(cx)
    }
}

impl<B> Body for Upload<B>
where
    B: Body<Data = Bytes> + Unpin,
    BodyError: From<B::Error>,
{
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        let this = self.get_mut();
        let Poll::Ready(frame) = Pin::new(&mut this.body).poll_frame(cx) else {
            let Some(idle) = &mut this.idle else { return Poll::Pending };
            ready!(idle.poll(cx));
            return Poll::Ready(Some(Err(BodyError::Idle(idle.limit))));
        };
        if let Some(idle) = &mut this.idle {
            idle.waiting = false;
        }
        let fits = |mut frame: Frame<Bytes>| match frame.trailers_mut() {
            Some(fields) => {
                edge::trailers(fields).then_some(frame).ok_or(BodyError::TrailersTooLarge)
            }
            None => Ok(frame),
        };
        Poll::Ready(frame.map(|frame| frame.map_err(BodyError::from).and_then(fits)))
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

#[cfg(test)]
mod tests {
    use std::future::poll_fn;

    use tokio::sync::mpsc;

    use super::*;

    /// A body that a test sends.
    struct Sent(mpsc::UnboundedReceiver<Frame<Bytes>>);

    impl Body for Sent {
        type Data = Bytes;
        type Error = hyper::Error;

        fn poll_frame(
            mut self: Pin<&mut Self>,
            cx: &mut Context<'_>,
        ) -> Poll<Option<hyper::Result<Frame<Bytes>>>> {
            self.0.poll_recv(cx).map(|frame| frame.map(Ok))
        }
    }

    async fn next(upload: &mut Upload<Sent>) -> Option<Result<Frame<Bytes>, BodyError>> {
        poll_fn(|cx| Pin::new(&mut *upload).poll_frame(cx)).await
    }

    #[tokio::test]
    async fn a_client_is_waited_for_while_it_sends() {
        let limit = Duration::from_millis(200);
        let (send, receive) = mpsc::unbounded_channel();
        let mut upload = Upload::within(Sent(receive), Some(limit));
        for _ in 0..4 {
            let sender = send.clone();
            tokio::spawn(async move {
                sleep(limit / 2).await;
                let _ = sender.send(Frame::data(Bytes::from_static(b"a")));
            });
            assert!(next(&mut upload).await.unwrap().is_ok(), "it is slow, not idle");
        }
        // That nobody asked for the next frame is not the client's fault.
        sleep(2 * limit).await;
        send.send(Frame::data(Bytes::from_static(b"a"))).unwrap();
        assert!(next(&mut upload).await.unwrap().is_ok());
        assert!(matches!(next(&mut upload).await, Some(Err(BodyError::Idle(_)))));
    }

    #[test]
    fn http2_bodies_may_be_silent() {
        let limit = |version| Upload::new((), version).idle.map(|idle| idle.limit);
        assert_eq!(limit(Version::HTTP_10), Some(IDLE));
        assert_eq!(limit(Version::HTTP_11), Some(IDLE));
        assert_eq!(limit(Version::HTTP_2), None);
    }
}
