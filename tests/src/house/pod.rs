//! A pod of the house: a namespace, perhaps a sidecar, perhaps an application.

use std::path::PathBuf;
use std::process::ExitStatus;
use std::sync::{Mutex, MutexGuard};

use rustix::process::Signal;
use serde_json::Value;
use tokio::net::UnixStream;

use crate::client::{self, Answer};
use crate::metrics::Metrics;
use crate::poll::{self, SOON};
use crate::process::{self, Process};

use super::door::Door;
use super::namespace::Namespace;
use super::plan::{Member, Port};
use super::program::{Program, User};
use super::sidecar::{self, Workload};
use super::{Addresses, House, Mesh, Unmeshed};

/// A pod before it is started.
#[derive(Debug)]
pub struct PodBuilder<'a> {
    house: &'a House,
    namespace: String,
    workload: String,
    name: String,
    ports: Vec<Port>,
    setup: Vec<Program>,
    app: Option<Program>,
    probe: Option<Program>,
    in_mesh: bool,
    flags: Vec<String>,
}

/// A running pod; dropped, all of it is gone.
#[derive(Debug)]
pub struct Pod {
    // Dropped in this order: processes before their namespace.
    pub(super) app: Mutex<Option<Process>>,
    pub(super) sidecar: Option<Mutex<Process>>,
    pub(super) door: Door,
    pub(super) namespace: Namespace,
    pub(super) name: String,
    pub(super) addresses: Addresses,
    pub(super) home: PathBuf,
    pub(super) logs: PathBuf,
    pub(super) program: Option<Program>,
    pub(super) probe: Option<Program>,
    pub(super) ports: Vec<Port>,
}

impl<'a> PodBuilder<'a> {
    pub(super) fn new(house: &'a House, name: &str) -> Self {
        let (namespace, name) = name.split_once('/').expect("NAMESPACE/NAME");
        Self {
            house,
            namespace: namespace.to_owned(),
            workload: name.to_owned(),
            name: name.to_owned(),
            ports: Vec::new(),
            setup: Vec::new(),
            app: None,
            probe: None,
            in_mesh: house.mesh() == Mesh::On,
            flags: Vec::new(),
        }
    }

    /// The name of this one of several pods of a Service [default: the Service's].
    pub fn instance(mut self, name: &str) -> Self {
        name.clone_into(&mut self.name);
        self
    }

    /// It is behind port `number` of the Service of its name, with its own port `target`.
    pub fn port(mut self, number: u16, target: u16) -> Self {
        self.ports.push(Port { number, target });
        self
    }

    /// A program that runs to its end before the application is started, as the same user.
    pub fn setup(mut self, programs: impl IntoIterator<Item = Program>) -> Self {
        self.setup.extend(programs);
        self
    }

    /// Its application; without one the pod is a client only.
    pub fn app(mut self, app: Program) -> Self {
        self.app = Some(app);
        self
    }

    /// The application is ready as soon as this program succeeds beside it [default: as soon as
    /// its ports accept connections].
    pub fn ready_when(mut self, probe: Program) -> Self {
        self.probe = Some(probe);
        self
    }

    /// A pod that is not in the mesh.
    pub fn without_sidecar(mut self) -> Self {
        self.in_mesh = false;
        self
    }

    /// Further flags of the sidecar.
    pub fn flags<S: AsRef<str>>(mut self, flags: impl IntoIterator<Item = S>) -> Self {
        self.flags.extend(flags.into_iter().map(|flag| flag.as_ref().to_owned()));
        self
    }

    /// Starts it, and waits until the application and the sidecar are ready and the mesh knows.
    pub async fn start(self) -> Pod {
        let addresses = self.declare().await;
        let namespace = self.house.enter(&self.name, addresses, &self.namespace).await;
        let home = self.house.home(&self.name, User::Nobody);
        let logs = self.house.logs();
        let door = Door::open(namespace.name(), &home, &logs, &self.name).await;
        let sidecar = match self.sidecar(&namespace, addresses).await {
            Some(program) => Some(Mutex::new(spawn(
                &namespace,
                &format!("sidecar-{}", self.name),
                &program,
                &home,
                &logs,
            ))),
            None => None,
        };
        for program in &self.setup {
            super::must(namespace.name(), &home, program).await;
        }
        let member = self.member(addresses);
        let house = self.house;
        let pod = Pod {
            app: Mutex::new(None),
            sidecar,
            door,
            namespace,
            name: self.name,
            addresses,
            home,
            logs,
            program: self.app,
            probe: self.probe,
            ports: self.ports,
        };
        pod.settle(house, member).await;
        pod
    }

    /// Its addresses, and its Service if there was none of this name.
    async fn declare(&self) -> Addresses {
        let change = self.house.change(|residents| {
            residents.see(&self.namespace);
            for port in &self.ports {
                residents.plan.declare(&self.namespace, &self.workload, *port);
            }
            residents.plan.next()
        });
        change.await
    }

    async fn sidecar(&self, namespace: &Namespace, addresses: Addresses) -> Option<Program> {
        if !self.in_mesh {
            let namespace = namespace.name().to_owned();
            let unmeshed = Unmeshed { namespace, rules: String::new() };
            self.house.change(|residents| residents.unmeshed.push(unmeshed)).await;
            return None;
        }
        let who = Workload {
            namespace: &self.namespace,
            account: &self.workload,
            pod: &self.name,
            addresses,
            flags: &self.flags,
        };
        Some(sidecar::prepare(self.house, namespace, &who).await)
    }

    fn member(&self, addresses: Addresses) -> Member {
        Member {
            namespace: self.namespace.clone(),
            workload: self.workload.clone(),
            name: self.name.clone(),
            addresses,
            in_mesh: self.in_mesh,
        }
    }
}

impl Pod {
    /// Starts the application and tells the mesh of the pod once both are ready.
    async fn settle(&self, house: &House, member: Member) {
        self.start_app().await;
        if let Some(sidecar) = &self.sidecar {
            sidecar::until_ready(sidecar, &self.door, &self.name).await;
        }
        house.change(|residents| residents.plan.pods.push(member)).await;
        if self.sidecar.is_some() {
            let ports: Vec<u16> = self.ports.iter().map(|port| port.target).collect();
            sidecar::until_serving(&self.door, &self.name, &ports).await;
        }
    }

    /// Its name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Its addresses.
    pub fn addresses(&self) -> Addresses {
        self.addresses
    }

    /// Its directory for files, which the application owns.
    pub fn home(&self) -> &PathBuf {
        &self.home
    }

    /// Runs a program in the pod to its end.
    pub async fn run(&self, program: &Program) -> process::Output {
        super::run(self.namespace.name(), &self.home, program).await
    }

    /// Starts a program in the pod; its output is the log `NAME.log`.
    pub fn spawn(&self, name: &str, program: &Program) -> Process {
        spawn(&self.namespace, name, program, &self.home, &self.logs)
    }

    /// A TCP connection from inside the pod to `target` (HOST:PORT), as its application's.
    ///
    /// # Errors
    /// When there is none.
    pub async fn dial(&self, target: &str) -> anyhow::Result<UnixStream> {
        self.door.dial(target).await
    }

    /// Gets a URL `http://HOST[:PORT]/PATH` from inside the pod, on a new connection.
    ///
    /// # Errors
    /// When there is no response.
    ///
    /// # Panics
    /// When it is no such URL.
    pub async fn get(&self, url: &str) -> anyhow::Result<Answer> {
        let url: http::Uri = url.parse().unwrap_or_else(|error| panic!("{url}: {error}"));
        let host = url.authority().expect("an absolute URL").as_str();
        let target = format!("{}:{}", url.host().expect("a host"), url.port_u16().unwrap_or(80));
        let path = url.path_and_query().map_or("/", |path| path.as_str());
        client::get_over(self.dial(&target).await?, host, path).await
    }

    /// The sidecar's metrics.
    ///
    /// # Panics
    /// When there is no sidecar that answers.
    pub async fn metrics(&self) -> Metrics {
        let answer = sidecar::ask(&self.door, "/metrics").await.expect("an answer");
        Metrics::parse(&answer.text())
    }

    /// What the sidecar has in force.
    ///
    /// # Panics
    /// When there is no sidecar that answers.
    pub async fn config(&self) -> Value {
        sidecar::config(&self.door).await.expect("an answer")
    }

    /// The sidecar's process.
    ///
    /// # Panics
    /// When there is none.
    pub fn sidecar(&self) -> MutexGuard<'_, Process> {
        self.sidecar.as_ref().expect("a sidecar").lock().unwrap()
    }

    /// What the application has written so far.
    ///
    /// # Panics
    /// When it does not run.
    pub fn app_log(&self) -> String {
        let app = self.app.lock().unwrap();
        app.as_ref().expect("the application runs").log()
    }

    /// How the application ends, which it does by itself or is told to by now.
    ///
    /// # Panics
    /// When it does not.
    pub async fn app_end(&self) -> ExitStatus {
        poll::until(&format!("the application of {} ends", self.name), SOON, async || {
            self.app.lock().unwrap().as_mut().and_then(Process::ended).ok_or("it runs")
        })
        .await
    }

    /// Ends the sidecar as the kubelet does after the application has ended, by SIGTERM, and says
    /// how it ended.
    ///
    /// # Panics
    /// When it does not end, or there is none.
    pub async fn end_sidecar(&self) -> ExitStatus {
        self.sidecar().signal(Signal::TERM);
        poll::until(&format!("the sidecar of {} ends", self.name), SOON, async || {
            self.sidecar().ended().ok_or("it runs")
        })
        .await
    }

    /// `kill -9` for the application and whatever it has started; the sidecar stays.
    pub fn kill_app(&self) {
        let sidecar = self.sidecar.as_ref().map(|process| process.lock().unwrap().id());
        let spared: Vec<u32> = sidecar.into_iter().chain([self.door.id()]).collect();
        let app = self.app.lock().unwrap().take();
        drop(app);
        self.namespace.kill_all_but(&spared);
    }

    /// Starts the application, where the pod has one, and waits until it is ready.
    pub async fn start_app(&self) {
        let Some(program) = &self.program else { return };
        let app = self.spawn(&format!("app-{}", self.name), program);
        *self.app.lock().unwrap() = Some(app);
        // Some brokers take seconds where nothing else runs.
        let limit = 4 * SOON;
        poll::until(&format!("the application of {} is ready", self.name), limit, async || {
            if let Some(status) = self.app.lock().unwrap().as_mut().and_then(Process::ended) {
                panic!("the application of {} has ended: {status}", self.name);
            }
            self.app_is_ready().await
        })
        .await;
    }

    async fn app_is_ready(&self) -> Result<(), String> {
        if let Some(probe) = &self.probe {
            let output = self.run(probe).await;
            return if output.code == Some(0) { Ok(()) } else { Err(format!("{output:?}")) };
        }
        for port in &self.ports {
            let dialled = self.dial(&format!("127.0.0.1:{}", port.target)).await;
            dialled.map_err(|error| format!("{error:#}"))?;
        }
        Ok(())
    }
}

fn spawn(
    namespace: &Namespace,
    name: &str,
    program: &Program,
    home: &std::path::Path,
    logs: &std::path::Path,
) -> Process {
    let command = program.within(namespace.name(), home);
    Process::start(name, logs, &command.program, &command.args, &command.environment())
}
