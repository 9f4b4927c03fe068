//! A connection that has carried one request, and rests since.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use anyhow::ensure;
use bytes::Bytes;
use certs::{Authority, Identity, LeafKey};
use h2::client::SendRequest;
use http::Request;
use model::spiffe::{SpiffeId, TrustDomain};
use tests::client::{self, Http2};
use tests::mesh::{Mesh, TRUST_DOMAIN};
use tests::pod::{APP_PORT, Pod};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::rustls::ClientConfig;

/// What a tunnel carries once.
const WORD: &[u8] = b"\x01\x02\x03\x04";

/// Whose connections they are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    /// The client's application's, in HTTP/1.1.
    Outbound,
    /// The client's application's, in HTTP/2.
    OutboundHttp2,
    /// A client's outside of the mesh, in HTTP/1.1.
    Inbound,
    /// Other sidecars'.
    Mesh,
    /// The client's application's, through both sidecars.
    Tunnel,
}

/// Whoever opens them.
pub(super) struct Opener {
    kind: Kind,
    address: SocketAddr,
    tls: Arc<ClientConfig>,
}

/// One of them; dropped, it is closed.
#[derive(Debug)]
#[expect(dead_code, reason = "what is held is only there to be held")]
pub(super) enum Held {
    Socket(TcpStream),
    Http2(Http2),
    Mesh(SendRequest<Bytes>),
}

impl Opener {
    /// Opens to the sidecar of `web` or of `api`, as the kind says.
    pub(super) fn new(kind: Kind, mesh: &Mesh, web: &Pod, api: &Pod) -> anyhow::Result<Self> {
        let address = match kind {
            Kind::Outbound | Kind::OutboundHttp2 | Kind::Tunnel => web.proxy(),
            Kind::Inbound => api.inbound(),
            Kind::Mesh => api.mesh_port(),
        };
        Ok(Self { kind, address, tls: client_config(mesh)? })
    }

    /// Opens one, and waits for its first answer.
    pub(super) async fn open(&self) -> anyhow::Result<Held> {
        Ok(match self.kind {
            Kind::Outbound => Held::Socket(self.request("http://api.shop/").await?),
            Kind::Inbound => Held::Socket(self.request("/").await?),
            Kind::OutboundHttp2 => {
                let mut connection = Http2::connect(self.address).await?;
                let answer = connection.send(client::request("GET", "http://api.shop/")).await?;
                ensure!(answer.status == 200, "{answer:?}");
                Held::Http2(connection)
            }
            Kind::Mesh => Held::Mesh(self.stream().await?),
            Kind::Tunnel => {
                let mut tunnel = client::connect(self.address, "api.shop:80").await?;
                tunnel.write_all(WORD).await?;
                tunnel.read_exact(&mut [0; WORD.len()]).await?;
                Held::Socket(tunnel)
            }
        })
    }

    async fn request(&self, target: &str) -> anyhow::Result<TcpStream> {
        let mut socket = TcpStream::connect(self.address).await?;
        let request = format!("GET {target} HTTP/1.1\r\nhost: api.shop\r\n\r\n");
        socket.write_all(request.as_bytes()).await?;
        let mut answer = Vec::new();
        while !answer.ends_with(crate::app::BODY.as_bytes()) {
            ensure!(socket.read_buf(&mut answer).await? > 0, "ended before its answer");
        }
        Ok(socket)
    }

    /// As a sidecar does: TLS with a certificate of the mesh, and one request in HTTP/2.
    async fn stream(&self) -> anyhow::Result<SendRequest<Bytes>> {
        let socket = TcpStream::connect(self.address).await?;
        socket.set_nodelay(true)?;
        let connector = TlsConnector::from(Arc::clone(&self.tls));
        let stream = connector.connect(certs::server_name(), socket).await?;
        let (sender, connection) = h2::client::handshake(stream).await?;
        tokio::spawn(connection);
        let mut sender = sender.ready().await?;
        let request = Request::get("http://api.shop/")
            .header(model::headers::PORT, APP_PORT)
            .header(model::headers::PROTOCOL, "http/1.1");
        let (response, _) = sender.send_request(request.body(())?, true)?;
        let response = response.await?;
        ensure!(response.status() == 200, "{response:?}");
        let mut body = response.into_body();
        while let Some(bytes) = body.data().await {
            body.flow_control().release_capacity(bytes?.len())?;
        }
        Ok(sender)
    }
}

/// A sidecar's of the mesh, for its connections to `shop/api`.
fn client_config(mesh: &Mesh) -> anyhow::Result<Arc<ClientConfig>> {
    let domain: TrustDomain = TRUST_DOMAIN.parse()?;
    let namespace = "shop".parse()?;
    let id = |account: &str| SpiffeId::workload(&domain, &namespace, account);
    let now = SystemTime::now();
    let authority = Authority::open(&mesh.state_dir(), &domain, now)?;
    let (key, own) = (LeafKey::generate()?, id("web")?);
    let lifetime = Duration::from_secs(3600);
    let signed = authority.sign(&key.csr(Some(&own))?, &own, lifetime, now)?;
    let identity = Identity::new(&key, signed.chain, authority.bundle())?;
    Ok(identity.client_config(id("api")?, &[b"h2"]))
}
