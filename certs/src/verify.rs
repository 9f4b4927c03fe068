//! Who is at the other end: the verifiers that rustls asks during a handshake.
//!
//! Both sides do the same, in this order: bound the chain, check the leaf and its issuers
//! ([`crate::svid`]), choose the roots by the trust domain that the leaf names, build a path
//! (webpki), and, as a client, compare the identity. So an identity named in an error was proved.
//!
//! What bounds the work: rustls takes no handshake message over 64 KiB and no certificate list
//! over 64 KiB; [`MAX_CHAIN`] is checked before anything is parsed; webpki follows at most 6
//! issuers and checks at most 100 signatures.

use std::sync::Arc;

use model::spiffe::{SpiffeId, TrustDomain};
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::verify_tls13_signature;
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::server::danger::{ClientCertVerified, ClientCertVerifier};
use rustls::{
    CertificateError, DigitallySignedStruct, DistinguishedName, OtherError, SignatureScheme,
};

use crate::bundle::{Roots, TrustBundle};
use crate::fingerprint::Fingerprint;
use crate::provider::{algorithms, schemes};
use crate::svid::{self, Side, SvidError};

/// How many certificates a peer may show, leaf included.
pub const MAX_CHAIN: usize = 8;

/// Why a peer is refused, where it is not webpki that says so.
///
/// In a [`rustls::Error`] it is inside `InvalidCertificate(Other)`; [`crate::classify`] finds it.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum VerifyError {
    /// The chain has more than [`MAX_CHAIN`] certificates.
    #[error("the peer shows {0} certificates, more than 8")]
    ChainTooLong(usize),
    /// A certificate breaks a rule of X509-SVID.
    #[error(transparent)]
    Svid(#[from] SvidError),
    /// We have no roots for the peer's trust domain.
    #[error("there is no trust bundle for the peer's trust domain {0}")]
    NoBundle(TrustDomain),
    /// None of the certificates shown is the root that the join token names.
    #[error("the peer does not show the root certificate {0} that the join token names")]
    PinNotFound(Fingerprint),
    /// The peer proved an identity, but not the expected one.
    #[error("the peer is {found}, not {expected}")]
    IdentityMismatch {
        /// Whom we wanted.
        expected: SpiffeId,
        /// Who is there.
        found: SpiffeId,
    },
}

impl From<VerifyError> for rustls::Error {
    fn from(error: VerifyError) -> Self {
        CertificateError::Other(OtherError(Arc::new(error))).into()
    }
}

/// What a server asks of its clients: any identity that the trust bundle vouches for.
///
/// Whether that identity may do what it asks for is decided by policy, per request.
#[derive(Debug)]
pub struct ClientVerifier {
    bundle: TrustBundle,
    mandatory: bool,
}

impl ClientVerifier {
    /// Clients must show a certificate.
    pub fn required(bundle: TrustBundle) -> Self {
        Self { bundle, mandatory: true }
    }

    /// Clients may show none; one that is shown must be right.
    pub fn optional(bundle: TrustBundle) -> Self {
        Self { bundle, mandatory: false }
    }
}

impl ClientCertVerifier for ClientVerifier {
    fn client_auth_mandatory(&self) -> bool {
        self.mandatory
    }

    fn root_hint_subjects(&self) -> &[DistinguishedName] {
        &[]
    }

    fn verify_client_cert(
        &self,
        leaf: &CertificateDer<'_>,
        others: &[CertificateDer<'_>],
        now: UnixTime,
    ) -> Result<ClientCertVerified, rustls::Error> {
        verify_peer(Side::Client, leaf, others, now, |id| bundled(&self.bundle, id))?;
        Ok(ClientCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        _message: &[u8],
        _cert: &CertificateDer<'_>,
        _signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        Err(no_tls12())
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls13_signature(message, cert, signed, &algorithms())
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        schemes()
    }
}

/// What a client asks of a server: exactly the expected identity. The name that the connection
/// was opened with plays no part.
#[derive(Debug)]
pub struct ServerVerifier {
    trust: Trust,
    expected: SpiffeId,
}

/// Where a client takes its roots from.
#[derive(Debug)]
enum Trust {
    Bundle(TrustBundle),
    Pinned(Fingerprint),
}

impl ServerVerifier {
    /// The server must prove `expected` by the roots of its trust domain in the bundle.
    pub fn new(bundle: TrustBundle, expected: SpiffeId) -> Self {
        Self { trust: Trust::Bundle(bundle), expected }
    }

    /// For the first contact, when there is no bundle yet: the root is the certificate with this
    /// fingerprint among those that the server shows, and `expected` is proved by it.
    pub fn pinned(root_sha256: Fingerprint, expected: SpiffeId) -> Self {
        Self { trust: Trust::Pinned(root_sha256), expected }
    }

    fn roots(&self, id: &SpiffeId, shown: &[CertificateDer<'_>]) -> Result<Roots, VerifyError> {
        match &self.trust {
            Trust::Bundle(bundle) => bundled(bundle, id),
            Trust::Pinned(pin) => pinned(*pin, shown),
        }
    }
}

impl ServerCertVerifier for ServerVerifier {
    fn verify_server_cert(
        &self,
        leaf: &CertificateDer<'_>,
        others: &[CertificateDer<'_>],
        _name: &ServerName<'_>,
        _ocsp: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        let found = verify_peer(Side::Server, leaf, others, now, |id| self.roots(id, others))?;
        if found != self.expected {
            let expected = self.expected.clone();
            return Err(VerifyError::IdentityMismatch { expected, found }.into());
        }
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        _message: &[u8],
        _cert: &CertificateDer<'_>,
        _signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        Err(no_tls12())
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls13_signature(message, cert, signed, &algorithms())
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        schemes()
    }
}

/// Proves whom a chain names, by the roots that `roots` gives for that name.
pub(crate) fn verify_peer(
    side: Side,
    leaf: &CertificateDer<'_>,
    others: &[CertificateDer<'_>],
    now: UnixTime,
    roots: impl FnOnce(&SpiffeId) -> Result<Roots, VerifyError>,
) -> Result<SpiffeId, rustls::Error> {
    let (id, roots) = check_shown(side, leaf, others, roots)?;
    roots.verify(side, leaf, others, now)?;
    Ok(id)
}

/// The checks that need no path: the chain's length, its certificates, whose roots decide.
fn check_shown(
    side: Side,
    leaf: &CertificateDer<'_>,
    others: &[CertificateDer<'_>],
    roots: impl FnOnce(&SpiffeId) -> Result<Roots, VerifyError>,
) -> Result<(SpiffeId, Roots), VerifyError> {
    let length = 1 + others.len();
    if length > MAX_CHAIN {
        return Err(VerifyError::ChainTooLong(length));
    }
    let id = svid::check_leaf(leaf, side)?;
    for (issuer, position) in others.iter().zip(1..) {
        svid::check_issuer(issuer, position)?;
    }
    let roots = roots(&id)?;
    Ok((id, roots))
}

/// The answer to a question that never comes: our configurations speak TLS 1.3 alone.
fn no_tls12() -> rustls::Error {
    rustls::Error::General("TLS 1.2 is not spoken".into())
}

/// The roots of the trust domain that an identity names.
pub(crate) fn bundled(bundle: &TrustBundle, id: &SpiffeId) -> Result<Roots, VerifyError> {
    let domain = id.trust_domain();
    bundle.roots(domain).cloned().ok_or_else(|| VerifyError::NoBundle(domain.clone()))
}

/// The pinned root among the certificates shown.
fn pinned(pin: Fingerprint, shown: &[CertificateDer<'_>]) -> Result<Roots, VerifyError> {
    let root = shown.iter().find(|der| Fingerprint::of(der) == pin);
    let roots = root.map(|root| Roots::from_ders(vec![root.clone().into_owned()]));
    match roots {
        Some(Ok(roots)) => Ok(roots),
        _ => Err(VerifyError::PinNotFound(pin)),
    }
}
