//! Headers that say who calls: row 73 of the catalogue of bad inputs. Whatever a client writes,
//! and however it spells it, the application sees the sidecar's word alone.

#![allow(clippy::unwrap_used, clippy::expect_used)] // a test says what is wrong by failing

mod control_plane;
mod support;

use std::io::{Read, Write};
use std::net::SocketAddr;

use control_plane::ControlPlane;
use http::{HeaderMap, HeaderName, HeaderValue};
use support::caller::{self, Caller};
use support::mint::{Ca, WEB};
use support::origin::Origin;
use support::{PATIENCE, Sidecar, raw};

/// What a liar says.
const EVIL: &str = "spiffe://cluster.local/ns/evil/sa/evil";

/// Names that an application might take for one that a sidecar writes, in lower case.
const NAMES: [&str; 12] = [
    "x-pillion-peer",
    "x_pillion_peer",
    "x_pillion-peer",
    "x.pillion.peer",
    "x-pillion-port",
    "x_pillion_protocol",
    "x-pillion-error",
    "x-pillion-of-tomorrow",
    "x-forwarded-client-cert",
    "x_forwarded_client_cert",
    "l5d-client-id",
    "l5d_client_id",
];

/// Requests in HTTP/1 in which one of the names is hidden.
fn lies() -> Vec<String> {
    let mut lies = Vec::new();
    for name in NAMES {
        let field = format!("{name}: {EVIL}\r\n");
        let upper = format!("{}: {EVIL}\r\n", name.to_uppercase());
        lies.push(raw::get(&field));
        lies.push(raw::get(&upper));
        lies.push(raw::get(&format!("{field}{upper}{field}")));
        lies.push(raw::get(&format!("connection: {name}\r\n{field}")));
        lies.push(raw::get(&format!("connection: keep-alive, {name}, close\r\n{field}")));
        lies.push(raw::chunked(&format!("1\r\na\r\n0\r\n{field}\r\n")));
        lies.push(raw::chunked(&format!("1\r\na\r\n0\r\n{upper}{field}\r\n")));
    }
    lies
}

/// What the application saw, which has no lie in it and of Pillion's own headers this alone.
#[track_caller]
fn assert_clean(sent: &str, seen: &str, peer: Option<&str>) {
    let seen = seen.to_ascii_lowercase();
    assert!(seen.starts_with("get /") || seen.starts_with("post /"), "{sent}: {seen}");
    assert!(!seen.contains("evil"), "{sent}: {seen}");
    // How often the request has gone through the mesh is told to applications, to be passed on.
    let is_told = |line: &&str| line.contains("pillion") && !line.starts_with("x-pillion-hops: ");
    let words: Vec<&str> = seen.lines().filter(is_told).collect();
    let expected: Vec<String> =
        peer.map(|id| format!("x-pillion-peer: {id}")).into_iter().collect();
    assert_eq!(words, expected, "{sent}: {seen}");
}

/// What a request is answered with, up to the application's word.
fn ask(to: SocketAddr, request: &str) -> String {
    let mut socket = raw::connect(to);
    socket.write_all(request.as_bytes()).unwrap();
    socket.set_read_timeout(Some(PATIENCE)).unwrap();
    let (mut answer, mut byte) = (Vec::new(), [0]);
    while !answer.ends_with(b"\r\n\r\nok") && matches!(socket.read(&mut byte), Ok(1)) {
        answer.push(byte[0]);
    }
    String::from_utf8(answer).unwrap()
}

#[test]
fn what_a_client_in_plaintext_says_of_itself_is_not_heard() {
    let mut control_plane = ControlPlane::start();
    let origin = Origin::friendly([127, 12, 48, 2]);
    let (sidecar, _stream) = Sidecar::before(&mut control_plane, &origin);
    for port in [sidecar.outbound(), sidecar.inbound()] {
        for lie in lies() {
            let answer = ask(port, &lie);
            assert!(answer.starts_with("HTTP/1.1 200 "), "{port}, {lie}: {answer}");
            assert_clean(&lie, &origin.take_text(), None);
        }
    }
}

#[test]
fn a_caller_from_the_mesh_has_the_name_that_it_proved_and_no_other() {
    let mut control_plane = ControlPlane::start();
    let origin = Origin::friendly([127, 12, 49, 2]);
    let (sidecar, _stream) = Sidecar::before(&mut control_plane, &origin);
    let config = caller::config(Some(&Ca::of(&control_plane).good(WEB)));
    let caller = Caller::connect(sidecar.mesh(), config).unwrap();
    let port = origin.address.port();
    for name in NAMES {
        let lie: HeaderMap =
            [(HeaderName::from_static(name), HeaderValue::from_static(EVIL))].into_iter().collect();
        // Where the port belongs, a lie is no port: that the other names are not.
        if name != "x-pillion-port" {
            let mut request = caller::get(port);
            for _ in 0..2 {
                let (name, value) = (HeaderName::from_static(name), HeaderValue::from_static(EVIL));
                request.headers_mut().append(name, value);
            }
            assert_eq!(caller.send(request).unwrap().status, 200, "{name}");
            assert_clean(name, &origin.take_text(), Some(WEB));
        }
        let answer = caller.send_with(caller::get(port), b"a", Some(lie)).unwrap();
        assert_eq!(answer.status, 200, "{name} in trailers");
        assert_clean(name, &origin.take_text(), Some(WEB));
    }
}

/// HTTP inside of a tunnel is the sidecar's business as well.
#[test]
fn a_tunnel_hides_no_lie() {
    let mut control_plane = ControlPlane::start();
    let origin = Origin::friendly([127, 12, 50, 2]);
    let (sidecar, _stream) = Sidecar::before(&mut control_plane, &origin);
    let config = caller::config(Some(&Ca::of(&control_plane).good(WEB)));
    let caller = Caller::connect(sidecar.mesh(), config).unwrap();
    let target = origin.address.to_string();
    for lie in lies() {
        let bytes: &'static str = lie.clone().leak();
        let mut tunnel = caller.tunnel(&target, bytes.as_bytes());
        let answer = caller.runtime.block_on(tunnel.data()).unwrap().unwrap();
        assert!(answer.starts_with(b"HTTP/1.1 200 "), "{lie}: {answer:?}");
        assert_clean(&lie, &origin.take_text(), Some(WEB));
    }
}
