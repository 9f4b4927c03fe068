//! What must succeed, and what an established connection may not remember.

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use rustls::client::Resumption;
use rustls::{HandshakeKind, NamedGroup, ProtocolVersion};

use super::pipe::Pipe;
use crate::authority::Authority;
use crate::bundle::{Roots, TrustBundle};
use crate::failure::HandshakeFailure;
use crate::fingerprint::Fingerprint;
use crate::fixtures::{Ca, WEB, domain, id};
use crate::identity::{
    ClientAuth, Identity, IdentityError, bundle_client_config, pinned_client_config,
};
use crate::key::LeafKey;
use crate::peer::peer_identity;
use crate::verify::VerifyError;

const HOUR: Duration = Duration::from_secs(3600);
const H2: &[&[u8]] = &[b"h2"];

fn authority() -> Authority {
    let dir = tempfile::tempdir().unwrap();
    Authority::open_or_create(dir.path(), &domain("example.org"), SystemTime::now()).unwrap()
}

fn issue_with(authority: &Authority, text: &str, bundle: TrustBundle) -> Identity {
    let key = LeafKey::generate().unwrap();
    let csr = key.csr(None).unwrap();
    let signed = authority.sign(&csr, &id(text), HOUR, SystemTime::now()).unwrap();
    Identity::new(&key, signed.chain, bundle).unwrap()
}

fn issue(authority: &Authority, text: &str) -> Identity {
    issue_with(authority, text, authority.bundle())
}

const API: &str = crate::fixtures::API;

#[test]
fn two_identities_of_one_authority_know_each_other() {
    let authority = authority();
    let (web, api) = (issue(&authority, WEB), issue(&authority, API));
    let client = web.client_config(id(API), H2);
    let mut pipe = Pipe::run(client, api.server_config(H2, ClientAuth::Required));
    assert!(pipe.established(), "{:?} {:?}", pipe.client_error, pipe.server_error);
    assert_eq!(pipe.received(), b"request");
    assert_eq!(pipe.server.alpn_protocol(), Some(&b"h2"[..]));
    assert_eq!(pipe.server.protocol_version(), Some(ProtocolVersion::TLSv1_3));
    let group = pipe.client.negotiated_key_exchange_group().unwrap().name();
    assert_eq!(group, NamedGroup::X25519MLKEM768);
    assert_eq!(peer_identity(pipe.server.peer_certificates().unwrap()), Some(id(WEB)));
    assert_eq!(peer_identity(pipe.client.peer_certificates().unwrap()), Some(id(API)));
    assert_eq!(peer_identity(&[]), None);
}

#[test]
fn no_session_is_kept_on_either_side() {
    let authority = authority();
    let (web, api) = (issue(&authority, WEB), issue(&authority, API));
    let server = api.server_config(H2, ClientAuth::Required);
    assert_eq!((server.send_tls13_tickets, server.max_early_data_size), (0, 0));
    assert!(!server.ticketer.enabled() && !server.session_storage.can_cache());
    assert!(!server.key_log.will_log("CLIENT_RANDOM"));
    let bare = bundle_client_config(authority.bundle(), id(API), H2);
    assert!(!bare.enable_early_data && !bare.enable_sni);
    let ours = web.client_config(id(API), H2);
    assert!(!ours.enable_early_data && !ours.enable_sni && !ours.key_log.will_log("any"));
    // A client that would like to resume finds nothing to resume with, and no early data.
    let mut eager = ours.as_ref().clone();
    eager.resumption = Resumption::in_memory_sessions(8);
    eager.enable_early_data = true;
    let eager = Arc::new(eager);
    for _ in 0..2 {
        let mut pipe = Pipe::run(eager.clone(), server.clone());
        assert!(pipe.established());
        assert_eq!(pipe.client.handshake_kind(), Some(HandshakeKind::Full));
        let rustls::Connection::Client(client) = &mut pipe.client else { unreachable!() };
        assert_eq!(client.tls13_tickets_received(), 0);
        assert!(client.early_data().is_none() && !client.is_early_data_accepted());
    }
}

#[test]
fn a_client_resumes_nothing_even_where_the_server_would() {
    let authority = authority();
    let (web, api) = (issue(&authority, WEB), issue(&authority, API));
    let mut generous = api.server_config(H2, ClientAuth::Required).as_ref().clone();
    generous.session_storage = rustls::server::ServerSessionMemoryCache::new(8);
    generous.send_tls13_tickets = 2;
    let (client, server) = (web.client_config(id(API), H2), Arc::new(generous));
    for _ in 0..2 {
        let pipe = Pipe::run(client.clone(), server.clone());
        assert_eq!(pipe.client.handshake_kind(), Some(HandshakeKind::Full));
    }
}

#[test]
fn of_another_alpn_the_server_wants_nothing() {
    let authority = authority();
    let (web, api) = (issue(&authority, WEB), issue(&authority, API));
    let client = web.client_config(id(API), &[b"http/1.1"]);
    let pipe = Pipe::run(client, api.server_config(H2, ClientAuth::Required));
    assert_eq!(pipe.server_error, Some(rustls::Error::NoApplicationProtocol));
}

#[test]
fn a_client_without_certificate_comes_in_only_where_it_is_optional() {
    let authority = authority();
    let api = issue(&authority, API);
    let root = Fingerprint::of(&authority.roots()[0]);
    let bare = pinned_client_config(root, id(API), H2);
    let pipe = Pipe::run(bare, api.server_config(H2, ClientAuth::Required));
    // The leaf and issuer that a sidecar shows lack the root, so the pin is not found there.
    assert!(matches!(pipe.client_failure(), HandshakeFailure::Untrusted(_)));
    let control = authority.issue_self(HOUR, SystemTime::now()).unwrap();
    let bare = pinned_client_config(root, control.id().clone(), H2);
    let pipe = Pipe::run(bare.clone(), control.server_config(H2, ClientAuth::Required));
    assert_eq!(pipe.server_error, Some(rustls::Error::NoCertificatesPresented));
    let pipe = Pipe::run(bare, control.server_config(H2, ClientAuth::Optional));
    assert!(pipe.established() && pipe.server.peer_certificates().is_none());
}

#[test]
fn the_first_contact_finds_the_pinned_root_and_then_the_identity() {
    let authority = authority();
    let control = authority.issue_self(HOUR, SystemTime::now()).unwrap();
    assert_eq!(control.chain().len(), 3);
    let server = control.server_config(H2, ClientAuth::Optional);
    let root = Fingerprint::of(&authority.roots()[0]);
    let other = Fingerprint::of(b"another root");
    let run =
        |pin, expect: &str| Pipe::run(pinned_client_config(pin, id(expect), H2), server.clone());
    assert!(run(root, control.id().as_str()).established());
    let failure = run(other, control.id().as_str()).client_failure();
    let reason = VerifyError::PinNotFound(other).to_string();
    assert_eq!(failure, HandshakeFailure::Untrusted(reason));
    let failure = run(root, API).client_failure();
    let found = control.id().clone();
    assert_eq!(failure, HandshakeFailure::IdentityMismatch { expected: id(API), found });
}

#[test]
fn a_later_contact_without_certificate_goes_by_the_bundle() {
    let (authority, other) = (authority(), authority());
    let control = authority.issue_self(HOUR, SystemTime::now()).unwrap();
    let server = control.server_config(H2, ClientAuth::Optional);
    let run = |bundle, expect: &str| {
        Pipe::run(bundle_client_config(bundle, id(expect), H2), server.clone())
    };
    assert!(run(authority.bundle(), control.id().as_str()).established());
    let stranger = run(other.bundle(), control.id().as_str()).client_failure();
    assert!(matches!(stranger, HandshakeFailure::Untrusted(_)), "{stranger}");
    let wrong = run(authority.bundle(), API).client_failure();
    assert!(matches!(wrong, HandshakeFailure::IdentityMismatch { .. }), "{wrong}");
}

#[test]
fn a_pinned_root_does_not_vouch_for_a_chain_of_another() {
    let (ours, evil) = (authority(), Ca::root("evil"));
    let expected = "spiffe://example.org/ns/pillion/sa/control-plane";
    let mut leaf = evil.good(expected);
    leaf.chain.push(ours.roots()[0].clone());
    let server = rustls::ServerConfig::builder_with_provider(crate::provider())
        .with_protocol_versions(&[&rustls::version::TLS13])
        .unwrap()
        .with_no_client_auth()
        .with_cert_resolver(leaf.resolver());
    let pin = Fingerprint::of(&ours.roots()[0]);
    let pipe = Pipe::run(pinned_client_config(pin, id(expected), &[]), Arc::new(server));
    let error = pipe.client_error.unwrap();
    assert_eq!(error, rustls::CertificateError::UnknownIssuer.into());
}

#[test]
fn a_root_is_replaced_without_a_failed_handshake() {
    let (old, new) = (authority(), authority());
    let both = [old.roots(), new.roots()].concat();
    let both = TrustBundle::of(domain("example.org"), Roots::from_ders(both).unwrap());
    let handshake = |client: &Identity, server: &Identity| {
        let config = client.client_config(id(API), H2);
        Pipe::run(config, server.server_config(H2, ClientAuth::Required)).established()
    };
    let api = issue(&old, API);
    let (api_both, web_both) = (api.with_bundle(both.clone()), issue_with(&old, WEB, both.clone()));
    assert!(handshake(&web_both, &api), "the client knows both roots, the server the old one");
    let (web_new, api_new) = (issue_with(&new, WEB, both.clone()), issue_with(&new, API, both));
    assert!(handshake(&web_new, &api_both), "the client has the new root's leaf already");
    assert!(handshake(&web_both, &api_new));
    let (web_end, api_end) = (web_new.with_bundle(new.bundle()), api_new.with_bundle(new.bundle()));
    assert!(handshake(&web_end, &api_end));
    assert!(!handshake(&web_both, &api_end), "the old root is removed");
    assert!(!handshake(&web_end, &api_both), "the old root is removed");
    // Who still has a leaf of the removed root believes it no more, and knows to renew.
    let late = api_both.with_bundle(new.bundle());
    assert!(api_both.is_trusted() && api_end.is_trusted() && !late.is_trusted());
    assert!(!handshake(&web_both, &late) && !handshake(&late, &api_both));
}

#[test]
fn a_chain_that_its_own_bundle_does_not_believe_makes_no_identity() {
    let (ours, other) = (authority(), authority());
    let key = LeafKey::generate().unwrap();
    let csr = key.csr(None).unwrap();
    let chain = ours.sign(&csr, &id(API), HOUR, SystemTime::now()).unwrap().chain;
    let make = |key: &LeafKey, chain: &[_], bundle| Identity::new(key, chain.to_vec(), bundle);
    assert!(make(&key, &chain, ours.bundle()).is_ok());
    let refused = make(&key, &chain, other.bundle()).unwrap_err();
    assert!(matches!(refused, IdentityError::Chain { .. }), "{refused}");
    let refused = make(&key, &chain, TrustBundle::default()).unwrap_err();
    assert!(refused.to_string().contains("no trust bundle"), "{refused}");
    let refused = make(&key, &chain[..1], ours.bundle()).unwrap_err();
    assert!(matches!(refused, IdentityError::Chain { .. }), "{refused}");
    let refused = make(&LeafKey::generate().unwrap(), &chain, ours.bundle()).unwrap_err();
    assert!(matches!(refused, IdentityError::ForeignKey(_)), "{refused}");
    let refused = make(&key, &[], ours.bundle()).unwrap_err();
    assert!(matches!(refused, IdentityError::EmptyChain), "{refused}");
    let refused = make(&key, &ours.roots()[..1], ours.bundle()).unwrap_err();
    assert!(matches!(refused, IdentityError::Leaf(_)), "{refused}");
}

#[test]
fn a_client_config_for_each_endpoint_shares_what_is_dear() {
    let authority = authority();
    let web = issue(&authority, WEB);
    let (a, b) = (web.client_config(id(API), H2), web.client_config(id(WEB), H2));
    assert!(Arc::ptr_eq(&a.client_auth_cert_resolver, &b.client_auth_cert_resolver));
    assert!(Arc::ptr_eq(a.crypto_provider(), b.crypto_provider()));
    assert!(!format!("{web:?}").to_lowercase().contains("key"), "{web:?}");
}
