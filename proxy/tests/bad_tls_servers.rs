//! Servers that a sidecar must not send to: rows 74 and 75 of the catalogue of bad inputs. The
//! request gets 503 with the code that says why, and not one byte of it leaves.

#![allow(clippy::unwrap_used, clippy::expect_used)] // a test says what is wrong by failing

mod control_plane;
mod support;

use std::io::Write;
use std::sync::Arc;

use control_plane::{ControlPlane, Stream};
use model::service::{MeshPeer, MeshProtocol};
use rcgen::{BasicConstraints, ExtendedKeyUsagePurpose as Eku, IsCa, KeyUsagePurpose as Ku};
use support::impostor::{self, Impostor, Manner};
use support::mint::{Ca, Leaf, WEB, from_now, uri};
use support::{Sidecar, endpoint, eventually, raw, service};

/// Whom the control plane names at the endpoint.
const API: &str = "spiffe://cluster.local/ns/shop/sa/api";

const HANDSHAKE: &str = "tls_handshake_failed";
const IDENTITY: &str = "tls_peer_identity_mismatch";
const EXPIRED: &str = "tls_cert_expired";

/// A client's sidecar and the stream that tells it where `api` is.
struct Client {
    control_plane: ControlPlane,
    sidecar: Sidecar,
    stream: Stream,
}

impl Client {
    fn start(address: [u8; 4]) -> Self {
        let mut control_plane = ControlPlane::start();
        let sidecar = Sidecar::start(&control_plane, address, &[]);
        let mut stream = control_plane.accept();
        stream.update(vec![], vec![]);
        sidecar.wait_until_ready();
        Self { control_plane, sidecar, stream }
    }

    /// This is what the mesh port of the only endpoint of `api` leads to.
    fn endpoint(&mut self, at: &Impostor) {
        let peer = MeshPeer {
            port: at.address.port(),
            identity: API.parse().unwrap(),
            protocol: MeshProtocol::default(),
        };
        let api = service("shop/api", vec![endpoint(at.address, Some(peer))]);
        self.stream.update(vec![api], vec![]);
        self.stream.acknowledged();
    }

    /// What a request for `api` is answered with when this is its endpoint.
    fn ask(&mut self, at: &Impostor) -> String {
        self.endpoint(at);
        self.sidecar.get("http://api/")
    }
}

#[track_caller]
fn refused(what: &str, answer: &str, code: &str) {
    assert!(answer.starts_with("HTTP/1.1 503 "), "{what}: {answer}");
    assert!(answer.contains(&format!("x-pillion-error: {code}\r\n")), "{what}: {answer}");
}

/// Row 74: who shows what, and the code that says so.
fn unproved(mesh: &Ca) -> Vec<(&'static str, Leaf, &'static str)> {
    let dns = || rcgen::SanType::DnsName("api.shop".try_into().unwrap());
    let named = |sans| mesh.leaf(API, |p| p.subject_alt_names = sans);
    let extended = |usage| mesh.leaf(API, |p| p.extended_key_usages = vec![usage]);
    let other = |id: &str| mesh.good(id);
    vec![
        ("another workload", other(WEB), IDENTITY),
        ("another case", other("spiffe://cluster.local/ns/shop/sa/API"), IDENTITY),
        ("a longer name", other("spiffe://cluster.local/ns/shop/sa/api2"), IDENTITY),
        ("another namespace", other("spiffe://cluster.local/ns/shop2/sa/api"), IDENTITY),
        ("another trust domain", other("spiffe://cluster.local.evil/ns/shop/sa/api"), HANDSHAKE),
        ("no URI", named(vec![dns()]), HANDSHAKE),
        ("two URIs", named(vec![uri(API), uri(WEB)]), HANDSHAKE),
        ("two URIs, the other way", named(vec![uri(WEB), uri(API)]), HANDSHAKE),
        ("a trailing slash", other("spiffe://cluster.local/ns/shop/sa/api/"), HANDSHAKE),
        (
            "CA:true",
            mesh.leaf(API, |p| p.is_ca = IsCa::Ca(BasicConstraints::Unconstrained)),
            HANDSHAKE,
        ),
        ("no key usage", mesh.leaf(API, |p| p.key_usages = vec![Ku::KeyAgreement]), HANDSHAKE),
        ("clientAuth only", extended(Eku::ClientAuth), HANDSHAKE),
        ("expired", mesh.leaf(API, |p| p.not_after = from_now(-2)), EXPIRED),
        ("not yet valid", mesh.leaf(API, |p| p.not_before = from_now(60)), EXPIRED),
        ("self-signed", Leaf::self_signed(API), HANDSHAKE),
        ("another authority", Ca::root("other").good(API), HANDSHAKE),
        ("an authority of the same name", mesh.namesake().good(API), HANDSHAKE),
        ("another's key", other(API).with_key_of(&other(API)), HANDSHAKE),
        ("9 certificates", other(API).repeating(8), HANDSHAKE),
    ]
}

#[test]
fn a_server_that_does_not_prove_who_it_is_gets_no_byte_of_a_request() {
    let mut client = Client::start([127, 12, 40, 3]);
    let mesh = Ca::of(&client.control_plane);
    for (what, leaf, code) in unproved(&mesh) {
        let manner = Manner::Tls(Arc::new(impostor::config(&leaf)));
        let impostor = Impostor::start([127, 12, 40, 2], manner);
        refused(what, &client.ask(&impostor), code);
        let heard = impostor.heard();
        assert!(heard.connections > 0, "{what}");
        assert!(heard.bytes.is_empty(), "{what}: {}", heard.bytes.escape_ascii());
    }
    // The same server, with a certificate that is right: now it is sent to.
    let honest = Manner::Tls(Arc::new(impostor::config(&mesh.good(API))));
    let honest = Impostor::start([127, 12, 40, 2], honest);
    client.endpoint(&honest);
    let mut socket = raw::connect(client.sidecar.outbound());
    socket.write_all(raw::get("").as_bytes()).unwrap();
    eventually("the request is sent", || is_http2(&honest.heard().bytes));
}

/// In TLS 1.3 a client has finished the handshake before the server refuses its certificate.
#[test]
fn a_server_that_refuses_our_certificate_gets_no_byte_of_a_request_whatever_its_method() {
    let mut client = Client::start([127, 12, 42, 3]);
    let mesh = Ca::of(&client.control_plane);
    let manner = Manner::Tls(Arc::new(impostor::refusing(&mesh.good(API))));
    let impostor = Impostor::start([127, 12, 42, 2], manner);
    client.endpoint(&impostor);
    for method in ["GET", "POST"] {
        let before = impostor.heard().connections;
        let sent = format!("{method} / HTTP/1.1\r\nhost: api\r\nconnection: close\r\n\r\n");
        let answer = raw::send(client.sidecar.outbound(), sent.as_bytes());
        refused(method, &answer.text(), HANDSHAKE);
        assert!(impostor.heard().connections > before + 1, "{method} is safe to send again");
    }
    assert!(impostor.heard().bytes.is_empty(), "{}", impostor.heard().bytes.escape_ascii());
}

/// Whether this is what comes first when a request is sent (RFC 9113 §3.4).
fn is_http2(bytes: &[u8]) -> bool {
    bytes.starts_with(b"PRI * HTTP/2.0\r\n")
}

/// Row 75.
#[test]
fn a_server_that_speaks_no_tls_1_3_gets_no_byte_of_a_request() {
    let mut client = Client::start([127, 12, 41, 3]);
    let leaf = Ca::of(&client.control_plane).good(API);
    let all = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let old = impostor::speaking(&leaf, all, &[&rustls::version::TLS12]);
    let mut silent_in_alpn = impostor::config(&leaf);
    silent_in_alpn.alpn_protocols.clear();
    let mut http1 = impostor::config(&leaf);
    http1.alpn_protocols = vec![b"http/1.1".to_vec()];
    let http = b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok";
    // A ServerHello of TLS 1.2 that ends in the middle.
    let half = b"\x16\x03\x03\x00\x31\x02\x00\x00\x2d\x03\x03\0\0\0\0";
    for (what, manner) in [
        ("HTTP/1", Manner::Bytes(http)),
        ("HTTP/2", Manner::Bytes(b"\0\0\0\x04\0\0\0\0\0")),
        ("garbage", Manner::Bytes(&[0xa5; 4096])),
        ("zeros", Manner::Bytes(&[0; 4096])),
        ("half a hello", Manner::Bytes(half)),
        ("16 MiB announced", Manner::Bytes(b"\x16\x03\x03\x00\x04\x02\xff\xff\xff")),
        ("an alert", Manner::Bytes(b"\x15\x03\x03\x00\x02\x02\x28")),
        ("silence", Manner::Silence),
        ("the end", Manner::Close),
        ("TLS 1.2", Manner::Tls(Arc::new(old))),
        ("no ALPN", Manner::Tls(Arc::new(silent_in_alpn))),
        ("another ALPN", Manner::Tls(Arc::new(http1))),
    ] {
        let impostor = Impostor::start([127, 12, 41, 2], manner);
        refused(what, &client.ask(&impostor), HANDSHAKE);
        let heard = impostor.heard();
        assert!(heard.connections > 0, "{what}");
        let sent = heard.bytes.escape_ascii().to_string();
        assert!(!sent.contains("HTTP"), "{what}: {sent}");
    }
}
