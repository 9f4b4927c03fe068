//! One sidecar's stream, from Hello to its end.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use tokio::sync::{mpsc, oneshot, watch};
use tokio::time::{Instant, sleep_until, timeout};
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Request, Response, Status, Streaming};
use wire::proto::{self, SyncRequest, SyncResponse, sync_request, sync_response};

use super::api::Admission;
use super::authenticate::{Authenticator, Proved};
use super::certificates::Certificates;
use super::hello::{self, Hello};
use super::session::Session;
use super::{Peer, ending};
use crate::hub::Input;
use crate::metrics::Metrics;
use crate::publish::Publication;
use crate::registry::{Lease, StreamId};

/// How long a sidecar may take for its first message.
const HELLO_TIMEOUT: Duration = Duration::from_secs(10);

/// How long a sidecar may take for the acknowledgement of an Update, and for reading one.
const ACKNOWLEDGE_TIMEOUT: Duration = Duration::from_secs(60);

/// How many answers wait for a sidecar to read them: an Update and a certificate.
const PENDING: usize = 2;

/// Serves the streams of all sidecars.
#[derive(Debug, Clone)]
pub struct Streams {
    /// Tells who opens a stream.
    pub authenticator: Arc<Authenticator>,
    /// Signs certificates.
    pub certificates: Certificates,
    /// Where registrations go.
    pub hub: mpsc::UnboundedSender<Input>,
    /// The newest publication.
    pub publications: watch::Receiver<Arc<Publication>>,
    /// Becomes true when the process is to end.
    pub shutdown: watch::Receiver<bool>,
    /// What is counted.
    pub metrics: Arc<Metrics>,
    /// The number of the next stream.
    pub next: Arc<AtomicU64>,
}

#[tonic::async_trait]
impl proto::mesh_server::Mesh for Streams {
    type SyncStream = ReceiverStream<Result<SyncResponse, Status>>;

    async fn sync(
        &self,
        request: Request<Streaming<SyncRequest>>,
    ) -> Result<Response<Self::SyncStream>, Status> {
        let peer = request.extensions().get::<Peer>();
        let peer = peer.ok_or_else(|| Status::internal("the connection's peer is not known"))?;
        let (peer, metadata) = (peer.clone(), request.metadata().clone());
        let admission = request.extensions().get::<Admission>().cloned();
        let proved = self.authenticator.identify(&peer, &metadata).await?;
        admission.iter().for_each(Admission::grant);
        let (answers, receiver) = mpsc::channel(PENDING);
        let id = self.next.fetch_add(1, Ordering::Relaxed);
        let stream = Stream { id, peer, proved, answers, shared: self.clone() };
        tokio::spawn(stream.run(request.into_inner()));
        Ok(Response::new(ReceiverStream::new(receiver)))
    }
}

/// One stream.
struct Stream {
    id: StreamId,
    peer: Peer,
    proved: Proved,
    answers: mpsc::Sender<Result<SyncResponse, Status>>,
    shared: Streams,
}

impl Stream {
    async fn run(mut self, mut incoming: Streaming<SyncRequest>) {
        let metrics = Arc::clone(&self.shared.metrics);
        metrics.streams.inc();
        let ended = self.serve(&mut incoming).await;
        metrics.streams.dec();
        let identity = &self.proved.identity;
        match ended {
            Ok(()) => tracing::info!(stream = self.id, %identity, "a sidecar has left"),
            Err(status) => {
                let reason = status.message();
                tracing::info!(stream = self.id, %identity, reason, "a sidecar's stream has ended");
                // The sidecar may be gone already.
                let _ = self.answers.try_send(Err(status));
            }
        }
    }

    async fn serve(&mut self, incoming: &mut Streaming<SyncRequest>) -> Result<(), Status> {
        let first = timeout(HELLO_TIMEOUT, incoming.message()).await;
        let first = first.map_err(|_| Status::deadline_exceeded("no Hello within 10 s"))??;
        let hello = hello::parse(first, &self.proved)?;
        self.log_hello(&hello);
        if let Some(lease) = &hello.lease {
            self.shared.authenticator.may_register(lease, &self.peer)?;
        }
        let mut session = Session::new(self.proved.namespace.clone(), hello.address, hello.known);
        session.subscribe(hello.services).map_err(too_many)?;
        session.subscribe_addresses(hello.addresses).map_err(too_many)?;
        let _lease = match hello.lease {
            Some(lease) => Some(self.register(lease).await),
            None => None,
        };
        self.shared.certificates.recall_bundle();
        self.push(&mut session, incoming).await
    }

    fn log_hello(&self, hello: &Hello) {
        let Hello { version, instance, address, lease, services, .. } = hello;
        let service = lease.as_ref().map(|lease| lease.service.to_string());
        tracing::info!(
            stream = self.id, identity = %self.proved.identity, %address, instance, version,
            service, subscriptions = services.len(), "a sidecar has come"
        );
    }

    /// Registers a workload, and returns when it is published (or nothing is published yet).
    async fn register(&self, lease: Lease) -> Registered {
        let (done, published) = oneshot::channel();
        let stream = self.id;
        // When the hub is gone, the process is ending, and this stream with it.
        let _ = self.shared.hub.send(Input::Register { stream, lease, done });
        let _ = published.await;
        Registered { stream, hub: self.shared.hub.clone() }
    }

    /// Sends what is new and takes in what comes, until the sidecar leaves.
    async fn push(
        &mut self,
        session: &mut Session,
        incoming: &mut Streaming<SyncRequest>,
    ) -> Result<(), Status> {
        let mut acknowledge_by = Instant::now();
        loop {
            let newest = Arc::clone(&self.shared.publications.borrow_and_update());
            // Nothing may look like "all is gone" before the source has told what there is.
            let update = if newest.number > 0 { session.difference(&newest) } else { None };
            if let Some(update) = update {
                self.send_update(update).await?;
                acknowledge_by = Instant::now() + ACKNOWLEDGE_TIMEOUT;
            }
            let deadline = session.is_waiting().then_some(acknowledge_by);
            match self.news(incoming, deadline).await? {
                News::Published => {}
                News::Message(message) => self.take_in(message, session).await?,
                News::Bundle(bundle) => {
                    self.send(sync_response::Kind::Certificate(bundle)).await?;
                }
                News::Gone => return Ok(()),
            }
        }
    }

    /// Waits for whatever comes first.
    async fn news(
        &mut self,
        incoming: &mut Streaming<SyncRequest>,
        acknowledge_by: Option<Instant>,
    ) -> Result<News, Status> {
        let shared = &mut self.shared;
        tokio::select! {
            message = incoming.message() => Ok(message?.map_or(News::Gone, News::Message)),
            changed = shared.publications.changed() => {
                changed.map(|()| News::Published).map_err(|_| shutting_down())
            }
            bundle = shared.certificates.bundle_changed() => Ok(News::Bundle(bundle)),
            () = ending(&mut shared.shutdown) => Err(shutting_down()),
            () = sleep_until(acknowledge_by.unwrap_or_else(Instant::now)),
                if acknowledge_by.is_some() =>
            {
                Err(Status::deadline_exceeded("an Update was not acknowledged within 60 s"))
            }
            () = self.answers.closed() => Ok(News::Gone),
        }
    }

    async fn take_in(&self, message: SyncRequest, session: &mut Session) -> Result<(), Status> {
        match message.kind {
            Some(sync_request::Kind::Subscribe(names)) => {
                session.unsubscribe(&names.remove, &names.remove_addresses);
                session.subscribe(names.add).map_err(too_many)?;
                session.subscribe_addresses(names.add_addresses).map_err(too_many)
            }
            Some(sync_request::Kind::Acknowledge(message)) => {
                for refusal in session.acknowledge(message) {
                    self.shared.metrics.nack(refusal.key.kind);
                    tracing::warn!(
                        stream = self.id, identity = %self.proved.identity,
                        resource = %refusal.key, version = refusal.version,
                        reason = refusal.reason, "a sidecar refused a resource"
                    );
                }
                Ok(())
            }
            Some(sync_request::Kind::Certificate(request)) => {
                self.shared.authenticator.may_renew(&self.proved, &self.peer).await?;
                let identity = self.proved.identity.clone();
                let signed = self.shared.certificates.sign(request.csr, identity).await?;
                self.send(sync_response::Kind::Certificate(signed)).await
            }
            Some(sync_request::Kind::Hello(_)) => {
                Err(Status::invalid_argument("a second Hello on one stream"))
            }
            // Of a newer version.
            None => Ok(()),
        }
    }

    async fn send_update(&self, update: proto::Update) -> Result<(), Status> {
        self.shared.metrics.push(update.resources.iter().filter_map(wire::resource::kind_of));
        tracing::debug!(
            stream = self.id,
            nonce = update.nonce,
            publication = update.publication,
            resources = update.resources.len(),
            removed = update.removed.len(),
            "push"
        );
        self.send(sync_response::Kind::Update(update)).await
    }

    async fn send(&self, kind: sync_response::Kind) -> Result<(), Status> {
        let answer = SyncResponse { kind: Some(kind) };
        match timeout(ACKNOWLEDGE_TIMEOUT, self.answers.send(Ok(answer))).await {
            Ok(Ok(())) => Ok(()),
            Ok(Err(_)) => Err(Status::cancelled("the sidecar is gone")),
            Err(_) => Err(Status::deadline_exceeded("the sidecar does not read what it is sent")),
        }
    }
}

/// What a stream waits for.
enum News {
    /// The sidecar says something.
    Message(SyncRequest),
    /// There is a newer publication.
    Published,
    /// Other roots are to be believed.
    Bundle(proto::Certificate),
    /// The sidecar has left.
    Gone,
}

/// A registration that ends with its stream, however that ends.
struct Registered {
    stream: StreamId,
    hub: mpsc::UnboundedSender<Input>,
}

impl Drop for Registered {
    fn drop(&mut self) {
        // Without a hub there is nothing left to be taken out of.
        let _ = self.hub.send(Input::Release(self.stream));
    }
}

fn too_many(error: super::session::TooMany) -> Status {
    Status::resource_exhausted(error.to_string())
}

fn shutting_down() -> Status {
    Status::unavailable("the control plane is shutting down")
}
