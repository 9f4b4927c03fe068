//! The one place where objects and registrations come together and are published.
//!
//! A single task owns all of it: what comes in is folded into the state by plain calls, and then
//! published once, however much has come.

use std::net::IpAddr;
use std::sync::Arc;
use std::time::Instant;

use model::name::Label;
use model::spiffe::SpiffeId;
use tokio::sync::{mpsc, oneshot, watch};

use crate::metrics::Metrics;
use crate::object::pod::Pod;
use crate::problem::Problem;
use crate::problems::Problems;
use crate::publish::Publication;
use crate::registry::{Lease, Registry, StreamId};
use crate::source::Batch;
use crate::statement::{self, Statement};
use crate::translate::{Settings, translate};
use crate::world::World;

/// What a stream tells the hub.
#[derive(Debug)]
pub enum Input {
    /// A workload registers itself.
    Register {
        /// The stream that it lives with.
        stream: StreamId,
        /// The workload.
        lease: Lease,
        /// Told when it is published.
        done: oneshot::Sender<()>,
    },
    /// A stream with a registration has ended.
    Release(StreamId),
    /// Somebody asks for a pod that the source told of.
    FindPod {
        /// Its namespace.
        namespace: Label,
        /// Its name.
        name: String,
        /// Told what is known of it.
        found: oneshot::Sender<Option<KnownPod>>,
    },
    /// Somebody asks whether a pod of this identity has this address.
    FindHolder {
        /// The identity.
        identity: SpiffeId,
        /// The address.
        address: IpAddr,
        /// Told so; `None` before the source has told all it has.
        found: oneshot::Sender<Option<bool>>,
    },
}

/// What tells one pod from others.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KnownPod {
    /// Its uid.
    pub uid: String,
    /// Its addresses; none before it has any.
    pub addresses: Vec<IpAddr>,
}

impl From<&Pod> for KnownPod {
    fn from(pod: &Pod) -> Self {
        Self { uid: pod.uid.clone(), addresses: pod.addresses.clone() }
    }
}

/// The state of the mesh as the control plane knows it.
#[derive(Debug)]
pub struct Hub {
    world: World,
    registry: Registry,
    settings: Settings,
    /// The problems of the source.
    written: Vec<Problem>,
    problems: Arc<Problems>,
    publications: watch::Sender<Arc<Publication>>,
    statements: watch::Sender<Arc<Vec<Statement>>>,
    leases: watch::Sender<Vec<Lease>>,
    metrics: Arc<Metrics>,
}

/// What others see of the hub.
#[derive(Debug, Clone)]
pub struct Views {
    /// The newest publication.
    pub publications: watch::Receiver<Arc<Publication>>,
    /// The leases in force, to be saved.
    pub leases: watch::Receiver<Vec<Lease>>,
    /// The problems there are.
    pub problems: Arc<Problems>,
    /// What there is to say of objects in their status.
    pub statements: watch::Receiver<Arc<Vec<Statement>>>,
}

impl Hub {
    /// A hub that has published nothing yet.
    pub fn new(registry: Registry, settings: Settings, metrics: Arc<Metrics>) -> (Self, Views) {
        let (publications, newest) = watch::channel(Arc::default());
        let (statements, said) = watch::channel(Arc::default());
        let (leases, saved) = watch::channel(registry.leases().cloned().collect());
        let problems = Arc::new(Problems::default());
        let views = Views {
            publications: newest,
            leases: saved,
            problems: Arc::clone(&problems),
            statements: said,
        };
        let (world, written) = (World::default(), Vec::new());
        let hub = Self {
            world,
            registry,
            settings,
            written,
            problems,
            publications,
            statements,
            leases,
            metrics,
        };
        (hub, views)
    }

    /// Takes in what comes until nobody is left to send anything.
    pub async fn run(
        mut self,
        mut inputs: mpsc::UnboundedReceiver<Input>,
        mut batches: mpsc::Receiver<Batch>,
    ) {
        let mut waiting = Vec::new();
        loop {
            let expiry = self.registry.next_expiry();
            tokio::select! {
                input = inputs.recv() => match input {
                    Some(question @ (Input::FindPod { .. } | Input::FindHolder { .. })) => {
                        self.take_in(question);
                        continue; // a question changes nothing
                    }
                    Some(input) => waiting.extend(self.take_in(input)),
                    None => return,
                },
                Some(batch) = batches.recv() => self.apply(batch),
                () = until(expiry) => self.expire(),
            }
            // What has come meanwhile goes into the same publication.
            while let Ok(input) = inputs.try_recv() {
                waiting.extend(self.take_in(input));
            }
            while let Ok(batch) = batches.try_recv() {
                self.apply(batch);
            }
            self.publish();
            for done in waiting.drain(..) {
                // A stream that has ended meanwhile does not wait any more.
                let _: Result<(), ()> = done.send(());
            }
        }
    }

    fn apply(&mut self, batch: Batch) {
        batch.events.into_iter().for_each(|event| self.world.apply(event));
        self.written = batch.problems;
    }

    fn take_in(&mut self, input: Input) -> Option<oneshot::Sender<()>> {
        match input {
            Input::Register { stream, lease, done } => {
                if self.registry.register(stream, lease) {
                    self.save();
                }
                Some(done)
            }
            Input::Release(stream) => {
                if self.registry.release(stream) {
                    self.save();
                }
                None
            }
            Input::FindPod { namespace, name, found } => {
                answer(found, self.world.pod(namespace, name).map(KnownPod::from));
                None
            }
            Input::FindHolder { identity, address, found } => {
                let mut there = self.world.pods_at(address);
                let synced = self.world.is_synced();
                answer(found, synced.then(|| there.any(|pod| pod.is(&identity))));
                None
            }
        }
    }

    fn expire(&mut self) {
        if self.registry.expire(Instant::now()) {
            tracing::info!("workloads of before the restart have not come back: they are left out");
            self.save();
        }
    }

    fn save(&self) {
        self.leases.send_replace(self.registry.leases().cloned().collect());
    }

    /// Publishes what differs, once the source has told all it has.
    fn publish(&self) {
        let leases: Vec<&Lease> = self.registry.leases().collect();
        self.metrics.known(&self.world, leases.len());
        if !self.world.is_synced() {
            // What keeps it from being complete may be among them.
            self.tell(self.written.clone());
            return;
        }
        let timer = self.metrics.publish_seconds.start_timer();
        let mut translation = translate(&self.world, &leases, &self.settings);
        let mut problems = self.written.clone();
        problems.append(&mut translation.problems);
        let next = self.publications.borrow().next(translation);
        timer.observe_duration();
        let statements = statement::all(&self.world, &problems);
        self.statements.send_if_modified(|before| {
            let differs = **before != statements;
            if differs {
                *before = Arc::new(statements);
            }
            differs
        });
        self.tell(problems);
        if let Some(next) = next {
            tracing::debug!(publication = next.number, "published");
            self.metrics.published(&next);
            self.publications.send_replace(Arc::new(next));
        }
    }

    fn tell(&self, problems: Vec<Problem>) {
        self.metrics.problems(&problems);
        self.problems.replace(problems);
    }
}

/// Who asked may have gone meanwhile.
fn answer<T>(found: oneshot::Sender<T>, answer: T) {
    let _: Result<(), T> = found.send(answer);
}

async fn until(deadline: Option<Instant>) {
    match deadline {
        Some(deadline) => tokio::time::sleep_until(deadline.into()).await,
        None => std::future::pending().await,
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::registry::tests::lease;
    use crate::source::Event;

    struct Scene {
        inputs: mpsc::UnboundedSender<Input>,
        batches: mpsc::Sender<Batch>,
        views: Views,
    }

    fn scene(registry: Registry) -> Scene {
        let settings = Settings {
            trust_domain: "cluster.local".parse().unwrap(),
            service_range: "10.96.0.0/12".parse().unwrap(),
            wait_for_pods: false,
        };
        let (hub, views) = Hub::new(registry, settings, Arc::new(Metrics::new().unwrap()));
        let (inputs, receiver) = mpsc::unbounded_channel();
        let (batches, batch_receiver) = mpsc::channel(4);
        tokio::spawn(hub.run(receiver, batch_receiver));
        Scene { inputs, batches, views }
    }

    impl Scene {
        async fn register(&self, stream: StreamId, lease: Lease) {
            let (done, published) = oneshot::channel();
            self.inputs.send(Input::Register { stream, lease, done }).unwrap();
            published.await.unwrap();
        }

        async fn sync(&self) {
            let batch = Batch { events: vec![Event::Synced], problems: Vec::new() };
            self.batches.send(batch).await.unwrap();
        }

        async fn has(&mut self, service: &str, expected: bool) {
            let name = service.parse().unwrap();
            let reached = self
                .views
                .publications
                .wait_for(|p| p.number > 0 && p.service(&name).is_some() == expected);
            tokio::time::timeout(Duration::from_secs(60), reached).await.unwrap().unwrap();
        }
    }

    #[tokio::test]
    async fn nothing_is_published_before_the_source_is_synced() {
        let mut scene = scene(Registry::default());
        scene.register(1, lease("shop/api", "127.0.1.1", 80)).await;
        assert_eq!(scene.views.publications.borrow().number, 0);
        scene.sync().await;
        scene.has("shop/api", true).await;
        scene.inputs.send(Input::Release(1)).unwrap();
        scene.has("shop/api", false).await;
        assert!(scene.views.leases.borrow().is_empty());
    }

    #[tokio::test]
    async fn whose_pod_has_an_address_is_known_once_the_source_has_told_all() {
        let scene = scene(Registry::default());
        let ask = async |identity: &str, address: [u8; 4]| {
            let (found, answer) = oneshot::channel();
            let (identity, address) = (identity.parse().unwrap(), address.into());
            scene.inputs.send(Input::FindHolder { identity, address, found }).unwrap();
            answer.await.unwrap()
        };
        let api = "spiffe://cluster.local/ns/shop/sa/api";
        assert_eq!(ask(api, [10, 0, 0, 1]).await, None);
        let pod = "{apiVersion: v1, kind: Pod, metadata: {name: api-1, namespace: shop}, \
                   spec: {serviceAccountName: api}, status: {podIP: 10.0.0.1}}";
        let events = vec![crate::world::tests::upsert(pod), Event::Synced];
        scene.batches.send(Batch { events, problems: Vec::new() }).await.unwrap();
        scene.register(1, lease("shop/b", "127.0.1.1", 80)).await;
        assert_eq!(ask(api, [10, 0, 0, 1]).await, Some(true));
        assert_eq!(ask(api, [10, 0, 0, 2]).await, Some(false));
        for other in ["shop/sa/web", "web/sa/api"] {
            let other = format!("spiffe://cluster.local/ns/{other}");
            assert_eq!(ask(&other, [10, 0, 0, 1]).await, Some(false), "{other}");
        }
    }

    #[tokio::test]
    async fn workloads_of_before_a_restart_have_their_grace() {
        let leases = vec![lease("shop/a", "127.0.1.1", 80), lease("shop/b", "127.0.1.2", 80)];
        let mut scene =
            scene(Registry::restored(leases, Instant::now() + Duration::from_millis(300)));
        scene.sync().await;
        scene.has("shop/a", true).await;
        scene.register(1, lease("shop/a", "127.0.1.1", 80)).await;
        assert_eq!(scene.views.publications.borrow().number, 1, "nothing has changed");
        scene.has("shop/b", false).await;
        scene.has("shop/a", true).await;
    }
}
