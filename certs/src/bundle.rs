//! Whom we believe: root certificates, by trust domain (X509-SVID §5.1).

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;
use std::time::SystemTime;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use model::spiffe::TrustDomain;
use rustls::RootCertStore;
use rustls::client::verify_server_cert_signed_by_trust_anchor;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, UnixTime};
use rustls::server::danger::ClientCertVerifier;
use rustls::server::{ParsedCertificate, WebPkiClientVerifier};

use crate::clock;
use crate::fingerprint::Fingerprint;
use crate::provider::{algorithms, provider};
use crate::svid::{self, Side};
use crate::verify::{bundled, verify_peer};

/// The roots of every trust domain that we believe.
///
/// The roots of two trust domains are never mixed: a peer is checked against the roots of the
/// trust domain that its own identity names, and of no other. A clone is cheap.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct TrustBundle(Arc<BTreeMap<TrustDomain, Roots>>);

/// The root certificates of one trust domain, at least one; several while a root is replaced.
///
/// A root is believed for as long as it is here: what ends it is its removal, not its notAfter
/// (RFC 5280 §6.1.1 d takes a trust anchor as a name and a key).
#[derive(Clone)]
pub struct Roots {
    ders: Arc<[CertificateDer<'static>]>,
    anchors: Arc<RootCertStore>,
    clients: Arc<dyn ClientCertVerifier>,
}

/// Why a list of certificates is no [`Roots`]. Certificates are counted from 1.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum BundleError {
    /// There is no certificate in it.
    #[error("there is no certificate in it")]
    Empty,
    /// It is not PEM.
    #[error("it is not PEM: {0}")]
    NotPem(String),
    /// A certificate cannot be read.
    #[error("certificate {position}: {reason}")]
    NotACertificate {
        /// Which one.
        position: usize,
        /// What is wrong with it.
        reason: String,
    },
    /// A certificate is not a CA's: cA is false (RFC 5280 §4.2.1.9).
    #[error("certificate {0} is not a CA certificate")]
    NotACa(usize),
    /// A certificate has key usages, but not keyCertSign (RFC 5280 §4.2.1.3).
    #[error("certificate {0} lacks the key usage keyCertSign")]
    MayNotSign(usize),
}

impl TrustBundle {
    /// A bundle of one trust domain.
    pub fn of(trust_domain: TrustDomain, roots: Roots) -> Self {
        Self::default().with(trust_domain, roots)
    }

    /// The same bundle with these roots for this trust domain, in place of what it had for it.
    pub fn with(mut self, trust_domain: TrustDomain, roots: Roots) -> Self {
        Arc::make_mut(&mut self.0).insert(trust_domain, roots);
        self
    }

    /// The roots of a trust domain; none means that nobody in it is believed.
    pub fn roots(&self, trust_domain: &TrustDomain) -> Option<&Roots> {
        self.0.get(trust_domain)
    }

    /// Whether a chain (leaf first) that was shown by this side of a connection at `at` would be
    /// believed with these roots. With the moment of its handshake for `at`, only the roots
    /// decide: a certificate that has ended since is another matter.
    pub fn vouches_for(&self, side: Side, chain: &[CertificateDer<'_>], at: SystemTime) -> bool {
        let Some((leaf, others)) = chain.split_first() else { return false };
        verify_peer(side, leaf, others, clock::unix(at), |id| bundled(self, id)).is_ok()
    }

    /// Each trust domain with its roots, in the order of their names.
    pub fn iter(&self) -> impl Iterator<Item = (&TrustDomain, &Roots)> {
        self.0.iter()
    }
}

impl fmt::Debug for TrustBundle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_map().entries(self.0.iter()).finish()
    }
}

impl Roots {
    /// Reads the certificates of a PEM text; sections that are no certificates are passed over.
    pub fn from_pem(pem: &[u8]) -> Result<Self, BundleError> {
        let ders: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(pem).collect();
        Self::from_ders(ders.map_err(|error| BundleError::NotPem(error.to_string()))?)
    }

    /// Takes certificates in DER.
    pub fn from_ders(ders: Vec<CertificateDer<'static>>) -> Result<Self, BundleError> {
        let mut anchors = RootCertStore::empty();
        for (der, position) in ders.iter().zip(1..) {
            check_root(der, position)?;
            anchors.add(der.clone()).map_err(|error| unreadable(position, &error))?;
        }
        let anchors = Arc::new(anchors);
        let clients = WebPkiClientVerifier::builder_with_provider(anchors.clone(), provider())
            .build()
            .map_err(|_| BundleError::Empty)?;
        Ok(Self { ders: ders.into(), anchors, clients })
    }

    /// The certificates in DER, in the order given.
    pub fn ders(&self) -> &[CertificateDer<'static>] {
        &self.ders
    }

    /// The certificates as PEM (RFC 7468), in the order given.
    pub fn to_pem(&self) -> String {
        let mut pem = String::new();
        for der in self.ders.iter() {
            pem.push_str("-----BEGIN CERTIFICATE-----\n");
            let text = STANDARD.encode(der);
            // invariant: Base64 is ASCII, so that its bytes are characters.
            for line in text.as_bytes().chunks(64) {
                pem.extend(line.iter().copied().map(char::from));
                pem.push('\n');
            }
            pem.push_str("-----END CERTIFICATE-----\n");
        }
        pem
    }

    /// The SHA-256 of each certificate, in the order given.
    pub fn fingerprints(&self) -> impl Iterator<Item = Fingerprint> {
        self.ders.iter().map(|der| Fingerprint::of(der))
    }

    /// Builds a path from a leaf to one of these roots (RFC 5280 §6), valid at `now`.
    pub(crate) fn verify(
        &self,
        side: Side,
        leaf: &CertificateDer<'_>,
        others: &[CertificateDer<'_>],
        now: UnixTime,
    ) -> Result<(), rustls::Error> {
        match side {
            Side::Client => self.clients.verify_client_cert(leaf, others, now).map(|_| ()),
            Side::Server => verify_server_cert_signed_by_trust_anchor(
                &ParsedCertificate::try_from(leaf)?,
                &self.anchors,
                others,
                now,
                algorithms().all,
            ),
        }
    }
}

impl PartialEq for Roots {
    fn eq(&self, other: &Self) -> bool {
        self.ders == other.ders
    }
}

impl Eq for Roots {}

impl fmt::Debug for Roots {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.fingerprints()).finish()
    }
}

/// Refuses what is no CA's certificate. A root without any key usage is let pass: the extension
/// restricts only where it is (RFC 5280 §6.1.4 n), and OpenSSL makes roots without it.
fn check_root(der: &CertificateDer<'_>, position: usize) -> Result<(), BundleError> {
    let cert = svid::parse(der).map_err(|error| unreadable(position, &error))?;
    let constraints = svid::basic_constraints(&cert).map_err(|e| unreadable(position, &e))?;
    if !constraints.is_some_and(|constraints| constraints.ca) {
        return Err(BundleError::NotACa(position));
    }
    match svid::key_usage(&cert).map_err(|error| unreadable(position, &error))? {
        Some((usage, _)) if !usage.key_cert_sign() => Err(BundleError::MayNotSign(position)),
        _ => Ok(()),
    }
}

fn unreadable(position: usize, error: &dyn fmt::Display) -> BundleError {
    BundleError::NotACertificate { position, reason: error.to_string() }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fixtures::{API, Ca, domain};

    #[test]
    fn roots_are_read_from_pem_and_from_der() {
        let (a, b) = (Ca::root("a"), Ca::root("b"));
        let roots = Roots::from_pem(format!("# two roots\n{}{}", a.pem, b.pem).as_bytes()).unwrap();
        assert_eq!(roots.ders(), [a.der.clone(), b.der.clone()]);
        assert_eq!(roots, Roots::from_ders(vec![a.der.clone(), b.der.clone()]).unwrap());
        let prints = [Fingerprint::of(&a.der), Fingerprint::of(&b.der)];
        assert_eq!(roots.fingerprints().collect::<Vec<_>>(), prints);
        assert_eq!(format!("{roots:?}"), format!("{prints:?}"));
    }

    #[test]
    fn each_fault_of_a_list_is_named() {
        let root = Ca::root("root");
        let key = root.key.serialize_pem();
        let cut = root.pem.replacen("MII", "M!I", 1);
        let short = "-----BEGIN CERTIFICATE-----\nMAA=\n-----END CERTIFICATE-----\n";
        let read = |pem: &str| Roots::from_pem(pem.as_bytes()).unwrap_err();
        assert_eq!(read(""), BundleError::Empty);
        assert_eq!(read("hello"), BundleError::Empty);
        assert_eq!(read(&key), BundleError::Empty);
        assert!(matches!(read(&cut), BundleError::NotPem(_)), "{}", read(&cut));
        let second = read(&format!("{}{short}", root.pem));
        assert!(matches!(second, BundleError::NotACertificate { position: 2, .. }), "{second}");
        let leaf = root.good(API).chain.swap_remove(0);
        let ders = |ders| Roots::from_ders(ders).unwrap_err();
        assert_eq!(ders(vec![]), BundleError::Empty);
        assert_eq!(ders(vec![root.der.clone(), leaf]), BundleError::NotACa(2));
        let mute = Ca::root_with("mute", |p| p.key_usages = vec![rcgen::KeyUsagePurpose::CrlSign]);
        assert_eq!(ders(vec![mute.der]), BundleError::MayNotSign(1));
        let mut long = root.der.to_vec();
        long.push(0);
        let long = ders(vec![long.into()]);
        assert!(matches!(long, BundleError::NotACertificate { position: 1, .. }), "{long}");
    }

    #[test]
    fn a_root_without_any_key_usage_is_let_pass() {
        let plain = Ca::root_with("plain", |p| p.key_usages.clear());
        assert_eq!(plain.roots().ders().len(), 1);
    }

    #[test]
    fn a_chain_is_vouched_for_by_its_root_on_its_side_and_in_its_time() {
        use rcgen::ExtendedKeyUsagePurpose::ServerAuth;
        let (a, b) = (Ca::root("a"), Ca::root("b"));
        let now = SystemTime::now();
        let chain = a.intermediate(|_| {}).good(API).chain;
        let both = Roots::from_ders(vec![a.der.clone(), b.der.clone()]).unwrap();
        let both = TrustBundle::of(domain("example.org"), both);
        for side in [Side::Client, Side::Server] {
            assert!(both.vouches_for(side, &chain, now));
            assert!(!b.bundle().vouches_for(side, &chain, now), "its root is gone");
            assert!(!TrustBundle::default().vouches_for(side, &chain, now));
            assert!(!both.vouches_for(side, &chain[..1], now), "the issuer is missing");
            assert!(!both.vouches_for(side, &[], now));
            assert!(!both.vouches_for(side, &chain, now + std::time::Duration::from_secs(7200)));
        }
        let server = a.leaf(API, |p| p.extended_key_usages = vec![ServerAuth]).chain;
        assert!(both.vouches_for(Side::Server, &server, now));
        assert!(!both.vouches_for(Side::Client, &server, now));
    }

    #[test]
    fn roots_of_two_trust_domains_stay_apart() {
        let (a, b, c) = (Ca::root("a"), Ca::root("b"), Ca::root("c"));
        let bundle = TrustBundle::of(domain("a.org"), a.roots()).with(domain("b.org"), b.roots());
        assert_eq!(bundle.roots(&domain("A.org")), Some(&a.roots()));
        assert_eq!(bundle.roots(&domain("b.org")), Some(&b.roots()));
        assert_eq!(bundle.roots(&domain("c.org")), None);
        let replaced = bundle.clone().with(domain("a.org"), c.roots());
        assert_eq!(replaced.roots(&domain("a.org")), Some(&c.roots()));
        assert_eq!(bundle.roots(&domain("a.org")), Some(&a.roots()), "a clone is a value");
        assert_eq!(replaced.iter().count(), 2);
        assert_ne!(replaced, bundle);
    }
}
