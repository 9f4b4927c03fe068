//! What an authority's state directory holds, read and checked.

use std::path::{Path, PathBuf};
use std::time::SystemTime;

use model::spiffe::TrustDomain;
use rcgen::{Issuer, KeyPair, PublicKeyData};
use rustls::pki_types::CertificateDer;

use crate::authority_error::AuthorityError;
use crate::bundle::Roots;
use crate::ca;
use crate::clock;
use crate::state::{BUNDLE, ISSUER, ISSUER_KEY, ROOT, ROOT_KEY, StateDir, StateError};
use crate::svid::{self, SvidError};

/// The keys and certificates of an authority: each key fits its certificate, and each
/// certificate is of the trust domain and valid.
pub(crate) struct Material {
    pub(crate) root: CaCert,
    pub(crate) issuer_key: KeyPair,
    /// The issuer first, then those between it and the root; never empty.
    pub(crate) issuers: Vec<CaCert>,
    pub(crate) roots: Roots,
    pub(crate) bundle_pem: String,
    /// Why a renewed issuer could not be written, if so.
    pub(crate) unsaved: Option<StateError>,
}

/// A CA's certificate and what was read in it.
pub(crate) struct CaCert {
    pub(crate) der: CertificateDer<'static>,
    path: PathBuf,
    public_key: Vec<u8>,
    not_before: SystemTime,
    pub(crate) not_after: SystemTime,
}

impl Material {
    /// Reads all of it, and renews the issuer if it is time.
    pub(crate) fn load(
        state: &StateDir,
        trust_domain: &TrustDomain,
        now: SystemTime,
    ) -> Result<Self, AuthorityError> {
        let root = CaCert::read_all(state, ROOT, trust_domain)?.swap_remove(0);
        let mut issuers = CaCert::read_all(state, ISSUER, trust_domain)?;
        let issuer_key = state.key(ISSUER_KEY)?;
        issuers[0].check_key(&issuer_key, &state.path(ISSUER_KEY))?;
        root.check_valid(now)?;
        let mut unsaved = None;
        if let Some(renewed) = renew(state, trust_domain, &issuer_key, &root, &issuers[0], now)? {
            unsaved = state.write(ISSUER, &renewed.pem()).err();
            issuers = vec![CaCert::parse(renewed.into(), state.path(ISSUER), trust_domain)?];
        }
        issuers.iter().try_for_each(|issuer| issuer.check_valid(now))?;
        let (roots, bundle_pem) = read_bundle(state, &root)?;
        Ok(Self { root, issuer_key, issuers, roots, bundle_pem, unsaved })
    }

    /// When the first of the certificates ends.
    pub(crate) fn not_after(&self) -> SystemTime {
        self.issuers.iter().map(|ca| ca.not_after).fold(self.root.not_after, SystemTime::min)
    }
}

impl CaCert {
    /// Reads the certificates of a file; at least one.
    fn read_all(
        state: &StateDir,
        name: &str,
        trust_domain: &TrustDomain,
    ) -> Result<Vec<Self>, AuthorityError> {
        let ders = state.certificates(name)?.into_iter();
        ders.map(|der| Self::parse(der, state.path(name), trust_domain)).collect()
    }

    /// Reads a certificate. A URI in it must be the trust domain's (X509-SVID §3.2); there may be
    /// none, for other CAs know nothing of SPIFFE.
    fn parse(
        der: CertificateDer<'static>,
        path: PathBuf,
        trust_domain: &TrustDomain,
    ) -> Result<Self, AuthorityError> {
        let wrong = |error: SvidError| AuthorityError::Certificate {
            path: path.clone(),
            reason: error.to_string(),
        };
        let cert = svid::parse(&der).map_err(wrong)?;
        let ours = trust_domain.uri();
        let uris = svid::uris(&cert).map_err(wrong)?;
        if let Some(other) = uris.iter().find(|uri| !uri.eq_ignore_ascii_case(&ours)) {
            let (found, expected) = ((*other).to_owned(), trust_domain.clone());
            return Err(AuthorityError::TrustDomain { path, found, expected });
        }
        let public_key = cert.public_key().subject_public_key.data.to_vec();
        let not_before = clock::from_asn1(cert.validity().not_before);
        let not_after = clock::from_asn1(cert.validity().not_after);
        Ok(Self { der, path, public_key, not_before, not_after })
    }

    fn check_key(&self, key: &KeyPair, path: &Path) -> Result<(), AuthorityError> {
        if self.public_key == key.der_bytes() {
            return Ok(());
        }
        let (key, certificate) = (path.to_owned(), self.path.clone());
        Err(AuthorityError::KeyMismatch { key, certificate })
    }

    fn check_valid(&self, now: SystemTime) -> Result<(), AuthorityError> {
        if (self.not_before..=self.not_after).contains(&now) {
            return Ok(());
        }
        let (not_before, not_after) = (self.not_before, self.not_after);
        Err(AuthorityError::NotValidNow { path: self.path.clone(), not_before, not_after, now })
    }

    /// Whether less than a third of its life is left.
    fn is_old(&self, now: SystemTime) -> bool {
        let life = self.not_after.duration_since(self.not_before).unwrap_or_default();
        self.not_after.duration_since(now).unwrap_or_default() < life / 3
    }
}

/// Makes the issuer's certificate anew, for the same key, if it is time and the root's key is at
/// hand.
fn renew(
    state: &StateDir,
    trust_domain: &TrustDomain,
    key: &KeyPair,
    root: &CaCert,
    issuer: &CaCert,
    now: SystemTime,
) -> Result<Option<rcgen::Certificate>, AuthorityError> {
    let Some(root_key) = state.key_if_there(ROOT_KEY)? else { return Ok(None) };
    root.check_key(&root_key, &state.path(ROOT_KEY))?;
    if !issuer.is_old(now) {
        return Ok(None);
    }
    let root = Issuer::from_ca_cert_der(&root.der, &root_key)?;
    Ok(Some(ca::new_issuer(trust_domain, key, &root, now)?))
}

/// Reads the trust bundle, in which our own root must be.
fn read_bundle(state: &StateDir, root: &CaCert) -> Result<(Roots, String), AuthorityError> {
    let path = state.path(BUNDLE);
    let pem = state.read(BUNDLE)?;
    let roots = match Roots::from_pem(&pem) {
        Ok(roots) => roots,
        Err(source) => return Err(AuthorityError::Bundle { path, source }),
    };
    if !roots.ders().contains(&root.der) {
        return Err(AuthorityError::RootNotInBundle { bundle: path, root: root.path.clone() });
    }
    Ok((roots, String::from_utf8_lossy(&pem).into_owned()))
}
