//! Who is measured: each peer, with its pods and its proxies, up and ready.

mod envoy;
mod floor;
mod haproxy;
pub(crate) mod pillion;
mod ports;

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::str::FromStr;
use std::time::{Duration, Instant};

use anyhow::{Context, bail};
use tests::process::Process;

use crate::cpu;
use crate::stage::files::Files;
use crate::stage::netns::Namespace;
use crate::stage::server::App;
use crate::stage::{self, Pods};

use self::envoy::Bytes;
use self::pillion::Hops;

/// The ClusterIP of the Service of HTTP, and of that of bytes.
const CLUSTER_IPS: [Ipv4Addr; 2] = [Ipv4Addr::new(10, 96, 0, 1), Ipv4Addr::new(10, 96, 0, 2)];

/// Whom there is.
const NAMES: &str = "direct, pillion[@DIR], pillion-single[@DIR], envoy, envoy-tls, haproxy, \
                     floor, floor-tcp";

/// How long a topology may take until it answers.
const READY: Duration = Duration::from_secs(30);

/// Who is measured.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Kind {
    /// No proxy at all.
    Direct,
    /// Pillion, with binaries of a directory.
    Pillion(Hops, Option<PathBuf>),
    /// Envoy, HTTP/2 between.
    Envoy(Bytes),
    /// HAProxy, HTTP/2 between.
    HaProxy,
    /// hyper and rustls alone.
    Floor,
    /// The same without looking into the bytes.
    FloorTcp,
}

/// A peer's name on the command line and in results, and who it is.
#[derive(Debug, Clone)]
pub(crate) struct Peer {
    /// As typed.
    pub(crate) name: String,
    /// Who it is.
    pub(crate) kind: Kind,
}

impl FromStr for Peer {
    type Err = anyhow::Error;

    fn from_str(name: &str) -> anyhow::Result<Self> {
        let (word, dir) = match name.split_once('@') {
            Some((word, dir)) => (word, Some(PathBuf::from(dir))),
            None => (name, None),
        };
        let kind = match (word, &dir) {
            ("pillion", _) => Kind::Pillion(Hops::Double, dir),
            ("pillion-single", _) => Kind::Pillion(Hops::Single, dir),
            ("direct", None) => Kind::Direct,
            ("envoy", None) => Kind::Envoy(Bytes::Tunnelled),
            ("envoy-tls", None) => Kind::Envoy(Bytes::Alone),
            ("haproxy", None) => Kind::HaProxy,
            ("floor", None) => Kind::Floor,
            ("floor-tcp", None) => Kind::FloorTcp,
            _ => bail!("no peer `{name}`: {NAMES}"),
        };
        Ok(Self { name: name.to_owned(), kind })
    }
}

impl Peer {
    /// Whether it is Pillion in any build.
    pub(crate) fn is_pillion(&self) -> bool {
        matches!(self.kind, Kind::Pillion(..))
    }
}

/// The running proxies of a topology.
#[derive(Debug, Default)]
pub(crate) struct Sidecars {
    // Dropped in this order: processes before their namespaces.
    outbound: Option<Process>,
    inbound: Option<Process>,
    others: Vec<Process>,
    namespaces: Vec<Namespace>,
}

/// A peer, up and ready.
#[derive(Debug)]
pub(crate) struct Topology {
    /// Whose it is.
    pub(crate) peer: Peer,
    // Dropped in this order: processes before their namespaces.
    sidecars: Sidecars,
    /// The pods.
    pub(crate) pods: Pods,
}

impl Topology {
    /// Starts it, and waits until each of its applications answers through it.
    ///
    /// # Errors
    /// When something does not start.
    pub(crate) fn start(files: &Files, peer: &Peer, bins: &Path) -> anyhow::Result<Self> {
        let pods = Pods::start(files, &peer.name)?;
        let sidecars = match &peer.kind {
            Kind::Direct => Sidecars::default(),
            Kind::Envoy(bytes) => envoy::start(files, &pods, *bytes)?,
            Kind::HaProxy => haproxy::start(files, &pods)?,
            Kind::Floor => floor::start(files, &pods, false)?,
            Kind::FloorTcp => floor::start(files, &pods, true)?,
            Kind::Pillion(hops, dir) => {
                pillion::start(&pods, &peer.name, *hops, dir.as_deref().unwrap_or(bins))?
            }
        };
        let topology = Self { peer: peer.clone(), sidecars, pods };
        for app in App::ALL {
            topology.until_ready(app).with_context(|| format!("{}: {app:?}", peer.name))?;
        }
        Ok(topology)
    }

    /// Where its clients find an application; Pillion's at the Service, whose routes count.
    pub(crate) fn target(&self, app: App) -> SocketAddr {
        match app {
            _ if !self.peer.is_pillion() => stage::in_pod(app),
            App::Bytes => (IpAddr::from(CLUSTER_IPS[1]), app.service_port()).into(),
            _ => (IpAddr::from(CLUSTER_IPS[0]), app.service_port()).into(),
        }
    }

    /// The CPU time of the client pod's sidecar, and of the server pod's.
    pub(crate) fn cpu(&self) -> [cpu::Time; 2] {
        [&self.sidecars.outbound, &self.sidecars.inbound]
            .map(|process| process.as_ref().map_or_else(cpu::Time::default, |p| cpu::of(p.id())))
    }

    /// The CPU time of what runs beside: applications and control plane.
    pub(crate) fn cpu_beside(&self) -> cpu::Time {
        let others = self.sidecars.others.iter().map(Process::id).chain(self.pods.servers());
        others.map(cpu::of).sum()
    }

    fn until_ready(&self, app: App) -> anyhow::Result<()> {
        retry(READY, || crate::load::probe(self, app))
    }
}

/// Asks again until it succeeds, and gives up with the last failure.
pub(crate) fn retry<T>(
    limit: Duration,
    mut ask: impl FnMut() -> anyhow::Result<T>,
) -> anyhow::Result<T> {
    let deadline = Instant::now() + limit;
    loop {
        match ask() {
            Err(_) if Instant::now() < deadline => std::thread::sleep(Duration::from_millis(100)),
            outcome => return outcome,
        }
    }
}
