//! The one set of cryptography that every connection of the mesh uses.

use std::sync::{Arc, LazyLock};

use rustls::crypto::aws_lc_rs::{cipher_suite, default_provider, kx_group};
use rustls::crypto::{CryptoProvider, WebPkiSupportedAlgorithms};
use rustls::{SignatureScheme, SupportedProtocolVersion};

/// The protocol versions spoken: TLS 1.3 alone.
pub(crate) const VERSIONS: &[&SupportedProtocolVersion] = &[&rustls::version::TLS13];

static PROVIDER: LazyLock<Arc<CryptoProvider>> = LazyLock::new(|| {
    Arc::new(CryptoProvider {
        cipher_suites: vec![
            cipher_suite::TLS13_AES_128_GCM_SHA256,
            cipher_suite::TLS13_AES_256_GCM_SHA384,
            cipher_suite::TLS13_CHACHA20_POLY1305_SHA256,
        ],
        kx_groups: vec![kx_group::X25519MLKEM768, kx_group::X25519, kx_group::SECP256R1],
        ..default_provider()
    })
});

/// The cryptography of the mesh: aws-lc; AES-128-GCM, AES-256-GCM and ChaCha20-Poly1305 of
/// TLS 1.3; X25519MLKEM768 preferred, then X25519 and P-256.
///
/// It is handed to each configuration; the process default of rustls is neither read nor set.
pub fn provider() -> Arc<CryptoProvider> {
    PROVIDER.clone()
}

/// How signatures in certificates and handshakes are checked.
pub(crate) fn algorithms() -> WebPkiSupportedAlgorithms {
    PROVIDER.signature_verification_algorithms
}

/// The signature schemes offered to the peer: those that TLS 1.3 allows in a CertificateVerify
/// (RFC 8446 §4.2.3), so neither PKCS #1 v1.5 nor SHA-1.
pub(crate) fn schemes() -> Vec<SignatureScheme> {
    use SignatureScheme as S;
    let allowed = [
        S::ECDSA_NISTP256_SHA256,
        S::ECDSA_NISTP384_SHA384,
        S::ED25519,
        S::RSA_PSS_SHA256,
        S::RSA_PSS_SHA384,
        S::RSA_PSS_SHA512,
    ];
    let supported = algorithms().supported_schemes();
    allowed.into_iter().filter(|scheme| supported.contains(scheme)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_tls13_suites_and_the_hybrid_group_first() {
        let provider = provider();
        let suites: Vec<_> = provider.cipher_suites.iter().map(|s| s.suite()).collect();
        use rustls::CipherSuite::*;
        assert_eq!(
            suites,
            [TLS13_AES_128_GCM_SHA256, TLS13_AES_256_GCM_SHA384, TLS13_CHACHA20_POLY1305_SHA256]
        );
        let groups: Vec<_> = provider.kx_groups.iter().map(|g| g.name()).collect();
        use rustls::NamedGroup::*;
        assert_eq!(groups, [X25519MLKEM768, X25519, secp256r1]);
    }

    #[test]
    fn all_allowed_schemes_are_supported() {
        assert_eq!(schemes().len(), 6);
    }
}
