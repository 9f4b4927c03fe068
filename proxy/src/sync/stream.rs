//! One stream to the control plane, from Hello to its end.

use std::convert::Infallible;
use std::sync::Arc;
use std::time::SystemTime;

use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::metadata::errors::InvalidMetadataValue;
use tonic::{Request, Status, Streaming};
use wire::proto::mesh_client::MeshClient;
use wire::proto::sync_request::Kind as Say;
use wire::proto::sync_response::Kind as Hear;
use wire::proto::{self, SyncRequest, SyncResponse};

use super::certificate::{CertificateError, Certificates};
use super::connect::{self, ConnectError, Proof};
use super::discovery::{Requests, Wanted};
use super::snapshot::Snapshot;
use crate::mesh::Mesh;
use crate::telemetry::metrics::epoch_seconds;

/// Messages on their way to the control plane.
const QUEUE: usize = 64;

/// Largest message taken from the control plane, in bytes.
const MAX_MESSAGE: usize = 64 * 1024 * 1024;

/// Why a stream ended.
#[derive(Debug, thiserror::Error)]
pub(super) enum StreamError {
    /// There was none.
    #[error(transparent)]
    Connect(#[from] ConnectError),
    /// The token cannot be sent.
    #[error("the join token is no use: {0}")]
    Token(#[from] InvalidMetadataValue),
    /// The control plane refused or ended it.
    #[error("the control plane ended the stream: {} ({:?})", .0.message(), .0.code())]
    Refused(Status),
    /// A certificate is no use.
    #[error(transparent)]
    Certificate(#[from] CertificateError),
    /// The connection is gone.
    #[error("the control plane closed the stream")]
    Closed,
    /// The sidecar leaves: its registration goes with the stream.
    #[error("the sidecar is draining and gives up its registration")]
    Draining,
}

impl StreamError {
    /// Whether the sidecar itself ended the stream, to open another at once.
    pub(super) const fn is_intended(&self) -> bool {
        matches!(self, Self::Draining)
    }
}

/// Runs one stream until it ends, and says why it did.
pub(super) async fn run(
    mesh: &Arc<Mesh>,
    proof: Proof,
    snapshot: &mut Snapshot,
    certificates: &mut Certificates,
    requests: &mut Requests,
) -> StreamError {
    let (channel, token) = match connect::open(mesh, proof).await {
        Ok(connected) => connected,
        Err(error) => return error.into(),
    };
    let registered = mesh.config.registration.is_some() && !mesh.drain.has_begun();
    let opened = open(channel, token, hello(mesh, snapshot, registered)).await;
    let (said, heard) = match opened {
        Ok(opened) => opened,
        Err(error) => return error,
    };
    mesh.metrics.sync.connected.set(1);
    mesh.status.connected();
    tracing::info!(control_plane = mesh.config.control_plane.address, "stream opened");
    let mut stream = Stream { mesh, said, snapshot, certificates, requests, registered };
    match stream.converse(heard).await {
        Ok(never) => match never {},
        Err(error) => error,
    }
}

fn hello(mesh: &Mesh, snapshot: &Snapshot, register: bool) -> proto::Hello {
    let config = &mesh.config;
    let registration = config.registration.as_ref().filter(|_| register);
    proto::Hello {
        version: env!("CARGO_PKG_VERSION").into(),
        instance: format!("{}-{}", config.workload(), config.address),
        address: config.address.to_string(),
        registration: registration.map(|own| proto::Registration {
            service: own.service.to_string(),
            app_port: own.app_port.into(),
            service_port: own.service_port.unwrap_or(0).into(),
            mesh_port: config.ports.mesh.into(),
            protocol: wire::service::encode_protocol(config.app.protocol),
        }),
        services: snapshot.subscriptions(),
        addresses: snapshot.addresses(),
        known: snapshot.known(),
    }
}

async fn open(
    channel: tonic::transport::Channel,
    token: Option<String>,
    hello: proto::Hello,
) -> Result<(mpsc::Sender<SyncRequest>, Streaming<SyncResponse>), StreamError> {
    let (said, messages) = mpsc::channel(QUEUE);
    let _ = said.send(SyncRequest { kind: Some(Say::Hello(hello)) }).await;
    let mut request = Request::new(ReceiverStream::new(messages));
    if let Some(token) = token {
        request.metadata_mut().insert("authorization", format!("Bearer {token}").parse()?);
    }
    let mut client = MeshClient::new(channel).max_decoding_message_size(MAX_MESSAGE);
    let heard = client.sync(request).await.map_err(StreamError::Refused)?;
    Ok((said, heard.into_inner()))
}

struct Stream<'a> {
    mesh: &'a Arc<Mesh>,
    said: mpsc::Sender<SyncRequest>,
    snapshot: &'a mut Snapshot,
    certificates: &'a mut Certificates,
    requests: &'a mut Requests,
    registered: bool,
}

impl Stream<'_> {
    async fn converse(
        &mut self,
        mut heard: Streaming<SyncResponse>,
    ) -> Result<Infallible, StreamError> {
        loop {
            tokio::select! {
                message = heard.message() => match message {
                    Ok(Some(message)) => self.hear(message).await?,
                    Ok(None) => return Err(StreamError::Closed),
                    Err(status) => return Err(StreamError::Refused(status)),
                },
                Some(wanted) = self.requests.wanted.recv() => self.subscribe(wanted).await?,
                () = self.certificates.due() => {
                    let request = self.certificates.request()?;
                    self.say(Say::Certificate(request)).await?;
                }
                () = self.mesh.drain.begun(), if self.registered => {
                    return Err(StreamError::Draining);
                }
            }
        }
    }

    async fn say(&self, kind: Say) -> Result<(), StreamError> {
        let message = SyncRequest { kind: Some(kind) };
        self.said.send(message).await.map_err(|_| StreamError::Closed)
    }

    async fn hear(&mut self, message: SyncResponse) -> Result<(), StreamError> {
        match message.kind {
            Some(Hear::Update(update)) => self.update(update).await,
            Some(Hear::Certificate(certificate)) => {
                self.certificates.receive(self.mesh, certificate)?;
                self.requests.published.send_replace(());
                Ok(())
            }
            // A newer control plane may say what this sidecar does not know yet.
            None => Ok(()),
        }
    }

    /// State first, then the waiters, then the acknowledgement: only what is held is confirmed.
    async fn update(&mut self, update: proto::Update) -> Result<(), StreamError> {
        let metrics = &self.mesh.metrics;
        metrics.sync.updates.inc();
        metrics.sync.resources_received.inc_by(update.resources.len() as u64);
        metrics.sync.update_timestamp.set(epoch_seconds(SystemTime::now()));
        let nonce = update.nonce;
        let applied = self.snapshot.apply(update);
        self.mesh.publish(self.snapshot.resources());
        self.requests.published.send_replace(());
        for rejected in &applied.rejected {
            metrics.sync.resources_rejected.inc();
            tracing::error!(
                name = rejected.name,
                version = rejected.version,
                reason = rejected.reason,
                "resource refused; the last good one stays in use"
            );
        }
        if !(applied.unsubscribed.is_empty() && applied.unsubscribed_addresses.is_empty()) {
            let ended = proto::Subscribe {
                remove: texts(&applied.unsubscribed),
                remove_addresses: texts(&applied.unsubscribed_addresses),
                ..Default::default()
            };
            self.say(Say::Subscribe(ended)).await?;
        }
        self.say(Say::Acknowledge(proto::Acknowledge { nonce, rejected: applied.rejected })).await
    }

    /// Subscribes to all that is asked for at this moment.
    async fn subscribe(&mut self, first: Wanted) -> Result<(), StreamError> {
        let mut new = proto::Subscribe::default();
        let mut next = Some(first);
        while let Some(wanted) = next {
            if self.snapshot.subscribe(wanted.clone()) {
                match wanted {
                    Wanted::Service(name) => new.add.push(name.to_string()),
                    Wanted::Address(address) => new.add_addresses.push(address.to_string()),
                }
            }
            next = self.requests.wanted.try_recv().ok();
        }
        if new.add.is_empty() && new.add_addresses.is_empty() {
            return Ok(());
        }
        self.say(Say::Subscribe(new)).await
    }
}

fn texts<T: ToString>(names: &[T]) -> Vec<String> {
    names.iter().map(ToString::to_string).collect()
}
