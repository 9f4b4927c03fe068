//! Applications that a test writes itself: what they do with a connection, or with a stream.

use std::fmt;
use std::pin::Pin;
use std::sync::Arc;

use bytes::Bytes;
use h2::RecvStream;
use h2::server::SendResponse;
use http::Request;
use tokio::net::TcpStream;

/// What to do with a connection.
#[derive(Clone)]
pub(super) struct Script(Arc<dyn Fn(TcpStream) -> Running + Send + Sync>);

type Running = Pin<Box<dyn Future<Output = ()> + Send>>;

impl fmt::Debug for Script {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Script")
    }
}

impl Script {
    pub(super) fn new<F>(serve: impl Fn(TcpStream) -> F + Send + Sync + 'static) -> Self
    where
        F: Future<Output = ()> + Send + 'static,
    {
        Self(Arc::new(move |socket| Box::pin(serve(socket))))
    }

    /// Answers each stream of HTTP/2 with `answer`, in a task of its own.
    pub(super) fn streams<F>(
        answer: impl Fn(Request<RecvStream>, SendResponse<Bytes>) -> F + Send + Sync + 'static,
    ) -> Self
    where
        F: Future<Output = ()> + Send + 'static,
    {
        let answer = Arc::new(answer);
        Self::new(move |socket| {
            let answer = Arc::clone(&answer);
            async move {
                let _ = socket.set_nodelay(true);
                // How a client ends its connection is its own business.
                let Ok(mut connection) = h2::server::handshake(socket).await else { return };
                while let Some(Ok((request, respond))) = connection.accept().await {
                    tokio::spawn(answer(request, respond));
                }
            }
        })
    }

    pub(super) async fn serve(self, socket: TcpStream) {
        (self.0)(socket).await;
    }
}
