//! The admin HTTP server: small answers, HTTP/1.1, off the path of any request.

use std::convert::Infallible;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::header::CONTENT_TYPE;
use http::{HeaderValue, Request, Response, StatusCode};
use http_body_util::Full;
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use prometheus::{Registry, TextEncoder};
use tokio::net::TcpListener;

use crate::listen;
use crate::room::Room;

/// What the admin server answers with.
pub type Answer = Response<Full<Bytes>>;

/// How long a client may take for a request's head.
const HEAD_TIMEOUT: Duration = Duration::from_secs(10);

/// Connections at the same time: of probes, of Prometheus, of people.
const MOST: usize = 64;

/// How long the accept loop rests when the process has no descriptor left.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);

/// Serves until the runtime ends. `handler` gets each request and the address that it came from.
pub async fn serve<H>(listener: TcpListener, handler: H)
where
    H: Fn(&Request<Incoming>, SocketAddr) -> Answer + Send + Sync + 'static,
{
    let handler = Arc::new(handler);
    let mut room = Room::new("admin", MOST);
    loop {
        match listener.accept().await {
            Ok((socket, seen)) => {
                let (handler, peer) = (Arc::clone(&handler), listen::peer(seen));
                room.admit(async move {
                    let service = service_fn(move |request: Request<Incoming>| {
                        let answer = handler(&request, peer);
                        async move { Ok::<_, Infallible>(answer) }
                    });
                    // A scraper that goes away mid-answer is its own business.
                    let _ = hyper::server::conn::http1::Builder::new()
                        .timer(TokioTimer::new())
                        .header_read_timeout(HEAD_TIMEOUT)
                        .serve_connection(TokioIo::new(socket), service)
                        .await;
                });
            }
            Err(error) => {
                tracing::warn!(%error, "admin: cannot accept a connection");
                tokio::time::sleep(ACCEPT_PAUSE).await;
            }
        }
    }
}

/// An answer in plain text.
pub fn text(status: StatusCode, body: impl Into<Bytes>) -> Answer {
    answer(status, "text/plain; charset=utf-8", body)
}

/// An answer in JSON.
pub fn json(status: StatusCode, body: impl Into<Bytes>) -> Answer {
    answer(status, "application/json", body)
}

/// The metrics of `registry` in Prometheus's text format.
pub fn metrics(registry: &Registry) -> Answer {
    match TextEncoder::new().encode_to_string(&registry.gather()) {
        Ok(body) => answer(StatusCode::OK, prometheus::TEXT_FORMAT, body),
        Err(error) => text(StatusCode::INTERNAL_SERVER_ERROR, format!("{error}\n")),
    }
}

/// Whether a request may see more than `/live`, `/ready` and `/metrics`.
pub fn is_local(peer: IpAddr) -> bool {
    peer.to_canonical().is_loopback()
}

fn answer(status: StatusCode, content_type: &'static str, body: impl Into<Bytes>) -> Answer {
    let mut response = Response::new(Full::new(body.into()));
    *response.status_mut() = status;
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static(content_type));
    response
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::net::TcpStream;

    use super::*;

    #[tokio::test]
    async fn a_probe_is_answered_beside_any_number_of_silent_connections() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        tokio::spawn(serve(listener, |_, _| text(StatusCode::OK, "ready")));
        let mut silent = Vec::new();
        for _ in 0..2 * MOST {
            silent.push(TcpStream::connect(address).await.unwrap());
        }
        let mut probe = TcpStream::connect(address).await.unwrap();
        probe.write_all(b"GET /ready HTTP/1.1\r\nconnection: close\r\n\r\n").await.unwrap();
        let mut answer = String::new();
        probe.read_to_string(&mut answer).await.unwrap();
        assert!(answer.starts_with("HTTP/1.1 200 OK"), "{answer}");
        let mut nothing = [0];
        let closed = tokio::time::timeout(HEAD_TIMEOUT / 2, silent[0].read(&mut nothing)).await;
        assert_eq!(closed.expect("the oldest is closed").unwrap(), 0);
    }
}
