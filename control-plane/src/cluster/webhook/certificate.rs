//! The serving certificate of the webhook, and when it is replaced: without IO.
//!
//! A certificate is signed by an authority that is made for it alone, and whose key is forgotten
//! at once: nobody can sign another one. Before a certificate is replaced the API server must
//! believe the next one, so it goes in steps: the next one's authority stands in the bundle first,
//! and the old one's stays there until no replica serves with the old certificate any more.

use std::time::{Duration, SystemTime};

use rcgen::{
    BasicConstraints, CertificateParams, DistinguishedName, DnType, ExtendedKeyUsagePurpose, IsCa,
    Issuer, KeyPair, KeyUsagePurpose, PKCS_ECDSA_P256_SHA256,
};
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;

/// How long a certificate and its authority live.
pub(super) const LIFE: Duration = Duration::from_secs(90 * 24 * 3600);

/// How long before now they begin, for clocks that are behind.
const BACKDATE: Duration = Duration::from_secs(5 * 60);

/// How old a certificate is when no replica serves with the one before any more.
pub(super) const SETTLED: Duration = Duration::from_secs(3600);

/// A certificate with its key, and the authority that it is signed by; all PEM.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Pair {
    pub(super) authority: String,
    pub(super) certificate: String,
    pub(super) key: String,
}

/// What the replicas share.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Shared {
    /// What they serve with.
    pub(super) current: Pair,
    /// The authority of the certificate before, while it may still be met.
    pub(super) before: Option<String>,
    /// What they will serve with when the API server believes it.
    pub(super) next: Option<Pair>,
}

impl Pair {
    /// Makes a pair for these DNS names.
    pub(super) fn make(names: &[String], now: SystemTime) -> Result<Self, rcgen::Error> {
        let (authority_key, key) = (new_key()?, new_key()?);
        let mut authority = params(Vec::new(), "pillion-injector authority", now)?;
        authority.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
        authority.key_usages = vec![KeyUsagePurpose::KeyCertSign];
        let signed = authority.self_signed(&authority_key)?;
        let mut leaf = params(names.to_vec(), "pillion-injector", now)?;
        leaf.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        leaf.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
        let leaf = leaf.signed_by(&key, &Issuer::from_params(&authority, &authority_key))?;
        Ok(Self { authority: signed.pem(), certificate: leaf.pem(), key: key.serialize_pem() })
    }

    /// How much of its life is left; nothing, where it cannot be read.
    fn left(&self, now: SystemTime) -> Duration {
        let der = CertificateDer::from_pem_slice(self.certificate.as_bytes()).ok();
        let end = der.and_then(|der| certs::peer_not_after(&[der]));
        end.and_then(|end| end.duration_since(now).ok()).unwrap_or_default()
    }
}

impl Shared {
    /// The first of them.
    pub(super) const fn new(current: Pair) -> Self {
        Self { current, before: None, next: None }
    }

    /// What the API server must believe.
    pub(super) fn bundle(&self) -> String {
        let next = self.next.as_ref().map(|next| next.authority.as_str());
        let all = self.before.as_deref().into_iter().chain([self.current.authority.as_str()]);
        all.chain(next).collect()
    }

    /// The state after this one, if it is time for it. `believed` says whether the API server has
    /// been told of the bundle of this one.
    pub(super) fn step(
        &self,
        names: &[String],
        believed: bool,
        now: SystemTime,
    ) -> Result<Option<Self>, rcgen::Error> {
        let left = self.current.left(now);
        Ok(match &self.next {
            Some(next) if believed => Some(Self {
                current: next.clone(),
                before: Some(self.current.authority.clone()),
                next: None,
            }),
            Some(_) => None,
            None if left < LIFE / 3 => {
                let next = Some(Pair::make(names, now)?);
                Some(Self { next, ..self.clone() })
            }
            None if self.before.is_some() && left + SETTLED < LIFE => {
                Some(Self { before: None, ..self.clone() })
            }
            None => None,
        })
    }
}

fn new_key() -> Result<KeyPair, rcgen::Error> {
    KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256)
}

fn params(
    names: Vec<String>,
    name: &str,
    now: SystemTime,
) -> Result<CertificateParams, rcgen::Error> {
    let mut params = CertificateParams::new(names)?;
    params.distinguished_name = DistinguishedName::new();
    params.distinguished_name.push(DnType::CommonName, name);
    params.not_before = (now - BACKDATE).into();
    params.not_after = (now + LIFE).into();
    Ok(params)
}

#[cfg(test)]
mod tests {
    use super::*;

    const DAY: Duration = Duration::from_secs(24 * 3600);

    fn names() -> Vec<String> {
        vec!["pillion-injector.pillion-system.svc".into()]
    }

    #[test]
    fn a_certificate_is_replaced_in_steps_that_are_always_believed() {
        let start = SystemTime::now();
        let first = Shared::new(Pair::make(&names(), start).unwrap());
        let step = |shared: &Shared, believed, at| shared.step(&names(), believed, at).unwrap();
        assert_eq!(step(&first, true, start + 59 * DAY), None);
        let at = start + 61 * DAY;
        let prepared = step(&first, true, at).unwrap();
        assert_eq!(prepared.current, first.current, "nobody believes the next one yet");
        assert!(prepared.bundle().contains(&prepared.next.as_ref().unwrap().authority));
        assert_eq!(step(&prepared, false, at), None);
        let promoted = step(&prepared, true, at).unwrap();
        assert_eq!(Some(&promoted.current), prepared.next.as_ref());
        assert!(promoted.bundle().contains(&first.current.authority), "replicas still serve by it");
        assert_eq!(step(&promoted, true, at + SETTLED / 2), None);
        let settled = step(&promoted, true, at + 2 * SETTLED).unwrap();
        assert_eq!(settled.bundle(), promoted.current.authority);
        assert_eq!(step(&settled, true, at + DAY), None);
    }

    #[test]
    fn what_cannot_be_read_is_replaced() {
        let pair =
            Pair { certificate: "x".into(), ..Pair::make(&names(), SystemTime::now()).unwrap() };
        let prepared = Shared::new(pair).step(&names(), true, SystemTime::now()).unwrap();
        assert!(prepared.unwrap().next.is_some());
    }
}
