//! What tests of a real sidecar share: the sidecar, what it is told, and raw bytes both ways.

#![allow(dead_code)] // no test needs all of it

pub(crate) mod application;
pub(crate) mod caller;
pub(crate) mod doors;
pub(crate) mod frames;
pub(crate) mod impostor;
pub(crate) mod mint;
pub(crate) mod origin;
pub(crate) mod raw;
pub(crate) mod upstream;

use std::io::{Read, Write};
use std::net::{IpAddr, SocketAddr, TcpStream};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use model::service::{Endpoint, MeshPeer, Protocol, Service, ServicePort, Target};
use wire::{Body, proto};

use crate::control_plane::{ControlPlane, Stream};
use origin::Origin;

pub(crate) const PATIENCE: Duration = Duration::from_secs(20);

/// A sidecar that ends with the test.
pub(crate) struct Sidecar {
    child: Child,
    pub(crate) address: IpAddr,
}

impl Sidecar {
    pub(crate) fn start(control_plane: &ControlPlane, address: [u8; 4], args: &[&str]) -> Self {
        let token = control_plane.token_file("shop", "test");
        Self::with_token(control_plane, address, &token, args, &[])
    }

    /// With this token, and these environment variables.
    pub(crate) fn with_token(
        control_plane: &ControlPlane,
        address: [u8; 4],
        token: &Path,
        args: &[&str],
        variables: &[(&str, &str)],
    ) -> Self {
        let address = IpAddr::from(address);
        let child = Command::new(env!("CARGO_BIN_EXE_pillion-proxy"))
            .args(["--address", &address.to_string(), "--token-file"])
            .arg(token)
            .args(["--control-plane", &control_plane.address().to_string(), "--workers", "1"])
            .args(args)
            .envs(variables.iter().copied())
            .stderr(Stdio::inherit())
            .spawn()
            .unwrap();
        Self { child, address }
    }

    /// The status line, and all after it, of `GET url` sent to the outbound port.
    pub(crate) fn get(&self, url: &str) -> String {
        request(SocketAddr::new(self.address, 15001), url)
    }

    /// One that is ready, sends requests for `api` to `origin` and takes those that come in
    /// plaintext to it as well.
    pub(crate) fn in_front_of(
        control_plane: &mut ControlPlane,
        address: [u8; 4],
        origin: SocketAddr,
        protocol: &str,
    ) -> (Self, Stream) {
        let port = origin.port().to_string();
        let args = ["--app-port", &port, "--app-protocol", protocol];
        let sidecar = Self::start(control_plane, address, &args);
        let mut stream = control_plane.accept();
        stream.update(vec![service("shop/api", vec![endpoint(origin, None)])], vec![]);
        stream.acknowledged();
        sidecar.wait_until_ready();
        (sidecar, stream)
    }

    /// [`Sidecar::in_front_of`] an application in HTTP/1.1, at its address.
    pub(crate) fn before(control_plane: &mut ControlPlane, origin: &Origin) -> (Self, Stream) {
        let IpAddr::V4(address) = origin.address.ip() else { unreachable!() };
        Self::in_front_of(control_plane, address.octets(), origin.address, "http")
    }

    /// Where the application sends.
    pub(crate) fn outbound(&self) -> SocketAddr {
        SocketAddr::new(self.address, 15001)
    }

    /// Where plaintext comes in.
    pub(crate) fn inbound(&self) -> SocketAddr {
        SocketAddr::new(self.address, 15006)
    }

    /// Where other sidecars send.
    pub(crate) fn mesh(&self) -> SocketAddr {
        SocketAddr::new(self.address, 15008)
    }

    /// The CPU time that the sidecar has used, in the kernel's ticks of 10 ms.
    pub(crate) fn cpu_ticks(&self) -> u64 {
        let stat = std::fs::read_to_string(format!("/proc/{}/stat", self.child.id())).unwrap();
        let after_name = stat.rsplit_once(')').unwrap().1;
        let fields: Vec<&str> = after_name.split_whitespace().collect();
        fields[11..=12].iter().map(|ticks| ticks.parse::<u64>().unwrap()).sum()
    }

    /// The memory that it holds, in bytes.
    pub(crate) fn memory(&self) -> usize {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.child.id())).unwrap();
        let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap();
        line.trim().trim_end_matches(" kB").parse::<usize>().unwrap() * 1024
    }

    pub(crate) fn wait_until_ready(&self) {
        eventually("the sidecar is ready", || request(self.admin(), "/ready").contains(" 200 "));
    }

    /// How many requests have ended in this direction with this error.
    pub(crate) fn failed_requests(&self, direction: &str, error: &str) -> u64 {
        let labels = [format!("direction=\"{direction}\""), format!("error=\"{error}\"")];
        let metrics = request(self.admin(), "/metrics");
        let lines = metrics.lines().filter(|line| line.starts_with("pillion_requests_total{"));
        let ours = lines.filter(|line| labels.iter().all(|label| line.contains(label)));
        ours.map(|line| line.rsplit(' ').next().unwrap().parse::<u64>().unwrap()).sum()
    }

    fn admin(&self) -> SocketAddr {
        SocketAddr::new(self.address, 15020)
    }
}

impl Drop for Sidecar {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

pub(crate) fn request(to: SocketAddr, url: &str) -> String {
    let mut answer = String::new();
    let ask = || -> std::io::Result<String> {
        let mut socket = TcpStream::connect(to)?;
        socket.set_read_timeout(Some(PATIENCE))?;
        write!(socket, "GET {url} HTTP/1.1\r\nhost: api\r\nconnection: close\r\n\r\n")?;
        socket.read_to_string(&mut answer)?;
        Ok(answer)
    };
    ask().unwrap_or_else(|error| format!("error: {error}"))
}

pub(crate) fn eventually(what: &str, mut holds: impl FnMut() -> bool) {
    let begun = Instant::now();
    while !holds() {
        assert!(begun.elapsed() < PATIENCE, "after {PATIENCE:?} it is not so that {what}");
        std::thread::sleep(Duration::from_millis(20));
    }
}

pub(crate) fn service(name: &str, endpoints: Vec<Endpoint>) -> proto::Resource {
    let service = Service {
        name: name.parse().unwrap(),
        addresses: vec![],
        ports: vec![ServicePort { port: 80, name: None, protocol: Protocol::Detect }],
        endpoints,
    };
    wire::resource::encode(name, &Body::Service(service))
}

pub(crate) fn endpoint(at: SocketAddr, mesh: Option<MeshPeer>) -> Endpoint {
    Endpoint {
        address: at.ip(),
        workload: "api-1".into(),
        targets: vec![Target { port: 80, target: at.port() }],
        mesh,
    }
}
