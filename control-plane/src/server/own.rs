//! The control plane's own authority and certificate, renewed while it runs.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use certs::{Authority, AuthorityError, ClientAuth, Identity, Renewal, SignError};
use model::spiffe::TrustDomain;
use rustls::ServerConfig;
use tokio::sync::watch;

use crate::metrics::Metrics;

/// How long the API's certificate lives.
const LIFETIME: Duration = Duration::from_secs(24 * 3600);

/// How often the authority is opened anew: for an issuer that nears its end, and for roots that
/// were put into the state directory or taken from it, which must have its effect in a minute.
const REOPEN: Duration = Duration::from_secs(15);

/// The longest that is waited in one go, for the wall clock may jump.
const LONGEST_WAIT: Duration = REOPEN;

/// The API's protocol: HTTP/2 only.
const ALPN: [&[u8]; 1] = [b"h2"];

/// Holds the authority and the API's TLS configuration, and keeps both fresh.
#[derive(Debug)]
pub struct OwnIdentity {
    state_dir: PathBuf,
    trust_domain: TrustDomain,
    authority: watch::Sender<Arc<Authority>>,
    tls: watch::Sender<Arc<ServerConfig>>,
    renewal: Renewal,
    metrics: Arc<Metrics>,
}

/// Why there is no authority, or none that can sign.
#[derive(Debug, thiserror::Error)]
pub enum OwnError {
    /// The state directory holds no good authority.
    #[error(transparent)]
    Authority(#[from] AuthorityError),
    /// The authority cannot sign.
    #[error(transparent)]
    Sign(#[from] SignError),
}

impl OwnIdentity {
    /// Opens the authority of a state directory, or makes it there, and issues a certificate.
    ///
    /// # Errors
    /// When the state directory cannot be used or its authority cannot sign.
    pub fn open(
        state_dir: PathBuf,
        trust_domain: TrustDomain,
        metrics: Arc<Metrics>,
    ) -> Result<Self, OwnError> {
        let now = SystemTime::now();
        let authority = Authority::open_or_create(&state_dir, &trust_domain, now)?;
        if let Some(error) = authority.unsaved() {
            tracing::warn!(%error, "the renewed issuer is in use but could not be saved");
        }
        metrics.authority(&authority);
        let identity = authority.issue_self(LIFETIME, now)?;
        let renewal = plan(&identity, now);
        let (authority, _) = watch::channel(Arc::new(authority));
        let (tls, _) = watch::channel(server_config(&identity));
        Ok(Self { state_dir, trust_domain, authority, tls, renewal, metrics })
    }

    /// The authority that is in force.
    pub fn authority(&self) -> watch::Receiver<Arc<Authority>> {
        self.authority.subscribe()
    }

    /// The TLS configuration that is in force.
    pub fn tls(&self) -> watch::Receiver<Arc<ServerConfig>> {
        self.tls.subscribe()
    }

    /// Renews both for ever. What fails is tried again; what is in force stays so meanwhile.
    pub async fn keep_fresh(mut self) {
        let mut opened = tokio::time::Instant::now();
        loop {
            let wait = self.renewal.wait(SystemTime::now()).min(LONGEST_WAIT);
            tokio::time::sleep(wait.max(Duration::from_secs(1))).await;
            let mut due = self.renewal.wait(SystemTime::now()).is_zero();
            if opened.elapsed() >= REOPEN {
                opened = tokio::time::Instant::now();
                due |= self.reopen();
            }
            if due && let Err(error) = self.renew() {
                tracing::error!(%error, "cannot renew the certificate of the API");
            }
        }
    }

    /// Opens the authority anew. Says whether it is another one.
    fn reopen(&self) -> bool {
        let opened = Authority::open(&self.state_dir, &self.trust_domain, SystemTime::now());
        match opened {
            Ok(authority) => {
                self.metrics.authority(&authority);
                self.authority.send_if_modified(|current| {
                    let same = current.roots() == authority.roots()
                        && current.not_after() == authority.not_after();
                    *current = Arc::new(authority);
                    !same
                })
            }
            Err(error) => {
                tracing::error!(%error, "cannot open the authority anew; the one before stays");
                false
            }
        }
    }

    fn renew(&mut self) -> Result<(), SignError> {
        let now = SystemTime::now();
        let identity = self.authority.borrow().issue_self(LIFETIME, now)?;
        self.renewal = plan(&identity, now);
        self.tls.send_replace(server_config(&identity));
        Ok(())
    }
}

fn plan(identity: &Identity, now: SystemTime) -> Renewal {
    Renewal::plan(now, identity.not_after(), &mut rand::rng())
}

/// A client certificate is not demanded, for a new sidecar has none; what is shown is checked.
fn server_config(identity: &Identity) -> Arc<ServerConfig> {
    identity.server_config(&ALPN, ClientAuth::Optional)
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    /// The days that are left of a part of the authority, by its metric.
    fn days_left(metrics: &Metrics, part: &str) -> u64 {
        let families = metrics.registry.gather();
        let name = "pillion_authority_expiry_timestamp_seconds";
        let family = families.iter().find(|family| family.name() == name).unwrap();
        let of = |metric: &&prometheus::proto::Metric| metric.get_label()[0].value() == part;
        let end = family.get_metric().iter().find(of).unwrap().get_gauge().get_value();
        let end = SystemTime::UNIX_EPOCH + Duration::from_secs_f64(end);
        (end.duration_since(SystemTime::now()).unwrap().as_secs() + 60) / (24 * 3600)
    }

    #[test]
    fn the_end_of_root_and_issuer_is_shown_also_of_one_that_was_put_there() {
        let dir = tempfile::tempdir().unwrap();
        let domain: TrustDomain = "cluster.local".parse().unwrap();
        let metrics = Arc::new(Metrics::new().unwrap());
        let state = dir.path().join("state");
        let own = OwnIdentity::open(state.clone(), domain.clone(), Arc::clone(&metrics)).unwrap();
        assert_eq!([days_left(&metrics, "root"), days_left(&metrics, "issuer")], [3650, 365]);
        let yesterday = SystemTime::now() - Duration::from_secs(24 * 3600);
        Authority::open_or_create(&dir.path().join("other"), &domain, yesterday).unwrap();
        fs::remove_dir_all(&state).unwrap();
        fs::rename(dir.path().join("other"), &state).unwrap();
        assert!(own.reopen());
        assert_eq!([days_left(&metrics, "root"), days_left(&metrics, "issuer")], [3649, 364]);
    }
}
