//! Who is measured: each peer, with its pods and its proxies, up and ready.

pub(crate) mod envoy;
mod floor;
mod haproxy;
mod nginx;
pub(crate) mod pillion;
mod ports;

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::str::FromStr;
use std::time::{Duration, Instant};

use anyhow::{Context, bail};
use rustix::process::Signal;
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
const NAMES: &str = "direct, pillion[@DIR], pillion-single[@DIR], envoy, envoy-tls, haproxy, nginx, \
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
    /// nginx, HTTP/1.1 between.
    Nginx,
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
            ("nginx", None) => Kind::Nginx,
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

    /// Whether it has a part in the cases of an application: whether it can carry what that speaks,
    /// and in another way than a peer that is there anyway.
    pub(crate) fn carries(&self, app: App) -> bool {
        match self.kind {
            Kind::Nginx => app != App::Http2,
            Kind::Envoy(Bytes::Alone) => app == App::Bytes,
            Kind::FloorTcp => app != App::Bytes,
            _ => true,
        }
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
    own_app: PathBuf,
    www: PathBuf,
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
            Kind::Nginx => nginx::start(files, &pods)?,
            Kind::Floor => floor::start(files, &pods, false)?,
            Kind::FloorTcp => floor::start(files, &pods, true)?,
            Kind::Pillion(hops, dir) => {
                pillion::start(&pods, &peer.name, *hops, dir.as_deref().unwrap_or(bins))?
            }
        };
        let (own_app, www) = (files.bin("app"), files.www());
        let topology = Self { peer: peer.clone(), sidecars, pods, own_app, www };
        for app in App::ALL.into_iter().filter(|app| peer.carries(*app)) {
            topology.until_ready(app).with_context(|| format!("{}: {app:?}", peer.name))?;
        }
        Ok(topology)
    }

    /// Checks at the end that what was measured is what was meant.
    ///
    /// # Errors
    /// When a request went otherwise.
    pub(crate) fn verify(&self) -> anyhow::Result<()> {
        match &self.peer.kind {
            Kind::Pillion(Hops::Double, _) => {
                pillion::verify(&self.pods).with_context(|| self.peer.name.clone())
            }
            _ => Ok(()),
        }
    }

    /// Ends it. Pillion's sidecars end as in a cluster, by SIGTERM: those that count what they run
    /// (`tests/bench/run profile`) write it then.
    ///
    /// # Errors
    /// When one does not end.
    pub(crate) fn end(mut self) -> anyhow::Result<()> {
        if self.peer.is_pillion() {
            let Sidecars { outbound, inbound, .. } = &mut self.sidecars;
            for sidecar in [outbound, inbound].into_iter().flatten() {
                sidecar.signal(Signal::TERM);
                retry(READY, || sidecar.ended().context("a sidecar runs on after SIGTERM"))?;
            }
        }
        Ok(())
    }

    /// Where its clients find an application; Pillion's at the Service, whose routes count.
    pub(crate) fn target(&self, app: App) -> SocketAddr {
        match app {
            _ if !self.peer.is_pillion() => stage::in_pod(app),
            App::Bytes => (IpAddr::from(CLUSTER_IPS[1]), app.service_port()).into(),
            _ => (IpAddr::from(CLUSTER_IPS[0]), app.service_port()).into(),
        }
    }

    /// The bench's own program in pods.
    pub(crate) fn own_app(&self) -> &Path {
        &self.own_app
    }

    /// A file of so many MiB.
    pub(crate) fn big_file(&self, mib: u64) -> PathBuf {
        self.www.join("big").join(mib.to_string())
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
