//! Services on demand: a request for one not asked for before waits while it is asked for.

use std::sync::Arc;
use std::time::Duration;

use model::code::ErrorCode;
use model::name::ServiceName;
use model::table::{Lookup, Table};
use tokio::sync::{mpsc, watch};
use tokio::time::timeout;

use crate::error::ProxyError;
use crate::mesh::Mesh;

/// How long a request waits for the control plane's answer.
const PATIENCE: Duration = Duration::from_secs(2);

/// Names that may wait to be asked for.
const QUEUE: usize = 1024;

/// Asks for Services, from any worker.
#[derive(Debug, Clone)]
pub struct Discovery {
    wanted: mpsc::Sender<ServiceName>,
    published: watch::Receiver<()>,
}

/// The other end, in [`crate::sync`].
#[derive(Debug)]
pub struct Requests {
    /// Names asked for, each possibly many times.
    pub wanted: mpsc::Receiver<ServiceName>,
    /// Told after each new Table.
    pub published: watch::Sender<()>,
}

/// The two ends.
pub fn channel() -> (Discovery, Requests) {
    let (sender, wanted) = mpsc::channel(QUEUE);
    let (publish, published) = watch::channel(());
    (Discovery { wanted: sender, published }, Requests { wanted, published: publish })
}

impl Discovery {
    /// The Table that knows the Service `name`.
    ///
    /// # Errors
    /// `service_unknown` when there is none, `discovery_timeout` when the control plane does not
    /// answer, `overload` when too many names wait to be asked for.
    pub async fn find(&self, mesh: &Mesh, name: &ServiceName) -> Result<Arc<Table>, ProxyError> {
        if let Some(found) = look(mesh.table(), name) {
            return found;
        }
        let mut published = self.published.clone();
        self.wanted.try_send(name.clone()).map_err(|_| {
            let detail = format!("{name}: {QUEUE} other names wait for the control plane");
            ProxyError::new(ErrorCode::Overload, detail)
        })?;
        let answer = async {
            loop {
                published.mark_unchanged();
                if let Some(found) = look(mesh.table(), name) {
                    return found;
                }
                if published.changed().await.is_err() {
                    return Err(ProxyError::new(ErrorCode::Draining, "the sidecar is leaving"));
                }
            }
        };
        timeout(PATIENCE, answer).await.unwrap_or_else(|_| {
            let detail = format!(
                "Service {name} was not asked for before, and the control plane has not answered \
                 in {PATIENCE:?} ({})",
                mesh.status.describe()
            );
            Err(ProxyError::new(ErrorCode::DiscoveryTimeout, detail))
        })
    }
}

fn look(table: Arc<Table>, name: &ServiceName) -> Option<Result<Arc<Table>, ProxyError>> {
    match table.service(name) {
        Lookup::Known(_) => Some(Ok(table)),
        Lookup::Absent => {
            let detail = format!("there is no Service {name}");
            Some(Err(ProxyError::new(ErrorCode::ServiceUnknown, detail)))
        }
        Lookup::NotAsked => None,
    }
}
