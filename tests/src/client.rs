//! Clients of a sidecar's outbound port: HTTP/1.1, HTTP/2 with prior knowledge, and CONNECT.

use std::net::SocketAddr;
use std::time::Duration;

use anyhow::{Context, ensure};
use bytes::Bytes;
use http::{HeaderMap, Request, StatusCode, Version};
use http_body_util::BodyExt;
use hyper::body::Incoming;
use hyper::client::conn::{http1, http2};
use hyper_util::rt::{TokioExecutor, TokioIo};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::app::POD_HEADER;
use crate::body::{self, AnyBody};

/// Longest time for one request, so that a test that hangs says where.
const LIMIT: Duration = Duration::from_secs(60);

/// Bytes of the longest head of a CONNECT's answer.
const LONGEST_HEAD: usize = 16 * 1024;

/// A response that was read to its end.
#[derive(Debug, Clone)]
pub struct Answer {
    /// The status.
    pub status: StatusCode,
    /// The HTTP version that it came in.
    pub version: Version,
    /// The headers.
    pub headers: HeaderMap,
    /// The whole body.
    pub body: Bytes,
    /// The trailers, where there were any.
    pub trailers: Option<HeaderMap>,
}

impl Answer {
    /// A header as text.
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name)?.to_str().ok()
    }

    /// The code of the sidecar's error, where the answer is one.
    pub fn error(&self) -> Option<&str> {
        self.header("x-pillion-error")
    }

    /// The pod that answered.
    pub fn pod(&self) -> Option<&str> {
        self.header(POD_HEADER.as_str())
    }

    /// The body as text.
    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }

    /// The body as JSON.
    ///
    /// # Panics
    /// When it is none.
    pub fn json(&self) -> serde_json::Value {
        serde_json::from_slice(&self.body)
            .unwrap_or_else(|error| panic!("{error} in the body of {self:?}"))
    }
}

/// One HTTP/1.1 connection, kept alive.
#[derive(Debug)]
pub struct Http1(http1::SendRequest<AnyBody>);

impl Http1 {
    /// Connects.
    ///
    /// # Errors
    /// When there is no connection.
    pub async fn connect(address: SocketAddr) -> anyhow::Result<Self> {
        let socket =
            TcpStream::connect(address).await.with_context(|| format!("connect to {address}"))?;
        socket.set_nodelay(true)?;
        Self::over(socket).await
    }

    /// Speaks over a stream that is there already.
    ///
    /// # Errors
    /// When it breaks at once.
    pub async fn over<S>(stream: S) -> anyhow::Result<Self>
    where
        S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    {
        let (sender, connection) = http1::handshake(TokioIo::new(stream)).await?;
        tokio::spawn(connection);
        Ok(Self(sender))
    }

    /// Sends a request, in absolute form if its URI is absolute, and returns the head of the
    /// response with the body to come.
    ///
    /// # Errors
    /// When there is no response.
    pub async fn start(
        &mut self,
        request: Request<AnyBody>,
    ) -> anyhow::Result<http::Response<Incoming>> {
        self.0.ready().await?;
        Ok(self.0.send_request(request).await?)
    }

    /// Sends a request and reads the whole response.
    ///
    /// # Errors
    /// When there is no response, or not in time.
    pub async fn send(&mut self, request: Request<AnyBody>) -> anyhow::Result<Answer> {
        within(async { read(self.start(request).await?).await }).await
    }

    /// Whether the next request can still use the connection.
    pub async fn is_reusable(&mut self) -> bool {
        self.0.ready().await.is_ok()
    }
}

/// One HTTP/2 connection, which clones share.
#[derive(Debug, Clone)]
pub struct Http2(http2::SendRequest<AnyBody>);

impl Http2 {
    /// Connects with prior knowledge.
    ///
    /// # Errors
    /// When there is no connection.
    pub async fn connect(address: SocketAddr) -> anyhow::Result<Self> {
        let socket =
            TcpStream::connect(address).await.with_context(|| format!("connect to {address}"))?;
        socket.set_nodelay(true)?;
        let (sender, connection) =
            http2::handshake(TokioExecutor::new(), TokioIo::new(socket)).await?;
        tokio::spawn(connection);
        Ok(Self(sender))
    }

    /// Sends a request and reads the whole response.
    ///
    /// # Errors
    /// When there is no response, or not in time.
    pub async fn send(&mut self, request: Request<AnyBody>) -> anyhow::Result<Answer> {
        within(async {
            self.0.ready().await?;
            read(self.0.send_request(request).await?).await
        })
        .await
    }
}

/// Sends one request on a new HTTP/1.1 connection to `address`.
///
/// # Errors
/// When there is no response.
pub async fn send(address: SocketAddr, request: Request<AnyBody>) -> anyhow::Result<Answer> {
    Http1::connect(address).await?.send(request).await
}

/// Gets `url` through the HTTP proxy at `proxy`, in absolute form, on a new connection.
///
/// # Errors
/// When there is no response.
pub async fn get(proxy: SocketAddr, url: &str) -> anyhow::Result<Answer> {
    send(proxy, request("GET", url)).await
}

/// Gets `path` from the server at `address` itself (an admin port).
///
/// # Errors
/// When there is no response.
pub async fn get_direct(address: SocketAddr, path: &str) -> anyhow::Result<Answer> {
    let request = Request::get(path).header("host", address.to_string()).body(body::empty())?;
    send(address, request).await
}

/// Gets `path` from `host` over a stream that leads to it.
///
/// # Errors
/// When there is no response.
pub async fn get_over<S>(stream: S, host: &str, path: &str) -> anyhow::Result<Answer>
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let request = Request::get(path).header("host", host).body(body::empty())?;
    within(async { Http1::over(stream).await?.send(request).await }).await
}

/// A request without a body for an absolute URL; the Host is the URL's.
///
/// # Panics
/// When method or URL are none.
pub fn request(method: &str, url: &str) -> Request<AnyBody> {
    with_body(method, url, body::empty())
}

/// A request for an absolute URL; the Host is the URL's.
///
/// # Panics
/// When method or URL are none.
pub fn with_body(method: &str, url: &str, body: AnyBody) -> Request<AnyBody> {
    let uri: http::Uri = url.parse().unwrap_or_else(|error| panic!("{url}: {error}"));
    let host = uri.authority().expect("an absolute URL").to_string();
    Request::builder().method(method).uri(uri).header("host", host).body(body).unwrap()
}

/// Opens a tunnel to `target` (HOST:PORT) through the HTTP proxy at `proxy`. The answer's head is
/// the error if it is no 200.
///
/// # Errors
/// When the proxy refuses, with its head as the message.
pub async fn connect(proxy: SocketAddr, target: &str) -> anyhow::Result<TcpStream> {
    let head = format!("CONNECT {target} HTTP/1.1\r\nhost: {target}\r\n\r\n");
    let (head, socket) = converse(proxy, &head).await?;
    ensure!(head.starts_with("HTTP/1.1 200"), "{head}");
    Ok(socket)
}

/// Sends the head of a request as it is and returns that of the answer, with the connection.
///
/// # Errors
/// When there is no head, or not in time.
pub async fn converse(address: SocketAddr, head: &str) -> anyhow::Result<(String, TcpStream)> {
    within(async {
        let mut socket = TcpStream::connect(address).await?;
        socket.set_nodelay(true)?;
        socket.write_all(head.as_bytes()).await?;
        Ok((read_head(&mut socket).await?, socket))
    })
    .await
}

/// Reads up to the empty line and not one byte further.
async fn read_head(socket: &mut TcpStream) -> anyhow::Result<String> {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        ensure!(head.len() < LONGEST_HEAD, "no end of the head");
        let byte = socket.read_u8().await.with_context(|| {
            format!("the connection ended in the head {:?}", String::from_utf8_lossy(&head))
        })?;
        head.push(byte);
    }
    Ok(String::from_utf8(head)?)
}

/// Sends bytes as they are and returns all that comes back until the connection ends.
///
/// # Errors
/// When the connection fails or does not end.
pub async fn raw(address: SocketAddr, bytes: &[u8]) -> anyhow::Result<String> {
    within(async {
        let mut socket = TcpStream::connect(address).await?;
        socket.write_all(bytes).await?;
        let mut answer = Vec::new();
        socket.read_to_end(&mut answer).await?;
        Ok(String::from_utf8_lossy(&answer).into_owned())
    })
    .await
}

/// Reads a response to its end.
///
/// # Errors
/// When the body breaks off.
pub async fn read(response: http::Response<Incoming>) -> anyhow::Result<Answer> {
    let (head, body) = response.into_parts();
    let body = body.collect().await.context("the body broke off")?;
    Ok(Answer {
        status: head.status,
        version: head.version,
        headers: head.headers,
        trailers: body.trailers().cloned(),
        body: body.to_bytes(),
    })
}

async fn within<T>(work: impl Future<Output = anyhow::Result<T>>) -> anyhow::Result<T> {
    tokio::time::timeout(LIMIT, work).await.with_context(|| format!("no end within {LIMIT:?}"))?
}
