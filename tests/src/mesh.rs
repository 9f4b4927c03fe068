//! One mesh: a control plane, a directory of objects, and addresses for pods.

use std::net::{IpAddr, SocketAddr};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard};
use std::time::Duration;

use serde_json::Value;

use crate::bins::bins;
use crate::client;
use crate::kept::Kept;
use crate::metrics::Metrics;
use crate::net::Net;
use crate::pod::PodBuilder;
use crate::poll::{self, SOON};
use crate::process::{self, Process};

/// The trust domain of every test mesh: not the default, so that a place that forgets the
/// setting shows.
pub const TRUST_DOMAIN: &str = "mesh.test";

const API_PORT: u16 = 15_010;
const ADMIN_PORT: u16 = 15_014;
const WEBHOOK_PORT: u16 = 15_017;

/// A running mesh. Dropped, its control plane is gone; its pods end with their own values.
#[derive(Debug)]
pub struct Mesh {
    // Dropped in this order: the process first, its files last.
    control_plane: Mutex<Process>,
    options: Options,
    address: IpAddr,
    net: Net,
    dir: Kept,
}

/// What a test wants otherwise than usual.
#[derive(Debug, Clone, Default)]
pub struct Options {
    /// `--certificate-lifetime`, 24h if not set.
    pub certificate_lifetime: Option<&'static str>,
    /// The objects that are there from the start: file name and text.
    pub objects: Vec<(&'static str, String)>,
    /// The kubeconfig of the API server that objects come from, instead of the directory.
    pub kubeconfig: Option<PathBuf>,
    /// The namespace of a control plane on an API server that is not the test's alone: there it
    /// serves no webhook.
    pub namespace: Option<String>,
    /// What the control plane is started under: a program and its arguments before the others.
    pub under: Vec<String>,
}

impl Mesh {
    /// Starts one with an empty directory of objects.
    pub async fn start() -> Self {
        Self::with(Options::default()).await
    }

    /// Starts one with these objects in `mesh.yaml`.
    pub async fn with_objects(objects: impl Into<String>) -> Self {
        let objects = vec![("mesh.yaml", objects.into())];
        Self::with(Options { objects, ..Options::default() }).await
    }

    /// Starts one and waits until its control plane is ready.
    pub async fn with(options: Options) -> Self {
        let dir = Kept::new("pillion-test-");
        for part in ["config", "state", "logs", "tokens", "aside"] {
            std::fs::create_dir(dir.path().join(part)).unwrap();
        }
        for (file, text) in &options.objects {
            std::fs::write(dir.path().join("config").join(file), text).unwrap();
        }
        let net = Net::reserve();
        let address = net.next();
        let control_plane = Mutex::new(start_control_plane(dir.path(), address, &options));
        let mesh = Self { control_plane, options, address, net, dir };
        mesh.until_ready().await;
        mesh
    }

    /// A pod of the workload `NAMESPACE/NAME`, to be described further and started.
    pub fn pod(&self, name: &str) -> PodBuilder<'_> {
        PodBuilder::new(self, name)
    }

    /// An address of this mesh that nothing uses.
    pub fn free_address(&self) -> IpAddr {
        self.net.next()
    }

    /// The control plane's API.
    pub fn api(&self) -> SocketAddr {
        SocketAddr::new(self.address, API_PORT)
    }

    /// The control plane's admin port.
    pub fn admin(&self) -> SocketAddr {
        SocketAddr::new(self.address, ADMIN_PORT)
    }

    /// The control plane's webhook, where objects come from an API server.
    pub fn webhook(&self) -> SocketAddr {
        SocketAddr::new(self.address, WEBHOOK_PORT)
    }

    /// The control plane's process.
    pub fn control_plane(&self) -> MutexGuard<'_, Process> {
        self.control_plane.lock().unwrap()
    }

    /// Starts the control plane again, after it was killed, and waits until it is ready.
    pub async fn restart_control_plane(&self) {
        self.control_plane().kill();
        *self.control_plane() = start_control_plane(self.path(""), self.address, &self.options);
        self.until_ready().await;
    }

    /// The control plane's metrics.
    pub async fn metrics(&self) -> Metrics {
        Metrics::scrape(self.admin()).await
    }

    /// What the control plane finds wrong with the objects.
    pub async fn problems(&self) -> Vec<Value> {
        let answer = client::get_direct(self.admin(), "/problems").await.expect("an answer");
        match answer.json() {
            Value::Array(problems) => problems,
            other => panic!("/problems is no list: {other}"),
        }
    }

    /// Puts a file of objects in place as deployment tools do: written aside and renamed.
    pub fn write(&self, file: &str, objects: &str) {
        let aside = self.path("aside").join(file);
        std::fs::write(&aside, objects).unwrap();
        std::fs::rename(aside, self.path("config").join(file)).unwrap();
    }

    /// Writes a file of objects as editors do: truncated and written in place.
    pub fn write_in_place(&self, file: &str, objects: &str) {
        std::fs::write(self.path("config").join(file), objects).unwrap();
    }

    /// Removes a file of objects.
    pub fn remove(&self, file: &str) {
        std::fs::remove_file(self.path("config").join(file)).unwrap();
    }

    /// The directory of objects.
    pub fn config_dir(&self) -> PathBuf {
        self.path("config")
    }

    /// The control plane's state.
    pub fn state_dir(&self) -> PathBuf {
        self.path("state")
    }

    /// The roots of the mesh, PEM.
    pub fn bundle(&self) -> PathBuf {
        self.path("state/bundle.pem")
    }

    /// The directory of the logs.
    pub fn logs(&self) -> PathBuf {
        self.path("logs")
    }

    /// Makes a join token and returns its file.
    pub async fn token(&self, namespace: &str, service_account: &str, ttl: &str) -> PathBuf {
        let state = self.state_dir();
        let state = state.to_str().unwrap();
        let account = ["--namespace", namespace, "--service-account", service_account];
        let args = ["token", "--ttl", ttl, "--state-dir", state].into_iter().chain(account);
        let output = process::run(&bins().pillion, args, &[], SOON).await;
        assert_eq!(output.code, Some(0), "pillion token: {}", output.stderr);
        let file = self.path("tokens").join(format!("{namespace}.{service_account}.{ttl}"));
        std::fs::write(&file, output.stdout).unwrap();
        file
    }

    async fn until_ready(&self) {
        poll::until("the control plane is ready", SOON, async || {
            if let Some(status) = self.control_plane().ended() {
                panic!("the control plane has ended: {status}");
            }
            ready(self.admin()).await
        })
        .await;
    }

    fn path(&self, part: &str) -> PathBuf {
        self.dir.path().join(part)
    }
}

/// Whether `/ready` of this admin port says so.
pub(crate) async fn ready(admin: SocketAddr) -> Result<(), String> {
    match client::get_direct(admin, "/ready").await {
        Ok(answer) if answer.status == 200 => Ok(()),
        Ok(answer) => Err(format!("{} {}", answer.status, answer.text())),
        Err(error) => Err(format!("{error:#}")),
    }
}

fn start_control_plane(dir: impl AsRef<Path>, address: IpAddr, options: &Options) -> Process {
    let dir = dir.as_ref();
    let path = |part: &str| dir.join(part).to_str().unwrap().to_owned();
    let source = match &options.kubeconfig {
        Some(_) => ("--source", "kubernetes".to_owned()),
        None => ("--config-dir", path("config")),
    };
    let role = options.kubeconfig.iter().map(|_| match &options.namespace {
        Some(namespace) => ("--namespace", namespace.clone()),
        None => ("--webhook-address", SocketAddr::new(address, WEBHOOK_PORT).to_string()),
    });
    let kubeconfig = options.kubeconfig.iter().map(|file| ("KUBECONFIG", file.to_str().unwrap()));
    let args = [
        source,
        ("--state-dir", path("state")),
        ("--address", SocketAddr::new(address, API_PORT).to_string()),
        ("--admin-address", SocketAddr::new(address, ADMIN_PORT).to_string()),
        ("--trust-domain", TRUST_DOMAIN.to_owned()),
        ("--certificate-lifetime", options.certificate_lifetime.unwrap_or("24h").to_owned()),
    ];
    let args = args.into_iter().chain(role);
    let args = args.flat_map(|(flag, value)| [flag.to_owned(), value]);
    let own = bins().control_plane.to_str().unwrap().to_owned();
    let environment: Vec<(&str, &str)> = kubeconfig.collect();
    let words: Vec<String> = options.under.iter().cloned().chain([own]).chain(args).collect();
    Process::start(
        "control-plane",
        &dir.join("logs"),
        Path::new(&words[0]),
        &words[1..],
        &environment,
    )
}

/// How long a lease of a killed sidecar may live on: "gone within seconds".
pub const LEASE: Duration = Duration::from_secs(20);
