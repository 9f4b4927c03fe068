//! The story of a connection that the application made to somewhere else, and that was redirected
//! here: what is spoken on it is told from who speaks first and what is said, without a timer.

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use ::http::Request;
use bytes::BytesMut;
use model::code::ErrorCode;
use model::service::Protocol;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::timeout;

use super::destination::{self, Destination, Via};
use super::reach::{self, Upstream, tls};
use super::{refuse_unread, serve_http, serve_spoken};
use crate::carried::Carried;
use crate::config::Config;
use crate::error::ProxyError;
use crate::exchange::{Exchange, UNKNOWN};
use crate::placed::Socket;
use crate::received::Received;
use crate::relay::Session;
use crate::server::{self, HEAD_TIMEOUT};
use crate::sniff::{Prefixed, Spoken, is_settings, sniff, sniff_on};
use crate::telemetry::metrics::Direction;
use crate::worker::Worker;

/// How long a client that is refused may take to say that it speaks HTTP, in which case it is
/// told why.
const LAST_WORD: Duration = Duration::from_secs(1);

/// Serves the connection that was made to `original` until it ends. What a connection may come to is
/// boxed, so that one that comes to something else has no room for it.
pub(super) async fn serve(worker: Worker, socket: Socket, original: SocketAddr) {
    if is_probe(&worker.mesh.config, original) {
        return answer_probe(socket, original).await;
    }
    let destination = match destination::at(&worker.mesh, original).await {
        Ok(destination) => destination,
        Err(error) => return Box::pin(refuse(&worker, socket, error)).await,
    };
    match destination.protocol() {
        Protocol::Opaque => {
            let reached = Box::pin(reach::to(&worker, &destination)).await;
            let reached = reached.map(|upstream| (upstream, BytesMut::new()));
            Box::pin(carry(&worker, &destination, socket, reached)).await;
        }
        Protocol::Http1 | Protocol::Http2 => {
            serve_http(worker, Via::Redirect(original), socket).await;
        }
        Protocol::Detect => match Box::pin(detect(&worker, &destination, socket)).await {
            Ok(First::Http(spoken, io)) => {
                serve_spoken(worker, Via::Redirect(original), spoken, io).await;
            }
            Ok(First::Bytes(client, reached)) => {
                let reached = reached.map(|reached| *reached);
                Box::pin(carry(&worker, &destination, client, reached)).await;
            }
            Err(error) => tracing::debug!(%error, %original, "outbound: connection lost"),
        },
    }
}

/// What the first words on a connection come to.
enum First {
    /// The client speaks HTTP.
    Http(Spoken, Prefixed<Socket>),
    /// Something else is spoken, and an endpoint is reached or none can be.
    Bytes(Prefixed<Socket>, Result<Box<Reached>, ProxyError>),
}

/// An endpoint, and what it has said already.
type Reached = (Upstream, BytesMut);

/// Waits for the first word of either end. The endpoint is connected to meanwhile: one that
/// speaks first is heard as soon as without a sidecar.
async fn detect(
    worker: &Worker,
    destination: &Destination,
    mut socket: Socket,
) -> io::Result<First> {
    let (mut heard, mut said) = (BytesMut::with_capacity(1024), BytesMut::new());
    let reaching = reach::to(worker, destination);
    tokio::pin!(reaching);
    let mut reached = tokio::select! {
        biased;
        read = socket.read_buf(&mut heard) => { read?; None }
        reached = &mut reaching => Some(reached),
    };
    match &mut reached {
        Some(Ok(upstream)) => {
            let ended = tokio::select! {
                biased;
                read = socket.read_buf(&mut heard) => { read?; Ok(()) }
                spoken = speaks(upstream, &mut said) => spoken,
            };
            if let Err(error) = ended {
                let detail = format!("{}: {error}", upstream.endpoint.target_address());
                reached = Some(Err(ProxyError::new(ErrorCode::UpstreamReset, detail)));
            }
        }
        // A client of HTTP is told why it is not served.
        Some(Err(_)) => {
            if let Ok(read) = timeout(LAST_WORD, socket.read_buf(&mut heard)).await {
                read?;
            }
        }
        None => {}
    }
    let (spoken, client) = match heard.is_empty() {
        true => (Spoken::Other, Prefixed::new(heard, socket)),
        false => sniff_on(heard, socket).await?,
    };
    if spoken != Spoken::Other {
        return Ok(First::Http(spoken, client));
    }
    let reached = match reached {
        Some(reached) => reached,
        None => reaching.await,
    };
    Ok(First::Bytes(client, reached.map(|upstream| Box::new((upstream, said)))))
}

/// Resolves when the endpoint has said the first word, or has ended the connection without one.
async fn speaks(upstream: &mut Upstream, said: &mut BytesMut) -> io::Result<()> {
    upstream.io.read_buf(said).await?;
    if is_settings(said) {
        std::future::pending::<()>().await;
    }
    Ok(())
}

/// Carries bytes between the client and an endpoint.
async fn carry<C: Carried>(
    worker: &Worker,
    destination: &Destination,
    mut client: C,
    reached: Result<Reached, ProxyError>,
) {
    let mut session = Session::open(&worker.mesh, Direction::Outbound, destination.label());
    match reached {
        Ok((upstream, said)) => {
            let Upstream { io, lease: _lease, endpoint, attempts } = upstream;
            session.attempts(endpoint.target_address(), tls(&endpoint), attempts);
            session.relay(client, Prefixed::new(said, io)).await;
        }
        Err(error) => {
            session.fail(error);
            client.reset();
        }
    }
}

/// Refuses a connection whose destination is none: in HTTP, with the reason, where that is what
/// the client speaks; else as a server does that takes none.
async fn refuse(worker: &Worker, socket: Socket, error: ProxyError) {
    let (spoken, mut io) = match timeout(LAST_WORD, peeked(&socket)).await {
        Ok(true) => match timeout(HEAD_TIMEOUT, sniff(socket)).await {
            Ok(Ok(sniffed)) => sniffed,
            Ok(Err(_)) | Err(_) => return,
        },
        Ok(false) | Err(_) => (Spoken::Other, Prefixed::new(BytesMut::new(), socket)),
    };
    if spoken == Spoken::Other {
        Session::open(&worker.mesh, Direction::Outbound, UNKNOWN.into()).fail(error);
        return io.reset();
    }
    let mesh = Arc::clone(&worker.mesh);
    let answer = move |request: Request<Received>| {
        let exchange = Exchange::open(&mesh, Direction::Outbound, &request);
        std::future::ready(exchange.refuse(&error))
    };
    let unread = |bad| refuse_unread(&worker.mesh, bad);
    let drain = worker.mesh.drain.clone();
    if let Err(error) = server::serve(spoken, io, &drain, answer, unread).await {
        tracing::debug!(%error, "outbound: refused connection ended with an error");
    }
}

/// Whether the client has said something.
async fn peeked(socket: &TcpStream) -> bool {
    socket.peek(&mut [0]).await.is_ok_and(|bytes| bytes > 0)
}

/// Whether the connection is one of `pillion-proxy redirect check`, to an address of the
/// documentation (RFC 5737, RFC 3849) that nobody has.
fn is_probe(config: &Config, original: SocketAddr) -> bool {
    let documentation = match original.ip() {
        IpAddr::V4(v4) => v4.octets()[..3] == [192, 0, 2],
        IpAddr::V6(v6) => v6.segments()[..2] == [0x2001, 0xdb8],
    };
    documentation && original.port() == config.ports.outbound
}

/// Tells it where it was meant to go: that is what it wants to know.
async fn answer_probe(mut socket: Socket, original: SocketAddr) {
    let line = format!("pillion redirect {original}\n");
    if let Err(error) = socket.write_all(line.as_bytes()).await {
        tracing::debug!(%error, "outbound: the probe of the redirect is gone");
    }
}

#[cfg(test)]
mod tests {
    use tokio::net::TcpListener;
    use tokio_util::either::Either;

    use super::*;
    use crate::upstream::Lease;

    /// Whether an endpoint that says this at first has said the first word.
    async fn has_spoken(said: &[u8]) -> bool {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let io = TcpStream::connect(address).await.unwrap();
        let mut server = listener.accept().await.unwrap().0;
        server.write_all(said).await.unwrap();
        let endpoint = destination::endpoint(address, None, "test");
        let (io, lease) = (Either::Right(io), Lease::default());
        let mut upstream = Upstream { io, lease, endpoint, attempts: 1 };
        let mut heard = BytesMut::new();
        let spoken = timeout(Duration::from_millis(300), speaks(&mut upstream, &mut heard)).await;
        assert_eq!(heard, said, "and nothing of it is lost");
        spoken.is_ok()
    }

    #[tokio::test]
    async fn a_server_of_http2_that_is_early_leaves_the_first_word_to_its_client() {
        assert!(!has_spoken(&[0, 0, 6, 4, 0, 0, 0, 0, 0, 0, 3, 0, 0, 0, 100]).await);
        assert!(has_spoken(b"220 mail.example ESMTP\r\n").await);
    }
}
