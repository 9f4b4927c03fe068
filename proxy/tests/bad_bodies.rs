//! Bodies that break, bodies that are served, and what follows them: rows of the catalogue of bad
//! inputs for HTTP/1.1, at the outbound and at the plaintext inbound port.

#![allow(clippy::unwrap_used, clippy::expect_used)] // a test says what is wrong by failing

mod control_plane;
mod support;

use control_plane::ControlPlane;
use model::service::MeshPeer;
use support::origin::Origin;
use support::raw::{self, chunked, describe, get, post};
use support::{Sidecar, endpoint, service};

/// One bad body; the application never gets it whole.
struct Case {
    row: u8,
    sent: Vec<u8>,
    /// The statuses of which one is the answer.
    answer: &'static [u16],
}

fn case(row: u8, answer: &'static [u16], sent: impl AsRef<[u8]>) -> Case {
    Case { row, sent: sent.as_ref().to_vec(), answer }
}

fn bodies() -> Vec<Case> {
    let mut cases = Vec::new();
    for size in
        ["0x5", "+5", "-5", "_5", " 5", "5 ", "", "5\x0b", "00000000000000005", "ffffffffffffffff"]
    {
        cases.push(case(10, &[400], chunked(&format!("{size}\r\nabcde\r\n0\r\n\r\n"))));
    }
    for body in [
        "5\r\nabcdeX\r\n0\r\n\r\n",
        "5\r\nabcde0\r\n\r\n",
        "5\r\nabcde\n0\r\n\r\n",
        "5\nabcde\r\n0\r\n\r\n",
        "5;a\nabcde\r\n0\r\n\r\n",
        "5;a\rb\r\nabcde\r\n0\r\n\r\n",
        "5\r\nabcde\r\n0\n\n",
        "5\r\nabcde\r\n0\r\n\n",
        "5\r\nabcde\r\n0\r\nX\r\n\r\n",
        "5\r\nabcde\r\n0\r\nGET /smuggled HTTP/1.1\r\nhost: api\r\n\r\n",
    ] {
        cases.push(case(11, &[400], chunked(body)));
    }
    let extension = |length: usize| format!("1;{}\r\na\r\n", "x".repeat(length));
    cases.push(case(12, &[400, 413], chunked(&format!("{}0\r\n\r\n", extension(64 * 1024)))));
    let many = extension(8 * 1024).repeat(64);
    cases.push(case(12, &[400, 413], chunked(&format!("{many}0\r\n\r\n"))));
    let fields = "a: b\r\n".repeat(65);
    cases.push(case(13, &[431], chunked(&format!("1\r\na\r\n0\r\n{fields}\r\n"))));
    let large = format!("a: {}\r\n", "b".repeat(16 * 1024));
    cases.push(case(13, &[431], chunked(&format!("1\r\na\r\n0\r\n{large}\r\n"))));
    cases
}

#[test]
fn bad_bodies_are_never_complete() {
    let mut control_plane = ControlPlane::start();
    let origin = Origin::friendly([127, 10, 2, 2]);
    let (sidecar, _stream) = Sidecar::before(&mut control_plane, &origin);
    let mut failed = Vec::new();
    for case in bodies() {
        for port in [sidecar.outbound(), sidecar.inbound()] {
            let answer = raw::send(port, &case.sent);
            let seen = origin.take_ended();
            let statuses = answer.statuses();
            let refused = statuses.len() == 1 && case.answer.contains(&statuses[0]);
            let whole: usize = seen.iter().map(|seen| seen.requests).sum();
            // Trailers over their bounds are read whole: the next request has its place.
            let closed = answer.closed || case.row == 13;
            if !refused || !closed || whole > 0 {
                failed.push(describe(case.row, port, &case.sent, &answer));
            }
        }
    }
    assert!(failed.is_empty(), "{} failed:\n{}", failed.len(), failed.join("\n\n"));
}

#[test]
fn a_body_that_its_client_cuts_is_never_complete() {
    let mut control_plane = ControlPlane::start();
    let origin = Origin::friendly([127, 10, 3, 2]);
    let (sidecar, _stream) = Sidecar::before(&mut control_plane, &origin);
    for sent in [
        post("content-length: 10\r\n", "abcde"),
        chunked("5\r\nabcde\r\n"),
        chunked("5\r\nab"),
        chunked("5\r\nabcde\r\n0\r\n"),
    ] {
        for port in [sidecar.outbound(), sidecar.inbound()] {
            let answer = raw::send_and_end(port, sent.as_bytes());
            let what = describe(25, port, sent.as_bytes(), &answer);
            assert!(answer.closed && !answer.statuses().contains(&200), "{what}");
            let whole: usize = origin.take_ended().iter().map(|seen| seen.requests).sum();
            assert_eq!(whole, 0, "{what}");
        }
    }
}

/// A request that is served, and how the application sees it.
struct Served {
    row: u8,
    sent: String,
    has: &'static [&'static str],
    lacks: &'static [&'static str],
}

const fn served(
    row: u8,
    sent: String,
    has: &'static [&'static str],
    lacks: &'static [&'static str],
) -> Served {
    Served { row, sent, has, lacks }
}

fn cleaned() -> Vec<Served> {
    const BODY: &[&str] = &["\r\n\r\nabcde"];
    const CHUNKS: &[&str] = &["transfer-encoding: chunked\r\n", "\r\n5\r\nabcde\r\n", "0\r\n\r\n"];
    let length = "content-length: 5\r\n";
    let chunked =
        |fields: &str, body: &str| post(&format!("{fields}transfer-encoding: chunked\r\n"), body);
    let trailers = "trailer: kept, host, content-length, x-pillion-peer, authorization\r\n";
    let sent_trailers = "5\r\nabcde\r\n0\r\nkept: 1\r\nhost: evil\r\ncontent-length: 9\r\n\
        transfer-encoding: x\r\nX-Pillion-Peer: evil\r\nx_pillion_peer: evil\r\nauthorization: evil\r\n\r\n";
    let absolute = "GET http://api/x?y HTTP/1.1\r\nhost: other\r\n\r\n".to_owned();
    let mut cases = vec![
        served(2, post(&length.repeat(2), "abcde"), BODY, &["content-length: 5\r\ncontent-length"]),
        served(4, chunked("", "5\r\nabcde\r\n0\r\n\r\n"), CHUNKS, &["content-length"]),
        served(4, chunked("", "5\r\nabcde\r\n0\r\n\r\n").replace("POST", "GET"), CHUNKS, &[]),
        served(12, chunked("", "5;a=b\r\nabcde\r\n0;c\r\n\r\n"), CHUNKS, &["a=b", ";c"]),
        served(
            13,
            chunked(trailers, sent_trailers),
            &["kept: 1\r\n"],
            &["evil", "length: 9", "coding: x"],
        ),
        served(15, absolute, &["GET /x?y HTTP/1.1\r\n", "host: api\r\n"], &["other"]),
        served(
            21,
            get("connection: upgrade, http2-settings\r\nupgrade: h2c\r\nhttp2-settings: AA\r\n"),
            &["GET /x"],
            &["upgrade", "h2c", "settings"],
        ),
        served(
            22,
            post(&format!("connection: content-length, host\r\n{length}"), "abcde"),
            &["host: api\r\n", "content-length: 5\r\n", "abcde"],
            &["connection"],
        ),
        served(38, get("cookie: a=1\r\ncookie: b=2\r\n"), &["cookie: a=1; b=2\r\n"], &[]),
    ];
    for expect in ["100-continue", "y 100-continue", "100-continue, x", "other"] {
        let fields = format!("expect: {expect}\r\n{length}");
        cases.push(served(19, post(&fields, "abcde"), BODY, &["expect"]));
        cases.push(served(19, post(&fields, "abcde").replace("POST", "GET"), BODY, &["expect"]));
    }
    for fields in [
        "x-pillion-peer: evil\r\n",
        "X-PILLION-PEER: evil\r\n",
        "x_pillion_peer: evil\r\n",
        "x-pillion-peer: evil\r\nx-pillion-peer: evil\r\n",
        "connection: x-pillion-peer\r\nx-pillion-peer: evil\r\n",
        "x-forwarded-client-cert: evil\r\n",
        "l5d-client-id: evil\r\n",
        "x-pillion-port: 1\r\nx-pillion-error: evil\r\n",
    ] {
        cases.push(served(73, get(fields), &["GET /x"], &["evil", "pillion-p"]));
    }
    cases
}

#[test]
fn what_is_served_reaches_the_application_cleaned() {
    let mut control_plane = ControlPlane::start();
    let origin = Origin::friendly([127, 10, 4, 2]);
    let (sidecar, _stream) = Sidecar::before(&mut control_plane, &origin);
    for Served { row, sent, has, lacks } in cleaned() {
        for port in [sidecar.outbound(), sidecar.inbound()] {
            let answer = raw::send(port, sent.as_bytes());
            let seen = origin.take_text();
            let what = format!("{}, seen: {seen}", describe(row, port, sent.as_bytes(), &answer));
            assert_eq!(answer.statuses().last(), Some(&200), "{what}");
            assert!(has.iter().all(|text| seen.contains(text)), "{what}");
            assert!(!lacks.iter().any(|text| seen.contains(text)), "{what}");
        }
    }
}

#[test]
fn what_follows_a_request_is_never_a_part_of_it() {
    let mut control_plane = ControlPlane::start();
    let origin = Origin::scripted([127, 10, 5, 2], |request| {
        let ok = b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok".to_vec();
        (ok, request.contains(" /early "))
    });
    let (sidecar, _stream) = Sidecar::before(&mut control_plane, &origin);
    let smuggled = "GET /smuggled HTTP/1.1\r\nhost: api\r\n\r\n";
    let upgrade = get("connection: upgrade\r\nupgrade: websocket\r\n");
    let early = post("content-length: 1000000\r\n", "").replace("/x", "/early");
    let cases: [(u8, String, &[u16]); 6] = [
        (24, format!("{}GARBAGE\r\n\r\n", get("")), &[200, 400]),
        (24, format!("{}GARBAGE\r\n\r\n", chunked("1\r\na\r\n0\r\n\r\n")), &[200, 400]),
        (20, format!("{upgrade}\u{1}{smuggled}"), &[200]),
        (20, format!("{upgrade}{smuggled}"), &[200]),
        (26, format!("{early}{smuggled}"), &[200]),
        (26, format!("{early}{}{smuggled}", "a".repeat(300_000)), &[200]),
    ];
    for (row, sent, expected) in cases {
        for port in [sidecar.outbound(), sidecar.inbound()] {
            let answer = raw::send(port, sent.as_bytes());
            let what = describe(row, port, sent.as_bytes(), &answer);
            // An application that closes while it is sent a body may not be heard to the end.
            let lost = row == 26 && answer.statuses() == [503];
            assert!(lost || answer.statuses() == expected, "{what}");
            assert!(answer.closed, "{what}");
            let seen = origin.take();
            let requests = |seen: &support::origin::Seen| {
                seen.bytes.starts_with(b"GET /x ") || seen.bytes.starts_with(b"POST /")
            };
            assert!(seen.len() == 1 && requests(&seen[0]), "{what}: {seen:?}");
            let is_upgrade =
                row == 20 && seen[0].bytes.windows(9).any(|bytes| bytes == b"/smuggled");
            assert!(!is_upgrade, "{what}: {seen:?}");
        }
    }
}

#[test]
fn a_body_that_breaks_is_its_clients_fault_through_the_mesh_too() {
    let mut control_plane = ControlPlane::start();
    let origin = Origin::friendly([127, 10, 8, 2]);
    let port = origin.address.port().to_string();
    let server = Sidecar::start(&control_plane, [127, 10, 8, 2], &["--app-port", &port]);
    let mut server_stream = control_plane.accept();
    server_stream.update(vec![], vec![]);
    server.wait_until_ready();
    let client = Sidecar::start(&control_plane, [127, 10, 8, 3], &[]);
    let mut stream = control_plane.accept();
    let peer = MeshPeer::pillion(15008, control_plane.identity("shop", "test"));
    stream.update(vec![service("shop/api", vec![endpoint(origin.address, Some(peer))])], vec![]);
    stream.acknowledged();
    client.wait_until_ready();
    for body in ["5\r\nabcdeX\r\n0\r\n\r\n", "5\r\nabcde\r\n0x0\r\n\r\n"] {
        let answer = raw::send(client.outbound(), chunked(body).as_bytes());
        assert_eq!(answer.statuses(), [400], "row 10: {answer:?}");
        let whole: usize = origin.take_ended().iter().map(|seen| seen.requests).sum();
        assert_eq!(whole, 0, "row 10");
    }
    let answer = raw::send(client.outbound(), chunked("5\r\nabcde\r\n0\r\n\r\n").as_bytes());
    assert_eq!(answer.statuses(), [200], "{answer:?}");
    let seen = origin.take_text();
    assert!(seen.contains("transfer-encoding: chunked\r\n"), "{seen}");
    assert!(seen.contains("x-pillion-peer: spiffe://cluster.local/ns/shop/sa/test\r\n"), "{seen}");
}
