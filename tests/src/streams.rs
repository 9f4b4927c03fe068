//! HTTP/2 as streams, on the crate h2 itself: resets, windows and GOAWAY are in a test's hands.

use std::future::poll_fn;
use std::net::SocketAddr;

use bytes::{Buf, BufMut, Bytes, BytesMut};
use h2::client::{Builder, ResponseFuture, SendRequest};
use h2::{Reason, RecvStream, SendStream};
use http::{HeaderMap, Request, Response};
use tokio::net::TcpStream;
use tokio::time::timeout;

use crate::poll::SOON;

/// How much one stream may send ahead of its reader, in bytes.
pub const WINDOW: u32 = 64 * 1024;

/// How much all streams of a connection may: no stream that is not read stops the others.
const CONNECTION_WINDOW: u32 = 100 * WINDOW;

/// A client's connection; clones share it.
#[derive(Debug, Clone)]
pub struct Streams(SendRequest<Bytes>);

impl Streams {
    /// Connects with prior knowledge.
    ///
    /// # Panics
    /// When there is no connection.
    pub async fn connect(address: SocketAddr) -> Self {
        let socket = TcpStream::connect(address).await.expect("a connection");
        socket.set_nodelay(true).unwrap();
        let mut settings = Builder::new();
        settings.initial_window_size(WINDOW).initial_connection_window_size(CONNECTION_WINDOW);
        let (sender, connection) = settings.handshake(socket).await.expect("HTTP/2");
        // The streams hear how it ended.
        tokio::spawn(async move { drop(connection.await) });
        Self(sender)
    }

    /// Opens a stream whose request has a body, or is a tunnel.
    ///
    /// # Panics
    /// When the connection takes no more.
    pub async fn open(&self, request: Request<()>) -> (ResponseFuture, SendStream<Bytes>) {
        let mut sender = self.0.clone().ready().await.expect("a connection that takes streams");
        sender.send_request(request, false).expect("a stream")
    }

    /// Sends a request without a body and returns the head of the response.
    ///
    /// # Errors
    /// When the stream is reset, or the connection ends.
    pub async fn ask(&self, request: Request<()>) -> Result<Response<RecvStream>, h2::Error> {
        let mut sender = self.0.clone().ready().await?;
        let (response, _) = sender.send_request(request, true)?;
        soon("a response", response).await
    }

    /// Sends a gRPC request of one message and returns the head of the response.
    ///
    /// # Errors
    /// When the stream is reset, or the connection ends.
    pub async fn call(&self, request: Request<()>) -> Result<Response<RecvStream>, h2::Error> {
        let (response, mut send) = self.open(request).await;
        // Nobody takes the question where the head alone was answered; the answer says why.
        let _ = send.send_data(message(b"a question"), true);
        soon("a response", response).await
    }

    /// Whether the other side takes no more streams: it has sent GOAWAY, or is gone.
    pub async fn is_leaving(&self) -> bool {
        self.0.clone().ready().await.is_err()
    }

    /// Whether the other side offers extended CONNECT (RFC 8441 §3).
    pub fn offers_extended_connect(&self) -> bool {
        self.0.is_extended_connect_protocol_enabled()
    }
}

/// A gRPC request of `path` to the authority `api.shop`, with these further headers.
pub fn grpc(path: &str, headers: &[(&str, &str)]) -> Request<()> {
    let mut request = Request::post(format!("http://api.shop{path}"))
        .header("content-type", "application/grpc")
        .header("te", "trailers");
    for (name, value) in headers {
        request = request.header(*name, *value);
    }
    request.body(()).unwrap()
}

/// A message as gRPC frames it.
pub fn message(text: &[u8]) -> Bytes {
    let mut bytes = BytesMut::new();
    bytes.put_u8(0);
    bytes.put_u32(u32::try_from(text.len()).unwrap());
    bytes.put_slice(text);
    bytes.freeze()
}

/// The next piece of a body, given back to the window; `None` at its end.
///
/// # Errors
/// When the stream is reset, or the connection ends.
pub async fn next(body: &mut RecvStream) -> Result<Option<Bytes>, h2::Error> {
    let Some(data) = soon("data", body.data()).await.transpose()? else { return Ok(None) };
    // Only more than was received could not be released.
    let _ = body.flow_control().release_capacity(data.remaining());
    Ok(Some(data))
}

/// Reads a body to its end: its bytes and its trailers.
///
/// # Errors
/// When the stream is reset, or the connection ends.
pub async fn read(body: &mut RecvStream) -> Result<(Vec<u8>, Option<HeaderMap>), h2::Error> {
    let mut bytes = Vec::new();
    while let Some(data) = next(body).await? {
        bytes.extend_from_slice(&data);
    }
    Ok((bytes, soon("trailers", body.trailers()).await?))
}

/// Sends `bytes` as soon as the other side takes them.
///
/// # Errors
/// When the stream is reset, or the connection ends.
pub async fn send(
    stream: &mut SendStream<Bytes>,
    bytes: Bytes,
    end: bool,
) -> Result<(), h2::Error> {
    stream.reserve_capacity(bytes.len());
    while stream.capacity() < bytes.len() {
        match poll_fn(|cx| stream.poll_capacity(cx)).await {
            Some(capacity) => drop(capacity?),
            None => return Err(Reason::CANCEL.into()),
        }
    }
    stream.send_data(bytes, end)
}

async fn soon<T>(what: &str, work: impl Future<Output = T>) -> T {
    let done = timeout(SOON, work).await;
    done.unwrap_or_else(|_| panic!("{what}: not in {SOON:?}"))
}
