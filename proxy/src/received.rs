//! The body of a message as it is received, in whichever version it came.

use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use h2::RecvStream;
use http_body::{Body, Frame, SizeHint};

use crate::body::BodyError;
use crate::http1::{Download, Piped};

/// The body of a request or a response on its way in.
#[derive(Debug, Default)]
pub enum Received {
    /// There is none.
    #[default]
    Nothing,
    /// In HTTP/1, read by another task than the one that wants it.
    Piped(Piped),
    /// A response in HTTP/1, with its connection.
    Http1(Box<Download>),
    /// In HTTP/2.
    Http2(Stream),
}

/// What a stream of HTTP/2 carries.
#[derive(Debug)]
pub struct Stream {
    stream: RecvStream,
    /// What the head says of its length.
    length: Option<u64>,
    data_over: bool,
}

impl Stream {
    /// The body on `stream`, whose head says that it is so long.
    pub const fn new(stream: RecvStream, length: Option<u64>) -> Self {
        Self { stream, length, data_over: false }
    }

    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        if !self.data_over {
            match ready!(self.stream.poll_data(cx)) {
                Some(Ok(data)) => {
                    // Only more than was received could not be released.
                    let _ = self.stream.flow_control().release_capacity(data.len());
                    self.length = self.length.map(|left| left.saturating_sub(data.len() as u64));
                    return Poll::Ready(Some(Ok(Frame::data(data))));
                }
                Some(Err(error)) => return Poll::Ready(Some(Err(error.into()))),
                None => self.data_over = true,
            }
        }
        let trailers = ready!(self.stream.poll_trailers(cx))?;
        Poll::Ready(trailers.map(|trailers| Ok(Frame::trailers(trailers))))
    }
}

impl Body for Received {
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        match self.get_mut() {
            Self::Nothing => Poll::Ready(None),
            Self::Piped(body) => Pin::new(body).poll_frame(cx),
            Self::Http1(body) => Pin::new(&mut **body).poll_frame(cx),
            Self::Http2(body) => body.poll(cx),
        }
    }

    fn is_end_stream(&self) -> bool {
        match self {
            Self::Nothing => true,
            Self::Piped(body) => body.is_end_stream(),
            Self::Http1(body) => body.is_end_stream(),
            Self::Http2(body) => body.stream.is_end_stream(),
        }
    }

    fn size_hint(&self) -> SizeHint {
        match self {
            Self::Nothing => SizeHint::with_exact(0),
            Self::Piped(body) => body.size_hint(),
            Self::Http1(body) => body.size_hint(),
            Self::Http2(body) => body.length.map_or_else(SizeHint::default, SizeHint::with_exact),
        }
    }
}
