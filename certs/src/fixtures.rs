//! Certificates for the tests: authorities and leaves with any fault wanted.

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use model::spiffe::{SpiffeId, TrustDomain};
use rcgen::{
    BasicConstraints, CertificateParams, CustomExtension, DnType, IsCa, Issuer, KeyPair,
    KeyUsagePurpose, SanType,
};
use rustls::pki_types::{CertificateDer, PrivatePkcs8KeyDer};
use rustls::sign::{CertifiedKey, SingleCertAndKey};

use crate::bundle::{Roots, TrustBundle};
use crate::{ca, clock, provider};

/// Who the honest server of the tests is.
pub(crate) const API: &str = "spiffe://example.org/ns/shop/sa/api";

/// Who the honest client of the tests is.
pub(crate) const WEB: &str = "spiffe://example.org/ns/shop/sa/web";

pub(crate) fn id(text: &str) -> SpiffeId {
    text.parse().unwrap()
}

pub(crate) fn domain(text: &str) -> TrustDomain {
    text.parse().unwrap()
}

/// An authority and what its leaves send along.
pub(crate) struct Ca {
    pub(crate) der: CertificateDer<'static>,
    pub(crate) pem: String,
    params: CertificateParams,
    pub(crate) key: KeyPair,
    /// The certificates from this one up to the root, without the root.
    between: Vec<CertificateDer<'static>>,
}

/// A leaf with its key and what stands behind it.
#[derive(Clone)]
pub(crate) struct Leaf {
    pub(crate) chain: Vec<CertificateDer<'static>>,
    pub(crate) key: Arc<KeyPair>,
}

impl Ca {
    pub(crate) fn root(name: &str) -> Self {
        Self::root_with(name, |_| {})
    }

    pub(crate) fn root_with(name: &str, change: impl FnOnce(&mut CertificateParams)) -> Self {
        let key = KeyPair::generate().unwrap();
        let mut params = ca_params(name);
        change(&mut params);
        let made = params.self_signed(&key).unwrap();
        Self { pem: made.pem(), der: made.into(), params, key, between: vec![] }
    }

    pub(crate) fn intermediate(&self, change: impl FnOnce(&mut CertificateParams)) -> Self {
        let key = KeyPair::generate().unwrap();
        let mut params = ca_params(&format!("issuer {}", self.between.len()));
        change(&mut params);
        let made = params.signed_by(&key, &self.issuer()).unwrap();
        let (pem, der): (_, CertificateDer<'static>) = (made.pem(), made.into());
        let between = std::iter::once(der.clone()).chain(self.between.clone()).collect();
        Self { der, pem, params, key, between }
    }

    /// A leaf that names `uri` and is right in all else, unless changed.
    pub(crate) fn leaf(&self, uri: &str, change: impl FnOnce(&mut CertificateParams)) -> Leaf {
        let key = KeyPair::generate().unwrap();
        let der = leaf_params(uri, change).signed_by(&key, &self.issuer()).unwrap().into();
        let chain = std::iter::once(der).chain(self.between.clone()).collect();
        Leaf { chain, key: Arc::new(key) }
    }

    pub(crate) fn good(&self, uri: &str) -> Leaf {
        self.leaf(uri, |_| {})
    }

    pub(crate) fn roots(&self) -> Roots {
        Roots::from_ders(vec![self.der.clone()]).unwrap()
    }

    /// The bundle of example.org with this root.
    pub(crate) fn bundle(&self) -> TrustBundle {
        TrustBundle::of(domain("example.org"), self.roots())
    }

    fn issuer(&self) -> Issuer<'_, &KeyPair> {
        Issuer::from_params(&self.params, &self.key)
    }
}

impl Leaf {
    pub(crate) fn self_signed(uri: &str) -> Self {
        let key = KeyPair::generate().unwrap();
        let der = leaf_params(uri, |_| {}).self_signed(&key).unwrap().into();
        Self { chain: vec![der], key: Arc::new(key) }
    }

    /// What an attacker does: a leaf that signs another one.
    pub(crate) fn sign(&self, uri: &str) -> Self {
        let issuer = Issuer::from_ca_cert_der(&self.chain[0], self.key.as_ref()).unwrap();
        let key = KeyPair::generate().unwrap();
        let der = leaf_params(uri, |_| {}).signed_by(&key, &issuer).unwrap().into();
        let chain = std::iter::once(der).chain(self.chain.clone()).collect();
        Self { chain, key: Arc::new(key) }
    }

    /// The same certificates shown by somebody who has not their key.
    pub(crate) fn with_key_of(self, other: &Self) -> Self {
        Self { key: other.key.clone(), ..self }
    }

    /// For a TLS configuration, with no check of anything.
    pub(crate) fn resolver(&self) -> Arc<SingleCertAndKey> {
        let der = PrivatePkcs8KeyDer::from(self.key.serialize_der()).into();
        let key = provider().key_provider.load_private_key(der).unwrap();
        Arc::new(SingleCertAndKey::from(CertifiedKey::new(self.chain.clone(), key)))
    }
}

/// A time so many seconds from now, for the validity of a certificate.
pub(crate) fn from_now(seconds: i64) -> time::OffsetDateTime {
    clock::date(SystemTime::now()) + time::Duration::seconds(seconds)
}

pub(crate) fn uri(text: &str) -> SanType {
    SanType::URI(text.try_into().unwrap())
}

/// An extension below id-ce (2.5.29), written as it is.
pub(crate) fn extension(number: u64, critical: bool, der: &[u8]) -> CustomExtension {
    let mut made = CustomExtension::from_oid_content(&[2, 5, 29, number], der.to_vec());
    made.set_criticality(critical);
    made
}

fn ca_params(name: &str) -> CertificateParams {
    let mut params = CertificateParams::default();
    params.distinguished_name.push(DnType::CommonName, name);
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    params
}

fn leaf_params(text: &str, change: impl FnOnce(&mut CertificateParams)) -> CertificateParams {
    let now = SystemTime::now();
    let hour = Duration::from_secs(3600);
    let mut params = ca::leaf_params(&id(API), now - hour, now + hour).unwrap();
    params.subject_alt_names = vec![uri(text)];
    change(&mut params);
    params
}
