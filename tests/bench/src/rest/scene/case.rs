//! What is sent, one after another.

use std::fmt;
use std::net::SocketAddr;
use std::time::Duration;

use anyhow::ensure;
use clap::ValueEnum;
use http::Request;
use http::header::{CONTENT_TYPE, TE};
use tests::body::{self, AnyBody};
use tests::client::{self, Http1, Http2};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::app::{GRPC, MESSAGE};

const URL: &str = "http://api.shop/path/to/it?question=42";

/// Bytes of one message of the tunnel's case.
const KIBIBYTE: usize = 1024;

/// How long a new connection is left alone before its request: the sidecar has accepted it by then
/// and waits. Of one that comes at once, the rest of the machine decides whether it is there when the
/// sidecar looks first, which is up to 4,000 instructions less.
const ACCEPTED: Duration = Duration::from_millis(3);

/// One kind of request.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, ValueEnum)]
pub(crate) enum Case {
    /// A GET in HTTP/1.1 on one connection.
    Http1,
    /// A GET in HTTP/2 on one connection.
    Http2,
    /// A unary call of gRPC on one connection.
    Grpc,
    /// 1 KiB to an echo and back on an open tunnel.
    Tcp,
    /// A GET in HTTP/1.1 on a connection of its own, which the sidecar has accepted.
    Connection,
}

/// A client of the outbound port, with what it keeps open.
#[derive(Debug)]
pub(super) enum Client {
    Http1(Http1),
    Http2(Http2),
    Grpc(Http2),
    Tcp(TcpStream),
    Connection(SocketAddr),
}

impl fmt::Display for Case {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Http1 => "http1",
            Self::Http2 => "http2",
            Self::Grpc => "grpc",
            Self::Tcp => "tcp",
            Self::Connection => "connection",
        })
    }
}

impl Client {
    /// Connects to `proxy` for `case`.
    pub(super) async fn new(case: Case, proxy: SocketAddr) -> anyhow::Result<Self> {
        Ok(match case {
            Case::Http1 => Self::Http1(Http1::connect(proxy).await?),
            Case::Http2 => Self::Http2(Http2::connect(proxy).await?),
            Case::Grpc => Self::Grpc(Http2::connect(proxy).await?),
            Case::Tcp => Self::Tcp(client::connect(proxy, "api.shop:80").await?),
            Case::Connection => Self::Connection(proxy),
        })
    }

    /// Sends one request and reads its answer.
    pub(super) async fn send(&mut self) -> anyhow::Result<()> {
        let answer = match self {
            Self::Http1(connection) => connection.send(get()).await?,
            Self::Http2(connection) => connection.send(get()).await?,
            Self::Grpc(connection) => connection.send(call()).await?,
            Self::Connection(proxy) => {
                let mut connection = Http1::connect(*proxy).await?;
                tokio::time::sleep(ACCEPTED).await;
                connection.send(get()).await?
            }
            Self::Tcp(tunnel) => {
                let mut message = [b'x'; KIBIBYTE];
                tunnel.write_all(&message).await?;
                tunnel.read_exact(&mut message).await?;
                return Ok(());
            }
        };
        ensure!(answer.status == 200, "{answer:?}");
        Ok(())
    }
}

fn get() -> Request<AnyBody> {
    client::request("GET", URL)
}

fn call() -> Request<AnyBody> {
    let mut request = client::with_body("POST", URL, body::full(MESSAGE));
    let headers = [(CONTENT_TYPE, GRPC), (TE, "trailers")];
    let headers = headers.map(|(name, value)| (name, http::HeaderValue::from_static(value)));
    request.headers_mut().extend(headers);
    request
}
