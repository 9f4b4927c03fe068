//! A pod's sidecar: its rules, its token, its process, and what it says of itself.

use std::fs;
use std::os::unix::fs::chown;
use std::path::Path;
use std::sync::Mutex;

use serde_json::Value;

use crate::bins::bins;
use crate::client::{self, Answer};
use crate::mesh::TRUST_DOMAIN;
use crate::poll::{self, SOON};
use crate::process::Process;

use super::door::Door;
use super::namespace::Namespace;
use super::program::{Program, User};
use super::{Addresses, House};

/// The admin port, which answers `/config` to its own pod only.
const ADMIN: &str = "127.0.0.1:15020";

/// Who a sidecar stands for.
#[derive(Debug)]
pub(super) struct Workload<'a> {
    pub(super) namespace: &'a str,
    pub(super) account: &'a str,
    pub(super) pod: &'a str,
    pub(super) addresses: Addresses,
    pub(super) flags: &'a [String],
}

/// Installs the redirection of a pod, and prepares the sidecar that it leads to.
pub(super) async fn prepare(house: &House, inside: &Namespace, who: &Workload<'_>) -> Program {
    install_redirect(inside).await;
    let control_plane = house.control_plane.as_ref().expect("a mesh has one");
    let home = house.home(&format!("{}-sidecar", who.pod), User::Sidecar);
    let token = home.join("token");
    fs::write(&token, control_plane.token(who.namespace, who.account).await).expect("a token");
    let id = User::Sidecar.id();
    chown(&token, Some(id), Some(id)).expect("the sidecar's own");
    let addresses: Vec<String> = who.addresses.all().iter().map(ToString::to_string).collect();
    Program::at(&bins().proxy)
        .user(User::Sidecar)
        .args(["--redirected", "--address", &addresses.join(",")])
        .args(["--control-plane", &control_plane.api().to_string()])
        .args(["--trust-domain", TRUST_DOMAIN, "--workers", "1"])
        .args(["--token-file", token.to_str().expect("a path in UTF-8")])
        .args(who.flags)
}

/// As the init container of a pod does it: as root, in the pod's namespace, before the sidecar.
async fn install_redirect(inside: &Namespace) {
    let program = Program::at(&bins().proxy).user(User::Root).args(["redirect", "install"]);
    super::must(inside.name(), Path::new("/"), &program).await;
}

/// Waits until it is ready.
pub(super) async fn until_ready(sidecar: &Mutex<Process>, door: &Door, pod: &str) {
    poll::until(&format!("the sidecar of {pod} is ready"), SOON, async || {
        if let Some(status) = sidecar.lock().unwrap().ended() {
            panic!("the sidecar of {pod} has ended: {status}");
        }
        match ask(door, "/ready").await {
            Ok(answer) if answer.status == 200 => Ok(()),
            other => Err(format!("{other:?}")),
        }
    })
    .await;
}

/// Waits until it serves these ports of the application: then the control plane has told the
/// mesh of the pod.
pub(super) async fn until_serving(door: &Door, pod: &str, ports: &[u16]) {
    poll::until(&format!("the sidecar of {pod} serves {ports:?}"), SOON, async || {
        let answer = ask(door, "/config").await.map_err(|error| format!("{error:#}"))?;
        let inbound = answer.json()["inbound"].clone();
        let serves = |port: &u16| {
            inbound.as_array().is_some_and(|all| all.iter().any(|entry| entry["port"] == *port))
        };
        if ports.iter().all(serves) { Ok(()) } else { Err(inbound.to_string()) }
    })
    .await;
}

/// What it answers on its admin port.
pub(super) async fn ask(door: &Door, path: &str) -> anyhow::Result<Answer> {
    client::get_over(door.dial(ADMIN).await?, ADMIN, path).await
}

/// What it has in force.
pub(super) async fn config(door: &Door) -> anyhow::Result<Value> {
    Ok(ask(door, "/config").await?.json())
}
