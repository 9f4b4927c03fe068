use std::fs;
use std::time::UNIX_EPOCH;

use rcgen::{CertificateParams, CustomExtension, SanType};
use tempfile::TempDir;
use x509_parser::prelude::ParsedExtension;

use super::*;
use crate::csr::CsrError;
use crate::fingerprint::Fingerprint;
use crate::fixtures::{API, Ca, domain, id};
use crate::svid::parse;

const DAY: Duration = Duration::from_secs(24 * 60 * 60);
const HOUR: Duration = Duration::from_secs(60 * 60);

fn now() -> SystemTime {
    UNIX_EPOCH + Duration::from_secs(1_800_000_000)
}

fn open_at(dir: &TempDir, at: SystemTime) -> Result<Authority, AuthorityError> {
    Authority::open_or_create(dir.path(), &domain("example.org"), at)
}

fn new() -> (TempDir, Authority) {
    let dir = tempfile::tempdir().unwrap();
    let authority = open_at(&dir, now()).unwrap();
    (dir, authority)
}

fn sign(authority: &Authority, lifetime: Duration, at: SystemTime) -> SignedChain {
    let csr = LeafKey::generate().unwrap().csr(None).unwrap();
    authority.sign(&csr, &id(API), lifetime, at).unwrap()
}

/// The error's text after a file of a good directory was changed.
fn error_after(change: impl FnOnce(&Path)) -> String {
    let (dir, _) = new();
    change(dir.path());
    open_at(&dir, now()).unwrap_err().to_string()
}

fn copy(from: &TempDir, to: &Path, names: &[&str]) {
    for name in names {
        fs::copy(from.path().join(name), to.join(name)).unwrap();
    }
}

#[test]
fn an_authority_opened_again_is_the_same() {
    let (dir, first) = new();
    let second = open_at(&dir, now() + HOUR).unwrap();
    assert_eq!(first.roots(), second.roots());
    assert_eq!(first.issuers, second.issuers);
    assert_eq!(first.trust_domain(), &domain("example.org"));
    assert_eq!(first.bundle_pem(), fs::read_to_string(dir.path().join("bundle.pem")).unwrap());
    assert!(!format!("{first:?}").contains("key"), "{first:?}");
}

#[test]
fn of_several_starters_all_hold_the_same_authority() {
    let dir = tempfile::tempdir().unwrap();
    let roots: Vec<_> = std::thread::scope(|scope| {
        let start = || scope.spawn(|| open_at(&dir, now()).unwrap().roots().to_vec());
        let threads: Vec<_> = (0..4).map(|_| start()).collect();
        threads.into_iter().map(|thread| thread.join().unwrap()).collect()
    });
    assert!(roots.iter().all(|other| other == &roots[0]));
}

#[test]
fn a_leaf_is_what_x509_svid_asks_for() {
    let (_dir, authority) = new();
    let signed = sign(&authority, HOUR, now());
    let leaf = parse(&signed.chain[0]).unwrap();
    let san = leaf.subject_alternative_name().unwrap().unwrap();
    assert!(leaf.subject().iter().next().is_none() && san.critical);
    assert_eq!(svid_uris(&leaf), [API]);
    let constraints = leaf.basic_constraints().unwrap().unwrap();
    assert!(constraints.critical && !constraints.value.ca);
    let usage = leaf.key_usage().unwrap().unwrap();
    assert!(usage.critical && usage.value.flags == 1, "digitalSignature alone");
    let extended = leaf.extended_key_usage().unwrap().unwrap().value;
    assert!(extended.server_auth && extended.client_auth);
    let issuer = parse(&signed.chain[1]).unwrap();
    assert_eq!(leaf.issuer(), issuer.subject());
    assert_eq!(key_ids(&leaf).1, key_ids(&issuer).0, "the leaf names its issuer's key");
    assert!(key_ids(&leaf).0.is_some());
    assert_eq!(signed.chain.len(), 2);
}

fn svid_uris<'a>(cert: &'a x509_parser::certificate::X509Certificate<'_>) -> Vec<&'a str> {
    crate::svid::uris(cert).unwrap()
}

#[test]
fn a_serial_number_is_random_and_not_made_of_the_key() {
    let (_dir, authority) = new();
    let csr = LeafKey::generate().unwrap().csr(None).unwrap();
    let serial = || {
        let signed = authority.sign(&csr, &id(API), HOUR, now()).unwrap();
        parse(&signed.chain[0]).unwrap().raw_serial().to_vec()
    };
    let (one, two) = (serial(), serial());
    assert_ne!(one, two);
    assert_eq!((one.len(), two.len()), (16, 16));
}

/// The subject and the authority key identifier.
fn key_ids(
    cert: &x509_parser::certificate::X509Certificate<'_>,
) -> (Option<Vec<u8>>, Option<Vec<u8>>) {
    let (mut subject, mut authority) = (None, None);
    for extension in cert.extensions() {
        match extension.parsed_extension() {
            ParsedExtension::SubjectKeyIdentifier(id) => subject = Some(id.0.to_vec()),
            ParsedExtension::AuthorityKeyIdentifier(id) => {
                authority = id.key_identifier.as_ref().map(|id| id.0.to_vec());
            }
            _ => {}
        }
    }
    (subject, authority)
}

#[test]
fn root_and_issuer_are_what_x509_svid_asks_for() {
    let (dir, authority) = new();
    let root = authority.roots()[0].clone();
    for (der, path_len, days) in [(&root, 1, 3650), (&authority.issuers[0], 0, 365)] {
        let cert = parse(der).unwrap();
        let constraints = cert.basic_constraints().unwrap().unwrap();
        assert!(constraints.critical && constraints.value.ca);
        assert_eq!(constraints.value.path_len_constraint, Some(path_len));
        let usage = cert.key_usage().unwrap().unwrap();
        assert!(usage.critical && usage.value.key_cert_sign() && !usage.value.digital_signature());
        assert_eq!(svid_uris(&cert), ["spiffe://example.org"]);
        assert_eq!(clock::from_asn1(cert.validity().not_after), now() + DAY * days);
        assert_eq!(clock::from_asn1(cert.validity().not_before), now() - BACKDATE);
        assert!(cert.subject().to_string().starts_with("CN=Pillion "), "{}", cert.subject());
    }
    let (_other, second) = new();
    let subject = |der| parse(der).unwrap().subject().to_string();
    assert_ne!(subject(&root), subject(&second.roots()[0]), "no two authorities of one name");
    assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 7);
}

#[test]
fn a_leaf_lives_as_long_as_asked_and_not_longer_than_its_issuer() {
    let (_dir, authority) = new();
    for seconds in [1, 5, 20, 86_400] {
        let lifetime = Duration::from_secs(seconds);
        let signed = sign(&authority, lifetime, now() + Duration::from_millis(700));
        assert_eq!(signed.not_before, now() - BACKDATE);
        assert_eq!(signed.not_after, now() + lifetime);
        let leaf = parse(&signed.chain[0]).unwrap();
        assert_eq!(clock::from_asn1(leaf.validity().not_before), signed.not_before);
        assert_eq!(clock::from_asn1(leaf.validity().not_after), signed.not_after);
    }
    let cap = authority.not_after() - Duration::from_secs(60);
    for long in [DAY * 366, Duration::MAX] {
        assert_eq!(sign(&authority, long, now()).not_after, cap);
    }
    let csr = LeafKey::generate().unwrap().csr(None).unwrap();
    let late = authority.sign(&csr, &id(API), HOUR, cap).unwrap_err();
    assert!(matches!(late, SignError::IssuerExpired(_)), "{late}");
    let short = authority.sign(&csr, &id(API), Duration::from_millis(999), now()).unwrap_err();
    assert!(matches!(short, SignError::NoLifetime), "{short}");
}

/// Row 88.
#[test]
fn what_a_request_asks_for_is_ignored() {
    let (_dir, authority) = new();
    let key = KeyPair::generate().unwrap();
    let mut asked = CertificateParams::new(vec!["admin.example.org".into()]).unwrap();
    let admin = "spiffe://example.org/ns/pillion/sa/control-plane";
    asked.subject_alt_names.push(SanType::URI(admin.try_into().unwrap()));
    asked.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
    asked.key_usages = vec![rcgen::KeyUsagePurpose::KeyCertSign];
    asked.custom_extensions = vec![CustomExtension::from_oid_content(&[1, 2, 3], vec![5, 0])];
    let csr = asked.serialize_request(&key).unwrap();
    let signed = authority.sign(csr.der(), &id(API), HOUR, now()).unwrap();
    let leaf = parse(&signed.chain[0]).unwrap();
    assert_eq!(svid_uris(&leaf), [API]);
    let names = &leaf.subject_alternative_name().unwrap().unwrap().value.general_names;
    assert_eq!(names.len(), 1);
    assert!(!leaf.is_ca() && leaf.subject().iter().next().is_none());
    assert_eq!(leaf.extensions().len(), 6, "SAN, KU, EKU, BC, SKI, AKI");
}

/// Row 89.
#[test]
fn a_bad_request_is_the_fault_of_its_sender() {
    let (_dir, authority) = new();
    let csr = LeafKey::generate().unwrap().csr(None).unwrap();
    for (bad, expected) in
        [(vec![0x30; 1 << 20], "1048576 bytes"), (csr[..csr.len() - 1].to_vec(), "cannot be read")]
    {
        let error = authority.sign(&bad, &id(API), HOUR, now()).unwrap_err();
        assert!(error.is_bad_request() && error.to_string().contains(expected), "{error}");
    }
    let foreign = id("spiffe://other.org/ns/shop/sa/api");
    let error = authority.sign(&csr, &foreign, HOUR, now()).unwrap_err();
    assert!(matches!(error, SignError::ForeignTrustDomain { .. }) && !error.is_bad_request());
    let error = SignError::from(CsrError::BadSignature);
    assert!(error.is_bad_request());
}

#[test]
fn the_control_plane_shows_its_root() {
    let (_dir, authority) = new();
    let own = authority.issue_self(HOUR, now()).unwrap();
    assert_eq!(own.id().as_str(), "spiffe://example.org/ns/pillion/sa/control-plane");
    assert_eq!(own.chain().last(), authority.roots().first());
    assert_eq!((own.not_before(), own.not_after()), (now() - BACKDATE, now() + HOUR));
    assert_eq!(own.bundle(), &authority.bundle());
}

#[test]
fn an_issuer_is_renewed_when_a_third_of_its_life_is_left() {
    let (dir, first) = new();
    let later = |days| open_at(&dir, now() + DAY * days).unwrap();
    assert_eq!(later(243).issuers, first.issuers);
    let renewed = later(244);
    assert_ne!(renewed.issuers, first.issuers);
    assert_eq!(renewed.not_after(), now() + DAY * (244 + 365));
    assert_eq!(renewed.roots(), first.roots());
    assert!(renewed.unsaved().is_none());
    assert_eq!(later(245).issuers, renewed.issuers, "it was written");
    // One that is long over is made anew all the same.
    let found = later(1500);
    assert_eq!(found.not_after(), now() + DAY * 1865);
    // Near the end of the root, nothing outlives it.
    let last = later(3500);
    assert_eq!(last.not_after(), now() + DAY * 3650);
    assert_eq!(last.root_not_after(), last.not_after());
}

#[test]
fn a_renewed_issuer_that_cannot_be_written_is_used_all_the_same() {
    let (dir, first) = new();
    // So deep that the name of a file still fits, and that of a file beside it does not.
    let mut deep = dir.path().join("deep");
    while deep.as_os_str().len() < 3800 {
        deep.push("d".repeat(200));
    }
    deep.push("d".repeat(4074 - deep.as_os_str().len()));
    fs::create_dir_all(&deep).unwrap();
    for name in ["root.key", "root.pem", "issuer.key", "issuer.pem", "token.key", "bundle.pem"] {
        fs::rename(dir.path().join(name), deep.join(name)).unwrap();
    }
    let later = now() + DAY * 300;
    let opened = Authority::open_or_create(&deep, &domain("example.org"), later).unwrap();
    assert_ne!(opened.issuers, first.issuers);
    assert!(opened.unsaved().unwrap().to_string().contains("issuer.pem"));
    assert_eq!(sign(&opened, DAY, later).not_after, later + DAY);
}

#[test]
fn an_authority_outside_of_its_life_names_the_certificate() {
    let (dir, _) = new();
    let error = |at| open_at(&dir, at).unwrap_err().to_string();
    assert!(error(now() - DAY).contains("root.pem is valid from 2027-01-15"));
    assert!(error(now() + DAY * 3651).contains("root.pem is valid from"));
    fs::remove_file(dir.path().join("root.key")).unwrap();
    let late = error(now() + DAY * 366);
    assert!(late.contains("issuer.pem is valid from 2027-01-15T07:55:00Z to 2028-01-15"), "{late}");
}

#[test]
fn an_authority_that_is_gone_is_not_made_anew_when_it_is_opened() {
    let (dir, first) = new();
    let open = || Authority::open(dir.path(), &domain("example.org"), now());
    assert_eq!(open().unwrap().roots(), first.roots());
    for entry in fs::read_dir(dir.path()).unwrap() {
        fs::remove_file(entry.unwrap().path()).unwrap();
    }
    assert!(open().is_err());
    assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 0, "and nothing is written");
}

#[test]
fn a_root_key_may_be_kept_elsewhere() {
    let (dir, first) = new();
    fs::remove_file(dir.path().join("root.key")).unwrap();
    let opened = open_at(&dir, now() + DAY * 300).unwrap();
    assert_eq!(opened.issuers, first.issuers);
}

#[test]
fn files_that_do_not_belong_together_are_named() {
    let (other, _) = new();
    let after = |names: &[&str]| error_after(|dir| copy(&other, dir, names));
    assert!(after(&["issuer.key"]).contains("issuer.key is not the key of "));
    assert!(after(&["root.key"]).contains("root.key is not the key of "));
    assert!(after(&["bundle.pem"]).contains("bundle.pem does not hold the root of "));
    let swapped = after(&["issuer.key", "issuer.pem"]);
    assert!(swapped.contains("issuer.pem is not signed by "), "{swapped}");
    assert!(swapped.contains("no trusted root signed"), "{swapped}");
    let root = after(&["root.pem", "root.key", "bundle.pem"]);
    assert!(root.contains("issuer.pem is not signed by "), "{root}");
}

#[test]
fn each_broken_file_is_named() {
    let write = |name: &'static str, text: &'static str| {
        error_after(move |dir| fs::write(dir.join(name), text).unwrap())
    };
    assert!(write("root.pem", "").contains("root.pem holds no certificate"));
    assert!(write("issuer.pem", "x").contains("issuer.pem holds no certificate"));
    assert!(write("issuer.key", "x").contains("issuer.key holds no private key"));
    assert!(write("root.key", "x").contains("root.key holds no private key"));
    assert!(write("bundle.pem", "").contains("bundle.pem: there is no certificate in it"));
    let gone = error_after(|dir| fs::remove_file(dir.join("token.key")).unwrap());
    assert!(gone.contains("token.key is missing"), "{gone}");
}

#[test]
fn another_trust_domain_is_refused() {
    let (dir, _) = new();
    let wrong = Authority::open_or_create(dir.path(), &domain("other.org"), now());
    let text = wrong.unwrap_err().to_string();
    assert!(text.contains("root.pem is of the trust domain spiffe://example.org, not other.org"));
}

/// A directory with somebody else's authority, which knows nothing of SPIFFE.
fn given(root: &Ca, issuer: &Ca, chain: &str) -> TempDir {
    let dir = tempfile::tempdir().unwrap();
    let state = StateDir::new(dir.path());
    state.write("root.pem", &root.pem).unwrap();
    state.write("bundle.pem", &root.pem).unwrap();
    state.write("issuer.pem", chain).unwrap();
    state.write("issuer.key", &issuer.key.serialize_pem()).unwrap();
    state.write("token.key", &KeyPair::generate().unwrap().serialize_pem()).unwrap();
    dir
}

#[test]
fn an_authority_may_be_given() {
    let root = Ca::root("company root");
    let middle = root.intermediate(|_| {});
    let issuer = middle.intermediate(|_| {});
    let dir = given(&root, &issuer, &format!("{}{}", issuer.pem, middle.pem));
    let authority = open_at(&dir, now()).unwrap();
    assert_eq!(sign(&authority, HOUR, now()).chain.len(), 3);
    assert_eq!(authority.bundle().roots(&domain("example.org")), Some(&root.roots()));
    assert_eq!(Fingerprint::of(&authority.roots()[0]), Fingerprint::of(&root.der));
    let incomplete = given(&root, &issuer, &issuer.pem);
    let error = open_at(&incomplete, now()).unwrap_err();
    assert!(matches!(error, AuthorityError::Chain { .. }), "{error}");
}

#[test]
fn an_issuer_that_may_not_sign_is_found_at_the_start() {
    let root = Ca::root("company root");
    let issuer = root.intermediate(|p| p.key_usages = vec![rcgen::KeyUsagePurpose::CrlSign]);
    let error = open_at(&given(&root, &issuer, &issuer.pem), now()).unwrap_err().to_string();
    assert!(error.contains("lacks the key usage keyCertSign"), "{error}");
}
