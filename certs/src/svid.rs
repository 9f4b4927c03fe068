//! The rules of a leaf certificate that webpki does not hold (X509-SVID §2 to §5).

use std::fmt;
use std::str::FromStr;

use model::spiffe::{SpiffeId, SpiffeIdError};
use rustls::pki_types::CertificateDer;
use x509_parser::certificate::X509Certificate;
use x509_parser::extensions::{BasicConstraints, GeneralName, KeyUsage, ParsedExtension};
use x509_parser::oid_registry::OID_X509_EXT_BASIC_CONSTRAINTS;

/// Which end of a connection shows the certificate.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Side {
    /// The end that opened the connection.
    Client,
    /// The end that accepted it.
    Server,
}

/// The rule that a certificate breaks.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SvidError {
    /// It is no X.509 certificate, or an extension cannot be read or is there twice (RFC 5280).
    #[error("the certificate cannot be read: {0}")]
    Malformed(String),
    /// It is a CA's certificate; a leaf has cA false (X509-SVID §4.1).
    #[error("the leaf certificate is a CA certificate")]
    LeafIsCa,
    /// There is no key usage extension (X509-SVID §4.3).
    #[error("the certificate has no key usage extension")]
    NoKeyUsage,
    /// The key usage extension is not critical (X509-SVID §4.3).
    #[error("the key usage extension is not critical")]
    KeyUsageNotCritical,
    /// The leaf may not make signatures (X509-SVID §4.3).
    #[error("the leaf certificate lacks the key usage digitalSignature")]
    NoDigitalSignature,
    /// The leaf may sign certificates (X509-SVID §4.3).
    #[error("the leaf certificate has the key usage keyCertSign")]
    LeafSignsCertificates,
    /// The leaf may sign revocation lists (X509-SVID §4.3).
    #[error("the leaf certificate has the key usage cRLSign")]
    LeafSignsCrls,
    /// Extended key usages are there, but not the one of its side (X509-SVID §4.4).
    #[error("the extended key usage lacks {0}")]
    ExtendedKeyUsage(&'static str),
    /// There is no URI among the subject alternative names (X509-SVID §2).
    #[error("the certificate has no URI SAN, so it names no identity")]
    NoUriSan,
    /// There is more than one URI SAN (X509-SVID §5.2).
    #[error("the certificate has {0} URI SANs; exactly one is allowed")]
    SeveralUriSans(usize),
    /// The subject is empty and the SAN not critical (RFC 5280 §4.2.1.6).
    #[error("the subject is empty, but the SAN extension is not critical")]
    SanNotCritical,
    /// The URI is no SPIFFE ID of a workload (SPIFFE-ID §2).
    #[error("the URI SAN is no identity: {0}")]
    Id(#[from] SpiffeIdError),
    /// An issuer's certificate is not a CA's (RFC 5280 §6.1.4 k).
    #[error("certificate {0} of the chain is not a CA certificate")]
    IssuerNotCa(usize),
    /// An issuer's certificate may not sign certificates (X509-SVID §4.3, RFC 5280 §6.1.4 n).
    #[error("certificate {0} of the chain lacks the key usage keyCertSign")]
    IssuerMayNotSign(usize),
}

/// Checks every rule that holds for one leaf certificate, and says whom it names.
///
/// This proves nothing of who signed it: path building is webpki's, in [`crate::verify`].
pub(crate) fn check_leaf(leaf: &CertificateDer<'_>, side: Side) -> Result<SpiffeId, SvidError> {
    let leaf = parse(leaf)?;
    check_basic_constraints(&leaf)?;
    check_key_usage(&leaf)?;
    check_extended_key_usage(&leaf, side)?;
    read_id(&leaf)
}

/// Checks a certificate that stands behind the leaf; webpki ignores an issuer's key usage.
///
/// `position` counts from the leaf, which is 0.
pub(crate) fn check_issuer(cert: &CertificateDer<'_>, position: usize) -> Result<(), SvidError> {
    let cert = parse(cert)?;
    if !basic_constraints(&cert)?.is_some_and(|constraints| constraints.ca) {
        return Err(SvidError::IssuerNotCa(position));
    }
    match key_usage(&cert)? {
        Some((usage, _)) if usage.key_cert_sign() => Ok(()),
        _ => Err(SvidError::IssuerMayNotSign(position)),
    }
}

/// Whom a leaf certificate names, with no other check.
pub(crate) fn id_of(leaf: &CertificateDer<'_>) -> Result<SpiffeId, SvidError> {
    read_id(&parse(leaf)?)
}

/// Reads a certificate, which must be all there is.
pub(crate) fn parse<'a>(der: &'a CertificateDer<'_>) -> Result<X509Certificate<'a>, SvidError> {
    match x509_parser::parse_x509_certificate(der) {
        Ok(([], cert)) => Ok(cert),
        Ok(_) => Err(SvidError::Malformed("there are bytes after its end".into())),
        Err(error) => Err(malformed(error)),
    }
}

/// The basic constraints, if there are any.
pub(crate) fn basic_constraints<'a>(
    cert: &'a X509Certificate<'_>,
) -> Result<Option<&'a BasicConstraints>, SvidError> {
    let extension =
        cert.get_extension_unique(&OID_X509_EXT_BASIC_CONSTRAINTS).map_err(malformed)?;
    match extension.map(|extension| extension.parsed_extension()) {
        None => Ok(None),
        Some(ParsedExtension::BasicConstraints(constraints)) => Ok(Some(constraints)),
        Some(_) => Err(SvidError::Malformed("bad basic constraints".into())),
    }
}

/// The key usage and whether it is critical, if there is any.
pub(crate) fn key_usage<'a>(
    cert: &'a X509Certificate<'_>,
) -> Result<Option<(&'a KeyUsage, bool)>, SvidError> {
    let usage = cert.key_usage().map_err(malformed)?;
    Ok(usage.map(|usage| (usage.value, usage.critical)))
}

/// The URIs among the subject alternative names.
pub(crate) fn uris<'a>(cert: &'a X509Certificate<'_>) -> Result<Vec<&'a str>, SvidError> {
    let mut found = Vec::new();
    let names = cert.subject_alternative_name().map_err(malformed)?;
    for name in names.iter().flat_map(|names| &names.value.general_names) {
        match name {
            GeneralName::URI(uri) => found.push(*uri),
            GeneralName::Invalid(..) => {
                return Err(SvidError::Malformed("bad subject alternative name".into()));
            }
            _ => {}
        }
    }
    Ok(found)
}

fn check_basic_constraints(leaf: &X509Certificate<'_>) -> Result<(), SvidError> {
    match basic_constraints(leaf)? {
        Some(constraints) if constraints.ca => Err(SvidError::LeafIsCa),
        _ => Ok(()),
    }
}

fn check_key_usage(leaf: &X509Certificate<'_>) -> Result<(), SvidError> {
    let (usage, critical) = key_usage(leaf)?.ok_or(SvidError::NoKeyUsage)?;
    if !usage.digital_signature() {
        Err(SvidError::NoDigitalSignature)
    } else if usage.key_cert_sign() {
        Err(SvidError::LeafSignsCertificates)
    } else if usage.crl_sign() {
        Err(SvidError::LeafSignsCrls)
    } else if !critical {
        Err(SvidError::KeyUsageNotCritical)
    } else {
        Ok(())
    }
}

fn check_extended_key_usage(leaf: &X509Certificate<'_>, side: Side) -> Result<(), SvidError> {
    let Some(usage) = leaf.extended_key_usage().map_err(malformed)? else { return Ok(()) };
    let (allowed, name) = match side {
        Side::Client => (usage.value.client_auth, "clientAuth"),
        Side::Server => (usage.value.server_auth, "serverAuth"),
    };
    if allowed { Ok(()) } else { Err(SvidError::ExtendedKeyUsage(name)) }
}

fn read_id(leaf: &X509Certificate<'_>) -> Result<SpiffeId, SvidError> {
    let id = match uris(leaf)?.as_slice() {
        [] => return Err(SvidError::NoUriSan),
        [uri] => SpiffeId::from_str(uri)?,
        several => return Err(SvidError::SeveralUriSans(several.len())),
    };
    let critical = leaf.subject_alternative_name().is_ok_and(|san| san.is_some_and(|s| s.critical));
    if leaf.subject().as_raw() == EMPTY_NAME && !critical {
        return Err(SvidError::SanNotCritical);
    }
    Ok(id)
}

/// The DER of a name with nothing in it.
const EMPTY_NAME: &[u8] = &[0x30, 0x00];

fn malformed(error: impl fmt::Display) -> SvidError {
    SvidError::Malformed(error.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fixtures::{API, Ca, id};

    // That each rule is held in a handshake is shown in `handshakes::hostile`.

    #[test]
    fn a_certificate_is_all_there_is_in_its_bytes() {
        let good = Ca::root("root").good(API).chain.swap_remove(0);
        assert_eq!(check_leaf(&good, Side::Client), Ok(id(API)));
        assert_eq!(id_of(&good), Ok(id(API)));
        let longer = [good.as_ref(), &[0]].concat();
        let shorter = good[..good.len() - 1].to_vec();
        for bad in [vec![], b"hello".to_vec(), longer, shorter] {
            let refused = check_leaf(&bad.into(), Side::Client);
            assert!(matches!(refused, Err(SvidError::Malformed(_))), "{refused:?}");
        }
    }

    #[test]
    fn an_issuer_is_told_by_its_place_in_the_chain() {
        let root = Ca::root("root");
        assert_eq!(check_issuer(&root.der, 1), Ok(()));
        let leaf = root.good(API).chain.swap_remove(0);
        assert_eq!(check_issuer(&leaf, 2), Err(SvidError::IssuerNotCa(2)));
    }
}
