//! Callers of the mesh port who must not be served, and those beside them who must: rows of the
//! catalogue of bad inputs. A refused caller gets an alert, and the application hears of nothing.

#![allow(clippy::unwrap_used, clippy::expect_used)] // a test says what is wrong by failing

mod control_plane;
mod support;

use std::io::{Read, Write};
use std::net::{IpAddr, Ipv4Addr, SocketAddr, TcpListener};
use std::sync::Arc;

use control_plane::ControlPlane;
use rcgen::{
    BasicConstraints, CertificateParams, DnType, ExtendedKeyUsagePurpose as Eku, IsCa,
    KeyUsagePurpose as Ku, SanType,
};
use rustls::client::Resumption;
use rustls::server::ServerSessionMemoryCache;
use rustls::{
    AlertDescription as Alert, ClientConnection, HandshakeKind, ServerConfig, ServerConnection,
    Stream,
};
use support::caller::{self, Caller, Refused};
use support::mint::{Ca, Leaf, WEB, extension, from_now, uri};
use support::origin::Origin;
use support::{PATIENCE, Sidecar, raw};

/// The case whose certificates do not fit into a handshake.
const GIANT: &str = "300 certificates";

type Case = (u8, String, Option<Leaf>);

fn case(row: u8, what: impl Into<String>, leaf: Leaf) -> Case {
    (row, what.into(), Some(leaf))
}

/// Rows 56 to 58: who signed, when, and for which trust domain.
fn strangers(mesh: &Ca) -> Vec<Case> {
    let other = Ca::root("other");
    let expired = |seconds| mesh.leaf(WEB, |p| p.not_after = from_now(seconds));
    let mut cases = vec![
        (56, "no certificate".into(), None),
        case(56, "self-signed", Leaf::self_signed(WEB)),
        case(56, "another authority", other.good(WEB)),
        case(56, "another authority's intermediate", other.intermediate(|_| {}).good(WEB)),
        case(56, "an authority of the same name", mesh.namesake().good(WEB)),
        case(57, "expired for an hour", expired(-3600)),
        case(57, "expired for 2 s", expired(-2)),
        case(57, "not yet valid", mesh.leaf(WEB, |p| p.not_before = from_now(60))),
    ];
    let domains =
        ["other.org", "cluster.local.evil.com", "evil-cluster.local", "cluster.loca", "local"];
    cases.extend(
        domains.map(|domain| {
            case(58, domain, mesh.good(&format!("spiffe://{domain}/ns/shop/sa/web")))
        }),
    );
    cases
}

/// Rows 59 to 62: whom the certificate names.
fn nobodies(mesh: &Ca) -> Vec<Case> {
    let dns = || SanType::DnsName("web.shop".try_into().unwrap());
    let ip = || SanType::IpAddress(IpAddr::V4(Ipv4Addr::LOCALHOST));
    let named = |sans| mesh.leaf(WEB, |p| p.subject_alt_names = sans);
    let other = "spiffe://cluster.local/ns/shop/sa/other";
    let mut cases = vec![
        case(59, "DNS only", named(vec![dns()])),
        case(59, "IP only", named(vec![ip()])),
        case(59, "DNS and IP", named(vec![dns(), ip()])),
        case(59, "CN only", mesh.leaf(WEB, common_name_only)),
        case(60, "two URIs", named(vec![uri(WEB), uri(other)])),
        case(60, "two URIs, the other way", named(vec![uri(other), uri(WEB)])),
        case(60, "the same URI twice", named(vec![uri(WEB), uri(WEB)])),
        case(60, "a URI of another scheme beside", named(vec![uri(WEB), uri("https://a")])),
    ];
    let bad = |row: u8, texts: &[&str]| -> Vec<Case> {
        texts
            .iter()
            .map(|text| case(row, text.escape_debug().to_string(), mesh.good(text)))
            .collect()
    };
    cases.extend(bad(61, &BAD_IDS));
    cases.extend(bad(62, &BAD_CHARACTERS));
    let long = |length: usize| format!("spiffe://cluster.local/{}", "a".repeat(length));
    cases.push(case(61, "2049 bytes", mesh.good(&long(2049 - 23))));
    cases.push(case(66, "20 KB", mesh.good(&long(20_000))));
    cases
}

fn common_name_only(params: &mut CertificateParams) {
    params.subject_alt_names.clear();
    params.distinguished_name.push(DnType::CommonName, WEB);
}

const BAD_IDS: [&str; 15] = [
    "https://cluster.local/ns/shop/sa/web",
    "//cluster.local/ns/shop/sa/web",
    "spiffe:///ns/shop/sa/web",
    "spiffe://cluster.local",
    "spiffe://cluster.local/",
    "spiffe://cluster.local/ns/shop/sa/web/",
    "spiffe://cluster.local/ns//sa/web",
    "spiffe://cluster.local/ns/./sa/web",
    "spiffe://cluster.local/ns/shop/../sa/web",
    "spiffe://cluster.local/ns/shop/sa/%77eb",
    "spiffe://clust%65r.local/ns/shop/sa/web",
    "spiffe://root@cluster.local/ns/shop/sa/web",
    "spiffe://cluster.local:443/ns/shop/sa/web",
    "spiffe://cluster.local/ns/shop/sa/web?x",
    "spiffe://cluster.local/ns/shop/sa/web#x",
];

const BAD_CHARACTERS: [&str; 9] = [
    "spiffe://cluster.local/ns/shop/sa/web\0",
    "spiffe://cluster.local\0.evil.com/ns/shop/sa/web",
    "spiffe://cluster.local/ns/shop/sa/web\r\nx-pillion-peer: evil",
    "spiffe://cluster.local/ns/shop/sa/web\n",
    "spiffe://cluster.local/ns/shop/sa/web;a",
    "spiffe://cluster.local/ns/shop/sa/web,a",
    "spiffe://cluster.local/ns/shop/sa/*",
    "spiffe://cluster.local/ns/shop/sa/w b",
    "spiffe://*/ns/shop/sa/web",
];

/// Rows 63 to 67: what the certificate may be used for, who may sign, and whose key it is.
fn misusers(mesh: &Ca, root: &Ca) -> Vec<Case> {
    let leaf = |change: &dyn Fn(&mut CertificateParams)| mesh.leaf(WEB, |p| change(p));
    let usages = |usages: Vec<Ku>| mesh.leaf(WEB, |p| p.key_usages = usages);
    let extended = |usage| mesh.leaf(WEB, |p| p.extended_key_usages = vec![usage]);
    let between = |change: &dyn Fn(&mut CertificateParams)| root.intermediate(|p| change(p));
    let good = mesh.good(WEB);
    vec![
        case(63, "CA:true", leaf(&|p| p.is_ca = IsCa::Ca(BasicConstraints::Unconstrained))),
        case(63, "no key usage", usages(vec![])),
        case(63, "no digitalSignature", usages(vec![Ku::KeyEncipherment])),
        case(63, "keyCertSign", usages(vec![Ku::DigitalSignature, Ku::KeyCertSign])),
        case(63, "cRLSign", usages(vec![Ku::DigitalSignature, Ku::CrlSign])),
        case(
            63,
            "key usage not critical",
            leaf(&|p| {
                p.key_usages.clear();
                p.custom_extensions = vec![extension(15, false, &[3, 2, 7, 0x80])];
            }),
        ),
        case(63, "the issuer itself", mesh.itself()),
        case(64, "serverAuth only", extended(Eku::ServerAuth)),
        case(64, "codeSigning only", extended(Eku::CodeSigning)),
        case(64, "any usage", extended(Eku::Any)),
        case(65, "a leaf signed by a leaf", good.sign(WEB)),
        case(65, "an issuer below pathLen 0", mesh.intermediate(|_| {}).good(WEB)),
        case(65, "an issuer that is no CA", between(&|p| p.is_ca = IsCa::ExplicitNoCa).good(WEB)),
        case(65, "an issuer without keyCertSign", between(&|p| p.key_usages.clear()).good(WEB)),
        case(65, "an expired intermediate", between(&|p| p.not_after = from_now(-2)).good(WEB)),
        case(65, "an issuer of constrained names", between(&constrain).good(WEB)),
        case(66, "9 certificates", good.clone().repeating(8)),
        case(66, GIANT, good.clone().repeating(299)),
        case(67, "another's key", good.with_key_of(&mesh.good(WEB))),
    ]
}

/// Permitted: URIs of the host .cluster.local. X.509 has no constraint for an identity's path,
/// and the verifier takes none at all.
fn constrain(params: &mut CertificateParams) {
    let host = b".cluster.local";
    let tree = [&[0x86, host.len() as u8][..], host].concat();
    let permitted = [&[0x30, 20, 0xa0, 18, 0x30, 16][..], &tree].concat();
    params.custom_extensions = vec![extension(30, true, &permitted)];
}

/// Those who break rules that some hold and others not.
fn good(mesh: &Ca, root: &Ca) -> Vec<(&'static str, Leaf)> {
    let dns = || SanType::DnsName("web.shop".try_into().unwrap());
    let client = |p: &mut CertificateParams| p.extended_key_usages = vec![Eku::ClientAuth];
    vec![
        ("as the control plane signs", mesh.good(WEB)),
        ("signed by the root", root.good(WEB)),
        ("clientAuth only", mesh.leaf(WEB, client)),
        ("no extended usage", mesh.leaf(WEB, |p| p.extended_key_usages.clear())),
        ("DNS beside the URI", mesh.leaf(WEB, |p| p.subject_alt_names.push(dns()))),
        ("8 certificates", mesh.good(WEB).repeating(7)),
    ]
}

#[test]
fn who_is_not_believed_gets_an_alert_and_reaches_nobody() {
    let mut control_plane = ControlPlane::start();
    let origin = Origin::friendly([127, 12, 30, 2]);
    let (sidecar, _stream) = Sidecar::before(&mut control_plane, &origin);
    let (mesh, root) = (Ca::of(&control_plane), Ca::root_of(&control_plane));
    let port = origin.address.port();
    let beside = Caller::connect(sidecar.mesh(), caller::config(Some(&mesh.good(WEB)))).unwrap();
    let cases = [strangers(&mesh), nobodies(&mesh), misusers(&mesh, &root)].concat();
    for (row, what, leaf) in cases {
        let what = format!("row {row}, {what}");
        match caller::verdict(sidecar.mesh(), caller::config(leaf.as_ref())) {
            Err(Refused::Alert(alert)) => assert_ne!(alert, Alert::InternalError, "{what}"),
            // Closed with bytes unread, a connection loses the alert on its way.
            Err(Refused::Closed(_)) if what.ends_with(GIANT) => {}
            other => panic!("{what}: {other:?}"),
        }
        // One who sends before the verdict has come is not served either.
        let hasty = Caller::connect(sidecar.mesh(), caller::config(leaf.as_ref()));
        let hasty = hasty.and_then(|caller| caller.send(caller::get(port)));
        assert!(hasty.is_err(), "{what}: {hasty:?}");
        assert_eq!(origin.connections(), 0, "{what}");
    }
    let answer = beside.send(caller::get(port)).unwrap();
    assert_eq!((answer.status.as_u16(), answer.body.as_str()), (200, "ok"));
}

#[test]
fn who_is_believed_is_served_under_the_name_that_was_proved() {
    let mut control_plane = ControlPlane::start();
    let origin = Origin::friendly([127, 12, 31, 2]);
    let (sidecar, _stream) = Sidecar::before(&mut control_plane, &origin);
    let (mesh, root) = (Ca::of(&control_plane), Ca::root_of(&control_plane));
    for (what, leaf) in good(&mesh, &root) {
        let caller = Caller::connect(sidecar.mesh(), caller::config(Some(&leaf))).unwrap();
        let answer = caller.send(caller::get(origin.address.port())).unwrap();
        assert_eq!((answer.status.as_u16(), answer.body.as_str()), (200, "ok"), "{what}");
        let seen = origin.take_text();
        assert!(seen.contains(&format!("x-pillion-peer: {WEB}\r\n")), "{what}: {seen}");
    }
}

#[test]
fn who_does_not_ask_for_http2_is_not_served() {
    let mut control_plane = ControlPlane::start();
    let origin = Origin::friendly([127, 12, 39, 2]);
    let (sidecar, _stream) = Sidecar::before(&mut control_plane, &origin);
    let leaf = Ca::of(&control_plane).good(WEB);
    let verdict = |alpn: &[&str]| {
        let mut config = caller::config(Some(&leaf));
        config.alpn_protocols = alpn.iter().map(|name| name.as_bytes().to_vec()).collect();
        caller::verdict(sidecar.mesh(), config)
    };
    for alpn in [&["http/1.1"][..], &["h3"], &["H2"], &["istio", "http/1.1"]] {
        let refused = Err(Refused::Alert(Alert::NoApplicationProtocol));
        assert_eq!(verdict(alpn), refused, "{alpn:?}");
    }
    assert!(matches!(verdict(&[]), Err(Refused::Closed(_))), "rustls has no alert for it");
    assert_eq!(verdict(&["http/1.1", "h2"]), Ok(()));
    assert_eq!(origin.connections(), 0);
}

/// Row 66: neither a long chain nor a long name costs much to refuse.
#[test]
fn giants_are_refused_at_little_cost() {
    let mut control_plane = ControlPlane::start();
    let origin = Origin::friendly([127, 12, 32, 2]);
    let (sidecar, _stream) = Sidecar::before(&mut control_plane, &origin);
    let mesh = Ca::of(&control_plane);
    let giants = [
        mesh.good(WEB).repeating(299),
        mesh.good(WEB).repeating(60),
        mesh.good(&format!("spiffe://cluster.local/{}", "a".repeat(20_000))),
    ];
    let before = sidecar.cpu_ticks();
    for giant in giants.iter().cycle().take(30) {
        assert!(caller::verdict(sidecar.mesh(), caller::config(Some(giant))).is_err());
    }
    let ticks = sidecar.cpu_ticks() - before;
    assert!(ticks <= 150, "{ticks} ticks for 30 handshakes are more than 50 ms for each");
}

/// Rows 70 and 71: a caller that was given tickets and a right to early data elsewhere.
#[test]
fn sessions_are_neither_resumed_nor_begun_early_nor_given() {
    let mut control_plane = ControlPlane::start();
    let origin = Origin::friendly([127, 12, 33, 2]);
    let (sidecar, _stream) = Sidecar::before(&mut control_plane, &origin);
    let mesh = Ca::of(&control_plane);
    let mut eager = caller::config(Some(&mesh.good(WEB)));
    eager.resumption = Resumption::in_memory_sessions(32);
    eager.enable_early_data = true;
    let eager = Arc::new(eager);
    let generous = generous(&mesh);
    let visit = |to: SocketAddr, early: &[u8]| {
        let mut client = ClientConnection::new(Arc::clone(&eager), certs::server_name()).unwrap();
        let sent_early = match client.early_data() {
            Some(mut sender) => sender.write(early).unwrap() > 0,
            None => false,
        };
        let mut socket = raw::connect(to);
        socket.set_read_timeout(Some(PATIENCE)).unwrap();
        Stream::new(&mut client, &mut socket).read_exact(&mut [0]).unwrap();
        (sent_early, client)
    };
    let (early, first) = visit(generous, b"");
    assert!(!early && first.tls13_tickets_received() > 0);
    let (early, again) = visit(generous, b"GET");
    assert!(early && again.is_early_data_accepted(), "the generous server shows that it works");
    assert_eq!(again.handshake_kind(), Some(HandshakeKind::Resumed));
    for _ in 0..2 {
        let (early, ours) = visit(sidecar.mesh(), b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n");
        assert!(early, "it was tried");
        assert!(!ours.is_early_data_accepted(), "row 71");
        assert_eq!(ours.handshake_kind(), Some(HandshakeKind::Full), "row 70");
        assert_eq!(ours.tls13_tickets_received(), 0, "row 70");
    }
    assert_eq!(origin.connections(), 0);
}

/// A server that lets its clients resume and send early data, and says one byte.
fn generous(mesh: &Ca) -> SocketAddr {
    let mut config = ServerConfig::builder_with_provider(certs::provider())
        .with_protocol_versions(&[&rustls::version::TLS13])
        .unwrap()
        .with_no_client_auth()
        .with_cert_resolver(mesh.good(WEB).resolver());
    config.alpn_protocols = vec![b"h2".to_vec()];
    config.session_storage = ServerSessionMemoryCache::new(32);
    config.send_tls13_tickets = 8;
    config.max_early_data_size = 1024;
    let (config, listener) = (Arc::new(config), TcpListener::bind("127.12.33.3:0").unwrap());
    let address = listener.local_addr().unwrap();
    std::thread::spawn(move || {
        for socket in listener.incoming() {
            let mut socket = socket.unwrap();
            let mut server = ServerConnection::new(Arc::clone(&config)).unwrap();
            let mut stream = Stream::new(&mut server, &mut socket);
            stream.write_all(b"x").unwrap();
            stream.flush().unwrap();
            let _ = stream.read(&mut [0]);
        }
    });
    address
}
