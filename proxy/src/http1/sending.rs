//! A request on its way to a connection: what is taken of its body is here until it is written.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use http::{Method, Request};
use http_body::Body as _;
use tokio::io::AsyncWrite;

use super::encode::{self, Encoder};
use crate::body::{BodyError, RequestBody};
use crate::out::Out;

/// A request that is being sent. One that no connection took a byte of can be sent on another as it
/// is: nothing of its body is lost with the first.
#[derive(Debug, Default)]
pub(crate) struct Sending {
    pub(super) method: Method,
    /// Whether it asks for another protocol.
    pub(super) upgrade: bool,
    encoder: Encoder,
    body: RequestBody,
    out: Out,
    /// All of it was taken up.
    over: bool,
    /// Something of it was sent.
    begun: bool,
}

/// Why a request is not sent any further.
#[derive(Debug)]
pub(super) enum Stopped {
    /// The connection is closed, and took nothing of it.
    Unsent,
    /// The connection takes no more.
    Lost(io::Error),
    /// The request's body broke off.
    Body(BodyError),
    /// The body has another length than its head says.
    WrongLength,
}

impl Sending {
    /// The `request`, whose body is taken from it.
    pub(crate) fn new(request: &mut Request<RequestBody>) -> Self {
        let mut out = Out::default();
        let encoder = encode::request(&mut out, request);
        Self {
            method: request.method().clone(),
            upgrade: request.headers().contains_key(http::header::UPGRADE),
            encoder,
            body: std::mem::take(request.body_mut()),
            out,
            over: false,
            begun: false,
        }
    }

    /// Whether all of it was sent.
    pub(super) const fn is_sent(&self) -> bool {
        self.over && self.out.is_empty()
    }

    /// Sends what there is of it on `io`; resolves when all of it was sent.
    pub(super) fn poll_send(
        &mut self,
        cx: &mut Context<'_>,
        io: &mut (impl AsyncWrite + Unpin),
    ) -> Poll<Result<(), Stopped>> {
        loop {
            self.take_up(cx)?;
            if self.out.is_empty() {
                return if self.over { Poll::Ready(Ok(())) } else { Poll::Pending };
            }
            let length = self.out.length();
            let written = self.out.poll_write(cx, io);
            self.begun |= self.out.length() < length;
            match ready!(written) {
                Ok(()) => ready!(Pin::new(&mut *io).poll_flush(cx)).map_err(Stopped::Lost)?,
                Err(_) if !self.begun => return Poll::Ready(Err(Stopped::Unsent)),
                Err(error) => return Poll::Ready(Err(Stopped::Lost(error))),
            }
        }
    }

    /// Takes up the body as far as it is there.
    fn take_up(&mut self, cx: &mut Context<'_>) -> Result<(), Stopped> {
        while !self.over && !self.out.is_full() {
            if self.encoder.is_over() && self.body.is_end_stream() {
                self.over = true;
                break;
            }
            match Pin::new(&mut self.body).poll_frame(cx) {
                Poll::Pending => break,
                Poll::Ready(Some(Ok(frame))) => {
                    self.encoder.frame(&mut self.out, frame).map_err(|_| Stopped::WrongLength)?;
                }
                Poll::Ready(Some(Err(error))) => return Err(Stopped::Body(error)),
                Poll::Ready(None) => {
                    self.encoder.end(&mut self.out).map_err(|_| Stopped::WrongLength)?;
                    self.over = true;
                }
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::future::poll_fn;

    use bytes::Bytes;
    use http::StatusCode;
    use http_body::Frame;
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::net::{TcpSocket, TcpStream};
    use tokio_util::either::Either;

    use super::*;
    use crate::http1::pipe::pipe;
    use crate::http1::{Answer, Connection, Failure};
    use crate::received::Received;
    use crate::upload::Upload;

    /// A request with a body whose length its head does not say, all of which is there.
    fn put(body: Vec<u8>) -> Sending {
        let (feed, piped) = pipe(None);
        feed.give(Ok(Frame::data(Bytes::from(body))), true);
        let (parts, ()) = Request::put("/").body(()).unwrap().into_parts();
        let body = RequestBody::Stream(Box::new(Upload::new(Received::Piped(piped), &parts)));
        Sending::new(&mut Request::from_parts(parts, body))
    }

    /// A connection that takes little at once, and its application's end.
    async fn connection() -> (TcpStream, TcpStream) {
        let listener = TcpSocket::new_v4().unwrap();
        listener.set_recv_buffer_size(4096).unwrap();
        listener.bind("127.0.0.1:0".parse().unwrap()).unwrap();
        let listener = listener.listen(1).unwrap();
        let near = TcpSocket::new_v4().unwrap();
        near.set_send_buffer_size(4096).unwrap();
        let near = near.connect(listener.local_addr().unwrap()).await.unwrap();
        (near, listener.accept().await.unwrap().0)
    }

    async fn send(near: TcpStream, sending: Sending) -> Result<Answer, Failure> {
        Connection::new(Either::Right(near), None).send(sending, None).await
    }

    async fn read_to(far: &mut TcpStream, end: &str) -> String {
        let mut read = Vec::new();
        while !read.ends_with(end.as_bytes()) {
            assert_ne!(far.read_buf(&mut read).await.unwrap(), 0, "{}", read.escape_ascii());
        }
        String::from_utf8(read).unwrap()
    }

    #[tokio::test]
    async fn what_a_closed_connection_took_nothing_of_is_whole_on_the_next() {
        let (mut near, far) = connection().await;
        near.write_all(b"unread").await.unwrap();
        far.readable().await.unwrap();
        drop(far); // before that was read: a reset
        let sent = send(near, put(b"all of it".to_vec())).await;
        let Err(Failure::Unsent(unsent)) = sent else { panic!("not unsent") };

        let (near, mut far) = connection().await;
        let answering = tokio::spawn(async move {
            let read = read_to(&mut far, "0\r\n\r\n").await;
            far.write_all(b"HTTP/1.1 204 No Content\r\n\r\n").await.unwrap();
            read
        });
        let Ok(Answer::Response(response)) = send(near, *unsent).await else { panic!("no answer") };
        assert_eq!(response.status(), StatusCode::NO_CONTENT);
        let read = answering.await.unwrap();
        let whole = "transfer-encoding: chunked\r\n\r\n9\r\nall of it\r\n0\r\n\r\n";
        assert!(read.starts_with("PUT / HTTP/1.1\r\n") && read.ends_with(whole), "{read}");
    }

    #[tokio::test]
    async fn a_request_that_is_answered_early_is_sent_to_its_end() {
        const SIZE: usize = 60_000; // taken up at once, and too much for the connection
        let (near, mut far) = connection().await;
        let answering = tokio::spawn(async move {
            far.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 4\r\n\r\n").await.unwrap();
            let read = read_to(&mut far, "0\r\n\r\n").await;
            far.write_all(b"read").await.unwrap();
            read.matches('z').count()
        });
        let sent = send(near, put(vec![b'z'; SIZE])).await;
        let Ok(Answer::Response(response)) = sent else { panic!("no answer") };
        let mut body = response.into_body();
        let piece = poll_fn(|cx| Pin::new(&mut body).poll_frame(cx)).await.unwrap().unwrap();
        assert_eq!(piece.into_data().unwrap(), "read");
        assert_eq!(answering.await.unwrap(), SIZE);
    }
}
