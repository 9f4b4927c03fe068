//! What a client sends in HTTP/1.1 that it should not, or that could be read in two ways: rows of
//! the catalogue of bad inputs, at the outbound and at the plaintext inbound port.

#![allow(clippy::unwrap_used, clippy::expect_used)] // a test says what is wrong by failing

mod control_plane;
mod support;

use std::io::Write;
use std::time::{Duration, Instant};

use control_plane::ControlPlane;
use support::Sidecar;
use support::origin::Origin;
use support::raw::{self, describe, get, post};

/// One bad request; nothing of it reaches the application.
#[derive(Clone)]
struct Case {
    row: u8,
    sent: Vec<u8>,
    /// The statuses of which one is the answer.
    answer: &'static [u16],
}

fn case(row: u8, answer: &'static [u16], sent: impl AsRef<[u8]>) -> Case {
    Case { row, sent: sent.as_ref().to_vec(), answer }
}

fn framing() -> Vec<Case> {
    let mut cases = vec![
        case(1, &[400], post("content-length: 5\r\ntransfer-encoding: chunked\r\n", "0\r\n\r\n")),
        case(1, &[400], post("transfer-encoding: chunked\r\ncontent-length: 5\r\n", "0\r\n\r\n")),
        case(2, &[400], post("content-length: 5\r\ncontent-length: 6\r\n", "abcdef")),
        case(2, &[400], post("content-length: 5, 6\r\n", "abcdef")),
        case(
            5,
            &[400],
            "POST /x HTTP/1.0\r\nhost: api\r\ntransfer-encoding: chunked\r\n\r\n0\r\n\r\n",
        ),
        case(5, &[400], "POST /x HTTP/1.0\r\nhost: api\r\n\r\nabc"),
    ];
    for length in
        ["+5", "-5", "0x5", "5x", "1_0", "", "5 5", "9223372036854775808", "18446744073709551616"]
    {
        cases.push(case(3, &[400], post(&format!("content-length: {length}\r\n"), "abcde")));
    }
    let codings = [
        "identity",
        "gzip, chunked",
        "chunked, chunked",
        ",chunked",
        "chunked,",
        "chunked;q=1",
        "x",
        "xchunked",
        "\x0bchunked",
        "chunked\r\ntransfer-encoding: identity",
        "identity\r\ntransfer-encoding: chunked",
        "chunked\r\ntransfer-encoding: chunked",
    ];
    for coding in codings {
        let sent = post(&format!("transfer-encoding: {coding}\r\n"), "0\r\n\r\n");
        cases.push(case(4, &[400, 501], sent));
    }
    cases
}

fn heads() -> Vec<Case> {
    let mut cases = Vec::new();
    for field in ["a : b", "content-length : 5", "a", ": b", "a\t: b"] {
        cases.push(case(6, &[400], get(&format!("{field}\r\n"))));
    }
    cases.push(case(6, &[400], "GET /x HTTP/1.1\r\n host: api\r\n\r\n"));
    cases.push(case(7, &[400], get("a: b\r\n folded\r\n")));
    cases.push(case(7, &[400], get("transfer-encoding:\r\n\tchunked\r\n")));
    cases.push(case(8, &[400], "GET /x HTTP/1.1\nhost: api\n\n"));
    cases.push(case(8, &[400], "GET /x HTTP/1.1\r\nhost: api\n\r\n"));
    cases.push(case(8, &[400], "GET /x HTTP/1.1\r\nhost: api\r\n\n"));
    for (fields, target) in
        [("a: b\rc: d\r\n", "/x"), ("a: b\nc: d\r\n", "/x"), ("a\r: b\r\n", "/x"), ("", "/x\ry")]
    {
        let sent = format!("GET {target} HTTP/1.1\r\nhost: api\r\n{fields}\r\n");
        cases.push(case(8, &[400], sent));
    }
    for control in ['\0', '\x01', '\x0b', '\x7f'] {
        cases.push(case(9, &[400], get(&format!("a: b{control}c\r\n"))));
        cases.push(case(9, &[400], get(&format!("a{control}: b\r\n"))));
        cases.push(case(9, &[400], format!("GET /x{control} HTTP/1.1\r\nhost: api\r\n\r\n")));
        cases.push(case(9, &[400], format!("GE{control}T /x HTTP/1.1\r\nhost: api\r\n\r\n")));
    }
    cases
}

fn request_lines_hosts_and_limits() -> Vec<Case> {
    let mut cases = Vec::new();
    let lines = [
        "GET /x HTTP/11",
        "GET /x http/1.1",
        "GET /x",
        "GET\t/x\tHTTP/1.1",
        "GET  /x HTTP/1.1",
        "GET /x  HTTP/1.1",
        "GET /x HTTP/1.1 ",
        "GET /x#y HTTP/1.1",
        "GET x HTTP/1.1",
        "GET * HTTP/1.1",
        "GET x/y HTTP/1.1",
        "GET HTTP/1.1",
        " GET /x HTTP/1.1",
    ];
    for version in ["1.2", "2.0", "3.0"] {
        cases.push(case(14, &[505], format!("GET /x HTTP/{version}\r\nhost: api\r\n\r\n")));
    }
    for line in lines {
        cases.push(case(14, &[400, 505], format!("{line}\r\nhost: api\r\n\r\n")));
    }
    cases.push(case(16, &[400], "GET /x HTTP/1.1\r\n\r\n"));
    cases.push(case(16, &[400], get("host: api\r\n")));
    for host in [
        "",
        "u@api",
        "a b",
        "api,api",
        "[::1",
        "api:99999",
        "api:0",
        "api:+80",
        "api/x",
        "api:80:80",
    ] {
        cases.push(case(16, &[400], format!("GET /x HTTP/1.1\r\nhost: {host}\r\n\r\n")));
    }
    cases.push(case(17, &[431], get(&format!("a: {}\r\n", "b".repeat(128 * 1024)))));
    cases.push(case(17, &[431], get(&format!("a: {}\r\n", "b".repeat(200 * 1024)))));
    cases.push(case(17, &[431], get(&"a: b\r\n".repeat(256))));
    cases.push(case(
        18,
        &[414],
        format!("GET /{} HTTP/1.1\r\nhost: api\r\n\r\n", "a".repeat(16 * 1024)),
    ));
    cases.push(case(
        18,
        &[400, 501],
        format!("{} /x HTTP/1.1\r\nhost: api\r\n\r\n", "A".repeat(65)),
    ));
    cases
}

#[test]
fn bad_heads_reach_nobody() {
    let mut control_plane = ControlPlane::start();
    let origin = Origin::friendly([127, 10, 1, 2]);
    let (sidecar, _stream) = Sidecar::before(&mut control_plane, &origin);
    let mut failed = Vec::new();
    let cases = [framing(), heads(), request_lines_hosts_and_limits()].concat();
    for case in &cases {
        for port in [sidecar.outbound(), sidecar.inbound()] {
            let answer = raw::send(port, &case.sent);
            let what = describe(case.row, port, &case.sent, &answer);
            let statuses = answer.statuses();
            let seen = origin.take_text();
            let refused = statuses.len() == 1 && case.answer.contains(&statuses[0]);
            // Whoever is outside of the mesh learns no code.
            let told =
                answer.text().contains("\r\nx-pillion-error: ") == (port == sidecar.outbound());
            // What has a framing of its own, or none, is the last thing read on its connection.
            let closed = answer.closed || case.row > 9;
            if !refused || !told || !closed || !seen.is_empty() {
                failed.push(format!("{what}, seen: {seen}"));
            }
        }
    }
    assert!(failed.is_empty(), "{} failed:\n{}", failed.len(), failed.join("\n\n"));
    let codes = ["bad_request", "head_too_large", "target_too_long", "version_unsupported"];
    for direction in ["outbound", "inbound"] {
        let counted: u64 = codes.iter().map(|code| sidecar.failed_requests(direction, code)).sum();
        assert_eq!(counted, cases.len() as u64, "{direction}: each is counted");
    }
}

#[test]
fn nothing_is_dialled_for_the_asking() {
    let mut control_plane = ControlPlane::start();
    let origin = Origin::friendly([127, 10, 6, 2]);
    let (sidecar, _stream) = Sidecar::before(&mut control_plane, &origin);
    let own = format!("{}:15001", sidecar.address);
    let reachable = origin.address.to_string();
    let hosts = ["169.254.169.254:80", "127.0.0.1:80", "[::1]:80", "10.0.0.1:80", &own, &reachable];
    for host in hosts {
        for (row, sent) in [
            (23, format!("CONNECT {host} HTTP/1.1\r\nhost: {host}\r\n\r\n")),
            (82, format!("GET /x HTTP/1.1\r\nhost: {host}\r\n\r\n")),
            (82, format!("GET http://{host}/x HTTP/1.1\r\nhost: api\r\n\r\n")),
        ] {
            let answer = raw::send(sidecar.outbound(), sent.as_bytes());
            let what = describe(row, sidecar.outbound(), sent.as_bytes(), &answer);
            assert!([[502], [508]].iter().any(|status| answer.statuses() == status), "{what}");
            assert_eq!(answer.closed, row == 23, "{what}");
            assert_eq!(origin.take_text(), "", "{what}");
        }
        let sent = format!("CONNECT {host} HTTP/1.1\r\nhost: {host}\r\n\r\n");
        let answer = raw::send(sidecar.inbound(), sent.as_bytes());
        assert_eq!(answer.statuses(), [405], "{answer:?}");
        assert!(answer.closed, "{answer:?}");
        assert_eq!(origin.take_text(), "");
    }
    let refused = sidecar.failed_requests("inbound", "method_not_allowed");
    assert_eq!(refused, hosts.len() as u64, "and counted");
}

#[test]
fn silent_and_slow_clients_are_closed() {
    let mut control_plane = ControlPlane::start();
    let origin = Origin::friendly([127, 10, 7, 2]);
    let (sidecar, _stream) = Sidecar::before(&mut control_plane, &origin);
    let (outbound, inbound) = (sidecar.outbound(), sidecar.inbound());
    let waiting: Vec<_> = ["", "GET /x", "GET /x HTTP/1.1\r\nhost: "]
        .into_iter()
        .flat_map(|sent| [(outbound, sent), (inbound, sent)])
        .map(|(port, sent)| {
            std::thread::spawn(move || {
                let begun = Instant::now();
                let mut socket = raw::connect(port);
                socket.write_all(sent.as_bytes()).unwrap();
                let answer = raw::read(&mut socket);
                let what = describe(33, port, sent.as_bytes(), &answer);
                assert!(answer.closed, "{what}");
                assert!(!answer.statuses().contains(&200), "{what}");
                assert!(begun.elapsed() > Duration::from_secs(8), "{what}");
            })
        })
        .collect();
    for thread in waiting {
        thread.join().unwrap();
    }
    assert_eq!(origin.take_text(), "");
}

#[test]
fn a_connection_may_rest_between_two_requests_and_not_within_one() {
    let mut control_plane = ControlPlane::start();
    let origin = Origin::friendly([127, 10, 19, 2]);
    let (sidecar, _stream) = Sidecar::before(&mut control_plane, &origin);
    let resting: Vec<_> = [sidecar.outbound(), sidecar.inbound()]
        .into_iter()
        .map(|port| {
            std::thread::spawn(move || {
                let mut socket = raw::connect(port);
                for rest in [11, 0] {
                    socket.write_all(get("").as_bytes()).unwrap();
                    let answer = raw::read(&mut socket);
                    assert_eq!((answer.statuses(), answer.closed), (vec![200], false), "{port}");
                    std::thread::sleep(Duration::from_secs(rest));
                }
                socket.write_all(b"GET /x HTTP/1.1\r\nho").unwrap();
                let answer = raw::read(&mut socket);
                let what = describe(33, port, b"half a head", &answer);
                assert!(answer.closed && !answer.statuses().contains(&200), "{what}");
            })
        })
        .collect();
    for thread in resting {
        thread.join().unwrap();
    }
}

#[test]
fn bytes_that_an_application_may_take_for_http_are_judged_as_http() {
    let mut control_plane = ControlPlane::start();
    let origin = Origin::friendly([127, 10, 9, 2]);
    let (sidecar, _stream) =
        Sidecar::in_front_of(&mut control_plane, [127, 10, 9, 2], origin.address, "detect");
    for line in [
        "\r\nGET /x HTTP/1.1",
        "\nGET /x HTTP/1.1",
        " GET /x HTTP/1.1",
        "get /x HTTP/1.1",
        "GET  /x HTTP/1.1",
        "GET\t/x HTTP/1.1",
        "GET\x0c/x\x0cHTTP/1.1",
        "GET /x y HTTP/1.1",
        &format!("GET /{} HTTP/1.1", "x".repeat(100_000)),
        &format!("{} /x HTTP/1.1", "A".repeat(100)),
    ] {
        let sent = format!("{line}\r\nhost: api\r\nx-pillion-peer: evil\r\n\r\n");
        let answer = raw::send(sidecar.inbound(), sent.as_bytes());
        let seen = origin.take_text();
        let what = describe(73, sidecar.inbound(), sent.as_bytes(), &answer);
        assert!(!seen.contains("evil"), "{what}, seen: {seen}");
    }
}
