//! Certificates with any fault wanted, signed by the mesh's own issuer or by somebody else's.

use std::sync::Arc;

use rcgen::{
    BasicConstraints, CertificateParams, CustomExtension, DistinguishedName, DnType,
    ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair, KeyUsagePurpose, SanType,
};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivatePkcs8KeyDer};
use rustls::sign::{CertifiedKey, SingleCertAndKey};
use time::{Duration, OffsetDateTime};

use crate::control_plane::ControlPlane;

/// Who the callers of these tests are.
pub(crate) const WEB: &str = "spiffe://cluster.local/ns/shop/sa/web";

/// Who signs.
#[derive(Clone)]
pub(crate) struct Ca {
    pub(crate) der: CertificateDer<'static>,
    key: Arc<KeyPair>,
    /// The certificates from this one up to the root, without the root.
    between: Vec<CertificateDer<'static>>,
}

/// A leaf with its key and what stands behind it.
#[derive(Clone)]
pub(crate) struct Leaf {
    pub(crate) chain: Vec<CertificateDer<'static>>,
    key: Arc<KeyPair>,
}

impl Ca {
    /// The mesh's issuer, which its sidecars believe.
    pub(crate) fn of(control_plane: &ControlPlane) -> Self {
        let ca = Self::read(control_plane, "issuer");
        Self { between: vec![ca.der.clone()], ..ca }
    }

    /// The mesh's root.
    pub(crate) fn root_of(control_plane: &ControlPlane) -> Self {
        Self::read(control_plane, "root")
    }

    fn read(control_plane: &ControlPlane, name: &str) -> Self {
        let file = control_plane.state().join(name);
        let read = |extension| std::fs::read_to_string(file.with_extension(extension)).unwrap();
        let der = CertificateDer::from_pem_slice(read("pem").as_bytes()).unwrap();
        let key = Arc::new(KeyPair::from_pem(&read("key")).unwrap());
        Self { der, key, between: vec![] }
    }

    /// A root that nobody believes, unless told to.
    pub(crate) fn root(name: &str) -> Self {
        let key = Arc::new(KeyPair::generate().unwrap());
        let der = ca_params(name).self_signed(&*key).unwrap().into();
        Self { der, key, between: vec![] }
    }

    /// Who bears the same name and shows the same certificates, and has another key.
    pub(crate) fn namesake(&self) -> Self {
        Self { key: Arc::new(KeyPair::generate().unwrap()), ..self.clone() }
    }

    pub(crate) fn intermediate(&self, change: impl FnOnce(&mut CertificateParams)) -> Self {
        let key = Arc::new(KeyPair::generate().unwrap());
        let mut params = ca_params("between");
        change(&mut params);
        let der: CertificateDer<'static> = params.signed_by(&*key, &self.issuer()).unwrap().into();
        let between = std::iter::once(der.clone()).chain(self.between.clone()).collect();
        Self { der, key, between }
    }

    /// A leaf that names `uri` and is right in all else, unless changed.
    pub(crate) fn leaf(&self, uri: &str, change: impl FnOnce(&mut CertificateParams)) -> Leaf {
        let key = KeyPair::generate().unwrap();
        let mut params = leaf_params(uri);
        change(&mut params);
        let der = params.signed_by(&key, &self.issuer()).unwrap().into();
        let chain = std::iter::once(der).chain(self.between.clone()).collect();
        Leaf { chain, key: Arc::new(key) }
    }

    pub(crate) fn good(&self, uri: &str) -> Leaf {
        self.leaf(uri, |_| {})
    }

    /// What no CA does: to show its own certificate as a leaf.
    pub(crate) fn itself(&self) -> Leaf {
        Leaf { chain: self.between.clone(), key: Arc::clone(&self.key) }
    }

    fn issuer(&self) -> Issuer<'_, &KeyPair> {
        Issuer::from_ca_cert_der(&self.der, self.key.as_ref()).unwrap()
    }
}

impl Leaf {
    pub(crate) fn self_signed(uri: &str) -> Self {
        let key = KeyPair::generate().unwrap();
        let der = leaf_params(uri).self_signed(&key).unwrap().into();
        Self { chain: vec![der], key: Arc::new(key) }
    }

    /// What an attacker does: a leaf that signs another one.
    pub(crate) fn sign(&self, uri: &str) -> Self {
        let ca = Ca {
            der: self.chain[0].clone(),
            key: Arc::clone(&self.key),
            between: self.chain.clone(),
        };
        ca.good(uri)
    }

    /// The same certificates shown by somebody who has not their key.
    pub(crate) fn with_key_of(self, other: &Self) -> Self {
        Self { key: Arc::clone(&other.key), ..self }
    }

    /// With the issuers so many times over.
    pub(crate) fn repeating(mut self, times: usize) -> Self {
        let issuers = self.chain.split_off(1);
        self.chain.extend(std::iter::repeat_n(issuers, times).flatten());
        self
    }

    /// For a TLS configuration, with no check of anything.
    pub(crate) fn resolver(&self) -> Arc<SingleCertAndKey> {
        let der = PrivatePkcs8KeyDer::from(self.key.serialize_der()).into();
        let key = certs::provider().key_provider.load_private_key(der).unwrap();
        Arc::new(SingleCertAndKey::from(CertifiedKey::new(self.chain.clone(), key)))
    }
}

/// A time so many seconds from now.
pub(crate) fn from_now(seconds: i64) -> OffsetDateTime {
    OffsetDateTime::now_utc() + Duration::seconds(seconds)
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

fn leaf_params(text: &str) -> CertificateParams {
    let mut params = CertificateParams::default();
    params.not_before = from_now(-3600);
    params.not_after = from_now(3600);
    params.distinguished_name = DistinguishedName::new();
    params.subject_alt_names = vec![uri(text)];
    params.is_ca = IsCa::ExplicitNoCa;
    params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
    params.extended_key_usages =
        vec![ExtendedKeyUsagePurpose::ServerAuth, ExtendedKeyUsagePurpose::ClientAuth];
    params.use_authority_key_identifier_extension = true;
    params
}
