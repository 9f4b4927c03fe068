//! The server's side of a connection: requests one after the other, each answered before the next
//! is read.

use std::fmt;
use std::future::{Future, poll_fn};
use std::io;
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll, ready};

use bytes::BytesMut;
use http::{Method, Request, Response, StatusCode, Version};
use http_body::Body as _;
use tokio::sync::oneshot;
use tokio::time::timeout;

use super::encode::{self, Asked, Encoder};
use super::head::{self, BadHead};
use super::lines::Lines;
use super::upload::{Feeding, Upload};
use crate::body::{Body, BodyError};
use crate::carried::Carried;
use crate::drain::{Drain, Rest};
use crate::farewell::{FAREWELL, Farewell};
use crate::fill::{Expected, Pace};
use crate::idle::Idle;
use crate::out::Out;
use crate::received::Received;
use crate::server::{HEAD_TIMEOUT, KEEP_ALIVE, READER_TIMEOUT};
use crate::sniff::Prefixed;

/// How much of what follows a request is read before its turn.
const AHEAD: usize = 16 * 1024;

/// A connection on which HTTP has ended.
pub(crate) type Switched = Box<dyn Carried + Send>;

/// The connection of a CONNECT or an upgrade, once it is granted; an extension of the request.
#[derive(Clone)]
pub(crate) struct OnSwitch(Arc<Mutex<Option<oneshot::Receiver<Switched>>>>);

impl fmt::Debug for OnSwitch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("OnSwitch")
    }
}

impl OnSwitch {
    fn new() -> (oneshot::Sender<Switched>, Self) {
        let (tell, told) = oneshot::channel();
        (tell, Self(Arc::new(Mutex::new(Some(told)))))
    }

    /// Resolves when the response that grants it was sent; `None` when it was not, or when another
    /// one waits for it.
    pub(crate) async fn granted(self) -> Option<Switched> {
        let waited = self.0.lock().unwrap_or_else(PoisonError::into_inner).take();
        waited?.await.ok()
    }
}

/// Serves the connection until the client or the drain ends it, or a head that cannot be read, of
/// which `refuse` makes the answer.
///
/// # Errors
/// What went wrong with the connection.
pub(crate) async fn serve<I, H, F, R>(
    io: Prefixed<I>,
    drain: &Drain,
    handle: H,
    refuse: R,
) -> io::Result<()>
where
    I: Carried + Send + 'static,
    H: Fn(Request<Received>) -> F,
    F: Future<Output = Response<Body>>,
    R: Fn(BadHead) -> Response<Body>,
{
    let mut connection = Connection::new(io);
    let mut rest = drain.rest();
    while let Some(mut asked) = connection.head(&mut rest, &refuse).await? {
        match connection.exchange(&mut asked, drain, &handle).await? {
            Next::Request => {}
            Next::End => return connection.end().await,
            Next::Switch(tell) => {
                let io: Switched = Box::new(Prefixed::new(connection.read, connection.io));
                // Whoever granted it may be gone, and the connection goes with him.
                let _ = tell.send(io);
                return Ok(());
            }
        }
    }
    connection.end().await
}

/// What follows a request and its response.
enum Next {
    Request,
    End,
    /// Something else than HTTP.
    Switch(oneshot::Sender<Switched>),
}

struct Connection<I> {
    io: I,
    read: BytesMut,
    pace: Pace,
    lines: Lines,
    out: Out,
    /// The client has ended its side.
    ended: bool,
    silent: Idle,
    slow: Idle,
    unread: Idle,
}

impl<I: Carried + Send + 'static> Connection<I> {
    fn new(io: Prefixed<I>) -> Self {
        let (read, io) = io.into_parts();
        Self {
            io,
            read,
            pace: Pace::default(),
            lines: Lines::default(),
            out: Out::default(),
            ended: false,
            silent: Idle::new(KEEP_ALIVE),
            slow: Idle::new(HEAD_TIMEOUT),
            unread: Idle::new(READER_TIMEOUT),
        }
    }

    /// The head of the next request; `None` when there is none any more, as after one that cannot be
    /// read and is refused.
    async fn head<D, R>(
        &mut self,
        rest: &mut Rest<'_, D>,
        refuse: &R,
    ) -> io::Result<Option<head::Asked>>
    where
        D: Future<Output = ()>,
        R: Fn(BadHead) -> Response<Body>,
    {
        self.silent.moved();
        self.slow.moved();
        let parsed = poll_fn(|cx| {
            loop {
                match head::request(&mut self.read, &mut self.lines) {
                    Ok(None) => {}
                    parsed => return Poll::Ready(Ok(parsed)),
                }
                match self.pace.poll_fill(&mut self.io, &mut self.read, Expected::Head, cx)? {
                    Poll::Ready(0) => {
                        self.ended = true;
                        return Poll::Ready(Ok(Ok(None)));
                    }
                    Poll::Ready(_) => rest.over(),
                    // A client that keeps its connection for the next request is in no hurry; a
                    // head that has begun must be whole in time.
                    Poll::Pending if self.read.is_empty() => {
                        self.read = BytesMut::new(); // nothing is kept while nothing comes
                        if rest.poll(cx).is_pending() {
                            ready!(self.silent.poll(cx));
                        }
                        return Poll::Ready(Ok(Ok(None)));
                    }
                    Poll::Pending => {
                        ready!(self.slow.poll(cx));
                        let late = format!("a head that is not whole after {HEAD_TIMEOUT:?}");
                        return Poll::Ready(Err(io::Error::new(io::ErrorKind::TimedOut, late)));
                    }
                }
            }
        })
        .await?;
        match parsed {
            Ok(asked) => Ok(asked),
            Err(bad) => {
                tracing::debug!(error = %bad, "HTTP/1: request refused");
                // Boxed, so that a connection that rests has no room for it.
                Box::pin(self.refuse(refuse(bad))).await.map(|()| None)
            }
        }
    }

    /// Answers a head that cannot be read; nor can what follows it.
    async fn refuse(&mut self, response: Response<Body>) -> io::Result<()> {
        let asked =
            Asked { version: Version::HTTP_11, head: false, trailers: false, connect: false };
        let (mut upload, _) = Upload::open(None, false, &mut self.read);
        self.respond(response, asked, true, &mut upload).await.map(|_| ())
    }

    /// Has one request handled and sends the response. The request is taken from its head.
    async fn exchange<H, F>(
        &mut self,
        head: &mut head::Asked,
        drain: &Drain,
        handle: &H,
    ) -> io::Result<Next>
    where
        H: Fn(Request<Received>) -> F,
        F: Future<Output = Response<Body>>,
    {
        let head::Asked { request, body, notes } = head;
        let asked = Asked {
            version: request.version(),
            head: *request.method() == Method::HEAD,
            trailers: notes.trailers,
            connect: *request.method() == Method::CONNECT,
        };
        let switch = (asked.connect || notes.upgrade).then(|| {
            let (tell, told) = OnSwitch::new();
            request.extensions_mut().insert(told);
            tell
        });
        let (mut upload, body) = Upload::open(body.take(), notes.expects, &mut self.read);
        let response = {
            // Boxed, for it is large, and most connections are idle.
            let mut handled = Box::pin(handle(std::mem::take(request).map(|()| body)));
            poll_fn(|cx| match handled.as_mut().poll(cx) {
                Poll::Ready(response) => Poll::Ready(Ok(response)),
                Poll::Pending => self.poll_read(cx, &mut upload).map(Err),
            })
            .await?
        };
        if let Some(tell) = switch {
            if leaves_http(response.status(), asked.connect) {
                encode::response(&mut self.out, &response, asked, false);
                drop(response);
                return self.flush().await.map(|()| Next::Switch(tell));
            }
            // What follows such a request may be no HTTP: it is the last one.
            self.respond(response, asked, true, &mut upload).await?;
            return Ok(Next::End);
        }
        upload.pass_over(&mut self.read);
        let last = !notes.keep_alive || drain.has_begun() || upload.is_abandoned() || self.ended;
        let closes = self.respond(response, asked, last, &mut upload).await?;
        upload.pass_over(&mut self.read);
        let over = last || closes || !upload.decoder.is_over();
        Ok(if over { Next::End } else { Next::Request })
    }

    /// Sends the response, while the rest of the request's body is read; says whether the end of
    /// the connection is a part of it.
    async fn respond(
        &mut self,
        response: Response<Body>,
        asked: Asked,
        last: bool,
        upload: &mut Upload,
    ) -> io::Result<bool> {
        let mut encoder = encode::response(&mut self.out, &response, asked, last);
        let closes = encoder == Encoder::UntilClose;
        let mut body = response.into_body();
        self.unread.moved();
        while !encoder.is_over() || !body.is_end_stream() {
            let piece = poll_fn(|cx| self.poll_piece(cx, &mut body, upload)).await?;
            let whole = match piece {
                Some(Ok(frame)) => encoder.frame(&mut self.out, frame),
                Some(Err(error)) => {
                    return Err(self.break_off(encoder, &error.to_string()).await);
                }
                None => {
                    let ended = encoder.end(&mut self.out);
                    if ended.is_ok() {
                        break;
                    }
                    ended
                }
            };
            if whole.is_err() {
                let why = "a body of another length than its head says";
                return Err(self.break_off(encoder, why).await);
            }
        }
        drop(body);
        self.flush().await?;
        Ok(closes)
    }

    /// The next piece of the response. What was written before goes out when there is none yet, or
    /// when it is much.
    fn poll_piece(
        &mut self,
        cx: &mut Context<'_>,
        body: &mut Body,
        upload: &mut Upload,
    ) -> Poll<io::Result<Piece>> {
        if self.out.is_full() {
            if let Poll::Ready(error) = self.poll_read(cx, upload) {
                return Poll::Ready(Err(error));
            }
            ready!(self.poll_flush(cx))?;
        }
        if let Poll::Ready(piece) = Pin::new(body).poll_frame(cx) {
            return Poll::Ready(Ok(piece));
        }
        if let Poll::Ready(Err(error)) = self.poll_flush(cx) {
            return Poll::Ready(Err(error));
        }
        self.poll_read(cx, upload).map(Err)
    }

    /// Feeds the request's body to whoever wants it, and looks for the client's end. Resolves when
    /// the client is gone.
    fn poll_read(&mut self, cx: &mut Context<'_>, upload: &mut Upload) -> Poll<io::Error> {
        loop {
            let gone = match upload.poll(cx, &mut self.read) {
                Feeding::Waits => return Poll::Pending,
                Feeding::Over if self.ended || self.read.len() >= AHEAD => return Poll::Pending,
                Feeding::Over => match ready!(self.pace.poll_fill(
                    &mut self.io,
                    &mut self.read,
                    Expected::Head,
                    cx
                )) {
                    Ok(0) => io::ErrorKind::UnexpectedEof.into(),
                    Ok(_) => continue,
                    Err(error) => error,
                },
                Feeding::Hungry => {
                    if std::mem::take(&mut upload.expects) {
                        self.out.text(b"HTTP/1.1 100 Continue\r\n\r\n");
                    }
                    if let Poll::Ready(Err(error)) = self.poll_flush(cx) {
                        return Poll::Ready(error);
                    }
                    let expected = Expected::Body(upload.decoder.left());
                    match ready!(self.pace.poll_fill(&mut self.io, &mut self.read, expected, cx)) {
                        Ok(1..) => continue,
                        Ok(0) => io::ErrorKind::UnexpectedEof.into(),
                        Err(error) => error,
                    }
                }
            };
            self.ended = true;
            if upload.decoder.is_over() {
                return Poll::Ready(gone);
            }
            upload.feed = None; // its reader hears that it is cut off, and answers
        }
    }

    fn poll_flush(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let before = self.out.length();
        let written = self.out.poll_write(cx, &mut self.io);
        if self.out.length() < before {
            self.unread.moved();
        }
        if written.is_ready() {
            ready!(written)?;
            return Pin::new(&mut self.io).poll_flush(cx);
        }
        ready!(self.unread.poll(cx));
        let text = format!("the client read nothing for {READER_TIMEOUT:?}");
        Poll::Ready(Err(io::Error::new(io::ErrorKind::TimedOut, text)))
    }

    async fn flush(&mut self) -> io::Result<()> {
        poll_fn(|cx| self.poll_flush(cx)).await
    }

    /// Ends a response that cannot be sent whole so that it does not look whole.
    async fn break_off(&mut self, encoder: Encoder, why: &str) -> io::Error {
        // What came before it may be worth something.
        let _ = timeout(FAREWELL, self.flush()).await;
        match encoder {
            Encoder::UntilClose => self.io.reset(),
            _ => self.io.end(), // its framing tells
        }
        io::Error::new(io::ErrorKind::ConnectionAborted, why.to_owned())
    }

    /// Ends the connection in order: a client that is still sending hears the response first.
    async fn end(mut self) -> io::Result<()> {
        let mut farewell = Farewell::new();
        poll_fn(|cx| farewell.poll(cx, &mut self.io)).await
    }
}

type Piece = Option<Result<http_body::Frame<bytes::Bytes>, BodyError>>;

/// Whether the bytes after a response are HTTP no more (RFC 9110 §9.3.6, §15.2.2).
fn leaves_http(status: StatusCode, connect: bool) -> bool {
    status == StatusCode::SWITCHING_PROTOCOLS || (connect && status.is_success())
}
