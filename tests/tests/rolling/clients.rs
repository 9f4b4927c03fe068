//! Clients of the sidecar's outbound port that tell what was never sent from what is lost.

use std::error::Error;
use std::io;
use std::net::SocketAddr;
use std::sync::Mutex;

use anyhow::Context;
use http::{Request, Response};
use hyper::body::Incoming;
use hyper::client::conn::{TrySendError, http1, http2};
use hyper_util::rt::{TokioExecutor, TokioIo};
use tests::body::AnyBody;
use tokio::net::TcpStream;

use super::persist::Failed;

/// A TCP connection to the sidecar.
pub(super) async fn connect(proxy: SocketAddr) -> Result<TcpStream, Failed> {
    match TcpStream::connect(proxy).await {
        Ok(socket) => {
            socket.set_nodelay(true)?;
            Ok(socket)
        }
        Err(error) if error.kind() == io::ErrorKind::ConnectionRefused => {
            Err(Failed::NeverSent(error.to_string()))
        }
        Err(error) => Err(Failed::Lost(error.into())),
    }
}

/// HTTP/1.1, on connections that are kept.
#[derive(Debug)]
pub(super) struct Http1 {
    proxy: SocketAddr,
    idle: Mutex<Vec<http1::SendRequest<AnyBody>>>,
}

impl Http1 {
    pub(super) fn new(proxy: SocketAddr) -> Self {
        Self { proxy, idle: Mutex::default() }
    }

    /// Sends a request and gives the response with what its connection is given back with.
    pub(super) async fn send(
        &self,
        request: Request<AnyBody>,
    ) -> Result<(Response<Incoming>, Kept<'_>), Failed> {
        let mut sender = self.connection().await?;
        match sender.try_send_request(request).await {
            Ok(response) => Ok((response, Kept { sender, client: self })),
            Err(failed) => Err(judge(failed)),
        }
    }

    async fn connection(&self) -> Result<http1::SendRequest<AnyBody>, Failed> {
        loop {
            let idle = self.idle.lock().unwrap().pop();
            let Some(mut sender) = idle else { break };
            if sender.ready().await.is_ok() {
                return Ok(sender);
            }
        }
        let socket = connect(self.proxy).await?;
        let (sender, connection) = http1::handshake(TokioIo::new(socket)).await?;
        tokio::spawn(connection);
        Ok(sender)
    }
}

/// The connection of a response.
pub(super) struct Kept<'a> {
    sender: http1::SendRequest<AnyBody>,
    client: &'a Http1,
}

impl Kept<'_> {
    /// The response was read whole.
    pub(super) fn give_back(self) {
        self.client.idle.lock().unwrap().push(self.sender);
    }
}

/// HTTP/2, all on one connection.
#[derive(Debug)]
pub(super) struct Http2 {
    proxy: SocketAddr,
    current: tokio::sync::Mutex<Option<http2::SendRequest<AnyBody>>>,
}

impl Http2 {
    pub(super) fn new(proxy: SocketAddr) -> Self {
        Self { proxy, current: tokio::sync::Mutex::default() }
    }

    /// Sends a request on a stream of the connection.
    pub(super) async fn send(
        &self,
        request: Request<AnyBody>,
    ) -> Result<Response<Incoming>, Failed> {
        let mut sender = self.connection().await?;
        let answer = sender.try_send_request(request);
        // A request that is handed over in the instant in which the connection ends is given back
        // only when the last sender is gone.
        drop(sender);
        answer.await.map_err(judge)
    }

    async fn connection(&self) -> Result<http2::SendRequest<AnyBody>, Failed> {
        let mut current = self.current.lock().await;
        if let Some(sender) = current.as_mut()
            && sender.ready().await.is_ok()
        {
            return Ok(sender.clone());
        }
        let socket = connect(self.proxy).await?;
        let (sender, connection) =
            http2::handshake(TokioExecutor::new(), TokioIo::new(socket)).await?;
        tokio::spawn(connection);
        Ok(current.insert(sender).clone())
    }
}

/// RFC 9113 §8.7: what a GOAWAY leaves out, and REFUSED_STREAM, was not processed. A message that
/// is given back was not even written, and one that still waits for room to open a stream when its
/// connection ends was not either: hyper says of it that its dispatch task is gone.
fn judge(mut failed: TrySendError<Request<AnyBody>>) -> Failed {
    let given_back = failed.take_message().is_some();
    let error = failed.into_error();
    let unsent = given_back || error.is_user();
    let h2 = std::iter::successors(error.source(), |cause| (*cause).source())
        .find_map(|cause| cause.downcast_ref::<h2::Error>());
    let refused = h2.is_some_and(|error| {
        let left_out = error.is_go_away() && error.reason() == Some(h2::Reason::NO_ERROR);
        error.is_remote() && (left_out || error.reason() == Some(h2::Reason::REFUSED_STREAM))
    });
    if unsent || refused {
        return Failed::NeverSent(error.to_string());
    }
    let lost = Err::<(), _>(error).context("the connection was lost");
    Failed::Lost(lost.expect_err("an error"))
}
