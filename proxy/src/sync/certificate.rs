//! The sidecar's certificate: a new key for each, asked for on the stream, renewed at two thirds
//! of its life.

use std::time::{Duration, SystemTime};

use certs::{Identity, LeafKey, Renewal, Retry, Roots, TrustBundle};
use tokio::time::Instant;
use wire::proto;

use crate::mesh::Mesh;
use crate::sync::kept;
use crate::telemetry::metrics::Metrics;

/// The wall clock is looked at this often while a renewal is waited for: it may jump.
const CLOCK_CHECK: Duration = Duration::from_secs(30);

/// A certificate with less to live than this is over when it comes: this clock is ahead of the
/// control plane's by more than a certificate lives.
const SHORTEST_LIFE: Duration = Duration::from_secs(1);

/// A certificate that did not come, or is no use.
#[derive(Debug, thiserror::Error)]
pub(super) enum CertificateError {
    /// A key or request could not be made.
    #[error("cannot make a key and a certificate request: {0}")]
    Key(#[from] certs::KeyError),
    /// A trust domain of the bundle is none.
    #[error("the control plane's trust bundle: {0}")]
    TrustDomain(#[from] model::spiffe::TrustDomainError),
    /// A root of the bundle is none.
    #[error("the control plane's trust bundle: {0}")]
    Bundle(#[from] certs::BundleError),
    /// Chain, key and bundle do not fit together.
    #[error("the certificate that the control plane issued: {0}")]
    Identity(#[from] certs::IdentityError),
    /// A certificate came that nobody had asked for.
    #[error("the control plane sent a certificate that was not asked for")]
    Unasked,
}

/// Where this sidecar's certificate stands.
#[derive(Debug, Default)]
pub(super) struct Certificates {
    pending: Option<LeafKey>,
    renewal: Option<Renewal>,
    /// Not before then is another one asked for, while those that come are of no use.
    again_at: Option<Instant>,
    retry: Retry,
}

impl Certificates {
    /// Resolves when a certificate is to be asked for.
    pub(super) async fn due(&self) {
        if self.pending.is_some() {
            return std::future::pending().await;
        }
        if let Some(at) = self.again_at {
            tokio::time::sleep_until(at).await;
        }
        while let Some(renewal) = self.renewal {
            let wait = renewal.wait(SystemTime::now());
            if wait.is_zero() {
                return;
            }
            tokio::time::sleep(wait.min(CLOCK_CHECK)).await;
        }
    }

    /// Makes a key and asks for a certificate for it.
    pub(super) fn request(&mut self) -> Result<proto::CertificateRequest, CertificateError> {
        let key = LeafKey::generate()?;
        let csr = key.csr(None)?;
        self.pending = Some(key);
        Ok(proto::CertificateRequest { csr })
    }

    /// Puts what the control plane answered in force.
    pub(super) fn receive(
        &mut self,
        mesh: &Mesh,
        message: proto::Certificate,
    ) -> Result<(), CertificateError> {
        let bundle = bundle(message.bundle)?;
        if message.chain.is_empty() {
            self.replace_bundle(mesh, bundle);
            return Ok(());
        }
        let key = self.pending.take().ok_or(CertificateError::Unasked)?;
        let chain = message.chain.into_iter().map(Into::into).collect();
        let identity = Identity::new(&key, chain, bundle)?;
        let now = SystemTime::now();
        let lifetime = identity.not_after().duration_since(now).unwrap_or_default();
        if lifetime < SHORTEST_LIFE {
            self.put_off(mesh, &identity, now);
            return Ok(());
        }
        (self.again_at, self.retry) = (None, Retry::default());
        self.renewal = Some(Renewal::plan(now, identity.not_after(), &mut rand::rng()));
        tracing::info!(id = %identity.id(), ?lifetime, "certificate received");
        install(mesh, identity);
        mesh.metrics.tls.certificate_lifetime.set(lifetime.as_secs_f64());
        mesh.metrics.tls.certificate_renewals.with_label_values(&["ok"]).inc();
        Ok(())
    }

    /// The certificate that came is over already. The next one would be too, so that it is asked
    /// for ever more seldom; the one in use stays.
    fn put_off(&mut self, mesh: &Mesh, late: &Identity, now: SystemTime) {
        let current = mesh.last_credentials().as_ref().map(|held| held.identity.not_after());
        let wait = self.retry.next(now, current, &mut rand::rng());
        self.again_at = Some(Instant::now() + wait);
        let ended = now.duration_since(late.not_after()).unwrap_or_default();
        tracing::error!(
            ?ended, again_in = ?wait,
            "the certificate that was issued just now has ended by this clock, which is wrong, or \
             the control plane's is"
        );
        mesh.metrics.tls.certificate_renewals.with_label_values(&["error"]).inc();
    }

    /// The roots changed. A certificate that no root of ours vouches for any more is of no use to
    /// others either: it is renewed at once.
    fn replace_bundle(&mut self, mesh: &Mesh, bundle: TrustBundle) {
        if let Some(current) = mesh.last_credentials().as_ref()
            && *current.identity.bundle() != bundle
        {
            let identity = current.identity.with_bundle(bundle);
            if !identity.is_trusted() {
                self.renewal = None;
            }
            install(mesh, identity);
            tracing::info!("trust bundle replaced");
        }
    }

    /// The stream ended: what was asked for on it will not come.
    pub(super) fn forget_pending(&mut self, metrics: &Metrics) {
        if self.pending.take().is_some() {
            metrics.tls.certificate_renewals.with_label_values(&["error"]).inc();
        }
    }
}

fn install(mesh: &Mesh, identity: Identity) {
    kept::keep(&mesh.config.control_plane, identity.bundle());
    mesh.install(identity);
}

fn bundle(domains: Vec<proto::TrustDomainRoots>) -> Result<TrustBundle, CertificateError> {
    let mut bundle = TrustBundle::default();
    for domain in domains {
        let roots = domain.roots.into_iter().map(Into::into).collect();
        bundle = bundle.with(domain.trust_domain.parse()?, Roots::from_ders(roots)?);
    }
    Ok(bundle)
}
