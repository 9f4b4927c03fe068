//! What all workers share: the newest Table and credentials, and the means to tell of what
//! happens. Readers take one snapshot and keep it; [`crate::sync`] alone writes.

use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use arc_swap::{ArcSwap, ArcSwapOption, Guard};
use certs::{ClientAuth, Identity, TrustBundle};
use model::code::ErrorCode;
use model::endpoint::Endpoint;
use model::table::{Resources, Table};
use rustls::ServerConfig;
use tokio::sync::watch;

use crate::config::Config;
use crate::drain::Drain;
use crate::error::ProxyError;
use crate::memory::Memory;
use crate::replay::ReplayBytes;
use crate::sync::discovery::Discovery;
use crate::sync::status::Status;
use crate::telemetry::access_log::AccessLog;
use crate::telemetry::metrics::{Metrics, epoch_seconds};
use crate::telemetry::trace::Tracing;

/// What travels between sidecars.
pub const MESH_ALPN: &[u8] = b"h2";

/// The state of one sidecar.
#[derive(Debug)]
#[allow(missing_docs)] // each field's type says what it is
pub struct Mesh {
    pub config: Config,
    pub metrics: Metrics,
    pub tracing: Tracing,
    pub access_log: AccessLog,
    pub drain: Drain,
    pub memory: Memory,
    pub replay_bytes: Arc<ReplayBytes>,
    pub discovery: Discovery,
    pub status: Status,
    own_label: Arc<str>,
    table: ArcSwap<Table>,
    credentials: ArcSwapOption<Credentials>,
    bundle: watch::Sender<TrustBundle>,
}

/// Who this sidecar is, with the configuration of the mesh port made from it: swapped as one.
#[derive(Debug)]
pub struct Credentials {
    /// Key, certificates and trust.
    pub identity: Identity,
    /// For connections that other sidecars open.
    pub server: Arc<ServerConfig>,
}

impl Mesh {
    /// A sidecar that knows nothing yet.
    pub fn new(config: Config, metrics: Metrics, tracing: Tracing, discovery: Discovery) -> Self {
        let access_log =
            AccessLog::start(config.access_log, metrics.process.access_log_dropped.clone());
        let own = config.registration.as_ref().map(|own| own.service.to_string());
        Self {
            own_label: own.unwrap_or_else(|| "unknown".into()).into(),
            config,
            metrics,
            tracing,
            access_log,
            drain: Drain::default(),
            memory: Memory::default(),
            replay_bytes: Arc::default(),
            discovery,
            status: Status::default(),
            table: ArcSwap::default(),
            credentials: ArcSwapOption::default(),
            bundle: watch::Sender::default(),
        }
    }

    /// The newest Table, to be kept for the whole of a request.
    pub fn table(&self) -> Arc<Table> {
        self.table.load_full()
    }

    /// Puts a Table of `resources` in force, with the live state of the one before.
    pub fn publish(&self, resources: &Resources) {
        let next = Table::build(&self.table.load(), resources, Instant::now());
        self.metrics.sync.publication.set(i64::try_from(next.publication()).unwrap_or(i64::MAX));
        self.table.store(Arc::new(next));
    }

    /// The newest credentials.
    ///
    /// # Errors
    /// `identity_missing` before the first ones, and `tls_cert_expired` when they have run out.
    pub fn credentials(&self) -> Result<Arc<Credentials>, ProxyError> {
        let credentials = self.credentials.load_full().ok_or_else(|| {
            let detail = "the control plane has not issued a certificate yet";
            ProxyError::new(ErrorCode::IdentityMissing, detail)
        })?;
        if credentials.identity.not_after() < SystemTime::now() {
            let detail = "this sidecar's own certificate has expired and was not renewed";
            return Err(ProxyError::new(ErrorCode::IdentityMissing, detail));
        }
        Ok(credentials)
    }

    /// The newest credentials, expired or not; for those who only look.
    pub fn last_credentials(&self) -> Guard<Option<Arc<Credentials>>> {
        self.credentials.load()
    }

    /// Puts a newer identity in force; open connections keep the one they began with, and end
    /// when its trust bundle lacks the root of their peer ([`crate::proof`]).
    pub fn install(&self, identity: Identity) {
        self.metrics.tls.certificate_expiry.set(epoch_seconds(identity.not_after()));
        let server = identity.server_config(&[MESH_ALPN], ClientAuth::Required);
        let bundle = identity.bundle().clone();
        self.credentials.store(Some(Arc::new(Credentials { identity, server })));
        self.bundle.send_if_modified(|current| {
            let changed = *current != bundle;
            *current = bundle;
            changed
        });
    }

    /// The trust bundle in force, and those to come.
    pub fn trust(&self) -> watch::Receiver<TrustBundle> {
        self.bundle.subscribe()
    }

    /// The Service of this workload, as metrics and logs show it.
    pub fn own_label(&self) -> Arc<str> {
        Arc::clone(&self.own_label)
    }

    /// Notes that `endpoint` of `service` is left out of balancing for `time`.
    pub fn ejected(&self, service: &str, endpoint: &Endpoint, time: Duration) {
        self.metrics.http.ejections.with_label_values(&[service]).inc();
        let address = endpoint.target_address();
        let workload = &endpoint.workload;
        tracing::info!(service, %workload, %address, ?time, "endpoint ejected for its failures");
    }

    /// Whether the sidecar can carry traffic: it has a certificate and its first configuration.
    pub fn is_ready(&self) -> bool {
        self.table.load().publication() > 0 && self.credentials().is_ok() && !self.drain.has_begun()
    }
}
