//! A body on its way out on a stream of HTTP/2: no more of it is read than the other side takes.

use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::Bytes;
use h2::{Reason, SendStream};
use http_body::{Body, Frame};

use crate::body::BodyError;
use crate::idle::Idle;

/// The rest of a body, and the stream that it is sent on.
#[derive(Debug)]
pub(crate) struct Sending<B> {
    stream: SendStream<Bytes>,
    body: B,
    unread: Idle,
}

/// Why a body was not sent whole.
#[derive(Debug)]
pub(crate) enum Stopped {
    /// The other side wants no more of it, or the connection has ended.
    Refused(h2::Error),
    /// It broke off; the stream was reset.
    Broken(BodyError),
}

impl<B> Sending<B>
where
    B: Body<Data = Bytes, Error = BodyError> + Unpin,
{
    /// Sends `body` to one who may take nothing of it for as long as `reader`.
    pub(crate) const fn new(stream: SendStream<Bytes>, body: B, reader: Duration) -> Self {
        Self { stream, body, unread: Idle::new(reader) }
    }

    /// Goes on sending; resolves when all of it was handed to the connection.
    pub(crate) fn poll(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Stopped>> {
        loop {
            ready!(self.poll_room(cx)).map_err(Stopped::Refused)?;
            let piece = match Pin::new(&mut self.body).poll_frame(cx) {
                Poll::Ready(piece) => piece,
                Poll::Pending => return self.poll_reset(cx),
            };
            let sent = match piece {
                None => self.stream.send_data(Bytes::new(), true).map(|()| true),
                Some(Ok(frame)) => self.frame(frame),
                Some(Err(error)) => {
                    // The other side must not take what has come for all of it.
                    self.stream.send_reset(reason(&error));
                    return Poll::Ready(Err(Stopped::Broken(error)));
                }
            };
            if sent.map_err(Stopped::Refused)? {
                return Poll::Ready(Ok(()));
            }
        }
    }

    /// Sends a piece; says whether it was the last one.
    fn frame(&mut self, frame: Frame<Bytes>) -> Result<bool, h2::Error> {
        match frame.into_data() {
            Ok(data) => {
                let last = self.body.is_end_stream();
                self.stream.send_data(data, last)?;
                Ok(last)
            }
            Err(frame) => {
                let trailers = frame.into_trailers().unwrap_or_default();
                self.stream.send_trailers(trailers)?;
                Ok(true)
            }
        }
    }

    /// Resolves when the other side takes at least one byte more.
    fn poll_room(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), h2::Error>> {
        if self.stream.capacity() == 0 {
            self.stream.reserve_capacity(1);
        }
        while self.stream.capacity() == 0 {
            match self.stream.poll_capacity(cx) {
                Poll::Ready(Some(Ok(_))) => {}
                Poll::Ready(Some(Err(error))) => return Poll::Ready(Err(error)),
                // The stream is over.
                Poll::Ready(None) => return Poll::Ready(Err(Reason::CANCEL.into())),
                Poll::Pending if self.unread.poll(cx).is_ready() => {
                    self.stream.send_reset(Reason::CANCEL);
                    return Poll::Ready(Err(Reason::CANCEL.into()));
                }
                Poll::Pending => {
                    let reset = ready!(self.stream.poll_reset(cx))?;
                    return Poll::Ready(Err(reset.into()));
                }
            }
        }
        self.unread.moved();
        Poll::Ready(Ok(()))
    }

    /// Resolves once the other side has reset the stream.
    fn poll_reset(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Stopped>> {
        let reset = ready!(self.stream.poll_reset(cx));
        Poll::Ready(Err(Stopped::Refused(reset.map_or_else(|error| error, Into::into))))
    }
}

/// What the other side is told of a body that broke off: the reason that its sender gave, where it
/// gave one.
fn reason(error: &BodyError) -> Reason {
    match error {
        BodyError::Stream(error) => error.reason().unwrap_or(Reason::INTERNAL_ERROR),
        _ => Reason::INTERNAL_ERROR,
    }
}
