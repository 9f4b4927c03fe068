//! A 304 keeps the Content-Length of the representation that it stands for (RFC 9110 §8.6, §15.4.5).
//! hyper leaves the field out of a response to GET whose body says that it has ended, and writes
//! no body after a 304 in any case: so the body says that it has not.

use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::Bytes;
use http::header::CONTENT_LENGTH;
use http::{Response, StatusCode};
use http_body::{Frame, SizeHint};

use crate::body::{Body, BodyError};

/// A response's body as hyper's HTTP/1 server is to see it.
#[derive(Debug)]
pub struct Bodiless {
    body: Body,
    /// Whether the head has a length that nothing follows.
    length_only: bool,
}

impl Bodiless {
    /// The response as it is, but for what its body says of its end.
    pub fn respond(response: Response<Body>) -> Response<Self> {
        let length_only = response.status() == StatusCode::NOT_MODIFIED
            && response.headers().contains_key(CONTENT_LENGTH);
        response.map(|body| Self { body, length_only })
    }
}

impl http_body::Body for Bodiless {
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        Pin::new(&mut self.body).poll_frame(cx)
    }

    fn is_end_stream(&self) -> bool {
        !self.length_only && self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        if self.length_only { SizeHint::default() } else { self.body.size_hint() }
    }
}

#[cfg(test)]
mod tests {
    use http_body::Body as _;

    use super::*;

    #[test]
    fn only_a_304_that_says_a_length_does_not_say_that_it_has_ended() {
        for (status, length, ended) in
            [(304, Some("5"), false), (304, None, true), (200, Some("0"), true)]
        {
            let mut response = Response::builder().status(status);
            if let Some(length) = length {
                response = response.header(CONTENT_LENGTH, length);
            }
            let response = Bodiless::respond(response.body(Body::empty()).unwrap());
            let body = response.body();
            assert_eq!(body.is_end_stream(), ended, "{status} {length:?}");
            assert_eq!(body.size_hint().exact().is_some(), ended, "{status} {length:?}");
        }
    }
}
