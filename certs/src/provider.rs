//! The one set of cryptography that every connection of the mesh uses.

use std::sync::{Arc, LazyLock};

use rustls::crypto::aws_lc_rs::{cipher_suite, default_provider, kx_group};
use rustls::crypto::{CryptoProvider, WebPkiSupportedAlgorithms};
use rustls::{SignatureScheme, SupportedCipherSuite, SupportedProtocolVersion};

/// The protocol versions spoken: TLS 1.3 alone.
pub(crate) const VERSIONS: &[&SupportedProtocolVersion] = &[&rustls::version::TLS13];

static PROVIDER: LazyLock<Arc<CryptoProvider>> = LazyLock::new(|| {
    Arc::new(CryptoProvider {
        cipher_suites: cipher_suites(has_aes()),
        kx_groups: vec![kx_group::X25519MLKEM768, kx_group::X25519, kx_group::SECP256R1],
        ..default_provider()
    })
});

/// By what they cost: AES in software is four times as dear as ChaCha20, which is four times as dear
/// as AES by the processor's own instructions (`tests/bench/run ciphers`).
fn cipher_suites(has_aes: bool) -> Vec<SupportedCipherSuite> {
    let mut suites = vec![
        cipher_suite::TLS13_AES_128_GCM_SHA256,
        cipher_suite::TLS13_AES_256_GCM_SHA384,
        cipher_suite::TLS13_CHACHA20_POLY1305_SHA256,
    ];
    if !has_aes {
        suites.rotate_right(1);
    }
    suites
}

/// Whether this processor has instructions for AES-GCM.
fn has_aes() -> bool {
    #[cfg(target_arch = "x86_64")]
    let has = is_x86_feature_detected!("aes") && is_x86_feature_detected!("pclmulqdq");
    #[cfg(target_arch = "aarch64")]
    let has = std::arch::is_aarch64_feature_detected!("aes")
        && std::arch::is_aarch64_feature_detected!("pmull");
    #[cfg(not(any(target_arch = "x86_64", target_arch = "aarch64")))]
    let has = false;
    has
}

/// The cryptography of the mesh: aws-lc; AES-128-GCM, AES-256-GCM and ChaCha20-Poly1305 of
/// TLS 1.3, ChaCha20 first on a processor without AES; X25519MLKEM768 preferred, then X25519 and
/// P-256.
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
    fn only_tls13_suites_the_cheapest_and_the_hybrid_group_first() {
        let provider = provider();
        assert_eq!(provider.cipher_suites, cipher_suites(has_aes()));
        let order = |has_aes| cipher_suites(has_aes).iter().map(|s| s.suite()).collect::<Vec<_>>();
        use rustls::CipherSuite::*;
        let (aes, chacha) = (
            [TLS13_AES_128_GCM_SHA256, TLS13_AES_256_GCM_SHA384],
            [TLS13_CHACHA20_POLY1305_SHA256],
        );
        assert_eq!(order(true), [&aes[..], &chacha].concat());
        assert_eq!(order(false), [&chacha[..], &aes].concat());
        let groups: Vec<_> = provider.kx_groups.iter().map(|g| g.name()).collect();
        use rustls::NamedGroup::*;
        assert_eq!(groups, [X25519MLKEM768, X25519, secp256r1]);
    }

    #[test]
    fn all_allowed_schemes_are_supported() {
        assert_eq!(schemes().len(), 6);
    }
}
