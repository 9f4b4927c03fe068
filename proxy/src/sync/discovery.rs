//! Services and addresses on demand: what is not known yet is asked for while its request waits.

use std::fmt;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use model::code::ErrorCode;
use model::name::ServiceName;
use model::table::{At, Lookup, Table};
use tokio::sync::{Semaphore, mpsc, watch};
use tokio::time::timeout;

use crate::error::ProxyError;
use crate::mesh::Mesh;

/// How long a request waits for the control plane's answer.
const PATIENCE: Duration = Duration::from_secs(2);

/// How long requests that came before the first configuration and certificate are parked for them.
const PARKED: Duration = Duration::from_secs(30);

/// Requests parked at the same time.
const MAX_PARKED: usize = 1024;

/// Names that may wait to be asked for.
const QUEUE: usize = 1024;

/// What the control plane is asked for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Wanted {
    /// A Service with its routes and endpoints.
    Service(ServiceName),
    /// Who has an address.
    Address(IpAddr),
}

impl fmt::Display for Wanted {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Service(name) => write!(f, "Service {name}"),
            Self::Address(address) => write!(f, "address {address}"),
        }
    }
}

/// Asks for Services and addresses, from any worker.
#[derive(Debug, Clone)]
pub struct Discovery {
    wanted: mpsc::Sender<Wanted>,
    published: watch::Receiver<()>,
    parked: Arc<Semaphore>,
}

/// The other end, in [`crate::sync`].
#[derive(Debug)]
pub struct Requests {
    /// What is asked for, each possibly many times.
    pub wanted: mpsc::Receiver<Wanted>,
    /// Told after each new Table and certificate.
    pub published: watch::Sender<()>,
}

/// The two ends.
pub fn channel() -> (Discovery, Requests) {
    let (sender, wanted) = mpsc::channel(QUEUE);
    let (publish, published) = watch::channel(());
    let parked = Arc::new(Semaphore::new(MAX_PARKED));
    (Discovery { wanted: sender, published, parked }, Requests { wanted, published: publish })
}

impl Discovery {
    /// The Table that knows the Service `name`, or that there is none.
    ///
    /// # Errors
    /// `discovery_timeout` when the control plane does not answer, `overload` when too many names
    /// wait to be asked for.
    pub async fn find(&self, mesh: &Mesh, name: &ServiceName) -> Result<Arc<Table>, ProxyError> {
        let known = |table: &Table| !matches!(table.service(name), Lookup::NotAsked);
        self.learn(mesh, known, || Wanted::Service(name.clone())).await
    }

    /// The Table that knows who has `address`, or that nobody does.
    ///
    /// # Errors
    /// As [`Discovery::find`].
    pub async fn find_address(
        &self,
        mesh: &Mesh,
        address: IpAddr,
    ) -> Result<Arc<Table>, ProxyError> {
        let known = |table: &Table| !matches!(table.at(address), At::NotAsked);
        self.learn(mesh, known, || Wanted::Address(address)).await
    }

    /// Waits for what every sidecar gets at its start: the first configuration and certificate, in
    /// any order. Where only the second is missing, a request finds out by itself whether it needs
    /// one. Says whether there is a configuration.
    async fn begun(
        &self,
        mesh: &Mesh,
        published: &mut watch::Receiver<()>,
    ) -> Result<bool, ProxyError> {
        let _place = self.parked.try_acquire().map_err(|_| {
            let detail = format!("{MAX_PARKED} others wait for the first configuration");
            ProxyError::new(ErrorCode::Overload, detail)
        })?;
        let begun = until(mesh, published, |table| has_begun(mesh, table));
        match timeout(PARKED, begun).await {
            Ok(table) => table.map(|_| true),
            Err(_) => Ok(mesh.table().publication() > 0),
        }
    }

    /// The first Table of which `known` holds, once the control plane has been asked.
    async fn learn(
        &self,
        mesh: &Mesh,
        known: impl Fn(&Table) -> bool,
        wanted: impl FnOnce() -> Wanted,
    ) -> Result<Arc<Table>, ProxyError> {
        let table = mesh.table();
        let begun = has_begun(mesh, &table);
        if begun && known(&table) {
            return Ok(table);
        }
        let wanted = wanted();
        let mut published = self.published.clone();
        self.wanted.try_send(wanted.clone()).map_err(|_| {
            let detail = format!("{wanted}: {QUEUE} others wait for the control plane");
            ProxyError::new(ErrorCode::Overload, detail)
        })?;
        let late = |limit| {
            let described = mesh.status.describe();
            let detail = format!(
                "{wanted} was not asked for before, and the control plane has not answered in \
                 {limit:?} ({described})"
            );
            ProxyError::new(ErrorCode::DiscoveryTimeout, detail)
        };
        if !begun && !self.begun(mesh, &mut published).await? {
            return Err(late(PARKED));
        }
        timeout(PATIENCE, until(mesh, &mut published, known)).await.map_err(|_| late(PATIENCE))?
    }
}

fn has_begun(mesh: &Mesh, table: &Table) -> bool {
    table.publication() > 0 && mesh.last_credentials().is_some()
}

/// The first Table of which `holds` is true.
async fn until(
    mesh: &Mesh,
    published: &mut watch::Receiver<()>,
    holds: impl Fn(&Table) -> bool,
) -> Result<Arc<Table>, ProxyError> {
    loop {
        published.mark_unchanged();
        let table = mesh.table();
        if holds(&table) {
            return Ok(table);
        }
        if published.changed().await.is_err() {
            return Err(ProxyError::new(ErrorCode::Draining, "the sidecar is leaving"));
        }
    }
}
