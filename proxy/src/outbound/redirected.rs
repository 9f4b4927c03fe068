//! The story of a connection that the application made to somewhere else, and that was redirected
//! here: what is spoken on it is told from who speaks first and what is said, without a timer.

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use ::http::Request;
use bytes::BytesMut;
use model::service::Protocol;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::timeout;

use super::destination::{self, Destination, Via};
use super::reach::{self, Upstream, tls};
use super::{serve_http, serve_spoken};
use crate::config::Config;
use crate::error::ProxyError;
use crate::exchange::{Exchange, UNKNOWN};
use crate::received::Received;
use crate::relay::{Carried, Session};
use crate::server::{self, HEAD_TIMEOUT};
use crate::sniff::{Prefixed, Spoken, sniff, sniff_on};
use crate::telemetry::metrics::Direction;
use crate::worker::Worker;

/// How long a client that is refused may take to say that it speaks HTTP, in which case it is
/// told why.
const LAST_WORD: Duration = Duration::from_secs(1);

/// Serves the connection that was made to `original` until it ends.
pub(super) async fn serve(worker: Worker, socket: TcpStream, original: SocketAddr) {
    if is_probe(&worker.mesh.config, original) {
        return answer_probe(socket, original).await;
    }
    let destination = match destination::at(&worker.mesh, original).await {
        Ok(destination) => destination,
        Err(error) => return refuse(&worker, UNKNOWN.into(), socket, error).await,
    };
    match destination.protocol() {
        Protocol::Opaque => carry(&worker, &destination, socket, None).await,
        Protocol::Http1 | Protocol::Http2 => {
            serve_http(worker, Via::Redirect(original), socket).await;
        }
        Protocol::Detect => match detect(&worker, &destination, socket).await {
            Ok(First::Http(spoken, io)) => {
                serve_spoken(worker, Via::Redirect(original), spoken, io).await;
            }
            Ok(First::Bytes(client, upstream)) => {
                carry(&worker, &destination, client, upstream).await;
            }
            Ok(First::Unreachable(socket, error)) => {
                refuse(&worker, destination.label(), socket, error).await;
            }
            Err(error) => tracing::debug!(%error, %original, "outbound: connection lost"),
        },
    }
}

/// What the first words on a connection come to.
enum First {
    /// The client speaks HTTP.
    Http(Spoken, Prefixed<TcpStream>),
    /// Something else is spoken; the endpoint may be reached by now, and have spoken first.
    Bytes(Prefixed<TcpStream>, Option<Box<(Upstream, BytesMut)>>),
    /// No endpoint could be reached before the client said anything.
    Unreachable(TcpStream, ProxyError),
}

/// Waits for the first word of either end. The endpoint is connected to meanwhile: one that
/// speaks first is heard as soon as without a sidecar.
async fn detect(
    worker: &Worker,
    destination: &Destination,
    mut socket: TcpStream,
) -> io::Result<First> {
    let mut heard = BytesMut::with_capacity(1024);
    let reached = tokio::select! {
        biased;
        read = socket.read_buf(&mut heard) => { read?; None }
        reached = reach::to(worker, destination) => Some(reached),
    };
    let mut upstream = match reached {
        None => None,
        Some(Ok(upstream)) => Some(Box::new((upstream, BytesMut::new()))),
        Some(Err(error)) => return Ok(First::Unreachable(socket, error)),
    };
    if let Some(reached) = &mut upstream {
        let (upstream, said) = &mut **reached;
        tokio::select! {
            biased;
            read = socket.read_buf(&mut heard) => { read?; }
            read = upstream.io.read_buf(said) => { read?; }
        }
    }
    if heard.is_empty() {
        return Ok(First::Bytes(Prefixed::new(heard, socket), upstream));
    }
    let (spoken, client) = sniff_on(heard, socket).await?;
    Ok(match spoken {
        Spoken::Other => First::Bytes(client, upstream),
        Spoken::Http1 | Spoken::Http2 => First::Http(spoken, client),
    })
}

/// Carries bytes between the client and an endpoint, which may be `reached` already and have
/// said something.
async fn carry<C: Carried>(
    worker: &Worker,
    destination: &Destination,
    mut client: C,
    reached: Option<Box<(Upstream, BytesMut)>>,
) {
    let mut session = Session::open(&worker.mesh, Direction::Outbound, destination.label());
    let reached = match reached {
        Some(reached) => Ok(*reached),
        None => reach::to(worker, destination).await.map(|upstream| (upstream, BytesMut::new())),
    };
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

/// Refuses the connection: in HTTP, with the reason, where that is what the client speaks; else as
/// a server does that takes none.
async fn refuse(worker: &Worker, service: Arc<str>, socket: TcpStream, error: ProxyError) {
    let (spoken, mut io) = match timeout(LAST_WORD, peeked(&socket)).await {
        Ok(true) => match timeout(HEAD_TIMEOUT, sniff(socket)).await {
            Ok(Ok(sniffed)) => sniffed,
            Ok(Err(_)) | Err(_) => return,
        },
        Ok(false) | Err(_) => (Spoken::Other, Prefixed::new(BytesMut::new(), socket)),
    };
    if spoken == Spoken::Other {
        Session::open(&worker.mesh, Direction::Outbound, service).fail(error);
        return io.reset();
    }
    let mesh = Arc::clone(&worker.mesh);
    let answer = move |request: Request<Received>| {
        let mut exchange = Exchange::open(&mesh, Direction::Outbound, &request);
        exchange.service = Some(Arc::clone(&service));
        std::future::ready(exchange.refuse(&error))
    };
    let drain = worker.mesh.drain.clone();
    if let Err(error) = server::serve(spoken, io, &drain, answer).await {
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
async fn answer_probe(mut socket: TcpStream, original: SocketAddr) {
    let line = format!("pillion redirect {original}\n");
    if let Err(error) = socket.write_all(line.as_bytes()).await {
        tracing::debug!(%error, "outbound: the probe of the redirect is gone");
    }
}
