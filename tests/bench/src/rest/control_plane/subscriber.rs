//! A sidecar's side of the push protocol and nothing else of a sidecar, so that a thousand of them
//! fit beside the control plane.

use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use anyhow::Context;
use certs::{Authority, Identity, LeafKey, TokenPin};
use hyper_util::rt::TokioIo;
use model::spiffe::{SpiffeId, TrustDomain};
use tests::mesh::TRUST_DOMAIN;
use tokio::net::TcpStream;
use tokio::sync::mpsc;
use tokio_rustls::TlsConnector;
use tokio_rustls::rustls::ClientConfig;
use tokio_stream::wrappers::ReceiverStream;
use tonic::transport::Endpoint;
use tonic::{Request, Streaming};
use wire::proto::mesh_client::MeshClient;
use wire::proto::sync_request::Kind as Say;
use wire::proto::sync_response::Kind as Hear;
use wire::proto::{self, SyncRequest, SyncResponse};

/// Messages on their way to the control plane.
const QUEUE: usize = 8;

/// Whoever may open streams.
#[derive(Debug, Clone)]
pub(super) struct Account {
    api: SocketAddr,
    /// Sent where there is no certificate.
    token: Option<String>,
    tls: Arc<ClientConfig>,
}

/// One stream.
pub(super) struct Subscriber {
    said: mpsc::Sender<SyncRequest>,
    heard: Streaming<SyncResponse>,
}

impl Account {
    /// By this join token, at the control plane `api`.
    pub(super) fn new(api: SocketAddr, token: &str) -> anyhow::Result<Self> {
        let domain: TrustDomain = TRUST_DOMAIN.parse()?;
        let id = SpiffeId::control_plane(&domain);
        let token = token.trim().to_owned();
        let root = TokenPin::read(&token)?.root_sha256.context("a join token names its root")?;
        let tls = certs::pinned_client_config(root, id, &[b"h2"]);
        Ok(Self { api, token: Some(token), tls })
    }

    /// By a certificate of the mesh's authority for `namespace/account`, as a sidecar that is back.
    pub(super) fn certified(api: SocketAddr, state: &Path, account: &str) -> anyhow::Result<Self> {
        let domain: TrustDomain = TRUST_DOMAIN.parse()?;
        let (now, day) = (SystemTime::now(), Duration::from_secs(24 * 3600));
        let authority = Authority::open(state, &domain, now)?;
        let (namespace, name) = account.split_once('/').context("NAMESPACE/NAME")?;
        let id = SpiffeId::workload(&domain, &namespace.parse()?, name)?;
        let key = LeafKey::generate()?;
        let chain = authority.sign(&key.csr(None)?, &id, day, now)?.chain;
        let identity = Identity::new(&key, chain, authority.bundle())?;
        let tls = identity.client_config(SpiffeId::control_plane(&domain), &[b"h2"]);
        Ok(Self { api, token: None, tls })
    }

    /// Opens a stream on a connection of its own, as the sidecar at `address`, for `services`.
    pub(super) async fn open(
        &self,
        address: &str,
        services: &[String],
    ) -> anyhow::Result<Subscriber> {
        let socket = TcpStream::connect(self.api).await?;
        socket.set_nodelay(true)?;
        let connector = TlsConnector::from(Arc::clone(&self.tls));
        let mut io = Some(TokioIo::new(connector.connect(certs::server_name(), socket).await?));
        let connector = tower::service_fn(move |_| {
            let io = io.take().ok_or_else(|| std::io::Error::other("one connection each"));
            async { io }
        });
        let channel = Endpoint::from_static("http://control-plane.pillion")
            .connect_with_connector(connector)
            .await?;
        let (said, messages) = mpsc::channel(QUEUE);
        let mut request = Request::new(ReceiverStream::new(messages));
        if let Some(token) = &self.token {
            let bearer = format!("Bearer {token}").parse()?;
            request.metadata_mut().insert("authorization", bearer);
        }
        let hello = proto::Hello {
            version: "bench".into(),
            instance: address.into(),
            address: address.into(),
            services: services.to_vec(),
            ..Default::default()
        };
        said.send(SyncRequest { kind: Some(Say::Hello(hello)) }).await?;
        let heard = MeshClient::new(channel).sync(request).await?.into_inner();
        Ok(Subscriber { said, heard })
    }
}

impl Subscriber {
    /// Waits for an Update in which an endpoint of a Service has `address`, and acknowledges all
    /// that come.
    pub(super) async fn until_endpoint(&mut self, address: &str) -> anyhow::Result<()> {
        loop {
            let Hear::Update(update) = self.hear().await? else { continue };
            let has = update.resources.iter().any(|resource| match &resource.body {
                Some(proto::resource::Body::Service(service)) => {
                    service.endpoints.iter().any(|endpoint| endpoint.address == address)
                }
                _ => false,
            });
            let nonce = update.nonce;
            let acknowledge = proto::Acknowledge { nonce, rejected: Vec::new() };
            self.say(Say::Acknowledge(acknowledge)).await?;
            if has {
                return Ok(());
            }
        }
    }

    /// Asks for a certificate and waits for it.
    pub(super) async fn certificate(&mut self, csr: &[u8]) -> anyhow::Result<()> {
        self.say(Say::Certificate(proto::CertificateRequest { csr: csr.to_vec() })).await?;
        loop {
            // One without a chain brings the roots only.
            if let Hear::Certificate(certificate) = self.hear().await?
                && !certificate.chain.is_empty()
            {
                return Ok(());
            }
        }
    }

    async fn say(&self, kind: Say) -> anyhow::Result<()> {
        Ok(self.said.send(SyncRequest { kind: Some(kind) }).await?)
    }

    async fn hear(&mut self) -> anyhow::Result<Hear> {
        let message = self.heard.message().await?.context("the control plane ended the stream")?;
        message.kind.context("a message of a newer control plane")
    }
}
