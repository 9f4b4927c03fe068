//! A control plane that signs certificates by itself and pushes only what a test says.

#![allow(dead_code)] // no test needs all of it

use std::collections::HashMap;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::pin::Pin;
use std::sync::{Arc, Mutex, mpsc as std_mpsc};
use std::time::{Duration, SystemTime};

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use certs::{
    Authority, ClientAuth, Identity, LeafKey, ServiceAccount, TokenSigner, TokenVerifier,
    peer_identity,
};
use hyper::server::conn::http2;
use hyper_util::rt::{TokioExecutor, TokioIo};
use hyper_util::service::TowerToHyperService;
use model::spiffe::{SpiffeId, TrustDomain};
use tempfile::TempDir;
use tokio::net::TcpListener;
use tokio::runtime::Runtime;
use tokio::sync::mpsc;
use tokio_rustls::TlsAcceptor;
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Request, Response, Status, Streaming};
use wire::proto::mesh_server::{Mesh, MeshServer};
use wire::proto::sync_request::Kind as Said;
use wire::proto::sync_response::Kind as Say;
use wire::proto::{self, SyncRequest, SyncResponse};

const PATIENCE: Duration = Duration::from_secs(20);
/// For how long certificates are signed.
pub(crate) const DAY: Duration = Duration::from_secs(24 * 3600);

/// Tokens of service accounts that a cluster would say are good.
type Reviewed = Arc<Mutex<HashMap<String, ServiceAccount>>>;

/// The scripted control plane.
pub(crate) struct ControlPlane {
    state: TempDir,
    address: SocketAddr,
    streams: std_mpsc::Receiver<Stream>,
    authority: Arc<Authority>,
    reviewed: Reviewed,
    clock: Arc<Clock>,
    runtime: Runtime,
}

/// The clock by which sidecars' certificates are signed: late by some time, or right.
#[derive(Default)]
struct Clock(Mutex<Duration>);

impl Clock {
    fn now(&self) -> SystemTime {
        SystemTime::now() - *self.0.lock().unwrap()
    }
}

/// One sidecar's stream, in the hands of the test.
pub(crate) struct Stream {
    hello: proto::Hello,
    by_certificate: bool,
    heard: std_mpsc::Receiver<Said>,
    kept: Mutex<Vec<Said>>,
    say: mpsc::Sender<Result<SyncResponse, Status>>,
    nonce: u64,
}

#[derive(Clone)]
struct Service {
    authority: Arc<Authority>,
    verifier: Arc<TokenVerifier>,
    reviewed: Reviewed,
    clock: Arc<Clock>,
    certificate: Option<SpiffeId>,
    streams: std_mpsc::Sender<Stream>,
}

impl ControlPlane {
    pub(crate) fn start() -> Self {
        Self::late_by(Duration::ZERO)
    }

    /// One whose clock is late when it signs.
    pub(crate) fn late_by(late: Duration) -> Self {
        let clock = Arc::new(Clock(Mutex::new(late)));
        let state = TempDir::new().unwrap();
        let domain: TrustDomain = "cluster.local".parse().unwrap();
        let dir = state.path().join("state");
        let authority = Authority::open_or_create(&dir, &domain, clock.now()).unwrap();
        let verifier = Arc::new(TokenVerifier::open(&dir).unwrap());
        let (sender, streams) = std_mpsc::channel();
        let runtime = Runtime::new().unwrap();
        let listener = runtime.block_on(TcpListener::bind("127.0.0.1:0")).unwrap();
        let address = listener.local_addr().unwrap();
        let authority = Arc::new(authority);
        let reviewed = Reviewed::default();
        let service = Service {
            authority: Arc::clone(&authority),
            verifier,
            reviewed: Arc::clone(&reviewed),
            clock: Arc::clone(&clock),
            certificate: None,
            streams: sender,
        };
        runtime.spawn(serve(listener, service));
        Self { state, address, streams, authority, reviewed, clock, runtime }
    }

    /// Puts its clock right.
    pub(crate) fn set_clock(&self) {
        *self.clock.0.lock().unwrap() = Duration::ZERO;
    }

    pub(crate) fn address(&self) -> SocketAddr {
        self.address
    }

    /// The authority's files.
    pub(crate) fn state(&self) -> PathBuf {
        self.state.path().join("state")
    }

    pub(crate) fn identity(&self, namespace: &str, account: &str) -> SpiffeId {
        format!("spiffe://cluster.local/ns/{namespace}/sa/{account}").parse().unwrap()
    }

    /// The certificate of a workload that is no sidecar.
    pub(crate) fn certificate(&self, id: &SpiffeId) -> Identity {
        let key = LeafKey::generate().unwrap();
        let csr = key.csr(None).unwrap();
        let signed = self.authority.sign(&csr, id, DAY, SystemTime::now()).unwrap();
        Identity::new(&key, signed.chain, self.authority.bundle()).unwrap()
    }

    /// A file with a fresh join token.
    pub(crate) fn token_file(&self, namespace: &str, account: &str) -> PathBuf {
        let signer = TokenSigner::open(&self.state()).unwrap();
        let account = ServiceAccount::new(namespace.parse().unwrap(), account).unwrap();
        let token = signer.mint(&account, DAY, SystemTime::now()).unwrap();
        let file = self.state.path().join("token");
        std::fs::write(&file, token).unwrap();
        file
    }

    /// A file with a token of a service account as the API server makes it, which only the API
    /// server could verify.
    pub(crate) fn service_account_token(&self, namespace: &str, account: &str) -> PathBuf {
        let account = ServiceAccount::new(namespace.parse().unwrap(), account).unwrap();
        let expires = (SystemTime::now() + DAY).duration_since(SystemTime::UNIX_EPOCH).unwrap();
        let claims = serde_json::json!({
            "aud": ["pillion.dev"], "exp": expires.as_secs(), "sub": account.to_string(),
            "iss": "https://kubernetes.default.svc.cluster.local",
        });
        let parts = [r#"{"alg":"RS256"}"#.to_owned(), claims.to_string(), "signature".to_owned()];
        let token = parts.map(|part| URL_SAFE_NO_PAD.encode(part)).join(".");
        let file = self.state.path().join("service-account-token");
        std::fs::write(&file, &token).unwrap();
        self.reviewed.lock().unwrap().insert(token, account);
        file
    }

    /// The root of the mesh, in DER.
    pub(crate) fn root(&self) -> Vec<u8> {
        let bundle = self.authority.bundle();
        let roots = bundle.roots(self.authority.trust_domain()).unwrap();
        roots.ders()[0].to_vec()
    }

    /// The trust bundle of the mesh, as PEM.
    pub(crate) fn trust_bundle(&self) -> String {
        std::fs::read_to_string(self.state().join("bundle.pem")).unwrap()
    }

    /// The next stream that a sidecar opens.
    pub(crate) fn accept(&mut self) -> Stream {
        let _runtime = self.runtime.enter();
        self.streams.recv_timeout(PATIENCE).expect("a sidecar opens a stream")
    }
}

impl Stream {
    pub(crate) fn hello(&self) -> &proto::Hello {
        &self.hello
    }

    /// Whether the sidecar proved itself with a certificate.
    pub(crate) fn by_certificate(&self) -> bool {
        self.by_certificate
    }

    /// Pushes resources and removals.
    pub(crate) fn update(&mut self, resources: Vec<proto::Resource>, removed: Vec<proto::Removed>) {
        self.nonce += 1;
        let update =
            proto::Update { nonce: self.nonce, publication: self.nonce, resources, removed };
        let message = SyncResponse { kind: Some(Say::Update(update)) };
        self.say.blocking_send(Ok(message)).expect("the stream is open");
    }

    /// Replaces the roots of the mesh, each in DER.
    pub(crate) fn trust(&mut self, roots: &[&[u8]]) {
        let roots = roots.iter().map(|root| root.to_vec()).collect();
        let domain = proto::TrustDomainRoots { trust_domain: "cluster.local".into(), roots };
        let certificate = proto::Certificate { bundle: vec![domain], ..Default::default() };
        let message = SyncResponse { kind: Some(Say::Certificate(certificate)) };
        self.say.blocking_send(Ok(message)).expect("the stream is open");
        // What follows it on the stream is heard after it.
        self.update(vec![], vec![]);
        self.acknowledged();
    }

    /// The names of the next Subscribe.
    pub(crate) fn subscribed(&self) -> Vec<String> {
        self.next(|said| match said {
            Said::Subscribe(subscribe) => Some(subscribe.add.clone()),
            _ => None,
        })
    }

    /// The acknowledgement of the newest Update.
    pub(crate) fn acknowledged(&self) -> proto::Acknowledge {
        self.next(|said| match said {
            Said::Acknowledge(ack) if ack.nonce == self.nonce => Some(ack.clone()),
            _ => None,
        })
    }

    /// All that was said so far and not taken by another question.
    pub(crate) fn said(&self) -> Vec<Said> {
        let mut kept = self.kept.lock().unwrap();
        kept.extend(self.heard.try_iter());
        kept.clone()
    }

    /// Ends the stream as a control plane does that is shut down.
    pub(crate) fn end(self) {
        let _ = self.say.blocking_send(Err(Status::unavailable("shutting down")));
    }

    fn next<T>(&self, wanted: impl Fn(&Said) -> Option<T>) -> T {
        let mut kept = self.kept.lock().unwrap();
        loop {
            if let Some(at) = kept.iter().position(|said| wanted(said).is_some()) {
                return wanted(&kept.remove(at)).unwrap();
            }
            kept.push(self.heard.recv_timeout(PATIENCE).expect("the sidecar says it"));
        }
    }
}

async fn serve(listener: TcpListener, service: Service) {
    let own = service.authority.issue_self(DAY, SystemTime::now()).unwrap();
    let acceptor = TlsAcceptor::from(own.server_config(&[b"h2"], ClientAuth::Optional));
    loop {
        let (socket, _) = listener.accept().await.unwrap();
        let (acceptor, mut service) = (acceptor.clone(), service.clone());
        tokio::spawn(async move {
            let Ok(io) = acceptor.accept(socket).await else { return };
            let certificates = io.get_ref().1.peer_certificates().unwrap_or_default();
            service.certificate = peer_identity(certificates);
            let service = TowerToHyperService::new(MeshServer::new(service));
            let _ = http2::Builder::new(TokioExecutor::new())
                .serve_connection(TokioIo::new(io), service)
                .await;
        });
    }
}

#[tonic::async_trait]
impl Mesh for Service {
    type SyncStream =
        Pin<Box<dyn tokio_stream::Stream<Item = Result<SyncResponse, Status>> + Send>>;

    async fn sync(
        &self,
        request: Request<Streaming<SyncRequest>>,
    ) -> Result<Response<Self::SyncStream>, Status> {
        let id = self.authenticate(&request)?;
        let mut messages = request.into_inner();
        let (say, said) = mpsc::channel(16);
        let service = self.clone();
        tokio::spawn(async move {
            let first = messages.message().await;
            let Ok(Some(SyncRequest { kind: Some(Said::Hello(hello)) })) = first else { return };
            let (hear, heard) = std_mpsc::channel();
            let by_certificate = service.certificate.is_some();
            let (kept, nonce) = (Mutex::default(), 0);
            let stream = Stream { hello, by_certificate, heard, kept, say: say.clone(), nonce };
            let _ = service.streams.send(stream);
            while let Ok(Some(SyncRequest { kind: Some(kind) })) = messages.message().await {
                if let Said::Certificate(request) = &kind {
                    let _ = say.send(Ok(service.sign(&id, &request.csr))).await;
                }
                if let Said::Subscribe(subscribe) = &kind {
                    let _ = say.send(Ok(nobody_has(&subscribe.add_addresses))).await;
                }
                let _ = hear.send(kind);
            }
        });
        Ok(Response::new(Box::pin(ReceiverStream::new(said))))
    }
}

/// The answer to addresses that a sidecar asks for; a test may say another thing afterwards.
fn nobody_has(addresses: &[String]) -> SyncResponse {
    let kind = wire::Kind::Address.encode();
    let removed = |name: &String| proto::Removed { kind, name: name.clone() };
    let removed = addresses.iter().map(removed).collect();
    let update = proto::Update { nonce: u64::MAX, publication: 1, removed, ..Default::default() };
    SyncResponse { kind: Some(Say::Update(update)) }
}

impl Service {
    fn authenticate<T>(&self, request: &Request<T>) -> Result<SpiffeId, Status> {
        if let Some(id) = &self.certificate {
            return Ok(id.clone());
        }
        let token = request.metadata().get("authorization").and_then(|value| value.to_str().ok());
        let token = token.and_then(|value| value.strip_prefix("Bearer ")).unwrap_or_default();
        let reviewed = self.reviewed.lock().unwrap().get(token).cloned();
        let account = match reviewed {
            Some(account) => account,
            None => self
                .verifier
                .verify(token, SystemTime::now())
                .map_err(|error| Status::unauthenticated(error.to_string()))?,
        };
        Ok(account.spiffe_id(self.authority.trust_domain()).unwrap())
    }

    fn sign(&self, id: &SpiffeId, csr: &[u8]) -> SyncResponse {
        let signed = self.authority.sign(csr, id, DAY, self.clock.now()).unwrap();
        let bundle = self.authority.bundle();
        let domains = bundle.iter().map(|(domain, roots)| proto::TrustDomainRoots {
            trust_domain: domain.to_string(),
            roots: roots.ders().iter().map(|der| der.to_vec()).collect(),
        });
        let not_after = signed.not_after.duration_since(SystemTime::UNIX_EPOCH).unwrap();
        SyncResponse {
            kind: Some(Say::Certificate(proto::Certificate {
                chain: signed.chain.iter().map(|der| der.to_vec()).collect(),
                not_after: not_after.as_secs() as i64,
                bundle: domains.collect(),
            })),
        }
    }
}
