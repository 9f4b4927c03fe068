//! A control plane as a process, and a sidecar's side of its protocol.

#![allow(dead_code)] // each test uses a part of it

use std::io::{BufRead, BufReader};
use std::net::SocketAddr;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::sync::mpsc as std_mpsc;
use std::time::{Duration, SystemTime};

use certs::{Identity, LeafKey, Roots, ServiceAccount, TokenPin, TokenSigner, TrustBundle};
use hyper_util::rt::TokioIo;
use model::spiffe::{SpiffeId, TrustDomain};
use rustls::ClientConfig;
use tests::apiserver::ApiServer;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::sync::mpsc;
use tokio::time::timeout;
use tokio_rustls::TlsConnector;
use tokio_stream::wrappers::ReceiverStream;
use tonic::transport::Endpoint;
use tonic::{Request, Status, Streaming};
use wire::proto::mesh_client::MeshClient;
use wire::proto::{self, sync_request, sync_response};

/// Longer than anything may take on a busy machine.
pub(crate) const PATIENCE: Duration = Duration::from_secs(20);

/// A running control plane; killed when dropped.
pub(crate) struct Plane {
    pub(crate) dir: Arc<tempfile::TempDir>,
    pub(crate) api: SocketAddr,
    pub(crate) admin: SocketAddr,
    child: Child,
    log: std_mpsc::Receiver<String>,
}

impl Plane {
    pub(crate) fn start(objects: &str) -> Self {
        let dir = tempfile::tempdir().unwrap();
        std::fs::create_dir(dir.path().join("config")).unwrap();
        std::fs::write(dir.path().join("config/a.yaml"), objects).unwrap();
        Self::start_in(Arc::new(dir))
    }

    /// Starts in a directory where one has run before.
    pub(crate) fn start_in(dir: Arc<tempfile::TempDir>) -> Self {
        let config = dir.path().join("config");
        Self::run(dir, |command| command.arg("--config-dir").arg(config))
    }

    /// Starts with a bound on the connections to its API.
    pub(crate) fn start_for(most: u32) -> Self {
        let dir = Arc::new(tempfile::tempdir().unwrap());
        Self::run(dir, |command| command.args(["--max-connections", &most.to_string()]))
    }

    /// Starts with the objects of an API server, and a webhook at this address.
    pub(crate) fn start_on(api: &ApiServer, webhook: SocketAddr) -> Self {
        let dir = Arc::new(tempfile::tempdir().unwrap());
        let kubeconfig = api.kubeconfig(dir.path());
        Self::run(dir, |command| {
            let flags = ["--source", "kubernetes", "--webhook-address", &webhook.to_string()];
            command.args(flags).env("KUBECONFIG", kubeconfig)
        })
    }

    fn run(
        dir: Arc<tempfile::TempDir>,
        describe: impl FnOnce(&mut Command) -> &mut Command,
    ) -> Self {
        let mut command = Command::new(env!("CARGO_BIN_EXE_pillion-control-plane"));
        let mut child = describe(&mut command)
            .arg("--state-dir")
            .arg(dir.path().join("state"))
            .args(["--address", "127.0.0.1:0", "--admin-address", "127.0.0.1:0"])
            .args(["--log-format", "json"])
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let lines = BufReader::new(child.stderr.take().unwrap()).lines();
        let (sender, log) = std_mpsc::channel();
        std::thread::spawn(move || {
            lines.map_while(Result::ok).take_while(|line| sender.send(line.clone()).is_ok()).count()
        });
        let up = until_logged(&log, "the control plane is up");
        let up: serde_json::Value = serde_json::from_str(&up).unwrap();
        let address = |field: &str| up[field].as_str().unwrap().parse().unwrap();
        Self { dir, api: address("api"), admin: address("admin"), child, log }
    }

    /// Waits for a line of the log with this text.
    pub(crate) fn until_logged(&self, text: &str) -> String {
        until_logged(&self.log, text)
    }

    pub(crate) fn write(&self, objects: &str) {
        let fresh = self.dir.path().join("config/fresh.tmp");
        std::fs::write(&fresh, objects).unwrap();
        std::fs::rename(fresh, self.dir.path().join("config/a.yaml")).unwrap();
    }

    pub(crate) fn kill(&mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }

    /// Asks it to leave, and returns its exit code.
    pub(crate) fn terminate(&mut self) -> Option<i32> {
        self.ask_to_leave();
        self.child.wait().unwrap().code()
    }

    pub(crate) fn ask_to_leave(&self) {
        let id = self.child.id().to_string();
        assert!(Command::new("kill").args(["-TERM", &id]).status().unwrap().success());
    }

    /// Its exit code, once it has left.
    pub(crate) fn has_left(&mut self) -> Option<i32> {
        self.child.try_wait().unwrap().map(|status| status.code().unwrap())
    }

    pub(crate) fn token(&self, namespace: &str, account: &str, ttl: Duration) -> String {
        let account = ServiceAccount::new(namespace.parse().unwrap(), account).unwrap();
        let signer = TokenSigner::open(&self.dir.path().join("state")).unwrap();
        signer.mint(&account, ttl, SystemTime::now()).unwrap()
    }

    pub(crate) async fn get(&self, path: &str) -> String {
        let mut socket = TcpStream::connect(self.admin).await.unwrap();
        let request = format!("GET {path} HTTP/1.1\r\nhost: a\r\nconnection: close\r\n\r\n");
        socket.write_all(request.as_bytes()).await.unwrap();
        let mut answer = String::new();
        timeout(PATIENCE, socket.read_to_string(&mut answer)).await.unwrap().unwrap();
        answer
    }

    /// A sidecar of this account, by its join token.
    pub(crate) async fn join(&self, namespace: &str, hello: proto::Hello) -> Sidecar {
        let token = self.token(namespace, "x", Duration::from_secs(600));
        self.open(pinned(&token), Some(&token), hello).await.unwrap()
    }

    /// Opens a stream.
    pub(crate) async fn open(
        &self,
        tls: Arc<ClientConfig>,
        token: Option<&str>,
        hello: proto::Hello,
    ) -> Result<Sidecar, Status> {
        let socket = TcpStream::connect(self.api).await.unwrap();
        let connector = TlsConnector::from(tls);
        let socket = connector.connect(certs::server_name(), socket).await;
        let mut socket = Some(TokioIo::new(
            socket.map_err(|error| Status::unavailable(format!("handshake: {error}")))?,
        ));
        let connector = tower::service_fn(move |_| {
            let socket = socket.take().ok_or_else(|| std::io::Error::other("one connection"));
            async { socket }
        });
        let channel = Endpoint::from_static("http://control-plane")
            .connect_with_connector(connector)
            .await
            .map_err(|error| Status::unavailable(error.to_string()))?;
        let (sender, receiver) = mpsc::channel(8);
        let mut request = Request::new(ReceiverStream::new(receiver));
        if let Some(token) = token {
            let value = format!("Bearer {token}").parse().unwrap();
            request.metadata_mut().insert("authorization", value);
        }
        let mut client = MeshClient::new(channel).max_decoding_message_size(64 << 20);
        let answers = timeout(PATIENCE, client.sync(request)).await.unwrap()?.into_inner();
        let sidecar = Sidecar { sender, answers };
        sidecar.say(sync_request::Kind::Hello(hello)).await;
        Ok(sidecar)
    }
}

impl Drop for Plane {
    fn drop(&mut self) {
        // It may have ended by itself.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn until_logged(log: &std_mpsc::Receiver<String>, text: &str) -> String {
    loop {
        let line = log.recv_timeout(PATIENCE).unwrap_or_else(|_| panic!("{text:?} is not logged"));
        if line.contains(text) {
            return line;
        }
    }
}

/// One stream to a control plane.
pub(crate) struct Sidecar {
    sender: mpsc::Sender<proto::SyncRequest>,
    answers: Streaming<proto::SyncResponse>,
}

impl Sidecar {
    pub(crate) async fn say(&self, kind: sync_request::Kind) {
        // A stream that has ended says so when it is read.
        let _ = self.sender.send(proto::SyncRequest { kind: Some(kind) }).await;
    }

    pub(crate) async fn subscribe(&self, name: &str) {
        let subscribe = proto::Subscribe { add: vec![name.into()], ..Default::default() };
        self.say(sync_request::Kind::Subscribe(subscribe)).await;
    }

    pub(crate) async fn next(&mut self) -> Result<sync_response::Kind, Status> {
        loop {
            let message = timeout(PATIENCE, self.answers.message()).await.expect("an answer");
            let kind = message?.and_then(|message| message.kind);
            match kind.ok_or_else(|| Status::unknown("the end"))? {
                // The trust bundle alone, with which every stream begins.
                sync_response::Kind::Certificate(bundle) if bundle.chain.is_empty() => {}
                kind => return Ok(kind),
            }
        }
    }

    /// The next Update, acknowledged.
    pub(crate) async fn update(&mut self) -> proto::Update {
        self.update_but(Vec::new()).await
    }

    /// The next Update, of which these resources are refused.
    pub(crate) async fn update_but(&mut self, rejected: Vec<proto::Rejected>) -> proto::Update {
        match self.next().await.unwrap() {
            sync_response::Kind::Update(update) => {
                let nonce = update.nonce;
                let acknowledge = proto::Acknowledge { nonce, rejected };
                self.say(sync_request::Kind::Acknowledge(acknowledge)).await;
                update
            }
            other => panic!("an Update is expected, not {other:?}"),
        }
    }

    /// Reads Updates until one has what is looked for.
    pub(crate) async fn until<T>(
        &mut self,
        mut find: impl FnMut(&proto::Update) -> Option<T>,
    ) -> T {
        loop {
            if let Some(found) = find(&self.update().await) {
                return found;
            }
        }
    }

    /// Waits until the endpoints of a Service are these.
    pub(crate) async fn until_endpoints(&mut self, name: &str, expected: &[&str]) {
        self.until(|update| {
            let service = update.resources.iter().find_map(|resource| match &resource.body {
                Some(proto::resource::Body::Service(service)) if resource.name == name => {
                    Some(service)
                }
                _ => None,
            })?;
            let addresses: Vec<&str> =
                service.endpoints.iter().map(|endpoint| endpoint.address.as_str()).collect();
            (addresses == expected).then_some(())
        })
        .await;
    }

    /// Asks for a certificate.
    pub(crate) async fn certificate(&mut self, csr: Vec<u8>) -> Result<proto::Certificate, Status> {
        self.say(sync_request::Kind::Certificate(proto::CertificateRequest { csr })).await;
        loop {
            if let sync_response::Kind::Certificate(certificate) = self.next().await? {
                return Ok(certificate);
            }
        }
    }
}

/// The names in an Update: of its resources, and with `-` of what it removes.
pub(crate) fn names(update: &proto::Update) -> Vec<String> {
    let resources = update.resources.iter().map(|resource| {
        let kind = wire::resource::kind_of(resource).unwrap();
        format!("{} {}", kind.as_str(), resource.name)
    });
    resources.chain(update.removed.iter().map(|removed| format!("-{}", removed.name))).collect()
}

pub(crate) fn hello(services: &[&str]) -> proto::Hello {
    proto::Hello {
        version: "test".into(),
        instance: "test".into(),
        address: "127.0.1.1".into(),
        services: services.iter().map(ToString::to_string).collect(),
        ..Default::default()
    }
}

pub(crate) fn registration(service: &str, address: &str) -> proto::Hello {
    let registration = proto::Registration {
        service: service.into(),
        app_port: 8080,
        service_port: 80,
        mesh_port: 15008,
        protocol: 0,
    };
    proto::Hello { address: address.into(), registration: Some(registration), ..hello(&[]) }
}

fn control_plane() -> SpiffeId {
    SpiffeId::control_plane(&trust_domain())
}

fn trust_domain() -> TrustDomain {
    "cluster.local".parse().unwrap()
}

/// Without a certificate: the server is known by the root that the token names.
pub(crate) fn pinned(token: &str) -> Arc<ClientConfig> {
    let root = TokenPin::read(token).unwrap().root_sha256.unwrap();
    certs::pinned_client_config(root, control_plane(), &[b"h2"])
}

/// With a certificate that the control plane gave.
pub(crate) fn with_certificate(
    key: &LeafKey,
    certificate: &proto::Certificate,
) -> Arc<ClientConfig> {
    identity(key, certificate).client_config(control_plane(), &[b"h2"])
}

/// The identity that a certificate of the control plane gives.
pub(crate) fn identity(key: &LeafKey, certificate: &proto::Certificate) -> Identity {
    let ders = |ders: &[Vec<u8>]| ders.iter().map(|der| der.clone().into()).collect();
    let roots = Roots::from_ders(ders(&certificate.bundle[0].roots)).unwrap();
    let bundle = TrustBundle::of(trust_domain(), roots);
    Identity::new(key, ders(&certificate.chain), bundle).unwrap()
}

/// Waits until the registry on disk knows this address.
pub(crate) async fn until_saved(dir: &Path, address: &str) {
    let saved = async {
        let path = dir.join("state/registry.json");
        while !std::fs::read_to_string(&path).unwrap_or_default().contains(address) {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    timeout(PATIENCE, saved).await.unwrap();
}
