//! A body on its way out on a stream of HTTP/2: no more of it is read than the other side takes.

use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::Bytes;
use http_body::{Body, Frame};

use crate::body::BodyError;
use crate::http2::{self, Reason, SendStream};
use crate::idle::Idle;

/// The rest of a body, and the stream that it is sent on.
#[derive(Debug)]
pub(crate) struct Sending<B> {
    stream: SendStream,
    body: B,
    unread: Idle,
    /// The other side is waited for: what moved before does not count.
    waits: bool,
    /// Nothing comes after what was sent.
    ended: bool,
}

/// Why a body was not sent whole.
#[derive(Debug)]
pub(crate) enum Stopped {
    /// The other side wants no more of it, or the connection has ended.
    Refused(http2::Error),
    /// It broke off; the stream was reset.
    Broken(BodyError),
}

impl<B> Sending<B>
where
    B: Body<Data = Bytes, Error = BodyError> + Unpin,
{
    /// Sends `body` to one who may take nothing of it for as long as `reader`.
    pub(crate) const fn new(stream: SendStream, body: B, reader: Duration) -> Self {
        Self { stream, body, unread: Idle::new(reader), waits: false, ended: false }
    }

    /// Goes on sending; resolves when all of it was handed to the connection.
    pub(crate) fn poll(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Stopped>> {
        loop {
            ready!(self.poll_ready(cx)).map_err(Stopped::Refused)?;
            if self.ended {
                return Poll::Ready(Ok(()));
            }
            let piece = match Pin::new(&mut self.body).poll_frame(cx) {
                Poll::Ready(piece) => piece,
                Poll::Pending => return self.stream.poll_failed(cx).map(refused),
            };
            let sent = match piece {
                None => self.stream.end().map(|()| true),
                Some(Ok(frame)) => self.frame(frame),
                Some(Err(error)) => {
                    // The other side must not take what has come for all of it.
                    self.stream.reset(reason(&error));
                    return Poll::Ready(Err(Stopped::Broken(error)));
                }
            };
            self.ended = sent.map_err(Stopped::Refused)?;
        }
    }

    /// Sends a piece; says whether it was the last one.
    fn frame(&mut self, frame: Frame<Bytes>) -> Result<bool, http2::Error> {
        match frame.into_data() {
            Ok(data) => {
                let last = self.body.is_end_stream();
                self.stream.data(data, last)?;
                Ok(last)
            }
            Err(frame) => {
                let trailers = frame.into_trailers().unwrap_or_default();
                self.stream.trailers(trailers)?;
                Ok(true)
            }
        }
    }

    /// Resolves when the last piece is on its way.
    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), http2::Error>> {
        let ready = self.stream.poll_ready(cx);
        if ready.is_ready() {
            self.waits = false;
            self.unread.moved();
            return ready;
        }
        if !std::mem::replace(&mut self.waits, true) {
            self.stream.has_moved();
        }
        while self.unread.poll(cx).is_ready() {
            if !self.stream.has_moved() {
                self.stream.reset(Reason::CANCEL);
                return Poll::Ready(Err(http2::Error::reset(Reason::CANCEL)));
            }
            self.unread.moved();
        }
        Poll::Pending
    }
}

fn refused(error: http2::Error) -> Result<(), Stopped> {
    Err(Stopped::Refused(error))
}

/// What the other side is told of a body that broke off: the reason that its sender gave, where it
/// gave one.
fn reason(error: &BodyError) -> Reason {
    match error {
        BodyError::Stream(error) => error.reason().unwrap_or(Reason::INTERNAL_ERROR),
        _ => Reason::INTERNAL_ERROR,
    }
}
