//! Beside the server: what comes over mutual TLS goes to the application.

use std::net::Ipv4Addr;
use std::sync::Arc;

use anyhow::Context;
use http::{Request, Response, Version};
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use tokio::net::{TcpListener, TcpStream};
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;

use crate::application::Applications;
use crate::tuning::{self, BYTES, H2, PORT};
use crate::{Args, Protocol, bytes, tls};

/// The port of the mesh.
const LISTEN: u16 = 15_008;

struct Inbound {
    args: Args,
    tls: TlsAcceptor,
    applications: Applications,
}

/// Runs for ever.
pub(crate) async fn run(args: Args) -> anyhow::Result<()> {
    let tls = tls::acceptor(&args, &[H2, BYTES])?;
    let inbound = Arc::new(Inbound { args, tls, applications: Applications::default() });
    let listener = TcpListener::bind((Ipv4Addr::UNSPECIFIED, LISTEN)).await?;
    loop {
        let (stream, _) = listener.accept().await?;
        let inbound = Arc::clone(&inbound);
        tokio::spawn(async move {
            // What breaks ends one connection.
            let _ = inbound.serve(stream).await;
        });
    }
}

impl Inbound {
    async fn serve(self: Arc<Self>, stream: TcpStream) -> anyhow::Result<()> {
        stream.set_nodelay(true)?;
        let mut stream = self.tls.accept(stream).await?;
        if stream.get_ref().1.alpn_protocol() == Some(H2) {
            return self.serve_http(stream).await;
        }
        let port = bytes::read_port(&mut stream).await?;
        let application = TcpStream::connect((Ipv4Addr::LOCALHOST, port)).await?;
        application.set_nodelay(true)?;
        Ok(bytes::relay(application, stream).await?)
    }

    async fn serve_http(self: Arc<Self>, stream: TlsStream<TcpStream>) -> anyhow::Result<()> {
        let handle = service_fn(move |request| {
            let inbound = Arc::clone(&self);
            async move {
                let mut response = inbound.forward(request).await?;
                *response.version_mut() = Version::HTTP_2;
                anyhow::Ok(response)
            }
        });
        Ok(tuning::http2_server().serve_connection(TokioIo::new(stream), handle).await?)
    }

    async fn forward(&self, mut request: Request<Incoming>) -> anyhow::Result<Response<Incoming>> {
        let port = request.headers_mut().remove(PORT).context("no port")?;
        let port = port.to_str()?.parse()?;
        match self.args.protocol(port) {
            Protocol::Http2 => self.applications.send_http2(port, request).await,
            _ => self.applications.send_http1(port, request).await,
        }
    }
}
