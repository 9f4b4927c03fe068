//! The bodies that travel through the sidecar: requests on their way up, responses on their way
//! down. A response's body carries the [`Exchange`] of its request and ends it.

use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::{Duration, Instant};

use bytes::Bytes;
use http_body::{Body as _, Frame, SizeHint};
use model::code::ErrorCode;
use tokio::time::{Sleep, sleep_until};

use crate::edge;
use crate::error::ProxyError;
use crate::exchange::Exchange;
use crate::gather::Gather;
use crate::http2;
use crate::received::Received;
use crate::replay::Attempt;
use crate::upload::Upload;
use crate::upstream::Lease;

/// Why a body ended before its end.
#[derive(Debug, thiserror::Error)]
pub enum BodyError {
    /// The connection of the one who sends it ended before it did.
    #[error("the connection ended within the body")]
    Cut,
    /// It is malformed in HTTP/1, or could be read in two ways.
    #[error("the body is malformed")]
    Malformed,
    /// The stream of HTTP/2 that it comes on failed.
    #[error(transparent)]
    Stream(#[from] http2::Error),
    /// A later attempt reads the body now.
    #[error("the request was sent again on another connection")]
    Superseded,
    /// The client sent nothing for this long.
    #[error("the client sent nothing of its body for {0:?}")]
    Idle(Duration),
    /// The client gave it no longer.
    #[error("the client's grpc-timeout ran out")]
    Late,
    /// The client's trailers are over their bounds.
    #[error("the trailers have more than 64 fields or 16 KiB")]
    TrailersTooLarge,
}

impl BodyError {
    /// Whether its sender said that it ends here, and why.
    fn is_reset(&self) -> bool {
        matches!(self, Self::Stream(error) if error.is_reset())
    }

    /// What it means for the request.
    pub fn code(&self) -> ErrorCode {
        match self {
            Self::Malformed => ErrorCode::BadRequest,
            Self::Stream(error) if error.is_broken_rule() => ErrorCode::BadRequest,
            Self::Cut | Self::Stream(_) | Self::Superseded => ErrorCode::ClientClosed,
            Self::Idle(_) => ErrorCode::BodyTimeout,
            Self::Late => ErrorCode::RequestTimeout,
            Self::TrailersTooLarge => ErrorCode::HeadTooLarge,
        }
    }
}

/// A request's body on its way to an endpoint or the application.
#[derive(Debug, Default)]
pub enum RequestBody {
    /// There is none.
    #[default]
    Empty,
    /// Passed through as it comes.
    Stream(Box<Upload>),
    /// Passed through and kept for another attempt.
    Replayed(Attempt),
}

impl http_body::Body for RequestBody {
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        match self.get_mut() {
            Self::Empty => Poll::Ready(None),
            Self::Stream(body) => Pin::new(&mut **body).poll_frame(cx),
            Self::Replayed(body) => Pin::new(body).poll_frame(cx),
        }
    }

    fn is_end_stream(&self) -> bool {
        match self {
            Self::Empty => true,
            Self::Stream(body) => body.is_end_stream(),
            Self::Replayed(body) => body.is_end_stream(),
        }
    }

    fn size_hint(&self) -> SizeHint {
        match self {
            Self::Empty => SizeHint::with_exact(0),
            Self::Stream(body) => body.size_hint(),
            Self::Replayed(_) => SizeHint::default(),
        }
    }
}

/// A response's body on its way to the client.
#[derive(Debug)]
pub struct Body {
    source: Source,
    /// Dropped, and so finished, at the end of the body or when the client goes away.
    exchange: Option<Box<Exchange>>,
    /// When a gRPC call is over, whatever has come of it.
    deadline: Option<Pin<Box<Sleep>>>,
}

#[derive(Debug)]
enum Source {
    Full(Option<Bytes>),
    /// Boxed, for a response is moved many times on its way.
    Stream(Box<Stream>),
}

/// What comes from an upstream.
#[derive(Debug)]
struct Stream {
    body: Gather<Received>,
    /// The place on a shared connection that it comes on, until its end.
    lease: Option<Lease>,
}

impl Body {
    /// No bytes.
    pub const fn empty() -> Self {
        Self::of(Source::Full(None))
    }

    /// These bytes.
    pub const fn full(bytes: Bytes) -> Self {
        Self::of(Source::Full(Some(bytes)))
    }

    /// What an upstream sends on the connection of `lease`.
    pub fn stream(source: Received, lease: Lease) -> Self {
        let stream = Stream { body: Gather::new(source), lease: Some(lease) };
        Self::of(Source::Stream(Box::new(stream)))
    }

    const fn of(source: Source) -> Self {
        Self { source, exchange: None, deadline: None }
    }

    /// Ends the body of a gRPC call at `deadline`, with the status that says so.
    pub fn until(mut self, deadline: Instant) -> Self {
        if !self.is_end_stream() {
            self.deadline = Some(Box::pin(sleep_until(deadline.into())));
        }
        self
    }

    /// Has the body finish `exchange` when it ends.
    pub fn finishing(mut self, exchange: Box<Exchange>) -> Self {
        self.exchange = Some(exchange);
        if self.is_end_stream() {
            self.end();
        }
        self
    }

    /// The body was sent whole.
    fn end(&mut self) {
        if let Some(mut exchange) = self.exchange.take() {
            exchange.complete();
        }
        self.leave();
    }

    /// Its sender has ended it before its end.
    fn reset(&mut self) {
        if let Some(mut exchange) = self.exchange.take() {
            exchange.failed(ErrorCode::UpstreamReset);
        }
        self.leave();
    }

    /// Gives up its place on a shared connection.
    fn leave(&mut self) {
        if let Source::Stream(stream) = &mut self.source {
            stream.lease = None;
        }
    }

    /// Whether the deadline has passed.
    fn is_late(&mut self, cx: &mut Context<'_>) -> bool {
        self.deadline.as_mut().is_some_and(|deadline| deadline.as_mut().poll(cx).is_ready())
    }

    /// Ends a body before its end: a gRPC call with the status that says so, anything else by
    /// breaking off. What the upstream still sends of it is not read.
    fn cut(&mut self, error: &ProxyError, cause: BodyError) -> Result<Frame<Bytes>, BodyError> {
        (self.deadline, self.source) = (None, Source::Full(None));
        let told = self.exchange.take().and_then(|mut exchange| exchange.break_off(error));
        told.map(Frame::trailers).ok_or(cause)
    }

    fn observe(&mut self, frame: &mut Frame<Bytes>) {
        if let Some(trailers) = frame.trailers_mut() {
            edge::trailers(trailers);
        }
        let Some(exchange) = self.exchange.as_deref_mut() else { return };
        if let Some(data) = frame.data_ref() {
            exchange.sent(data.len());
        } else if let Some(trailers) = frame.trailers_ref() {
            exchange.trailers(trailers);
        }
    }
}

impl http_body::Body for Body {
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        let this = self.get_mut();
        if this.is_late(cx) {
            let late = "the client's grpc-timeout ran out";
            let late = ProxyError::new(ErrorCode::RequestTimeout, late);
            return Poll::Ready(Some(this.cut(&late, BodyError::Late)));
        }
        let mut frame = match &mut this.source {
            Source::Full(bytes) => bytes.take().map(|bytes| Ok(Frame::data(bytes))),
            Source::Stream(stream) => ready!(Pin::new(&mut stream.body).poll_frame(cx)),
        };
        match frame {
            Some(Ok(ref mut frame)) => this.observe(frame),
            Some(Err(cause)) if !cause.is_reset() => {
                let lost = ProxyError::new(ErrorCode::UpstreamReset, cause.to_string());
                return Poll::Ready(Some(this.cut(&lost, cause)));
            }
            Some(Err(_)) => this.reset(),
            None => this.end(),
        }
        if frame.is_some() && this.is_end_stream() {
            this.end();
        }
        Poll::Ready(frame)
    }

    fn is_end_stream(&self) -> bool {
        match &self.source {
            Source::Full(bytes) => bytes.is_none(),
            Source::Stream(stream) => stream.body.is_end_stream(),
        }
    }

    fn size_hint(&self) -> SizeHint {
        match &self.source {
            Source::Full(bytes) => {
                SizeHint::with_exact(bytes.as_ref().map_or(0, Bytes::len) as u64)
            }
            Source::Stream(stream) => stream.body.size_hint(),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::future::poll_fn;
    use std::sync::Arc;

    use futures_util::FutureExt;
    use model::endpoint::{Endpoint, EndpointKey};

    use super::*;
    use crate::upstream::LoadGuard;

    #[test]
    fn a_body_that_has_ended_holds_nothing_of_its_endpoint() {
        let (now, target) = (Instant::now(), 80);
        let key = EndpointKey { address: [127, 0, 0, 1].into(), target, mesh: None };
        let endpoint = Arc::new(Endpoint::new(key, "api", now));
        let lease = Lease::default().with_load(LoadGuard::begin(&endpoint, now));
        let mut body = Body::stream(Received::Nothing, lease);
        assert_eq!(endpoint.load.in_flight(), 1);
        let piece = poll_fn(|cx| Pin::new(&mut body).poll_frame(cx)).now_or_never();
        assert!(piece.is_some_and(|piece| piece.is_none()), "its end is there");
        assert_eq!(endpoint.load.in_flight(), 0, "though its reader still has it");
    }
}
