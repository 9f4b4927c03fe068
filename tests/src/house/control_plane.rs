//! The control plane of a house, in a namespace of its own as it is a pod of its own in a cluster.

use std::net::{Ipv6Addr, SocketAddr};
use std::path::{Path, PathBuf};

use crate::bins::bins;
use crate::client;
use crate::mesh::TRUST_DOMAIN;
use crate::poll::{self, SOON};
use crate::process::{self, Process};

use super::door::{Door, Relay};
use super::namespace::Namespace;
use super::plan::Plan;
use super::program::{Program, User};
use super::{Addresses, House};

const API_PORT: u16 = 15_010;
const ADMIN_PORT: u16 = 15_014;
const WEBHOOK_PORT: u16 = 15_017;
const NAME: &str = "control-plane";

/// A running control plane.
#[derive(Debug)]
pub(super) struct ControlPlane {
    // Dropped in this order: processes before their namespace.
    process: Process,
    door: Door,
    _namespace: Namespace,
    addresses: Addresses,
    state: PathBuf,
}

/// As the Deployment has it, whichever families the cluster has.
fn everywhere(port: u16) -> String {
    SocketAddr::from((Ipv6Addr::UNSPECIFIED, port)).to_string()
}

impl ControlPlane {
    /// Starts it and waits until it is ready. Its objects are those of the house, or those of the
    /// API server of a kubeconfig.
    pub(super) async fn start(house: &House, kubeconfig: Option<&Path>) -> Self {
        let addresses = Plan::control_plane(house.options.stack);
        let namespace = house.namespace(NAME, addresses).await;
        let home = house.home(NAME, User::Nobody);
        let door = Door::open(namespace.name(), &home, &house.logs(), NAME).await;
        let state = home.join("state");
        let path = |path: &Path| path.to_str().expect("a path in UTF-8").to_owned();
        let program = match kubeconfig {
            None => Program::at(&bins().control_plane)
                .args(["--config-dir", &path(&house.path("config"))]),
            Some(file) => Program::at(&bins().control_plane)
                .args(["--source", "kubernetes", "--webhook-address"])
                .args([everywhere(WEBHOOK_PORT)])
                .env("KUBECONFIG", &path(file)),
        };
        let program = program
            .args(["--state-dir", &path(&state)])
            .args(["--address", &everywhere(API_PORT)])
            .args(["--admin-address", &admin()])
            .args(["--trust-domain", TRUST_DOMAIN]);
        let command = program.within(namespace.name(), &home);
        let (logs, environment) = (house.logs(), command.environment());
        let process = Process::start(NAME, &logs, &command.program, &command.args, &environment);
        let mut started = Self { process, door, _namespace: namespace, addresses, state };
        started.until_ready().await;
        started
    }

    /// Where sidecars find it.
    pub(super) fn api(&self) -> SocketAddr {
        SocketAddr::new(self.addresses.first, API_PORT)
    }

    /// Where its webhook is reached from outside of the house, by one client at a time.
    pub(super) async fn webhook(&self) -> Relay {
        self.door.relay(SocketAddr::new(self.addresses.first, WEBHOOK_PORT)).await
    }

    /// A join token for a service account.
    pub(super) async fn token(&self, namespace: &str, account: &str) -> String {
        let state = self.state.to_str().expect("a path in UTF-8");
        let args = ["token", "--ttl", "1h", "--state-dir", state];
        let args = args.into_iter().chain(["--namespace", namespace]);
        let args = args.chain(["--service-account", account]);
        let output = process::run(&bins().pillion, args, &[], SOON).await;
        assert_eq!(output.code, Some(0), "pillion token: {}", output.stderr);
        output.stdout
    }

    async fn until_ready(&mut self) {
        poll::until("the control plane of the house is ready", SOON, async || {
            if let Some(status) = self.process.ended() {
                panic!("the control plane has ended: {status}");
            }
            let stream = self.door.dial(&admin()).await.map_err(|error| format!("{error:#}"))?;
            match client::get_over(stream, &admin(), "/ready").await {
                Ok(answer) if answer.status == 200 => Ok(()),
                other => Err(format!("{other:?}")),
            }
        })
        .await;
    }
}

/// Where the admin server listens: for this machine only, which is its pod.
fn admin() -> String {
    format!("127.0.0.1:{ADMIN_PORT}")
}
