//! The body of a request as its client sends it, judged on the way.

use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::Bytes;
use http::Version;
use http::request::Parts;
use http_body::{Body, Frame, SizeHint};

use crate::body::BodyError;
use crate::edge;
use crate::gather::Gather;
use crate::idle::Idle;
use crate::received::Received;

/// How long a client may send nothing of its body.
pub const IDLE: Duration = Duration::from_secs(60);

/// What a client sends.
#[derive(Debug)]
pub struct Upload<B = Received> {
    body: Gather<B>,
    idle: Option<Idle>,
    answered: Option<Answered>,
}

/// Whether the response has begun, where a body may be as slow as it likes from then on: a call
/// in HTTP/2 whose client has nothing to say for hours.
#[derive(Debug, Clone, Default)]
pub struct Answered(Arc<AtomicBool>);

/// How the body of a request in HTTP/2 is waited for; an extension of the request.
#[derive(Debug, Clone)]
pub struct Patience {
    /// How long its client may send nothing.
    pub idle: Duration,
    /// Until this.
    pub answered: Answered,
}

impl Patience {
    /// The client may send nothing for `idle` while there is no answer.
    pub fn new(idle: Duration) -> Self {
        Self { idle, answered: Answered::default() }
    }
}

impl Answered {
    /// It has begun.
    pub fn set(&self) {
        self.0.store(true, Ordering::Relaxed);
    }

    fn get(&self) -> bool {
        self.0.load(Ordering::Relaxed)
    }
}

impl<B> Upload<B> {
    /// The body of the request of `parts`.
    pub fn new(body: B, parts: &Parts) -> Self {
        if parts.version <= Version::HTTP_11 {
            return Self::within(body, Some(IDLE), None);
        }
        match parts.extensions.get::<Patience>().cloned() {
            Some(Patience { idle, answered }) => Self::within(body, Some(idle), Some(answered)),
            None => Self::within(body, None, None),
        }
    }

    fn within(body: B, limit: Option<Duration>, answered: Option<Answered>) -> Self {
        Self { body: Gather::new(body), idle: limit.map(Idle::new), answered }
    }

    /// Resolves when the client has been waited for too long.
    fn waited(&mut self, cx: &mut Context<'_>) -> Poll<Duration> {
        let Some(idle) = &mut self.idle else { return Poll::Pending };
        ready!(idle.poll(cx));
        let answered = self.answered.as_ref().is_some_and(Answered::get);
        if answered { Poll::Pending } else { Poll::Ready(idle.limit()) }
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
            return this.waited(cx).map(|limit| Some(Err(BodyError::Idle(limit))));
        };
        if let Some(idle) = &mut this.idle {
            idle.moved();
        }
        let fits = |mut frame: Frame<Bytes>| match frame.trailers_mut() {
            Some(fields) => {
                edge::trailers(fields).then_some(frame).ok_or(BodyError::TrailersTooLarge)
            }
            None => Ok(frame),
        };
        Poll::Ready(frame.map(|frame| frame.and_then(fits)))
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
    use tokio::time::sleep;

    use super::*;

    /// A body that a test sends.
    struct Sent(mpsc::UnboundedReceiver<Frame<Bytes>>);

    impl Body for Sent {
        type Data = Bytes;
        type Error = BodyError;

        fn poll_frame(
            mut self: Pin<&mut Self>,
            cx: &mut Context<'_>,
        ) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
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
        let mut upload = Upload::within(Sent(receive), Some(limit), None);
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

    #[tokio::test]
    async fn once_it_is_answered_a_client_may_be_silent() {
        let limit = Duration::from_millis(200);
        let (send, receive) = mpsc::unbounded_channel();
        let answered = Answered::default();
        let mut upload = Upload::within(Sent(receive), Some(limit), Some(answered.clone()));
        tokio::spawn(async move {
            sleep(limit / 2).await;
            answered.set();
            sleep(2 * limit).await;
            let _ = send.send(Frame::data(Bytes::from_static(b"a")));
        });
        assert!(next(&mut upload).await.unwrap().is_ok());
    }

    #[test]
    fn a_body_in_http2_is_waited_for_as_its_connection_says() {
        let limit = |version, patience: Option<Patience>| {
            let (mut parts, ()) = http::Request::new(()).into_parts();
            parts.version = version;
            patience.map(|patience| parts.extensions.insert(patience));
            let (_send, receive) = mpsc::unbounded_channel();
            Upload::new(Sent(receive), &parts).idle.map(|idle| idle.limit())
        };
        let second = Duration::from_secs(1);
        let patience = Patience { idle: second, answered: Answered::default() };
        assert_eq!(limit(Version::HTTP_10, None), Some(IDLE));
        assert_eq!(limit(Version::HTTP_11, None), Some(IDLE));
        assert_eq!(limit(Version::HTTP_2, None), None);
        assert_eq!(limit(Version::HTTP_2, Some(patience)), Some(second));
    }
}
