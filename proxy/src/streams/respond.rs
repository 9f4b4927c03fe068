//! A response on a stream of HTTP/2: no more of it is read than the other side takes.

use std::future::poll_fn;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use h2::server::SendResponse;
use h2::{Reason, SendStream};
use http::header::{CONTENT_LENGTH, DATE};
use http::{HeaderValue, Response};
use http_body::{Body as _, Frame};

use crate::body::{Body, BodyError};
use crate::idle::Idle;

/// Sends the whole of `response`, to a client that may take nothing of it for as long as `reader`.
pub(super) async fn send(
    mut stream: SendResponse<Bytes>,
    response: Response<Body>,
    reader: Duration,
) -> Result<(), h2::Error> {
    let (mut parts, body) = response.into_parts();
    let ended = body.is_end_stream();
    if let (Some(length), false) = (body.size_hint().exact(), ended) {
        parts.headers.entry(CONTENT_LENGTH).or_insert_with(|| length.into());
    }
    parts.headers.entry(DATE).or_insert_with(now);
    let stream = stream.send_response(Response::from_parts(parts, ()), ended)?;
    if ended { Ok(()) } else { send_body(stream, body, Idle::new(reader)).await }
}

async fn send_body(
    mut stream: SendStream<Bytes>,
    mut body: Body,
    mut unread: Idle,
) -> Result<(), h2::Error> {
    loop {
        room(&mut stream, &mut unread).await?;
        match next(&mut stream, &mut body).await? {
            None => return stream.send_data(Bytes::new(), true),
            Some(Err(_)) => {
                // The client must not take what has come for all of it.
                stream.send_reset(Reason::INTERNAL_ERROR);
                return Ok(());
            }
            Some(Ok(frame)) => match frame.into_data() {
                Ok(data) => {
                    let last = body.is_end_stream();
                    stream.send_data(data, last)?;
                    if last {
                        return Ok(());
                    }
                }
                Err(frame) => {
                    let trailers = frame.into_trailers().unwrap_or_default();
                    return stream.send_trailers(trailers);
                }
            },
        }
    }
}

/// Resolves when the other side takes at least one byte more.
async fn room(stream: &mut SendStream<Bytes>, unread: &mut Idle) -> Result<(), h2::Error> {
    stream.reserve_capacity(1);
    unread.moved();
    poll_fn(|cx| {
        while stream.capacity() == 0 {
            match stream.poll_capacity(cx) {
                Poll::Ready(Some(Ok(_))) => {}
                Poll::Ready(Some(Err(error))) => return Poll::Ready(Err(error)),
                // The stream is over.
                Poll::Ready(None) => return Poll::Ready(Err(Reason::CANCEL.into())),
                Poll::Pending if unread.poll(cx).is_ready() => {
                    stream.send_reset(Reason::CANCEL);
                    return Poll::Ready(Err(Reason::CANCEL.into()));
                }
                Poll::Pending => return reset(stream, cx),
            }
        }
        Poll::Ready(Ok(()))
    })
    .await
}

type Piece = Option<Result<Frame<Bytes>, BodyError>>;

/// The next piece of the body, unless the other side wants no more.
async fn next(stream: &mut SendStream<Bytes>, body: &mut Body) -> Result<Piece, h2::Error> {
    poll_fn(|cx| match Pin::new(&mut *body).poll_frame(cx) {
        Poll::Ready(piece) => Poll::Ready(Ok(piece)),
        Poll::Pending => reset(stream, cx),
    })
    .await
}

/// An error once the other side has reset the stream.
fn reset<T>(stream: &mut SendStream<Bytes>, cx: &mut Context<'_>) -> Poll<Result<T, h2::Error>> {
    stream.poll_reset(cx).map(|reason| Err(reason?.into()))
}

fn now() -> HeaderValue {
    let text = httpdate::fmt_http_date(std::time::SystemTime::now());
    // invariant: a date is ASCII.
    HeaderValue::from_str(&text).unwrap_or_else(|_| HeaderValue::from_static(""))
}
