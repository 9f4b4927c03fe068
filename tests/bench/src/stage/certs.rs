//! Certificates for the proxies that are not ours: a chain as long as Pillion's (root, issuer,
//! leaf), on the same curve, with a SPIFFE identity and, for those that check names only, a name.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::Context;
use rcgen::{
    BasicConstraints, CertificateParams, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair,
    KeyUsagePurpose, SanType,
};

/// The files in PEM, readable for the sidecar's user.
#[derive(Debug, Clone)]
pub(crate) struct Certs {
    /// The root.
    pub(crate) root: PathBuf,
    dir: PathBuf,
}

impl Certs {
    /// Makes an authority, and certificates for the two ends.
    ///
    /// # Errors
    /// When a file cannot be written.
    pub(crate) fn make(dir: &Path) -> anyhow::Result<Self> {
        fs::create_dir_all(dir)?;
        let root_key = KeyPair::generate()?;
        let root = authority("root");
        let root_pem = root.self_signed(&root_key)?.pem();
        let root = Issuer::new(root, root_key);
        let issuer_key = KeyPair::generate()?;
        let issuer = authority("issuer");
        let issuer_pem = issuer.signed_by(&issuer_key, &root)?.pem();
        let issuer = Issuer::new(issuer, issuer_key);
        let certs = Self { root: dir.join("root.pem"), dir: dir.to_owned() };
        fs::write(&certs.root, root_pem)?;
        for end in ["client", "server"] {
            let key = KeyPair::generate()?;
            let chain = leaf(end)?.signed_by(&key, &issuer)?.pem() + &issuer_pem;
            fs::write(certs.chain(end), &chain)?;
            fs::write(certs.key(end), key.serialize_pem())?;
            fs::write(certs.both(end), chain + &key.serialize_pem())?;
        }
        Ok(certs)
    }

    /// The leaf of `client` or `server`, then its issuer.
    pub(crate) fn chain(&self, end: &str) -> PathBuf {
        self.dir.join(format!("{end}.pem"))
    }

    /// The leaf's key.
    pub(crate) fn key(&self, end: &str) -> PathBuf {
        self.dir.join(format!("{end}.key"))
    }

    /// Chain and key in one file, as HAProxy wants it.
    pub(crate) fn both(&self, end: &str) -> PathBuf {
        self.dir.join(format!("{end}.both.pem"))
    }

    /// The SPIFFE identity of an end.
    pub(crate) fn identity(end: &str) -> String {
        format!("spiffe://cluster.local/ns/bench/sa/{end}")
    }

    /// The DNS name of an end.
    pub(crate) fn name(end: &str) -> String {
        format!("{end}.bench")
    }
}

fn authority(name: &str) -> CertificateParams {
    let mut params = CertificateParams::default();
    params.distinguished_name.push(rcgen::DnType::CommonName, name);
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    params
}

fn leaf(end: &str) -> anyhow::Result<CertificateParams> {
    let mut params = CertificateParams::default();
    let identity = Certs::identity(end).try_into().context("an identity in ASCII")?;
    let name = Certs::name(end).try_into().context("a name in ASCII")?;
    params.subject_alt_names = vec![SanType::URI(identity), SanType::DnsName(name)];
    params.is_ca = IsCa::ExplicitNoCa;
    params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
    params.extended_key_usages =
        vec![ExtendedKeyUsagePurpose::ServerAuth, ExtendedKeyUsagePurpose::ClientAuth];
    Ok(params)
}
