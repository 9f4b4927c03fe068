//! Starts the containers of a pod in their order, asks their probes from outside of the pod, and
//! says in the pod's object how it is.

use std::fs;
use std::net::SocketAddr;
use std::sync::Mutex;
use std::time::Duration;

use serde_json::{Value, json};

use super::sandbox::{Sandbox, list, text};
use super::{Example, HOSTS, Planned};
use crate::house::door::Door;
use crate::house::namespace::Namespace;
use crate::house::program::Command;
use crate::house::{Addresses, Pod, User};
use crate::poll::{self, SOON};
use crate::process::{self, Process};

/// Longest run of a container that must end before others start.
const LIMIT: Duration = Duration::from_secs(60);

/// A pod that is being started.
struct Kubelet<'a> {
    example: &'a Example,
    planned: &'a Planned,
    sandbox: Sandbox<'a>,
    namespace: Namespace,
}

/// Starts a pod, and waits until it is ready: all its probes have been answered.
pub(super) async fn start(example: &Example, planned: &Planned) -> Pod {
    let kubelet = Kubelet::prepare(example, planned).await;
    let mut sidecar = None;
    let spec = &planned.object["spec"];
    for container in list(&spec["initContainers"]) {
        if container["restartPolicy"] == "Always" {
            let mut process = kubelet.spawn(container);
            kubelet.until_probed(&mut process, container, "startupProbe").await;
            kubelet.until_probed(&mut process, container, "readinessProbe").await;
            sidecar = Some(Mutex::new(process));
        } else {
            kubelet.run(container).await;
        }
    }
    let containers: Vec<&Value> = list(&spec["containers"]).collect();
    let [container] = containers[..] else { panic!("one application for each pod: {spec}") };
    let mut app = kubelet.spawn(container);
    kubelet.until_probed(&mut app, container, "readinessProbe").await;
    example.set_ready(planned);
    kubelet.into_pod(app, sidecar).await
}

impl<'a> Kubelet<'a> {
    async fn prepare(example: &'a Example, planned: &'a Planned) -> Self {
        let house = &example.house;
        let namespace = house.enter(&planned.name, planned.addresses, HOSTS).await;
        let dir = house.path("volumes").join(&planned.name);
        let sandbox = Sandbox::prepare(example, &planned.object, &dir);
        Self { example, planned, sandbox, namespace }
    }

    /// Runs a container to its end, which must be a good one.
    async fn run(&self, container: &Value) {
        let command = self.command(container);
        let output = process::run(&command.program, &command.args, &[], LIMIT).await;
        let name = &container["name"];
        assert_eq!(output.code, Some(0), "{name} of {}: {output:?}", self.planned.name);
    }

    fn spawn(&self, container: &Value) -> Process {
        let (command, log) = (self.command(container), self.name(container));
        let logs = self.example.house.logs();
        Process::start(&log, &logs, &command.program, &command.args, &[])
    }

    /// What starts a container, with an empty directory for its root.
    fn command(&self, container: &Value) -> Command {
        let root = self.example.house.path("roots").join(self.name(container));
        fs::create_dir_all(&root).expect("a directory");
        let own = self.sandbox.container(self.example, container);
        own.within(self.namespace.name(), &self.planned.name, &root)
    }

    /// A name that no other container of the example has.
    fn name(&self, container: &Value) -> String {
        format!("{}-{}", self.planned.name, text(&container["name"]))
    }

    /// Asks a probe of a container, if it has that, until the answer is good. The question comes
    /// from the node: to the pod's address, and without a mesh.
    async fn until_probed(&self, process: &mut Process, container: &Value, probe: &str) {
        let get = &container[probe]["httpGet"];
        if get.is_null() {
            return;
        }
        let place = SocketAddr::new(self.planned.addresses.first, port(container, &get["port"]));
        let what = format!("{probe} of {} of {}", container["name"], self.planned.name);
        poll::until(&what, SOON, async || {
            if let Some(status) = process.ended() {
                panic!("{what}: it has ended: {status}");
            }
            match self.example.ask(place, text(&get["path"])).await {
                Ok(answer) if answer.status.is_success() => Ok(()),
                other => Err(format!("{other:?}")),
            }
        })
        .await;
    }

    async fn into_pod(self, app: Process, sidecar: Option<Mutex<Process>>) -> Pod {
        let (house, name) = (&self.example.house, &self.planned.name);
        let (home, logs) = (house.home(name, User::Nobody), house.logs());
        let door = Door::open(self.namespace.name(), &home, &logs, name).await;
        Pod {
            app: Mutex::new(Some(app)),
            sidecar,
            door,
            namespace: self.namespace,
            name: name.clone(),
            addresses: self.planned.addresses,
            home,
            logs,
            program: None,
            probe: None,
            ports: Vec::new(),
        }
    }
}

/// The object of a pod with its address; once it is ready, it says so.
pub(super) fn with_status(mut pod: Value, addresses: Addresses, ready: bool) -> Value {
    let ips: Vec<Value> = addresses.all().iter().map(|ip| json!({"ip": ip})).collect();
    let condition = json!({"type": "Ready", "status": if ready { "True" } else { "False" }});
    pod["status"] = json!({"phase": if ready { "Running" } else { "Pending" },
        "podIP": addresses.first, "podIPs": ips, "conditions": [condition]});
    pod
}

/// The number of a port of a container that a probe or a Service names.
pub(super) fn port(container: &Value, port: &Value) -> u16 {
    let number = port.as_u64().or_else(|| {
        let named = list(&container["ports"]).find(|own| own["name"] == *port)?;
        named["containerPort"].as_u64()
    });
    let number = number.unwrap_or_else(|| panic!("no port {port} of {}", container["name"]));
    u16::try_from(number).expect("a port")
}
