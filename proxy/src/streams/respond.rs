//! A response on a stream of HTTP/2.

use std::future::poll_fn;
use std::time::Duration;

use http::Response;
use http::header::{CONTENT_LENGTH, DATE};
use http_body::Body as _;

use super::send::{Sending, Stopped};
use crate::body::Body;
use crate::headers::date;
use crate::http2::{self, SendStream};

/// Sends the whole of `response`, to a client that may take nothing of it for as long as `reader`.
pub(super) async fn send(
    mut stream: SendStream,
    response: Response<Body>,
    reader: Duration,
) -> Result<(), http2::Error> {
    let (mut parts, body) = response.into_parts();
    let ended = body.is_end_stream();
    // Nothing is no length here: what answers HEAD is empty as well.
    if let (Some(length @ 1..), false) = (body.size_hint().exact(), ended) {
        parts.headers.entry(CONTENT_LENGTH).or_insert_with(|| length.into());
    }
    parts.headers.entry(DATE).or_insert_with(date);
    stream.respond(&Response::from_parts(parts, ()), ended)?;
    if ended {
        return Ok(());
    }
    let mut sending = Sending::new(stream, body, reader);
    match poll_fn(|cx| sending.poll(cx)).await {
        Err(Stopped::Refused(error)) => Err(error),
        // The client was told.
        Ok(()) | Err(Stopped::Broken(_)) => Ok(()),
    }
}
