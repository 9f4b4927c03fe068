//! The certificates of an authority of our own: what stands in the root, the issuer, a leaf.

use std::time::{Duration, SystemTime};

use model::spiffe::{SpiffeId, TrustDomain};
use rcgen::{
    BasicConstraints, Certificate, CertificateParams, DistinguishedName, DnType,
    ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair, KeyUsagePurpose, PKCS_ECDSA_P256_SHA256,
    PublicKeyData, SanType, SerialNumber,
};

use crate::authority::BACKDATE;
use crate::clock;
use crate::fingerprint::{Fingerprint, hex};
use crate::state::{BUNDLE, ISSUER, ISSUER_KEY, NewFile, ROOT, ROOT_KEY, TOKEN_KEY};

const DAY: Duration = Duration::from_secs(24 * 60 * 60);

/// How long a root of our own is valid.
const ROOT_LIFE: Duration = Duration::from_secs(3650 * DAY.as_secs());

/// How long an issuer of our own is valid; it is renewed when a third of that is left.
pub(crate) const ISSUER_LIFE: Duration = Duration::from_secs(365 * DAY.as_secs());

/// Makes everything that a new authority needs.
pub(crate) fn new_authority(
    domain: &TrustDomain,
    now: SystemTime,
) -> Result<Vec<NewFile>, rcgen::Error> {
    let [root_key, issuer_key, token_key] = [new_key()?, new_key()?, new_key()?];
    let params = ca_params("root", 1, domain, &root_key, now, ROOT_LIFE)?;
    let root = params.self_signed(&root_key)?;
    let issuer = new_issuer(domain, &issuer_key, &Issuer::from_params(&params, &root_key), now)?;
    Ok(vec![
        (ROOT_KEY, root_key.serialize_pem()),
        (ROOT, root.pem()),
        (ISSUER_KEY, issuer_key.serialize_pem()),
        (ISSUER, issuer.pem()),
        (TOKEN_KEY, token_key.serialize_pem()),
        (BUNDLE, root.pem()),
    ])
}

/// Makes the issuer's certificate, signed by the root.
pub(crate) fn new_issuer(
    domain: &TrustDomain,
    key: &KeyPair,
    root: &Issuer<'_, &KeyPair>,
    now: SystemTime,
) -> Result<Certificate, rcgen::Error> {
    ca_params("issuer", 0, domain, key, now, ISSUER_LIFE)?.signed_by(key, root)
}

/// What stands in a leaf (X509-SVID §2 to §4): one URI SAN, critical because the subject is
/// empty; cA false; digitalSignature alone; both sides of TLS.
pub(crate) fn leaf_params(
    id: &SpiffeId,
    not_before: SystemTime,
    not_after: SystemTime,
) -> Result<CertificateParams, rcgen::Error> {
    let mut params = CertificateParams::default();
    params.not_before = clock::date(not_before);
    params.not_after = clock::date(not_after);
    params.serial_number = Some(random_serial()?);
    params.distinguished_name = DistinguishedName::new();
    params.subject_alt_names = vec![SanType::URI(id.as_str().try_into()?)];
    params.is_ca = IsCa::ExplicitNoCa;
    params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
    params.extended_key_usages =
        vec![ExtendedKeyUsagePurpose::ServerAuth, ExtendedKeyUsagePurpose::ClientAuth];
    params.use_authority_key_identifier_extension = true;
    Ok(params)
}

/// What stands in a signing certificate (X509-SVID §3 and §4): the trust domain's ID without a
/// path, cA true, keyCertSign. The name ends with a piece of the key's hash, so two authorities
/// never bear the same one.
fn ca_params(
    role: &str,
    path_len: u8,
    domain: &TrustDomain,
    key: &KeyPair,
    now: SystemTime,
    life: Duration,
) -> Result<CertificateParams, rcgen::Error> {
    let key_hash = Fingerprint::of(key.der_bytes()).to_string();
    let mut params = CertificateParams::default();
    params.not_before = clock::date(now - BACKDATE);
    params.not_after = clock::date(now + life);
    params.serial_number = Some(random_serial()?);
    params.distinguished_name = DistinguishedName::new();
    let name = format!("Pillion {role} {}", &key_hash[..8]);
    params.distinguished_name.push(DnType::CommonName, name);
    params.subject_alt_names = vec![SanType::URI(domain.uri().as_str().try_into()?)];
    params.is_ca = IsCa::Ca(BasicConstraints::Constrained(path_len));
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    params.use_authority_key_identifier_extension = true;
    Ok(params)
}

fn new_key() -> Result<KeyPair, rcgen::Error> {
    KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256)
}

/// A serial number of 126 random bits: positive, never zero, never shortened in DER.
fn random_serial() -> Result<SerialNumber, rcgen::Error> {
    let mut bytes = random()?;
    bytes[0] = (bytes[0] & 0x3f) | 0x40;
    Ok(SerialNumber::from_slice(&bytes))
}

/// A random name of 32 hexadecimal digits.
pub(crate) fn random_name() -> Result<String, rcgen::Error> {
    Ok(hex(&random()?))
}

fn random() -> Result<[u8; 16], rcgen::Error> {
    let mut bytes = [0; 16];
    aws_lc_rs::rand::fill(&mut bytes).map_err(|_| rcgen::Error::RingUnspecified)?;
    Ok(bytes)
}
