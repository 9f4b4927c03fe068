//! The key pair of a leaf, which never leaves the process that made it.

use std::fmt;
use std::sync::Arc;

use model::spiffe::SpiffeId;
use rcgen::{CertificateParams, DistinguishedName, KeyPair, PKCS_ECDSA_P256_SHA256, SanType};
use rustls::pki_types::{PrivateKeyDer, PrivatePkcs8KeyDer};
use rustls::sign::SigningKey;

use crate::provider::provider;

/// A P-256 key pair, made here and held only in memory: it can be neither written nor printed,
/// and there is no way to bring one in.
pub struct LeafKey(KeyPair);

/// Why a key or a request for its certificate could not be made.
#[derive(Debug, thiserror::Error)]
pub enum KeyError {
    /// The key pair could not be made.
    #[error("cannot make a key pair: {0}")]
    Make(rcgen::Error),
    /// The certificate signing request could not be made.
    #[error("cannot make a certificate signing request: {0}")]
    Csr(rcgen::Error),
    /// rustls does not take the key.
    #[error("the TLS library refuses the key: {0}")]
    Load(rustls::Error),
}

impl LeafKey {
    /// Makes a key pair.
    pub fn generate() -> Result<Self, KeyError> {
        KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256).map(Self).map_err(KeyError::Make)
    }

    /// A certificate signing request in DER (PKCS #10, RFC 2986), signed with the key.
    ///
    /// The identity in it is for people who read it: the signer goes by who asks, not by what
    /// the request says.
    pub fn csr(&self, id: Option<&SpiffeId>) -> Result<Vec<u8>, KeyError> {
        let mut params = CertificateParams::default();
        params.distinguished_name = DistinguishedName::new();
        if let Some(id) = id {
            let uri = id.as_str().try_into().map_err(KeyError::Csr)?;
            params.subject_alt_names = vec![SanType::URI(uri)];
        }
        let csr = params.serialize_request(&self.0).map_err(KeyError::Csr)?;
        Ok(csr.der().to_vec())
    }

    /// The key as rustls signs with it.
    pub(crate) fn signing_key(&self) -> Result<Arc<dyn SigningKey>, KeyError> {
        let der = PrivatePkcs8KeyDer::from(self.0.serialized_der());
        let key = PrivateKeyDer::Pkcs8(der.clone_key());
        provider().key_provider.load_private_key(key).map_err(KeyError::Load)
    }
}

impl fmt::Debug for LeafKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("LeafKey(P-256)")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_key_is_another() {
        let (a, b) = (LeafKey::generate().unwrap(), LeafKey::generate().unwrap());
        assert_ne!(a.0.public_key_raw(), b.0.public_key_raw());
    }

    #[test]
    fn debug_shows_nothing_of_the_key() {
        assert_eq!(format!("{:?}", LeafKey::generate().unwrap()), "LeafKey(P-256)");
    }

    #[test]
    fn rustls_signs_with_the_same_key() {
        let key = LeafKey::generate().unwrap();
        let signing = key.signing_key().unwrap();
        let spki = signing.public_key().unwrap();
        assert!(spki.as_ref().ends_with(key.0.public_key_raw()));
        assert_eq!(signing.algorithm(), rustls::SignatureAlgorithm::ECDSA);
    }
}
