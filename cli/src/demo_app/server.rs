//! An HTTP/1.1 server of JSON answers.

use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::header::CONTENT_TYPE;
use http::{HeaderMap, HeaderValue, Request, Response, StatusCode};
use http_body_util::Full;
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use serde_json::Value;
use tokio::net::{TcpListener, TcpStream};

/// A status, and a body in JSON.
pub(crate) type Answer = (StatusCode, Value);

/// How long the server rests when it cannot accept.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);

/// Answers every request with what `handler` makes of its headers, for ever.
pub(crate) async fn serve<H, F>(listener: TcpListener, handler: H)
where
    H: Fn(HeaderMap) -> F + Send + Sync + 'static,
    F: Future<Output = Answer> + Send + 'static,
{
    let handler = Arc::new(handler);
    loop {
        match listener.accept().await {
            Ok((socket, _)) => {
                tokio::spawn(serve_one(socket, Arc::clone(&handler)));
            }
            Err(error) => {
                eprintln!("cannot accept a connection: {error}");
                tokio::time::sleep(ACCEPT_PAUSE).await;
            }
        }
    }
}

async fn serve_one<H, F>(socket: TcpStream, handler: Arc<H>)
where
    H: Fn(HeaderMap) -> F + Send + Sync + 'static,
    F: Future<Output = Answer> + Send + 'static,
{
    // Answers are small: they must not wait for more of them.
    let _ = socket.set_nodelay(true);
    let service = service_fn(move |request: Request<Incoming>| {
        let answer = handler(request.into_parts().0.headers);
        async move { Ok::<_, Infallible>(response(answer.await)) }
    });
    // Clients come and go.
    let _ = http1::Builder::new().serve_connection(TokioIo::new(socket), service).await;
}

fn response((status, body): Answer) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::new(format!("{body}\n").into()));
    *response.status_mut() = status;
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    response
}
