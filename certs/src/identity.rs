//! Who this process is, and the TLS configurations that follow from it.

use std::fmt;
use std::sync::Arc;
use std::time::SystemTime;

use model::spiffe::SpiffeId;
use rustls::client::Resumption;
use rustls::pki_types::CertificateDer;
use rustls::server::NoServerSessionStorage;
use rustls::sign::{CertifiedKey, SingleCertAndKey};
use rustls::{ClientConfig, ConfigBuilder, ServerConfig, WantsVerifier};

use crate::bundle::TrustBundle;
use crate::clock;
use crate::failure::HandshakeFailure;
use crate::fingerprint::Fingerprint;
use crate::key::{KeyError, LeafKey};
use crate::provider::{VERSIONS, provider};
use crate::svid::{self, Side, SvidError};
use crate::verify::{ClientVerifier, ServerVerifier, bundled, verify_peer};

/// A key, the certificates for it and whom we believe: one immutable value, replaced as a whole.
///
/// Every configuration made from it speaks TLS 1.3 alone, keeps no session, sends no ticket,
/// takes and sends no early data and logs no key.
pub struct Identity {
    id: SpiffeId,
    not_before: SystemTime,
    not_after: SystemTime,
    bundle: TrustBundle,
    certificate: Arc<SingleCertAndKey>,
    chain: Arc<CertifiedKey>,
    /// What all client configurations have in common: a clone of it costs a few counters.
    client: ClientConfig,
}

/// Why a key and certificates make no [`Identity`].
#[derive(Debug, thiserror::Error)]
pub enum IdentityError {
    /// There is no certificate.
    #[error("the chain has no certificate")]
    EmptyChain,
    /// rustls does not take the key.
    #[error(transparent)]
    Key(#[from] KeyError),
    /// The leaf is for another key.
    #[error("the leaf certificate is for another key: {0}")]
    ForeignKey(rustls::Error),
    /// The leaf breaks a rule of X509-SVID.
    #[error("bad leaf certificate: {0}")]
    Leaf(#[from] SvidError),
    /// The chain does not lead to the trust bundle that came with it.
    #[error("the chain of {id} does not lead to its trust bundle: {reason}")]
    Chain {
        /// Whom the leaf names.
        id: SpiffeId,
        /// What is wrong.
        reason: HandshakeFailure,
    },
}

/// Whether clients must show a certificate.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ClientAuth {
    /// Always: the mesh port.
    Required,
    /// They may come without, with a token instead: the control plane's API.
    Optional,
}

impl Identity {
    /// Puts together a key, its chain (leaf first) and the trust bundle.
    ///
    /// The leaf must be for this key and good for both sides of a connection, and the chain must
    /// lead to the bundle. That is checked for the last second of the leaf's life, which needs
    /// no clock here and finds an issuer that dies before its leaf.
    pub fn new(
        key: &LeafKey,
        chain: Vec<CertificateDer<'static>>,
        bundle: TrustBundle,
    ) -> Result<Self, IdentityError> {
        let leaf = chain.first().ok_or(IdentityError::EmptyChain)?;
        svid::check_leaf(leaf, Side::Client)?;
        let id = svid::check_leaf(leaf, Side::Server)?;
        let (not_before, not_after) = validity(leaf)?;
        check_chain(&id, &chain, &bundle, not_after)?;
        let chain = CertifiedKey::new(chain, key.signing_key()?);
        chain.keys_match().map_err(IdentityError::ForeignKey)?;
        let chain = Arc::new(chain);
        let certificate = Arc::new(SingleCertAndKey::from(chain.clone()));
        let client = client_template(ServerVerifier::new(bundle.clone(), id.clone()))
            .with_client_cert_resolver(certificate.clone());
        let client = without_memory(client);
        Ok(Self { id, not_before, not_after, bundle, certificate, chain, client })
    }

    /// The same key and certificates with another trust bundle, as when a root is replaced.
    ///
    /// A bundle is always taken, even one that no longer holds our own root: that a root was
    /// removed must have its effect. Look at [`is_trusted`](Self::is_trusted) afterwards.
    pub fn with_bundle(&self, bundle: TrustBundle) -> Self {
        Self {
            id: self.id.clone(),
            bundle,
            certificate: self.certificate.clone(),
            chain: self.chain.clone(),
            client: self.client.clone(),
            ..*self
        }
    }

    /// Whether our own certificates lead to our own trust bundle. If not, peers with the same
    /// bundle refuse us: renew at once.
    pub fn is_trusted(&self) -> bool {
        check_chain(&self.id, &self.chain.cert, &self.bundle, self.not_after).is_ok()
    }

    /// Who we are.
    pub fn id(&self) -> &SpiffeId {
        &self.id
    }

    /// From when the leaf is valid: minutes before it was issued.
    pub fn not_before(&self) -> SystemTime {
        self.not_before
    }

    /// The last second in which the leaf is valid.
    pub fn not_after(&self) -> SystemTime {
        self.not_after
    }

    /// The certificates shown to peers, leaf first.
    pub fn chain(&self) -> &[CertificateDer<'static>] {
        &self.chain.cert
    }

    /// Whom we believe.
    pub fn bundle(&self) -> &TrustBundle {
        &self.bundle
    }

    /// How to accept connections. Make it once for an identity and keep it.
    ///
    /// A client that offers none of `alpn` is refused (RFC 7301 §3.2); one that offers no ALPN at
    /// all is not, so look at the protocol that was agreed.
    pub fn server_config(&self, alpn: &[&[u8]], client_auth: ClientAuth) -> Arc<ServerConfig> {
        let bundle = self.bundle.clone();
        let verifier = Arc::new(match client_auth {
            ClientAuth::Required => ClientVerifier::required(bundle),
            ClientAuth::Optional => ClientVerifier::optional(bundle),
        });
        let mut config = only_tls13(ServerConfig::builder_with_provider(provider()))
            .with_client_cert_verifier(verifier)
            .with_cert_resolver(self.certificate.clone());
        config.alpn_protocols = owned(alpn);
        config.session_storage = Arc::new(NoServerSessionStorage {});
        config.send_tls13_tickets = 0;
        config.max_early_data_size = 0;
        config.enable_secret_extraction = true; // for who seals and opens the records himself
        Arc::new(config)
    }

    /// How to open connections to the peer with this identity, and to no other.
    ///
    /// Key, certificates, roots and cryptography are shared, so one for each endpoint is cheap.
    pub fn client_config(&self, expect: SpiffeId, alpn: &[&[u8]]) -> Arc<ClientConfig> {
        let verifier = Arc::new(ServerVerifier::new(self.bundle.clone(), expect));
        let mut config = self.client.clone();
        config.dangerous().set_certificate_verifier(verifier);
        config.alpn_protocols = owned(alpn);
        config.enable_secret_extraction = true; // as for a server
        Arc::new(config)
    }
}

impl fmt::Debug for Identity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Identity")
            .field("id", &self.id)
            .field("not_before", &clock::show(self.not_before))
            .field("not_after", &clock::show(self.not_after))
            .field("bundle", &self.bundle)
            .finish_non_exhaustive()
    }
}

/// How to open the first connection to the control plane, with a join token and no certificate:
/// the server must show the root that the token names, and prove `expect` by it.
pub fn pinned_client_config(
    root_sha256: Fingerprint,
    expect: SpiffeId,
    alpn: &[&[u8]],
) -> Arc<ClientConfig> {
    anonymous(ServerVerifier::pinned(root_sha256, expect), alpn)
}

/// The same where the trust bundle is at hand: the server must prove `expect` by one of its roots.
pub fn bundle_client_config(
    bundle: TrustBundle,
    expect: SpiffeId,
    alpn: &[&[u8]],
) -> Arc<ClientConfig> {
    anonymous(ServerVerifier::new(bundle, expect), alpn)
}

fn anonymous(verifier: ServerVerifier, alpn: &[&[u8]]) -> Arc<ClientConfig> {
    let mut config = without_memory(client_template(verifier).with_no_client_auth());
    config.alpn_protocols = owned(alpn);
    Arc::new(config)
}

fn client_template(
    verifier: ServerVerifier,
) -> ConfigBuilder<ClientConfig, rustls::client::WantsClientCert> {
    only_tls13(ClientConfig::builder_with_provider(provider()))
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(verifier))
}

/// No resumption, no early data, no name in the clear.
fn without_memory(mut config: ClientConfig) -> ClientConfig {
    config.resumption = Resumption::disabled();
    config.enable_early_data = false;
    config.enable_sni = false;
    config
}

#[expect(clippy::expect_used, reason = "the versions are fixed and so is the provider")]
fn only_tls13<S: rustls::ConfigSide>(
    builder: ConfigBuilder<S, rustls::WantsVersions>,
) -> ConfigBuilder<S, WantsVerifier> {
    // invariant: our provider has cipher suites and key exchange groups for TLS 1.3.
    builder.with_protocol_versions(VERSIONS).expect("the provider speaks TLS 1.3")
}

fn owned(alpn: &[&[u8]]) -> Vec<Vec<u8>> {
    alpn.iter().map(|protocol| protocol.to_vec()).collect()
}

fn validity(leaf: &CertificateDer<'_>) -> Result<(SystemTime, SystemTime), SvidError> {
    let leaf = svid::parse(leaf)?;
    let validity = leaf.validity();
    Ok((clock::from_asn1(validity.not_before), clock::from_asn1(validity.not_after)))
}

fn check_chain(
    id: &SpiffeId,
    chain: &[CertificateDer<'_>],
    bundle: &TrustBundle,
    at: SystemTime,
) -> Result<(), IdentityError> {
    let (leaf, others) = chain.split_first().ok_or(IdentityError::EmptyChain)?;
    verify_peer(Side::Server, leaf, others, clock::unix(at), |id| bundled(bundle, id))
        .map(|_| ())
        .map_err(|error| IdentityError::Chain { id: id.clone(), reason: (&error).into() })
}
