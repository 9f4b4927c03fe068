//! Pillion as a user runs it: a control plane of its own, all defaults on, an HTTPRoute with
//! timeouts attached to the Service.

use std::fs;
use std::os::unix::fs::chown;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, ensure};
use tests::process::Process;

use crate::stage::files::{copy, fill};
use crate::stage::netns::Namespace;
use crate::stage::program::{Program, User};
use crate::stage::{CLIENT, Pods, SERVER};

use super::Sidecars;

/// Whether the server pod has a sidecar.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Hops {
    /// It has none.
    Single,
    /// It has one.
    Double,
}

/// Longest time for a command that only writes a file or a rule.
const SOON: Duration = Duration::from_secs(20);

/// The control plane's address on the cable to each pod.
const TO_CLIENT: &str = "10.78.0.1";
const TO_SERVER: &str = "10.78.1.1";

/// Starts the control plane and the sidecars, with binaries of `bins`.
///
/// # Errors
/// When a binary is missing or a command fails.
pub(super) fn start(pods: &Pods, peer: &str, hops: Hops, bins: &Path) -> anyhow::Result<Sidecars> {
    let pillion = Pillion { pods, own: pods.file("bin"), state: pods.file("state") };
    pillion.copy_binaries(bins)?;
    let mut sidecars = Sidecars::default();
    let home = Namespace::create(&format!("{peer}-cp"))?;
    for (cable, near, far, pod, own) in [
        ("client", TO_CLIENT, "10.78.0.2", &pods.client, CLIENT),
        ("server", TO_SERVER, "10.78.1.2", &pods.server, SERVER),
    ] {
        home.join((cable, &format!("{near}/24")), pod, ("eth1", &format!("{far}/24")))?;
        // A sidecar comes from the address of its pod.
        home.ip(&format!("route add {own} via {far} dev {cable}\n"))?;
    }
    sidecars.others.push(pillion.control_plane(&home, hops)?);
    sidecars.namespaces.push(home);
    let client = CLIENT.to_string();
    sidecars.outbound = Some(pillion.sidecar("client", &client, TO_CLIENT, &pods.client)?);
    if hops == Hops::Double {
        let server = SERVER.to_string();
        sidecars.inbound = Some(pillion.sidecar("server", &server, TO_SERVER, &pods.server)?);
    }
    Ok(sidecars)
}

/// Checks that requests went by a route and over mutual TLS: all that the client pod's sidecar
/// answered with what an application had said.
///
/// # Errors
/// When one did not.
pub(super) fn verify(pods: &Pods) -> anyhow::Result<()> {
    let curl = Program::find("curl", "curl").args(["-sS", "http://127.0.0.1:15020/metrics"]);
    let metrics = curl.run(&pods.client, SOON)?;
    let requests = metrics.lines().filter(|line| line.starts_with("pillion_requests_total{"));
    let requests = requests.filter(|line| line.contains("error=\"\""));
    let meant = |line: &&str| line.contains("tls=\"mutual\"") && line.contains("route=\"bench/");
    let (meant, others): (Vec<_>, Vec<_>) = requests.partition(meant);
    ensure!(!meant.is_empty() && others.is_empty(), "not as meant: {others:?}");
    Ok(())
}

struct Pillion<'a> {
    pods: &'a Pods,
    own: PathBuf,
    state: PathBuf,
}

impl Pillion<'_> {
    fn copy_binaries(&self, from: &Path) -> anyhow::Result<()> {
        fs::create_dir(&self.own)?;
        for name in ["pillion", "pillion-proxy", "pillion-control-plane"] {
            copy(&from.join(name), &self.own.join(name))?;
        }
        Ok(())
    }

    fn control_plane(&self, home: &Namespace, hops: Hops) -> anyhow::Result<Process> {
        let config = self.pods.file("config");
        fs::create_dir(&config)?;
        let sidecar = if hops == Hops::Double { "enabled" } else { "disabled" };
        let objects = fill(include_str!("objects.yaml"), &[("sidecar", sidecar.to_owned())]);
        fs::write(config.join("objects.yaml"), objects)?;
        let program = Program::app(self.own.join("pillion-control-plane"))
            .args(["--config-dir", &config.to_string_lossy()])
            .args(["--state-dir", &self.state.to_string_lossy()])
            .args(["--address", "0.0.0.0:15010", "--admin-address", "127.0.0.1:15014"]);
        Ok(program.start(home, self.pods.logs(), "control-plane"))
    }

    fn sidecar(
        &self,
        account: &str,
        address: &str,
        control_plane: &str,
        at: &Namespace,
    ) -> anyhow::Result<Process> {
        let proxy = self.own.join("pillion-proxy");
        Program::app(&proxy).root().args(["redirect", "install"]).run(at, SOON)?;
        let token = self.pods.file(&format!("{account}.token"));
        fs::write(&token, self.token(account, at)?)?;
        chown(&token, Some(User::Sidecar.id()), None)?;
        let program = Program::proxy(&proxy)
            .args(["--redirected", "--address", address, "--workers", "1"])
            .args(["--control-plane", &format!("{control_plane}:15010")])
            .args(["--token-file", &token.to_string_lossy()]);
        Ok(program.start(at, self.pods.logs(), &format!("sidecar-{account}")))
    }

    /// A join token, as soon as the control plane has made its authority.
    fn token(&self, account: &str, at: &Namespace) -> anyhow::Result<String> {
        let program = Program::app(self.own.join("pillion"))
            .root()
            .args(["token", "--ttl", "12h", "--state-dir", &self.state.to_string_lossy()])
            .args(["--namespace", "bench", "--service-account", account]);
        super::retry(SOON, || program.run(at, SOON)).context("no join token")
    }
}
