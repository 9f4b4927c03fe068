//! Who restarts what, and when.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::time::Duration;

use rustix::process::Signal;
use tests::app::App;
use tests::mesh::Mesh;
use tests::pod::{APP_PORT, Pod};
use tests::poll::{self, SOON};
use tests::yaml;

use super::record::Record;
use crate::shop::API;

/// For the sidecars: it accepts for half of it, and what runs then has the other half.
const DRAIN_TIMEOUT: &str = "8s";

/// How long an endpoint that was ejected may be left out: longer than that, ten times over.
const BACK: Duration = Duration::from_secs(90);

/// Requests with everything in place, between two restarts.
const REST: usize = 100;

const ROUTE: &str = "route.yaml";

/// What is restarted; of the replicas, which one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Step {
    Application(usize),
    Sidecar(usize),
    ClientSidecar,
    ControlPlane,
    ControlPlaneKilled,
    Push,
}

/// One round.
const STEPS: [Step; 12] = [
    Step::Application(0),
    Step::Sidecar(0),
    Step::Push,
    Step::Application(1),
    Step::Sidecar(1),
    Step::ControlPlane,
    Step::Push,
    Step::Application(2),
    Step::ControlPlaneKilled,
    Step::Sidecar(2),
    Step::ClientSidecar,
    Step::Push,
];

/// The mesh and everything in it, and how often it was restarted.
pub(super) struct Conductor {
    // Dropped before the mesh, so that the pods' logs come first.
    web: Pod,
    pods: Vec<Pod>,
    mesh: Mesh,
    record: Record,
    done: usize,
    restarts: BTreeMap<Step, u64>,
}

impl Conductor {
    /// Three replicas of `shop/api`, and a client.
    pub(super) async fn open(record: Record) -> Self {
        let mesh = Mesh::with_objects(yaml::service("shop/api", 80, APP_PORT)).await;
        mesh.write(ROUTE, &route(false));
        let mut pods = Vec::new();
        for name in ["api-1", "api-2", "api-3"] {
            let pod = mesh.pod("shop/api").instance(name).app(App::http());
            pods.push(pod.flags(["--drain-timeout", DRAIN_TIMEOUT]).start().await);
        }
        let web = mesh.pod("shop/web").flags(["--drain-timeout", DRAIN_TIMEOUT]).start().await;
        web.until_answered_by(API, pods.len()).await;
        Self { web, pods, mesh, record, done: 0, restarts: BTreeMap::new() }
    }

    /// The client's HTTP proxy.
    pub(super) fn proxy(&self) -> SocketAddr {
        self.web.proxy()
    }

    /// Rounds that are over.
    pub(super) fn rounds(&self) -> u64 {
        (self.done / STEPS.len()) as u64
    }

    /// How often everything was restarted, for people.
    pub(super) fn restarts(&self) -> String {
        let texts = self.restarts.iter().map(|(step, times)| format!("{step:?}: {times}"));
        format!("restarts: {}", texts.collect::<Vec<_>>().join(", "))
    }

    /// # Panics
    /// When something was restarted less often.
    pub(super) fn assert_restarted(&self, least: u64) {
        for step in STEPS {
            let times = self.restarts.get(&step).copied().unwrap_or_default();
            assert!(times >= least, "{step:?}: {times} times, {least} were wanted");
        }
    }

    /// Restarts what is next, and waits until it is back.
    pub(super) async fn next(&mut self) {
        self.record.enter(None);
        let goal = self.record.count() + REST;
        poll::until("requests go on", SOON, async || {
            let count = self.record.count();
            if count >= goal { Ok(()) } else { Err(format!("{count} of {goal}")) }
        })
        .await;
        let step = STEPS[self.done % STEPS.len()];
        self.record.enter(Some(step));
        match step {
            Step::Application(number) => self.application(number).await,
            Step::Sidecar(number) => self.sidecar(number).await,
            Step::ClientSidecar => restart_sidecar(&self.web).await,
            Step::ControlPlane => self.control_plane(Signal::TERM).await,
            Step::ControlPlaneKilled => self.control_plane(Signal::KILL).await,
            Step::Push => self.push().await,
        }
        *self.restarts.entry(step).or_default() += 1;
        self.done += 1;
    }

    async fn application(&mut self, number: usize) {
        self.pods[number].restart_app(App::http()).await;
        until_used(&self.pods[number]).await;
    }

    async fn sidecar(&self, number: usize) {
        restart_sidecar(&self.pods[number]).await;
        until_used(&self.pods[number]).await;
    }

    async fn control_plane(&self, signal: Signal) {
        self.mesh.control_plane().signal(signal);
        poll::until("the control plane leaves", SOON, async || {
            self.mesh.control_plane().ended().ok_or("it runs")
        })
        .await;
        self.mesh.restart_control_plane().await;
    }

    /// A route with a rule more or less than before.
    async fn push(&self) {
        let more = self.restarts.get(&Step::Push).copied().unwrap_or_default().is_multiple_of(2);
        self.mesh.write(ROUTE, &route(more));
        poll::until("the route follows", SOON, async || {
            let answer = self.web.get(&format!("{API}/nowhere")).await;
            let follows = more != answer.status.is_success();
            if follows { Ok(()) } else { Err(answer) }
        })
        .await;
    }
}

async fn restart_sidecar(pod: &Pod) {
    let status = pod.terminate(SOON).await;
    assert_eq!(status.code(), Some(0), "{}: {status}", pod.name());
    pod.restart_sidecar().await;
}

async fn until_used(pod: &Pod) {
    let before = pod.app().requests();
    poll::until_true(&format!("{} gets requests again", pod.name()), BACK, async || {
        pod.app().requests() > before
    })
    .await;
}

/// All to the one Service; with one rule `more`, a path that leads nowhere.
fn route(more: bool) -> String {
    let nowhere = "  - matches: [{path: {type: Exact, value: /nowhere}}]\n\
                   \x20   backendRefs: [{name: api, port: 80, weight: 0}]\n";
    let all = "  - backendRefs: [{name: api, port: 80}]";
    yaml::route("shop/api", &format!("{}{all}", if more { nowhere } else { "" }))
}
