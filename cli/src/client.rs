//! A small HTTP/1.1 client for one address on this machine, which keeps its connections.

use std::net::SocketAddr;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use http::header::HOST;
use http::{HeaderMap, HeaderValue, Request, Response, Uri};
use http_body_util::{BodyExt, Empty, Limited};
use hyper::body::Incoming;
use hyper::client::conn::http1::{SendRequest, handshake};
use hyper_util::rt::TokioIo;
use tokio::net::TcpStream;

/// The largest answer that is read.
const LARGEST: usize = 16 << 20;

type Connection = SendRequest<Empty<Bytes>>;

/// Why a request got no answer.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ClientError {
    /// Nobody accepts connections there.
    #[error("no connection: {0}")]
    Connect(std::io::Error),
    /// The connection broke, or what came over it is no HTTP.
    #[error("no answer: {0}")]
    Http(#[from] hyper::Error),
    /// The answer broke off, or is too large.
    #[error("half an answer: {0}")]
    Body(Box<dyn std::error::Error + Send + Sync>),
    /// The answer did not come in time.
    #[error("no answer within {0:?}")]
    Timeout(Duration),
}

/// A client of one address.
#[derive(Debug)]
pub(crate) struct Client {
    address: SocketAddr,
    timeout: Duration,
    /// Connections that carry no request now.
    idle: Mutex<Vec<Connection>>,
}

impl Client {
    /// A client of `address` whose requests may take `timeout` each.
    pub(crate) const fn new(address: SocketAddr, timeout: Duration) -> Self {
        Self { address, timeout, idle: Mutex::new(Vec::new()) }
    }

    /// Gets `uri`: of this server when it is a path alone, or through this proxy when it has a
    /// host.
    ///
    /// # Errors
    /// When there is no whole answer in time. Nothing is tried again, except a request that was
    /// not yet written to a connection that turned out to be closed.
    pub(crate) async fn get(
        &self,
        uri: &Uri,
        headers: &HeaderMap,
    ) -> Result<Response<Bytes>, ClientError> {
        let request = self.request(uri, headers);
        tokio::time::timeout(self.timeout, self.exchange(request))
            .await
            .unwrap_or(Err(ClientError::Timeout(self.timeout)))
    }

    fn request(&self, uri: &Uri, headers: &HeaderMap) -> Request<Empty<Bytes>> {
        let mut request = Request::new(Empty::new());
        *request.uri_mut() = uri.clone();
        *request.headers_mut() = headers.clone();
        let host = uri.authority().map_or_else(|| self.address.to_string(), ToString::to_string);
        if let Ok(host) = HeaderValue::from_str(&host) {
            request.headers_mut().insert(HOST, host);
        }
        request
    }

    async fn exchange(
        &self,
        mut request: Request<Empty<Bytes>>,
    ) -> Result<Response<Bytes>, ClientError> {
        loop {
            let (mut connection, is_reused) = self.connection().await?;
            match connection.try_send_request(request).await {
                Ok(response) => {
                    let response = whole(response).await?;
                    self.idle().push(connection);
                    return Ok(response);
                }
                Err(mut error) => match error.take_message() {
                    Some(unsent) if is_reused => request = unsent,
                    _ => return Err(error.into_error().into()),
                },
            }
        }
    }

    /// A connection that can carry a request: one that is idle (true), else a new one.
    async fn connection(&self) -> Result<(Connection, bool), ClientError> {
        while let Some(mut connection) = self.take_idle() {
            if connection.ready().await.is_ok() {
                return Ok((connection, true));
            }
        }
        let socket = TcpStream::connect(self.address).await.map_err(ClientError::Connect)?;
        socket.set_nodelay(true).map_err(ClientError::Connect)?;
        let (connection, driver) = handshake(TokioIo::new(socket)).await?;
        tokio::spawn(driver);
        Ok((connection, false))
    }

    fn take_idle(&self) -> Option<Connection> {
        self.idle().pop()
    }

    fn idle(&self) -> MutexGuard<'_, Vec<Connection>> {
        self.idle.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

async fn whole(response: Response<Incoming>) -> Result<Response<Bytes>, ClientError> {
    let (head, body) = response.into_parts();
    let body = Limited::new(body, LARGEST).collect().await.map_err(ClientError::Body)?;
    Ok(Response::from_parts(head, body.to_bytes()))
}
