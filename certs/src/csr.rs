//! What a certificate signing request must be before anything is signed (RFC 2986).

use rcgen::{
    PKCS_ECDSA_P256_SHA256, PKCS_ECDSA_P384_SHA384, PKCS_ED25519, PublicKeyData,
    SubjectPublicKeyInfo,
};
use x509_parser::certification_request::X509CertificationRequest;
use x509_parser::prelude::FromDer;

/// The longest request in bytes.
pub const MAX_CSR: usize = 16 * 1024;

/// Why a request is refused. All are the fault of whoever sent it.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum CsrError {
    /// It is longer than [`MAX_CSR`].
    #[error("the certificate signing request is {0} bytes long, more than 16384")]
    TooLarge(usize),
    /// It is no PKCS #10 request in DER.
    #[error("the certificate signing request cannot be read: {0}")]
    Malformed(String),
    /// Its key is none of P-256, P-384 and Ed25519.
    #[error("the key of the certificate signing request is neither P-256 nor P-384 nor Ed25519")]
    UnsupportedKey,
    /// It is not signed by the key that it is for.
    #[error("the signature of the certificate signing request is not by its own key")]
    BadSignature,
}

/// Checks a request and takes its public key, which is all that is ever used of it: subject,
/// alternative names and extensions asked for are ignored.
///
/// The kind of key is checked before the signature, so a giant RSA key costs nothing.
pub(crate) fn public_key(der: &[u8]) -> Result<SubjectPublicKeyInfo, CsrError> {
    if der.len() > MAX_CSR {
        return Err(CsrError::TooLarge(der.len()));
    }
    let request = match X509CertificationRequest::from_der(der) {
        Ok(([], request)) => request,
        Ok(_) => return Err(CsrError::Malformed("there are bytes after its end".into())),
        Err(error) => return Err(CsrError::Malformed(error.to_string())),
    };
    let key = SubjectPublicKeyInfo::from_der(request.certification_request_info.subject_pki.raw)
        .map_err(|_| CsrError::UnsupportedKey)?;
    let allowed = [&PKCS_ECDSA_P256_SHA256, &PKCS_ECDSA_P384_SHA384, &PKCS_ED25519];
    if !allowed.contains(&key.algorithm()) {
        return Err(CsrError::UnsupportedKey);
    }
    request.verify_signature().map_err(|_| CsrError::BadSignature)?;
    Ok(key)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::key::LeafKey;
    use rcgen::{CertificateParams, KeyPair, SignatureAlgorithm};

    fn request(algorithm: &'static SignatureAlgorithm) -> Vec<u8> {
        let key = KeyPair::generate_for(algorithm).unwrap();
        CertificateParams::default().serialize_request(&key).unwrap().der().to_vec()
    }

    /// A request with its last byte, which is the signature's, changed.
    fn forged(mut der: Vec<u8>) -> Vec<u8> {
        *der.last_mut().unwrap() ^= 1;
        der
    }

    #[test]
    fn three_kinds_of_key_are_taken() {
        for algorithm in [&PKCS_ECDSA_P256_SHA256, &PKCS_ECDSA_P384_SHA384, &PKCS_ED25519] {
            let key = KeyPair::generate_for(algorithm).unwrap();
            let der = CertificateParams::default().serialize_request(&key).unwrap();
            assert_eq!(public_key(der.der()).unwrap().der_bytes(), key.der_bytes());
        }
    }

    #[test]
    fn other_keys_are_refused_before_their_signature_is_looked_at() {
        for other in [request(&rcgen::PKCS_ECDSA_P521_SHA512), request(&rcgen::PKCS_RSA_SHA256)] {
            assert_eq!(public_key(&other), Err(CsrError::UnsupportedKey));
            assert_eq!(public_key(&forged(other)), Err(CsrError::UnsupportedKey));
        }
    }

    #[test]
    fn a_request_proves_that_its_sender_has_the_key() {
        let der = forged(LeafKey::generate().unwrap().csr(None).unwrap());
        assert_eq!(public_key(&der), Err(CsrError::BadSignature));
        let other = LeafKey::generate().unwrap().csr(None).unwrap();
        let mut mixed = LeafKey::generate().unwrap().csr(None).unwrap();
        // The two differ only in key and signature, so one key comes to stand in the other.
        let at = mixed.iter().zip(&other).position(|(a, b)| a != b).unwrap();
        let key = mixed.windows(3).position(|w| w == [0x03, 0x42, 0x00]).unwrap();
        assert!(at > key || at < 8, "the key begins at {key}");
        mixed[key..key + 68].copy_from_slice(&other[key..key + 68]);
        assert_eq!(public_key(&mixed), Err(CsrError::BadSignature));
    }

    #[test]
    fn what_is_no_request_is_refused() {
        let giant = vec![0x30; MAX_CSR + 1];
        assert_eq!(public_key(&giant), Err(CsrError::TooLarge(MAX_CSR + 1)));
        let mut longer = LeafKey::generate().unwrap().csr(None).unwrap();
        longer.push(0);
        let nested = [0x30, 0x80].repeat(MAX_CSR / 2);
        for bad in [vec![], b"hello".to_vec(), longer, nested, vec![0x30; MAX_CSR]] {
            assert!(matches!(public_key(&bad), Err(CsrError::Malformed(_))), "{bad:.0?}");
        }
    }
}
