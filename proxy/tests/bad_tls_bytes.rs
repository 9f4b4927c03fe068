//! Bytes at the mesh port that are no handshake, or one that does not go on: rows of the
//! catalogue of bad inputs. Each ends its own connection, costs little, and keeps nobody waiting.

#![allow(clippy::unwrap_used, clippy::expect_used)] // a test says what is wrong by failing

mod control_plane;
mod support;

use std::io::{ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::sync::Arc;

use control_plane::ControlPlane;
use rustls::{ClientConnection, Stream};
use support::caller::{self, Caller};
use support::mint::{Ca, WEB};
use support::origin::Origin;
use support::{PATIENCE, Sidecar, eventually, raw, request};

const ALERT: u8 = 0x15;
const HANDSHAKE: u8 = 0x16;
const PROTOCOL_VERSION: u8 = 70;

/// How often each flood repeats itself.
const FLOOD: usize = 20_000;

/// One record of TLS (RFC 8446 §5.1).
fn record(kind: u8, payload: &[u8]) -> Vec<u8> {
    let length = u16::try_from(payload.len()).unwrap().to_be_bytes();
    [&[kind, 3, 3], length.as_slice(), payload].concat()
}

/// A ClientHello that is right but for what it offers: version `legacy` and one cipher suite.
fn old_hello(legacy: [u8; 2], suite: [u8; 2]) -> Vec<u8> {
    let random = [7; 32];
    // supported_groups: P-256; signature_algorithms: ECDSA on it, and RSA.
    let extensions = [0, 10, 0, 4, 0, 2, 0, 23, 0, 13, 0, 6, 0, 4, 4, 3, 4, 1];
    let body = [
        &legacy[..],
        &random,
        &[0, 0, 2],
        &suite,
        &[1, 0],
        &[0, extensions.len() as u8],
        &extensions,
    ]
    .concat();
    let head = [1, 0, 0, body.len() as u8];
    record(HANDSHAKE, &[&head[..], &body].concat())
}

/// The ClientHello of an honest caller.
fn hello(mesh: &Ca) -> Vec<u8> {
    let config = Arc::new(caller::config(Some(&mesh.good(WEB))));
    let mut client = ClientConnection::new(config, certs::server_name()).unwrap();
    let mut bytes = Vec::new();
    client.write_tls(&mut bytes).unwrap();
    bytes
}

/// What is no handshake from its first bytes on.
fn strange(mesh: &Ca) -> Vec<(u8, &'static str, Vec<u8>)> {
    let hello = hello(mesh);
    let flood = |record: &[u8]| record.repeat(FLOOD);
    let after_hello = |record: &[u8]| [&hello[..], &flood(record)].concat();
    let change_cipher_spec = record(0x14, &[1]);
    let warning = record(ALERT, &[1, 90]); // user_canceled
    let announced = |length: [u8; 3]| record(HANDSHAKE, &[&[1][..], &length].concat());
    vec![
        (69, "HTTP/1", b"GET / HTTP/1.1\r\nhost: api\r\nx-pillion-port: 80\r\n\r\n".to_vec()),
        (69, "CONNECT", b"CONNECT 127.0.0.1:80 HTTP/1.1\r\nhost: a\r\n\r\n".to_vec()),
        (69, "HTTP/2", b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0".to_vec()),
        (69, "text", b"hello\r\n".repeat(10)),
        (69, "zeros", vec![0; 64]),
        (69, "SSL 2", [&[0x80, 0x2e, 1, 0, 2][..], &[0; 64]].concat()),
        (66, "16 MiB announced", announced([0xff, 0xff, 0xff])),
        (66, "64 KiB announced", announced([1, 0, 0])),
        (
            66,
            "a record over its length",
            [&[HANDSHAKE, 3, 3, 0xff, 0xff][..], &[0; 70_000]].concat(),
        ),
        (77, "a record of another kind", record(0x99, b"x")),
        (77, "application data first", record(0x17, &[0; 64])),
        (77, "an alert first", record(ALERT, &[2, 40])),
        (77, "a close first", record(ALERT, &[1, 0])),
        (77, "empty handshake records", flood(&record(HANDSHAKE, b""))),
        (77, "empty data records", flood(&record(0x17, b""))),
        (77, "empty alerts", flood(&record(ALERT, b""))),
        (77, "warnings", flood(&warning)),
        (77, "changes of cipher", flood(&change_cipher_spec)),
        (77, "warnings after the hello", after_hello(&warning)),
        (77, "changes of cipher after the hello", after_hello(&change_cipher_spec)),
        (77, "empty records after the hello", after_hello(&record(0x17, b""))),
        (77, "the hello again and again", hello.repeat(20)),
        (77, "half a hello, then something else", [&hello[..200], &[0; 2000]].concat()),
    ]
}

#[test]
fn what_is_no_handshake_is_closed_and_reaches_nobody() {
    let mut control_plane = ControlPlane::start();
    let origin = Origin::friendly([127, 12, 34, 2]);
    let (sidecar, _stream) = Sidecar::before(&mut control_plane, &origin);
    let mesh = Ca::of(&control_plane);
    let beside = Caller::connect(sidecar.mesh(), caller::config(Some(&mesh.good(WEB)))).unwrap();
    let before = sidecar.cpu_ticks();
    let cases = strange(&mesh);
    for (row, what, bytes) in &cases {
        let answer = raw::send(sidecar.mesh(), bytes);
        assert!(answer.closed, "row {row}, {what}: {answer:?}");
        assert!(!answer.text().contains("HTTP/"), "row {row}, {what}: {answer:?}");
        assert_eq!(origin.connections(), 0, "row {row}, {what}");
    }
    let ticks = sidecar.cpu_ticks() - before;
    assert!(ticks <= 100, "{ticks} ticks for {} connections", cases.len());
    let answer = beside.send(caller::get(origin.address.port())).unwrap();
    assert_eq!(answer.status, 200);
    let metrics = request(SocketAddr::new(sidecar.address, 15020), "/metrics");
    assert!(metrics.contains("\npillion_panics_total 0\n"), "{metrics}");
}

/// Row 68: with CBC, GCM and RSA's key exchange alike.
#[test]
fn an_older_version_is_told_so() {
    let mut control_plane = ControlPlane::start();
    let origin = Origin::friendly([127, 12, 35, 2]);
    let (sidecar, _stream) = Sidecar::before(&mut control_plane, &origin);
    for version in [[3, 3], [3, 2], [3, 1], [3, 0]] {
        for suite in [[0xc0, 0x2b], [0xc0, 0x13], [0x00, 0x9c], [0x00, 0x2f]] {
            let answer = raw::send(sidecar.mesh(), &old_hello(version, suite));
            let what = format!("{version:?} {suite:?}: {answer:?}");
            assert!(answer.closed, "{what}");
            assert_eq!((answer.bytes.first(), answer.bytes.len()), (Some(&ALERT), 7), "{what}");
            assert_eq!(answer.bytes[6], PROTOCOL_VERSION, "{what}");
        }
    }
    assert_eq!(origin.connections(), 0);
}

/// Row 77: slow, and right.
#[test]
fn who_sends_byte_by_byte_is_served() {
    let mut control_plane = ControlPlane::start();
    let origin = Origin::friendly([127, 12, 36, 2]);
    let (sidecar, _stream) = Sidecar::before(&mut control_plane, &origin);
    let config = caller::config(Some(&Ca::of(&control_plane).good(WEB)));
    let caller = Caller::byte_by_byte(sidecar.mesh(), config).unwrap();
    let answer = caller.send(caller::get(origin.address.port())).unwrap();
    assert_eq!((answer.status.as_u16(), answer.body.as_str()), (200, "ok"));
}

/// Row 77: what TLS allows once a handshake is over, without end.
#[test]
fn new_keys_without_end_are_closed() {
    let mut control_plane = ControlPlane::start();
    let origin = Origin::friendly([127, 12, 37, 2]);
    let (sidecar, _stream) = Sidecar::before(&mut control_plane, &origin);
    let config = Arc::new(caller::config(Some(&Ca::of(&control_plane).good(WEB))));
    let mut client = ClientConnection::new(config, certs::server_name()).unwrap();
    let mut socket = raw::connect(sidecar.mesh());
    Stream::new(&mut client, &mut socket).read_exact(&mut [0]).unwrap();
    let mut flood = Vec::new();
    for _ in 0..1000 {
        client.refresh_traffic_keys().unwrap();
        client.write_tls(&mut flood).unwrap();
    }
    let _ = socket.write_all(&flood);
    assert!(raw::read(&mut socket).closed);
}

/// Row 76: silent ones, those who stop in the hello, and those who stop after it.
#[test]
fn three_hundred_half_open_handshakes_keep_nobody_waiting_and_end() {
    let mut control_plane = ControlPlane::start();
    let origin = Origin::friendly([127, 12, 38, 2]);
    let (sidecar, _stream) = Sidecar::before(&mut control_plane, &origin);
    let mesh = Ca::of(&control_plane);
    let (hello, good) = (hello(&mesh), caller::config(Some(&mesh.good(WEB))));
    let parts = [&hello[..0], &hello[..300], &hello[..]];
    let half_open: Vec<TcpStream> = (0..300)
        .map(|n| {
            let mut socket = raw::connect(sidecar.mesh());
            socket.write_all(parts[n % parts.len()]).unwrap();
            socket
        })
        .collect();
    eventually("all are accepted", || open_connections(&sidecar) >= 300);
    for _ in 0..10 {
        let caller = Caller::connect(sidecar.mesh(), good.clone()).unwrap();
        let answer = caller.send(caller::get(origin.address.port())).unwrap();
        assert_eq!(answer.status, 200);
    }
    let served_while = half_open.iter().filter(|socket| is_open(socket)).count();
    assert_eq!(served_while, 300, "the good callers did not wait for the others' end");
    for mut socket in half_open {
        socket.set_read_timeout(Some(PATIENCE)).unwrap();
        let ended = socket.read_to_end(&mut Vec::new());
        let kind = ended.err().map(|error| error.kind());
        assert!(matches!(kind, None | Some(ErrorKind::ConnectionReset)), "{kind:?}");
    }
    assert_eq!(origin.connections(), 1, "of the good callers, one after the other");
}

fn is_open(mut socket: &TcpStream) -> bool {
    socket.set_nonblocking(true).unwrap();
    let mut buffer = [0; 64 * 1024];
    let open = loop {
        match socket.read(&mut buffer) {
            Ok(0) => break false,
            Ok(_) => {}
            Err(error) => break error.kind() == ErrorKind::WouldBlock,
        }
    };
    socket.set_nonblocking(false).unwrap();
    open
}

fn open_connections(sidecar: &Sidecar) -> usize {
    let metrics = request(SocketAddr::new(sidecar.address, 15020), "/metrics");
    let line = "pillion_connections_open{port=\"mesh\"} ";
    let value = metrics.lines().find_map(|found| found.strip_prefix(line));
    value.map_or(0, |value| value.parse().unwrap())
}
