//! The certificate authority of a trust domain, from the control plane's state directory.

use std::fmt;
use std::path::Path;
use std::time::{Duration, SystemTime};

use model::spiffe::{SpiffeId, TrustDomain};
use rcgen::{Issuer, KeyPair};
use rustls::pki_types::CertificateDer;

use crate::authority_error::{AuthorityError, SignError};
use crate::bundle::{Roots, TrustBundle};
use crate::ca;
use crate::clock;
use crate::csr;
use crate::identity::Identity;
use crate::key::LeafKey;
use crate::material::Material;
use crate::state::{ISSUER, ROOT, StateDir, StateError};
use crate::svid::Side;
use crate::verify::verify_peer;

/// How far before the moment of issue a certificate begins, for clocks that are behind.
pub const BACKDATE: Duration = Duration::from_secs(5 * 60);

/// How long before its issuer a leaf ends at the latest.
const BEFORE_ISSUER: Duration = Duration::from_secs(60);

/// Signs the certificates of one trust domain.
///
/// An issuer (an intermediate of one year) signs the leaves; a root (ten years) signs the issuer
/// and is what the mesh believes. Both are made at the first start, or given: a directory with
/// `root.pem`, `issuer.key`, `issuer.pem`, `token.key` and `bundle.pem` is taken as it is, and
/// `root.key` may stay away from it.
pub struct Authority {
    trust_domain: TrustDomain,
    issuer: Issuer<'static, KeyPair>,
    /// The issuer's certificate first, then those between it and the root.
    issuers: Vec<CertificateDer<'static>>,
    root: CertificateDer<'static>,
    roots: Roots,
    bundle_pem: String,
    not_after: SystemTime,
    root_not_after: SystemTime,
    unsaved: Option<StateError>,
}

/// A leaf and what stands behind it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SignedChain {
    /// The leaf first, then the issuer; the root is not among them.
    pub chain: Vec<CertificateDer<'static>>,
    /// The first second of the leaf's life, [`BACKDATE`] before it was signed.
    pub not_before: SystemTime,
    /// The last second of the leaf's life.
    pub not_after: SystemTime,
}

impl Authority {
    /// Opens the authority of a state directory; in an empty one, or where there is none, makes
    /// it first.
    ///
    /// Everything is checked before it is believed: that each key fits its certificate, that
    /// certificates are valid now and of this trust domain, and, by a leaf made for trial, that
    /// what the issuer signs is accepted by the root.
    ///
    /// An issuer that has less than a third of its life left is renewed here if `root.key` is in
    /// the directory, with the same key; [`open`](Self::open) the authority again each day, and it
    /// never ends before the root does.
    pub fn open_or_create(
        dir: &Path,
        trust_domain: &TrustDomain,
        now: SystemTime,
    ) -> Result<Self, AuthorityError> {
        let state = StateDir::new(dir);
        state
            .fill_if_empty(|| ca::new_authority(trust_domain, now).map_err(AuthorityError::Make))?;
        Self::load(&state, trust_domain, now)
    }

    /// Opens the authority of a state directory that must be there: for the time after the start,
    /// when an empty directory is a volume that is gone, and never a wish for another mesh.
    pub fn open(
        dir: &Path,
        trust_domain: &TrustDomain,
        now: SystemTime,
    ) -> Result<Self, AuthorityError> {
        Self::load(&StateDir::new(dir), trust_domain, now)
    }

    fn load(
        state: &StateDir,
        trust_domain: &TrustDomain,
        now: SystemTime,
    ) -> Result<Self, AuthorityError> {
        let held = Material::load(state, trust_domain, now)?;
        let authority = Self {
            trust_domain: trust_domain.clone(),
            not_after: held.not_after(),
            root_not_after: held.root.not_after,
            issuer: Issuer::from_ca_cert_der(&held.issuers[0].der, held.issuer_key)?,
            issuers: held.issuers.into_iter().map(|issuer| issuer.der).collect(),
            root: held.root.der,
            roots: held.roots,
            bundle_pem: held.bundle_pem,
            unsaved: held.unsaved,
        };
        authority.prove(state, now)?;
        Ok(authority)
    }

    /// Signs a leaf for `id`.
    ///
    /// Of the request nothing is taken but its public key, after its signature was checked: who
    /// the leaf is for comes from `id` alone. The leaf begins [`BACKDATE`] before `now` and ends
    /// `lifetime` after it, or a minute before the issuer does.
    pub fn sign(
        &self,
        csr_der: &[u8],
        id: &SpiffeId,
        lifetime: Duration,
        now: SystemTime,
    ) -> Result<SignedChain, SignError> {
        let key = csr::public_key(csr_der)?;
        if id.trust_domain() != &self.trust_domain {
            let ours = self.trust_domain.clone();
            return Err(SignError::ForeignTrustDomain { id: id.clone(), ours });
        }
        let (not_before, not_after) = self.life(lifetime, now)?;
        let leaf = ca::leaf_params(id, not_before, not_after)?.signed_by(&key, &self.issuer)?;
        let chain = std::iter::once(leaf.into()).chain(self.issuers.iter().cloned()).collect();
        Ok(SignedChain { chain, not_before, not_after })
    }

    /// Makes a key and a leaf for the control plane's own API, signed without a detour.
    ///
    /// Its chain ends with the root, so that whoever holds a join token finds there the root
    /// that the token names.
    pub fn issue_self(&self, lifetime: Duration, now: SystemTime) -> Result<Identity, SignError> {
        let id = SpiffeId::control_plane(&self.trust_domain);
        let key = LeafKey::generate()?;
        let mut chain = self.sign(&key.csr(Some(&id))?, &id, lifetime, now)?.chain;
        chain.push(self.root.clone());
        Identity::new(&key, chain, self.bundle()).map_err(|error| Box::new(error).into())
    }

    /// The trust domain that it signs for.
    pub fn trust_domain(&self) -> &TrustDomain {
        &self.trust_domain
    }

    /// The roots that the mesh is to believe, from `bundle.pem`: our own, and others while a
    /// root is replaced.
    pub fn roots(&self) -> &[CertificateDer<'static>] {
        self.roots.ders()
    }

    /// The same as the trust bundle of this one trust domain.
    pub fn bundle(&self) -> TrustBundle {
        TrustBundle::of(self.trust_domain.clone(), self.roots.clone())
    }

    /// The same as the text of `bundle.pem`.
    pub fn bundle_pem(&self) -> &str {
        &self.bundle_pem
    }

    /// When the issuer or something above it ends; no leaf outlives that.
    pub fn not_after(&self) -> SystemTime {
        self.not_after
    }

    /// When our own root ends, and with it all that it stands for.
    pub fn root_not_after(&self) -> SystemTime {
        self.root_not_after
    }

    /// Why a renewed issuer could not be written to the directory, if so. It is in use all the
    /// same; say it once in the log.
    pub fn unsaved(&self) -> Option<&StateError> {
        self.unsaved.as_ref()
    }

    fn life(
        &self,
        lifetime: Duration,
        now: SystemTime,
    ) -> Result<(SystemTime, SystemTime), SignError> {
        let now = clock::system(clock::seconds(now));
        let cap = self.not_after - BEFORE_ISSUER;
        if lifetime < Duration::from_secs(1) {
            Err(SignError::NoLifetime)
        } else if cap <= now {
            Err(SignError::IssuerExpired(self.not_after))
        } else {
            let end = now.checked_add(lifetime).map_or(cap, |end| end.min(cap));
            Ok((now - BACKDATE, end))
        }
    }

    /// Signs a leaf for trial and checks it as a peer would.
    fn prove(&self, state: &StateDir, now: SystemTime) -> Result<(), AuthorityError> {
        let own_root = Roots::from_ders(vec![self.root.clone()])
            .map_err(|source| AuthorityError::Bundle { path: state.path(ROOT), source })?;
        let trial = self.trial(now)?;
        match verify_peer(Side::Server, &trial[0], &trial[1..], clock::unix(now), |_| Ok(own_root))
        {
            Ok(_) => Ok(()),
            Err(error) => Err(AuthorityError::Chain {
                issuer: state.path(ISSUER),
                root: state.path(ROOT),
                reason: (&error).into(),
            }),
        }
    }

    fn trial(&self, now: SystemTime) -> Result<Vec<CertificateDer<'static>>, SignError> {
        let id = SpiffeId::control_plane(&self.trust_domain);
        let csr = LeafKey::generate()?.csr(None)?;
        Ok(self.sign(&csr, &id, Duration::from_secs(60), now)?.chain)
    }
}

impl fmt::Debug for Authority {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Authority")
            .field("trust_domain", &self.trust_domain)
            .field("roots", &self.roots)
            .field("not_after", &clock::show(self.not_after))
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests;
