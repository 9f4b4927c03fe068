//! Beside the client: what is redirected goes to where it was meant to go, over mutual TLS.

use std::collections::HashMap;
use std::net::{Ipv4Addr, SocketAddr, SocketAddrV4};
use std::sync::{Arc, Mutex, PoisonError};

use anyhow::Context;
use http::uri::{Authority, Scheme};
use http::{HeaderValue, Request, Response, Uri, Version};
use hyper::body::Incoming;
use hyper::client::conn::http2::SendRequest;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use rustls::pki_types::ServerName;
use socket2::SockRef;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::OnceCell;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

use crate::tuning::{self, BYTES, H2, PORT};
use crate::{Args, Protocol, bytes, tls};

/// The port of redirected connections.
const LISTEN: u16 = 15_001;

/// The port of the other end.
const MESH: u16 = 15_008;

type Shared = OnceCell<SendRequest<Incoming>>;

struct Outbound {
    args: Args,
    http: TlsConnector,
    bytes: TlsConnector,
    name: ServerName<'static>,
    /// One connection to each peer.
    peers: Mutex<HashMap<Ipv4Addr, Arc<Shared>>>,
}

/// Runs for ever.
pub(crate) async fn run(args: Args) -> anyhow::Result<()> {
    let (http, bytes) = (tls::connector(&args, H2)?, tls::connector(&args, BYTES)?);
    let name = ServerName::try_from(args.peer.clone())?;
    let outbound = Arc::new(Outbound { args, http, bytes, name, peers: Mutex::default() });
    let listener = TcpListener::bind((Ipv4Addr::UNSPECIFIED, LISTEN)).await?;
    loop {
        let (stream, _) = listener.accept().await?;
        let outbound = Arc::clone(&outbound);
        tokio::spawn(async move {
            // What breaks ends one connection.
            let _ = outbound.serve(stream).await;
        });
    }
}

impl Outbound {
    async fn serve(self: Arc<Self>, stream: TcpStream) -> anyhow::Result<()> {
        stream.set_nodelay(true)?;
        let target = SockRef::from(&stream).original_dst_v4()?;
        let target = target.as_socket_ipv4().context("not redirected")?;
        match self.args.protocol(target.port()) {
            Protocol::Bytes => bytes::relay(stream, self.dial_bytes(target).await?).await?,
            Protocol::Http1 => self.serve_http1(stream, target).await?,
            Protocol::Http2 => self.serve_http2(stream, target).await?,
        }
        Ok(())
    }

    async fn serve_http1(
        self: Arc<Self>,
        stream: TcpStream,
        to: SocketAddrV4,
    ) -> anyhow::Result<()> {
        let handle = service_fn(async |request| {
            let mut response = self.send(request, to).await?;
            *response.version_mut() = Version::HTTP_11;
            anyhow::Ok(response)
        });
        Ok(http1::Builder::new().serve_connection(TokioIo::new(stream), handle).await?)
    }

    async fn serve_http2(
        self: Arc<Self>,
        stream: TcpStream,
        to: SocketAddrV4,
    ) -> anyhow::Result<()> {
        let handle = service_fn(move |request| {
            let outbound = Arc::clone(&self);
            async move { outbound.send(request, to).await }
        });
        Ok(tuning::http2_server().serve_connection(TokioIo::new(stream), handle).await?)
    }

    async fn send(
        &self,
        mut request: Request<Incoming>,
        to: SocketAddrV4,
    ) -> anyhow::Result<Response<Incoming>> {
        let host = match request.headers_mut().remove(http::header::HOST) {
            Some(host) => Some(Authority::try_from(host.as_bytes())?),
            None => request.uri().authority().cloned(),
        };
        let mut uri = std::mem::take(request.uri_mut()).into_parts();
        uri.scheme = Some(Scheme::HTTP);
        uri.authority = Some(host.context("no host")?);
        *request.uri_mut() = Uri::from_parts(uri)?;
        *request.version_mut() = Version::HTTP_2;
        request.headers_mut().insert(PORT, HeaderValue::from(to.port()));
        let mut peer = self.peer(*to.ip()).await?;
        peer.ready().await?;
        Ok(peer.send_request(request).await?)
    }

    async fn peer(&self, ip: Ipv4Addr) -> anyhow::Result<SendRequest<Incoming>> {
        let shared = {
            let mut peers = self.peers.lock().unwrap_or_else(PoisonError::into_inner);
            let shared = peers.entry(ip).or_default();
            if shared.get().is_some_and(SendRequest::is_closed) {
                *shared = Arc::default();
            }
            Arc::clone(shared)
        };
        Ok(shared.get_or_try_init(|| self.dial_http(ip)).await?.clone())
    }

    async fn dial_http(&self, ip: Ipv4Addr) -> anyhow::Result<SendRequest<Incoming>> {
        let stream = self.dial(&self.http, ip).await?;
        let (send, connection) = tuning::http2_client().handshake(TokioIo::new(stream)).await?;
        tokio::spawn(connection);
        Ok(send)
    }

    async fn dial_bytes(&self, to: SocketAddrV4) -> anyhow::Result<TlsStream<TcpStream>> {
        let mut stream = self.dial(&self.bytes, *to.ip()).await?;
        bytes::write_port(&mut stream, to.port()).await?;
        Ok(stream)
    }

    async fn dial(&self, tls: &TlsConnector, ip: Ipv4Addr) -> anyhow::Result<TlsStream<TcpStream>> {
        let stream = TcpStream::connect(SocketAddr::from((ip, MESH))).await?;
        stream.set_nodelay(true)?;
        Ok(tls.connect(self.name.clone(), stream).await?)
    }
}
