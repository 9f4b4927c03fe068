//! Certificates for sidecars.

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use certs::{Authority, SignError, TrustBundle};
use model::spiffe::SpiffeId;
use tokio::sync::watch;
use tonic::Status;
use wire::proto;

use crate::metrics::Metrics;

/// Signs the certificates of sidecars with the authority that is in force.
#[derive(Debug, Clone)]
pub struct Certificates {
    authority: watch::Receiver<Arc<Authority>>,
    lifetime: Duration,
    metrics: Arc<Metrics>,
}

impl Certificates {
    /// Signs for this long.
    pub fn new(
        authority: watch::Receiver<Arc<Authority>>,
        lifetime: Duration,
        metrics: Arc<Metrics>,
    ) -> Self {
        Self { authority, lifetime, metrics }
    }

    /// Signs a request for the identity that the sidecar proved, whatever the request says.
    pub(super) async fn sign(
        &self,
        csr: Vec<u8>,
        identity: SpiffeId,
    ) -> Result<proto::Certificate, Status> {
        let authority = Arc::clone(&self.authority.borrow());
        let bundle = encode_bundle(&authority.bundle());
        let lifetime = self.lifetime;
        let id = identity.clone();
        let sign = move || authority.sign(&csr, &id, lifetime, SystemTime::now());
        let signed = tokio::task::spawn_blocking(sign).await;
        let signed = match signed.map_err(|_| Status::internal("signing was broken off"))? {
            Ok(signed) => signed,
            Err(error) => return Err(refuse(&error, &identity)),
        };
        self.metrics.certificates_signed.inc();
        tracing::debug!(%identity, "signed a certificate");
        Ok(proto::Certificate {
            chain: signed.chain.iter().map(|certificate| certificate.to_vec()).collect(),
            not_after: seconds(signed.not_after),
            bundle,
        })
    }

    /// Has [`Self::bundle_changed`] give the bundle in force at once: who asks has missed what
    /// changed while it was away.
    pub(super) fn recall_bundle(&mut self) {
        self.authority.mark_changed();
    }

    /// Waits for another authority, and gives its trust bundle as a message.
    pub(super) async fn bundle_changed(&mut self) -> proto::Certificate {
        if self.authority.changed().await.is_err() {
            // Nobody is left who could change it.
            std::future::pending::<()>().await;
        }
        let bundle = encode_bundle(&self.authority.borrow_and_update().bundle());
        proto::Certificate { chain: Vec::new(), not_after: 0, bundle }
    }
}

fn refuse(error: &SignError, identity: &SpiffeId) -> Status {
    match error {
        SignError::Csr(reason) => {
            tracing::warn!(%identity, %reason, "refused a certificate request");
            Status::invalid_argument(format!("the certificate request is refused: {reason}"))
        }
        _ => {
            tracing::error!(%identity, %error, "cannot sign a certificate");
            Status::unavailable("the certificate cannot be signed now")
        }
    }
}

fn encode_bundle(bundle: &TrustBundle) -> Vec<proto::TrustDomainRoots> {
    let encode = |(trust_domain, roots): (&model::spiffe::TrustDomain, &certs::Roots)| {
        proto::TrustDomainRoots {
            trust_domain: trust_domain.to_string(),
            roots: roots.ders().iter().map(|root| root.to_vec()).collect(),
        }
    };
    bundle.iter().map(encode).collect()
}

fn seconds(time: SystemTime) -> i64 {
    let since = time.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    i64::try_from(since.as_secs()).unwrap_or(i64::MAX)
}
