//! Peers that must be refused, each for its own reason, on both sides of a connection.

use std::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;

use model::spiffe::{SpiffeIdError, TrustDomainError};
use rcgen::{BasicConstraints, DnType, ExtendedKeyUsagePurpose, IsCa, KeyUsagePurpose, SanType};
use rustls::{CertificateError, ClientConfig, ServerConfig};

use super::pipe::{Pipe, failure};
use crate::failure::HandshakeFailure;
use crate::fixtures::{API, Ca, Leaf, WEB, domain, extension, from_now, id, uri};
use crate::provider::provider;
use crate::svid::SvidError;
use crate::verify::{ClientVerifier, ServerVerifier, VerifyError};

const TLS13: &[&rustls::SupportedProtocolVersion] = &[&rustls::version::TLS13];

/// The mesh of these tests: its root, and an honest client and server under it.
struct Mesh {
    root: Ca,
    issuer: Ca,
    web: Leaf,
    api: Leaf,
}

impl Mesh {
    fn new() -> Self {
        let root = Ca::root("mesh root");
        let issuer = root.intermediate(|_| {});
        let (web, api) = (issuer.good(WEB), issuer.good(API));
        Self { root, issuer, web, api }
    }

    /// Our server, asked by whoever holds this leaf.
    fn asked_by(&self, leaf: &Leaf) -> Pipe {
        Pipe::run(client_of(leaf, self), server_of(&self.api, self))
    }

    /// Our client, which wants `api`, at a server that holds this leaf.
    fn asking(&self, leaf: &Leaf) -> Pipe {
        Pipe::run(client_of(&self.web, self), server_of(leaf, self))
    }

    /// What our side says of this leaf, first as a client's and then as a server's.
    fn refusals(&self, leaf: &Leaf) -> [rustls::Error; 2] {
        let mut inward = self.asked_by(leaf);
        assert!(inward.received().is_empty(), "nothing may reach the application");
        let mut outward = self.asking(leaf);
        assert!(outward.received().is_empty(), "not one byte of the request may be sent");
        [inward.server_error, outward.client_error].map(|e| e.expect("must be refused"))
    }
}

/// A client that shows this leaf, with our verifier for the server.
fn client_of(leaf: &Leaf, mesh: &Mesh) -> Arc<ClientConfig> {
    let verifier = ServerVerifier::new(mesh.root.bundle(), id(API));
    let config = ClientConfig::builder_with_provider(provider())
        .with_protocol_versions(TLS13)
        .unwrap()
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(verifier))
        .with_client_cert_resolver(leaf.resolver());
    Arc::new(config)
}

/// A server that shows this leaf, with our verifier for clients.
fn server_of(leaf: &Leaf, mesh: &Mesh) -> Arc<ServerConfig> {
    let config = ServerConfig::builder_with_provider(provider())
        .with_protocol_versions(TLS13)
        .unwrap()
        .with_client_cert_verifier(Arc::new(ClientVerifier::required(mesh.root.bundle())))
        .with_cert_resolver(leaf.resolver());
    Arc::new(config)
}

/// The rule that our own checks found broken.
#[track_caller]
fn rule(error: &rustls::Error) -> VerifyError {
    match error {
        rustls::Error::InvalidCertificate(CertificateError::Other(other)) => other
            .0
            .downcast_ref::<VerifyError>()
            .unwrap_or_else(|| panic!("not by our rules: {other:?}"))
            .clone(),
        other => panic!("not by our rules: {other:?}"),
    }
}

/// Both sides refuse this leaf for this rule.
#[track_caller]
fn refused_by_rule(mesh: &Mesh, leaf: &Leaf, expected: impl Into<VerifyError>) {
    let expected = expected.into();
    for error in mesh.refusals(leaf) {
        assert_eq!(rule(&error), expected);
    }
}

/// Both sides refuse this leaf because webpki finds no path.
#[track_caller]
fn refused_by_path(mesh: &Mesh, leaf: &Leaf, expected: &str) {
    for error in mesh.refusals(leaf) {
        let text = format!("{error:?}");
        assert!(text.contains(expected), "{text} is not for {expected}");
        assert!(matches!(failure(Some(&error)), HandshakeFailure::Untrusted(_)), "{text}");
    }
}

#[test]
fn honest_peers_meet() {
    let mesh = Mesh::new();
    let mut pipe = mesh.asked_by(&mesh.web);
    assert!(pipe.established(), "{:?} {:?}", pipe.client_error, pipe.server_error);
    assert_eq!(pipe.received(), b"request");
}

#[test]
fn what_x509_svid_allows_is_let_pass() {
    let mesh = Mesh::new();
    let other_sans = |p: &mut rcgen::CertificateParams| {
        p.subject_alt_names.insert(0, SanType::DnsName("api.shop".try_into().unwrap()));
        p.subject_alt_names.push(SanType::IpAddress(IpAddr::V4(Ipv4Addr::LOCALHOST)));
    };
    let with_root = Leaf {
        chain: [mesh.api.chain.clone(), vec![mesh.root.der.clone()]].concat(),
        ..mesh.api.clone()
    };
    for (what, leaf) in [
        ("other kinds of SAN", mesh.issuer.leaf(API, other_sans)),
        ("no extended key usage", mesh.issuer.leaf(API, |p| p.extended_key_usages.clear())),
        ("no basic constraints", mesh.issuer.leaf(API, |p| p.is_ca = IsCa::NoCa)),
        (
            "a subject",
            mesh.issuer.leaf(API, |p| p.distinguished_name.push(DnType::CommonName, "x")),
        ),
        ("more key usages", {
            mesh.issuer.leaf(API, |p| p.key_usages.push(KeyUsagePurpose::KeyAgreement))
        }),
        ("upper case in scheme and trust domain", {
            mesh.issuer.good("SPIFFE://EXAMPLE.org/ns/shop/sa/api")
        }),
        ("a leaf signed by the root itself", mesh.root.good(API)),
        ("the root in the chain", with_root),
    ] {
        assert!(mesh.asking(&leaf).established(), "{what}, as a server");
        assert!(mesh.asked_by(&leaf).established(), "{what}, as a client");
    }
}

/// Row 56.
#[test]
fn nobody_else_signs_for_our_mesh() {
    let mesh = Mesh::new();
    refused_by_path(&mesh, &Leaf::self_signed(API), "UnknownIssuer");
    refused_by_path(&mesh, &Ca::root("other root").good(API), "UnknownIssuer");
    refused_by_path(&mesh, &Ca::root("mesh root").good(API), "BadSignature");
    let twin = Ca::root("mesh root").intermediate(|_| {});
    refused_by_path(&mesh, &twin.good(API), "BadSignature");
    let without_issuer = Leaf { chain: mesh.api.chain[..1].to_vec(), ..mesh.api.clone() };
    refused_by_path(&mesh, &without_issuer, "UnknownIssuer");
}

/// Row 56, no certificate at all.
#[test]
fn a_client_without_certificate_is_refused() {
    let mesh = Mesh::new();
    let verifier = ServerVerifier::new(mesh.root.bundle(), id(API));
    let bare = ClientConfig::builder_with_provider(provider())
        .with_protocol_versions(TLS13)
        .unwrap()
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(verifier))
        .with_no_client_auth();
    let mut pipe = Pipe::run(Arc::new(bare), server_of(&mesh.api, &mesh));
    assert_eq!(pipe.server_error, Some(rustls::Error::NoCertificatesPresented));
    assert!(pipe.received().is_empty());
    let HandshakeFailure::Other(reason) = pipe.client_failure() else { panic!() };
    assert_eq!(reason, "the peer refused the handshake: CertificateRequired");
}

/// Row 57: not one second of grace.
#[test]
fn a_leaf_outside_of_its_life_is_refused() {
    let mesh = Mesh::new();
    let expired = mesh.issuer.leaf(API, |p| p.not_after = from_now(-2));
    let early = mesh.issuer.leaf(API, |p| p.not_before = from_now(5));
    for (leaf, expected) in [(&expired, "ExpiredContext"), (&early, "NotValidYetContext")] {
        for error in mesh.refusals(leaf) {
            assert!(format!("{error:?}").contains(expected), "{error:?}");
            assert!(matches!(failure(Some(&error)), HandshakeFailure::Expired(_)), "{error:?}");
        }
    }
    let ending = mesh.issuer.leaf(API, |p| p.not_after = from_now(30));
    assert!(mesh.asking(&ending).established());
}

/// Row 58.
#[test]
fn another_trust_domain_is_not_ours_however_alike() {
    let mesh = Mesh::new();
    for other in ["other.org", "example.org.evil.com", "evil-example.org", "example.or", "example"]
    {
        let leaf = mesh.issuer.good(&format!("spiffe://{other}/ns/shop/sa/api"));
        refused_by_rule(&mesh, &leaf, VerifyError::NoBundle(domain(other)));
    }
}

/// Row 58: roots of two trust domains are never mixed.
#[test]
fn a_root_vouches_only_for_its_own_trust_domain() {
    let (mesh, partner) = (Mesh::new(), Ca::root("partner root"));
    let bundle = mesh.root.bundle().with(domain("partner.org"), partner.roots());
    let server = |leaf: &Leaf| {
        let config = ServerConfig::builder_with_provider(provider())
            .with_protocol_versions(TLS13)
            .unwrap()
            .with_client_cert_verifier(Arc::new(ClientVerifier::required(bundle.clone())))
            .with_cert_resolver(mesh.api.resolver());
        Pipe::run(client_of(leaf, &mesh), Arc::new(config))
    };
    let visitor = "spiffe://partner.org/ns/shop/sa/web";
    assert!(server(&partner.good(visitor)).established());
    assert!(server(&mesh.web).established());
    let unknown = Some(CertificateError::UnknownIssuer.into());
    assert_eq!(server(&partner.good(WEB)).server_error, unknown);
    assert_eq!(server(&mesh.root.good(visitor)).server_error, unknown);
}

/// Row 59.
#[test]
fn a_leaf_without_uri_names_nobody() {
    let mesh = Mesh::new();
    let dns = || SanType::DnsName("example.org".try_into().unwrap());
    let ip = SanType::IpAddress(IpAddr::V4(Ipv4Addr::LOCALHOST));
    for sans in [vec![dns()], vec![ip.clone()], vec![dns(), ip]] {
        let leaf = mesh.issuer.leaf(API, |p| p.subject_alt_names = sans);
        refused_by_rule(&mesh, &leaf, SvidError::NoUriSan);
    }
    let name_only = mesh.issuer.leaf(API, |p| {
        p.subject_alt_names.clear();
        p.distinguished_name.push(DnType::CommonName, API);
    });
    refused_by_rule(&mesh, &name_only, SvidError::NoUriSan);
}

/// Row 60.
#[test]
fn a_leaf_with_two_uris_is_refused_in_either_order() {
    let mesh = Mesh::new();
    for sans in [[API, WEB], [WEB, API], [API, API], [API, "https://example.org"]] {
        let leaf = mesh.issuer.leaf(API, |p| p.subject_alt_names = sans.map(uri).to_vec());
        refused_by_rule(&mesh, &leaf, SvidError::SeveralUriSans(2));
    }
}

/// Rows 61 and 62.
#[test]
fn a_uri_that_is_no_identity_is_refused_by_its_rule() {
    use SpiffeIdError as E;
    use TrustDomainError as T;
    let mesh = Mesh::new();
    let long = format!("spiffe://example.org/{}", "a".repeat(2028));
    for (bad, expected) in [
        ("https://example.org/ns/shop/sa/api", E::Scheme),
        ("spiffe://example.org", E::NoPath),
        ("spiffe://example.org/", E::NoPath),
        ("spiffe://example.org/ns/shop/sa/api/", E::TrailingSlash),
        ("spiffe://example.org/ns//sa/api", E::EmptySegment),
        ("spiffe://example.org/ns/shop/../sa/api", E::DotSegment),
        ("spiffe://example.org/ns/shop/sa/%61pi", E::Percent),
        ("spiffe://root@example.org/ns/shop/sa/api", E::TrustDomain(T::UserInfo)),
        ("spiffe://example.org:443/ns/shop/sa/api", E::TrustDomain(T::Port)),
        ("spiffe://example.org/ns/shop/sa/api?x", E::Query),
        ("spiffe://example.org/ns/shop/sa/api#x", E::Fragment),
        (&long, E::TooLong(2049)),
        ("spiffe://example.org/ns/shop/sa/api\0", E::PathChar('\0')),
        ("spiffe://example.org/a\r\nx-id: b", E::PathChar('\r')),
        ("spiffe://example.org/a;b", E::PathChar(';')),
        ("spiffe://example.org/a,b", E::PathChar(',')),
        ("spiffe://example.org/*", E::PathChar('*')),
    ] {
        refused_by_rule(&mesh, &mesh.issuer.good(bad), SvidError::Id(expected));
    }
}

/// Row 63.
#[test]
fn a_leaf_that_may_do_more_or_less_than_sign_is_refused() {
    use KeyUsagePurpose as K;
    let mesh = Mesh::new();
    let ca = mesh.issuer.leaf(API, |p| p.is_ca = IsCa::Ca(BasicConstraints::Unconstrained));
    refused_by_rule(&mesh, &ca, SvidError::LeafIsCa);
    for (usages, expected) in [
        (vec![], SvidError::NoKeyUsage),
        (vec![K::KeyEncipherment], SvidError::NoDigitalSignature),
        (vec![K::DigitalSignature, K::KeyCertSign], SvidError::LeafSignsCertificates),
        (vec![K::DigitalSignature, K::CrlSign], SvidError::LeafSignsCrls),
    ] {
        refused_by_rule(&mesh, &mesh.issuer.leaf(API, |p| p.key_usages = usages), expected);
    }
    let not_critical = mesh.issuer.leaf(API, |p| {
        p.key_usages.clear();
        p.custom_extensions = vec![extension(15, false, &[0x03, 0x02, 0x07, 0x80])];
    });
    refused_by_rule(&mesh, &not_critical, SvidError::KeyUsageNotCritical);
}

/// RFC 5280 §4.2.1.6: with no subject, the SAN is the only name and must be understood.
#[test]
fn an_empty_subject_needs_a_critical_san() {
    let mesh = Mesh::new();
    let name = [&[0x86, API.len() as u8], API.as_bytes()].concat();
    let san = [&[0x30, name.len() as u8], name.as_slice()].concat();
    let make = |critical| {
        mesh.issuer.leaf(API, |p| {
            p.subject_alt_names.clear();
            p.custom_extensions = vec![extension(17, critical, &san)];
        })
    };
    refused_by_rule(&mesh, &make(false), SvidError::SanNotCritical);
    assert!(mesh.asking(&make(true)).established());
}

/// An extension that is there twice could be read in two ways.
#[test]
fn an_extension_that_is_there_twice_is_refused() {
    let mesh = Mesh::new();
    let twice = mesh.issuer.leaf(API, |p| {
        p.custom_extensions = vec![extension(15, true, &[0x03, 0x02, 0x07, 0x80])];
    });
    for error in mesh.refusals(&twice) {
        let VerifyError::Svid(SvidError::Malformed(_)) = rule(&error) else { panic!("{error:?}") };
    }
}

/// Row 64.
#[test]
fn a_leaf_is_used_only_on_the_sides_it_is_for() {
    use ExtendedKeyUsagePurpose as E;
    let mesh = Mesh::new();
    let only = |usage| mesh.issuer.leaf(API, |p| p.extended_key_usages = vec![usage]);
    let lacks = |side| VerifyError::from(SvidError::ExtendedKeyUsage(side));
    let client = only(E::ClientAuth);
    assert!(mesh.asked_by(&client).established());
    assert_eq!(rule(&mesh.asking(&client).client_error.unwrap()), lacks("serverAuth"));
    let server = only(E::ServerAuth);
    assert!(mesh.asking(&server).established());
    assert_eq!(rule(&mesh.asked_by(&server).server_error.unwrap()), lacks("clientAuth"));
    for neither in [E::CodeSigning, E::Any] {
        let [inward, outward] = mesh.refusals(&only(neither)).map(|error| rule(&error));
        assert_eq!((inward, outward), (lacks("clientAuth"), lacks("serverAuth")));
    }
}

/// Row 65.
#[test]
fn only_a_ca_signs() {
    let mesh = Mesh::new();
    refused_by_rule(&mesh, &mesh.web.sign(API), SvidError::IssuerNotCa(1));
    for usages in [vec![], vec![KeyUsagePurpose::CrlSign]] {
        let issuer = mesh.root.intermediate(|p| p.key_usages = usages);
        refused_by_rule(&mesh, &issuer.good(API), SvidError::IssuerMayNotSign(1));
    }
    let unlisted =
        Leaf { chain: [&mesh.api.chain[..], &mesh.web.chain[..1]].concat(), ..mesh.api.clone() };
    refused_by_rule(&mesh, &unlisted, SvidError::IssuerNotCa(2));
}

/// Row 65.
#[test]
fn an_issuer_that_is_bounded_stays_in_its_bounds() {
    let mesh = Mesh::new();
    let narrow = mesh.root.intermediate(|p| p.is_ca = IsCa::Ca(BasicConstraints::Constrained(0)));
    assert!(mesh.asking(&narrow.good(API)).established());
    refused_by_path(&mesh, &narrow.intermediate(|_| {}).good(API), "PathLenConstraintViolated");
    let server_only = |p: &mut rcgen::CertificateParams| {
        p.extended_key_usages = vec![ExtendedKeyUsagePurpose::CodeSigning];
    };
    let coder = mesh.root.intermediate(server_only);
    refused_by_path(&mesh, &coder.good(API), "InvalidPurpose");
    // Permitted: URIs of the host .example.org; webpki refuses every URI that is constrained.
    let host = b".example.org";
    let tree = [&[0x86, host.len() as u8][..], host].concat();
    let constraint = [&[0x30, 18, 0xa0, 16, 0x30, 14][..], &tree].concat();
    let constrained = mesh.root.intermediate(|p| {
        p.custom_extensions = vec![extension(30, true, &constraint)];
    });
    refused_by_path(&mesh, &constrained.good(API), "NameConstraintViolation");
}

/// Row 65.
#[test]
fn an_issuer_outside_of_its_life_is_refused() {
    let mesh = Mesh::new();
    let expired = mesh.root.intermediate(|p| p.not_after = from_now(-2));
    for error in mesh.refusals(&expired.good(API)) {
        assert!(matches!(failure(Some(&error)), HandshakeFailure::Expired(_)), "{error:?}");
    }
}

/// Row 66.
#[test]
fn a_giant_chain_or_identity_is_refused() {
    let mesh = Mesh::new();
    let chain = |issuers| Leaf {
        chain: [&mesh.api.chain[..1], &vec![mesh.issuer.der.clone(); issuers]].concat(),
        ..mesh.api.clone()
    };
    assert!(mesh.asking(&chain(7)).established());
    refused_by_rule(&mesh, &chain(8), VerifyError::ChainTooLong(9));
    for error in mesh.refusals(&chain(300)) {
        // rustls itself takes no certificate list of over 64 KiB.
        assert!(matches!(error, rustls::Error::InvalidMessage(_)), "{error:?}");
    }
    let long = mesh.issuer.good(&format!("spiffe://example.org/{}", "a".repeat(20_000)));
    refused_by_rule(&mesh, &long, SvidError::Id(SpiffeIdError::TooLong(20_021)));
}

/// Row 66: what is announced is not waited for.
#[test]
fn a_giant_handshake_is_refused_when_it_is_announced() {
    let mesh = Mesh::new();
    let mut server = rustls::ServerConnection::new(server_of(&mesh.api, &mesh)).unwrap();
    // A handshake record with the head of a ClientHello of 16 MiB less one byte.
    let announced = [0x16, 3, 1, 0, 4, 1, 0xff, 0xff, 0xff];
    server.read_tls(&mut announced.as_slice()).unwrap();
    let error = server.process_new_packets().unwrap_err();
    let expected = rustls::InvalidMessage::HandshakePayloadTooLarge;
    assert_eq!(error, rustls::Error::InvalidMessage(expected));
}

/// Row 67.
#[test]
fn a_certificate_without_its_key_is_refused() {
    let mesh = Mesh::new();
    let thief = mesh.api.clone().with_key_of(&mesh.web);
    refused_by_path(&mesh, &thief, "BadSignature");
}

/// Row 68.
#[test]
fn tls_before_1_3_is_refused() {
    let mesh = Mesh::new();
    let verifier = ServerVerifier::new(mesh.root.bundle(), id(API));
    let old = ClientConfig::builder_with_provider(Arc::new(
        rustls::crypto::aws_lc_rs::default_provider(),
    ))
    .with_protocol_versions(&[&rustls::version::TLS12])
    .unwrap()
    .dangerous()
    .with_custom_certificate_verifier(Arc::new(verifier))
    .with_client_cert_resolver(mesh.web.resolver());
    let pipe = Pipe::run(Arc::new(old), server_of(&mesh.api, &mesh));
    let alert = rustls::Error::AlertReceived(rustls::AlertDescription::ProtocolVersion);
    assert_eq!(pipe.client_error, Some(alert));
    assert!(matches!(pipe.server_error, Some(rustls::Error::PeerIncompatible(_))));
}

/// Row 74.
#[test]
fn a_server_of_another_identity_gets_no_byte_of_the_request() {
    let mesh = Mesh::new();
    for other in
        [WEB, "spiffe://example.org/ns/shop/sa/API", "spiffe://example.org/ns/shop/sa/api2"]
    {
        let mut pipe = mesh.asking(&mesh.issuer.good(other));
        let (expected, found) = (id(API), id(other));
        assert_eq!(pipe.client_failure(), HandshakeFailure::IdentityMismatch { expected, found });
        assert!(pipe.received().is_empty());
        assert!(matches!(pipe.server_error, Some(rustls::Error::AlertReceived(_))));
    }
}

/// Row 74: an identity that was not proved is never reported as found.
#[test]
fn an_expired_or_forged_leaf_of_another_identity_is_no_mismatch() {
    let mesh = Mesh::new();
    let expired = mesh.issuer.leaf(WEB, |p| p.not_after = from_now(-2));
    assert!(matches!(mesh.asking(&expired).client_failure(), HandshakeFailure::Expired(_)));
    let forged = Ca::root("mesh root").good(WEB);
    assert!(matches!(mesh.asking(&forged).client_failure(), HandshakeFailure::Untrusted(_)));
}
