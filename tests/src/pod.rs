//! A pod: an application and the sidecar in front of it, on a loopback address of their own.

use std::ffi::OsStr;
use std::net::{IpAddr, SocketAddr};
use std::path::{Path, PathBuf};
use std::process::ExitStatus;
use std::sync::{Mutex, MutexGuard};
use std::time::Duration;

use rustix::process::Signal;
use serde_json::Value;

use crate::app::{App, Running};
use crate::bins::bins;
use crate::client::{self, Answer};
use crate::mesh::{Mesh, TRUST_DOMAIN, ready};
use crate::metrics::Metrics;
use crate::poll::{self, SOON};
use crate::process::Process;

/// Where applications listen.
pub const APP_PORT: u16 = 8080;

const OUTBOUND: u16 = 15_001;
const INBOUND: u16 = 15_006;
const MESH: u16 = 15_008;
const ADMIN: u16 = 15_020;

/// A pod before it is started.
#[derive(Debug)]
pub struct PodBuilder<'a> {
    mesh: &'a Mesh,
    namespace: String,
    name: String,
    instance: Option<String>,
    service_account: Option<String>,
    address: Option<IpAddr>,
    app: Option<App>,
    registered: bool,
    token: bool,
    by_pillion: bool,
    under: Vec<String>,
    workers: u16,
    flags: Vec<String>,
}

/// A running pod; dropped, all of it is gone.
#[derive(Debug)]
pub struct Pod {
    name: String,
    address: IpAddr,
    app: Option<Running>,
    sidecar: Mutex<Process>,
    start: Start,
}

/// What it takes to start the sidecar, once more if need be.
#[derive(Debug)]
struct Start {
    name: String,
    logs: PathBuf,
    by_pillion: bool,
    under: Vec<String>,
    args: Vec<String>,
}

impl<'a> PodBuilder<'a> {
    pub(crate) fn new(mesh: &'a Mesh, name: &str) -> Self {
        let (namespace, name) = name.split_once('/').expect("NAMESPACE/NAME");
        Self {
            mesh,
            namespace: namespace.to_owned(),
            name: name.to_owned(),
            instance: None,
            service_account: None,
            address: None,
            app: None,
            registered: true,
            token: true,
            by_pillion: false,
            under: Vec::new(),
            workers: 1,
            flags: Vec::new(),
        }
    }

    /// The name of this one of several pods of a Service [default: the Service's].
    pub fn instance(mut self, name: &str) -> Self {
        self.instance = Some(name.to_owned());
        self
    }

    /// Its service account [default: the name of the Service].
    pub fn service_account(mut self, name: &str) -> Self {
        self.service_account = Some(name.to_owned());
        self
    }

    /// Its address [default: the mesh's next].
    pub fn address(mut self, address: IpAddr) -> Self {
        self.address = Some(address);
        self
    }

    /// Its application; without one the pod is a client only.
    pub fn app(mut self, app: App) -> Self {
        self.app = Some(app);
        self
    }

    /// The sidecar does not register its workload: objects name it.
    pub fn unregistered(mut self) -> Self {
        self.registered = false;
        self
    }

    /// No token is made: the test's own flags name one.
    pub fn without_token(mut self) -> Self {
        self.token = false;
        self
    }

    /// The sidecar is `pillion proxy`, not the binary of its own.
    pub fn by_pillion(mut self) -> Self {
        self.by_pillion = true;
        self
    }

    /// The sidecar runs under another program: its name and its arguments before the sidecar's.
    pub fn under<S: AsRef<str>>(mut self, program: impl IntoIterator<Item = S>) -> Self {
        self.under = program.into_iter().map(|word| word.as_ref().to_owned()).collect();
        self
    }

    /// How many workers the sidecar has [default: 1].
    pub fn workers(mut self, workers: u16) -> Self {
        self.workers = workers;
        self
    }

    /// Further flags of the sidecar.
    pub fn flags<S: AsRef<str>>(mut self, flags: impl IntoIterator<Item = S>) -> Self {
        self.flags.extend(flags.into_iter().map(|flag| flag.as_ref().to_owned()));
        self
    }

    /// Starts it and waits until the sidecar is ready.
    pub async fn start(self) -> Pod {
        let pod = self.start_unready().await;
        pod.until_ready().await;
        pod
    }

    /// Starts it, ready or not.
    pub async fn start_unready(mut self) -> Pod {
        let name = self.instance.clone().unwrap_or_else(|| self.name.clone());
        let address = self.address.unwrap_or_else(|| self.mesh.free_address());
        let app = match self.app.take() {
            Some(app) => Some(app.start(&name, SocketAddr::new(address, APP_PORT)).await),
            None => None,
        };
        let args = self.args(address, app.is_some()).await;
        let logs = self.mesh.logs();
        let Self { by_pillion, under, .. } = self;
        let start = Start { name: format!("sidecar-{name}"), logs, by_pillion, under, args };
        Pod { name, address, app, sidecar: Mutex::new(start.sidecar()), start }
    }

    async fn args(&self, address: IpAddr, has_app: bool) -> Vec<String> {
        let mut args = vec![
            ("--address", address.to_string()),
            ("--control-plane", self.mesh.api().to_string()),
            ("--trust-domain", TRUST_DOMAIN.to_owned()),
            ("--workers", self.workers.to_string()),
        ];
        if self.token {
            let account = self.service_account.as_ref().unwrap_or(&self.name);
            let token = self.mesh.token(&self.namespace, account, "1h").await;
            args.push(("--token-file", token.to_str().unwrap().to_owned()));
        }
        if has_app {
            args.push(("--app-port", APP_PORT.to_string()));
        }
        if has_app && self.registered {
            args.push(("--service", format!("{}/{}", self.namespace, self.name)));
        }
        let args = args.into_iter().flat_map(|(flag, value)| [flag.to_owned(), value]);
        args.chain(self.flags.iter().cloned()).collect()
    }
}

impl Start {
    fn sidecar(&self) -> Process {
        let (program, command) =
            if self.by_pillion { (&bins().pillion, Some("proxy")) } else { (&bins().proxy, None) };
        let args = command.into_iter().chain(self.args.iter().map(String::as_str));
        let words: Vec<&OsStr> = self
            .under
            .iter()
            .map(OsStr::new)
            .chain([program.as_os_str()])
            .chain(args.map(OsStr::new))
            .collect();
        Process::start(&self.name, &self.logs, Path::new(words[0]), &words[1..], &[])
    }
}

impl Pod {
    /// The pod's name, which its application's answers carry.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The pod's address.
    pub fn address(&self) -> IpAddr {
        self.address
    }

    /// The outbound port: the HTTP proxy for the pod's application.
    pub fn proxy(&self) -> SocketAddr {
        SocketAddr::new(self.address, OUTBOUND)
    }

    /// The port for plaintext from outside the mesh.
    pub fn inbound(&self) -> SocketAddr {
        SocketAddr::new(self.address, INBOUND)
    }

    /// The port for other sidecars.
    pub fn mesh_port(&self) -> SocketAddr {
        SocketAddr::new(self.address, MESH)
    }

    /// The admin port.
    pub fn admin(&self) -> SocketAddr {
        SocketAddr::new(self.address, ADMIN)
    }

    /// The application.
    ///
    /// # Panics
    /// When the pod has none, or it was killed.
    pub fn app(&self) -> &Running {
        self.app.as_ref().unwrap_or_else(|| panic!("{} has no application", self.name))
    }

    /// The sidecar's process.
    pub fn sidecar(&self) -> MutexGuard<'_, Process> {
        self.sidecar.lock().unwrap()
    }

    /// The sidecar's metrics.
    pub async fn metrics(&self) -> Metrics {
        Metrics::scrape(self.admin()).await
    }

    /// What the sidecar has in force.
    pub async fn config(&self) -> Value {
        client::get_direct(self.admin(), "/config").await.expect("an answer").json()
    }

    /// Gets a URL as this pod's application would, through the sidecar.
    ///
    /// # Panics
    /// When there is no response at all.
    pub async fn get(&self, url: &str) -> Answer {
        let answer = client::get(self.proxy(), url).await;
        answer.unwrap_or_else(|error| panic!("{}: GET {url}: {error:#}", self.name))
    }

    /// Waits until requests for `url` are answered by `count` different pods, each with a 2xx.
    ///
    /// # Panics
    /// When that does not come true.
    pub async fn until_answered_by(&self, url: &str, count: usize) {
        poll::until(&format!("{count} pods answer {url}"), SOON, async || {
            let mut pods = Vec::new();
            for _ in 0..20 * count {
                match self.get(url).await {
                    answer if answer.status.is_success() => {
                        pods.extend(answer.pod().map(ToOwned::to_owned));
                    }
                    other => return Err(format!("{other:?}")),
                }
            }
            pods.sort();
            pods.dedup();
            if pods.len() == count { Ok(()) } else { Err(format!("{pods:?}")) }
        })
        .await;
    }

    /// Waits until the sidecar finds an endpoint for `target` (HOST:PORT of a Service): it takes
    /// what a CONNECT asks for, or refuses it for another reason. The application gets no byte.
    ///
    /// # Panics
    /// When that does not come true.
    pub async fn until_known(&self, target: &str) {
        const NOT_YET: [&str; 4] =
            ["service_unknown", "port_unknown", "no_endpoints", "discovery_timeout"];
        poll::until(
            &format!("{} knows {target}", self.name),
            SOON,
            async || match client::connect(self.proxy(), target).await {
                Err(error) if NOT_YET.iter().any(|code| error.to_string().contains(code)) => {
                    Err(error.to_string())
                }
                _ => Ok(()),
            },
        )
        .await;
    }

    /// Ends the application and leaves the sidecar.
    pub fn stop_app(&mut self) {
        self.app = None;
    }

    /// Ends the application in order, and starts `app` in its place.
    ///
    /// # Panics
    /// When it does not end.
    pub async fn restart_app(&mut self, app: App) {
        if let Some(running) = self.app.take() {
            running.leave().await;
        }
        let address = SocketAddr::new(self.address, APP_PORT);
        self.app = Some(app.start(&self.name, address).await);
    }

    /// Waits until the sidecar is ready.
    ///
    /// # Panics
    /// When it ends instead, or stays unready.
    pub async fn until_ready(&self) {
        poll::until(&format!("the sidecar of {} is ready", self.name), SOON, async || {
            if let Some(status) = self.sidecar().ended() {
                panic!("the sidecar of {} has ended: {status}", self.name);
            }
            ready(self.admin()).await
        })
        .await;
    }

    /// `kill -9` for the sidecar and the application.
    pub fn kill(&mut self) {
        self.sidecar().kill();
        self.app = None;
    }

    /// Asks the sidecar to leave, and waits until it has. The application stays.
    pub async fn terminate(&self, limit: Duration) -> ExitStatus {
        self.sidecar().signal(Signal::TERM);
        poll::until(&format!("the sidecar of {} leaves", self.name), limit, async || {
            self.sidecar().ended().ok_or("it runs")
        })
        .await
    }

    /// Starts the sidecar again after its end, and waits until it is ready.
    pub async fn restart_sidecar(&self) {
        self.restart_sidecar_unready();
        self.until_ready().await;
    }

    /// Starts the sidecar again after its end, ready or not.
    pub fn restart_sidecar_unready(&self) {
        self.sidecar().kill();
        *self.sidecar() = self.start.sidecar();
    }
}
