//! What a hostile or broken application answers: rows of the catalogue of bad inputs, seen by a
//! client behind the outbound port and by one in front of the plaintext inbound port.

#![allow(clippy::unwrap_used, clippy::expect_used)] // a test says what is wrong by failing

mod control_plane;
mod support;

use std::io::Write;
use std::net::SocketAddr;

use control_plane::{ControlPlane, Stream};
use support::Sidecar;
use support::origin::Origin;
use support::raw;

const OK: &str = "HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok";

/// What the application answers, and whether it closes the connection then.
struct Case {
    row: u8,
    answer: String,
    close: bool,
}

fn case(row: u8, answer: impl Into<String>, close: bool) -> Case {
    Case { row, answer: answer.into(), close }
}

/// Answers that are refused whole.
fn refused() -> Vec<Case> {
    let mut cases = Vec::new();
    for fields in [
        "content-length: 2\r\ntransfer-encoding: chunked\r\n",
        "transfer-encoding: chunked\r\ncontent-length: 2\r\n",
        "content-length: 2\r\ncontent-length: 3\r\n",
        "content-length: 2, 3\r\n",
        "content-length: +2\r\n",
        "content-length: 0x2\r\n",
        "content-length: \r\n",
        "content-length: 99999999999999999999\r\n",
        "transfer-encoding: identity\r\n",
        "transfer-encoding: gzip, chunked\r\n",
        "transfer-encoding: chunked\r\ntransfer-encoding: chunked\r\n",
        "a: b\0c\r\ncontent-length: 2\r\n",
        "a : b\r\ncontent-length: 2\r\n",
        "a\x01: b\r\ncontent-length: 2\r\n",
        ": b\r\ncontent-length: 2\r\n",
        "no colon\r\ncontent-length: 2\r\n",
    ] {
        cases.push(case(28, format!("HTTP/1.1 200 OK\r\n{fields}\r\nok"), false));
    }
    let switch = "HTTP/1.1 101 Switching Protocols\r\nconnection: upgrade\r\nupgrade: x\r\n\r\n";
    cases.push(case(30, switch, false));
    for line in [
        "HTTP/1.1 2x0 OK",
        "HTTP/1.1 99999 OK",
        "HTTP/1.1 20 OK",
        "HTTP/3.0 200 OK",
        "SSH-2.0-x",
        "",
    ] {
        cases.push(case(30, format!("{line}\r\ncontent-length: 2\r\n\r\nok"), true));
    }
    let hints = "HTTP/1.1 103 Early Hints\r\nlink: </a>\r\n\r\n";
    cases.push(case(31, format!("{}{OK}", hints.repeat(20_000)), false));
    cases
}

/// A sidecar between a client and the application.
struct Mesh {
    sidecar: Sidecar,
    origin: Origin,
    _control_plane: ControlPlane,
    _stream: Stream,
}

/// An application that answers the request to `/N` with case N, and every other with `OK`.
fn start(address: [u8; 4], cases: &[Case]) -> Mesh {
    let answers: Vec<_> =
        cases.iter().map(|case| (case.answer.clone().into_bytes(), case.close)).collect();
    let origin = Origin::scripted(address, move |request| {
        let path = request.split(' ').nth(1).unwrap();
        match path.trim_start_matches('/').parse::<usize>() {
            Ok(number) => answers[number].clone(),
            Err(_) => (OK.into(), path == "/close"),
        }
    });
    let mut control_plane = ControlPlane::start();
    let (sidecar, stream) =
        Sidecar::in_front_of(&mut control_plane, address, origin.address, "http");
    Mesh { sidecar, origin, _control_plane: control_plane, _stream: stream }
}

fn request(method: &str, path: &str) -> Vec<u8> {
    let body = if method == "POST" { "content-length: 1\r\n\r\na" } else { "\r\n" };
    format!("{method} {path} HTTP/1.1\r\nhost: api\r\n{body}").into_bytes()
}

#[test]
fn a_response_with_two_readings_or_none_is_refused() {
    let cases = refused();
    let mesh = start([127, 10, 11, 2], &cases);
    for (number, case) in cases.iter().enumerate() {
        for port in [mesh.sidecar.outbound(), mesh.sidecar.inbound()] {
            let answer = raw::send(port, &request("GET", &format!("/{number}")));
            let sent = case.answer.get(..200).unwrap_or(&case.answer);
            let what = format!("row {}: {sent:?} -> {}", case.row, answer.text());
            assert_eq!(answer.statuses(), [502], "{what}");
            let seen = mesh.origin.take_ended();
            assert_eq!(seen.iter().map(|seen| seen.requests).sum::<usize>(), 1, "{what}");
        }
    }
}

#[test]
fn a_response_that_breaks_off_is_never_complete() {
    let chunked = "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n";
    let cases = [
        case(29, "HTTP/1.1 200 OK\r\ncontent-length: 10\r\n\r\nabc", true),
        case(29, format!("{chunked}3\r\nabc\r\n"), true),
        case(29, format!("{chunked}3\r\nab"), true),
        case(29, format!("{chunked}3\r\nabc\r\n0\r\n"), true),
        case(29, format!("{chunked}3\r\nabc\r\nx\r\n0\r\n\r\n"), false),
        case(29, format!("{chunked}3\r\nabcdef\r\n0\r\n\r\n"), false),
        case(29, format!("{chunked}-3\r\nabc\r\n0\r\n\r\n"), false),
    ];
    let mesh = start([127, 10, 12, 2], &cases);
    for (number, case) in cases.iter().enumerate() {
        for port in [mesh.sidecar.outbound(), mesh.sidecar.inbound()] {
            let answer = raw::send(port, &request("GET", &format!("/{number}")));
            let what = format!("row {}: {:?} -> {answer:?}", case.row, case.answer);
            // Broken early, it may be broken off before its head was passed on.
            assert!([&[200][..], &[]].contains(&&answer.statuses()[..]), "{what}");
            assert!(answer.closed && !answer.text().ends_with("0\r\n\r\n"), "{what}");
            mesh.origin.take_ended();
        }
    }
}

#[test]
fn a_few_interim_responses_are_passed_over() {
    let hints = "HTTP/1.1 103 Early Hints\r\nlink: </a>\r\n\r\n";
    let cases = [case(31, format!("{}{OK}", hints.repeat(64)), false)];
    let mesh = start([127, 10, 13, 2], &cases);
    for port in [mesh.sidecar.outbound(), mesh.sidecar.inbound()] {
        assert_eq!(raw::send(port, &request("GET", "/0")).statuses(), [200]);
    }
}

#[test]
fn what_follows_a_response_reaches_no_other_client() {
    let poison = "HTTP/1.1 200 OK\r\ncontent-length: 6\r\n\r\npoison";
    let cases = [case(27, format!("{OK}{poison}"), false), case(27, format!("{OK}\r\n"), false)];
    let mesh = start([127, 10, 14, 2], &cases);
    for port in [mesh.sidecar.outbound(), mesh.sidecar.inbound()] {
        for number in [0, 1].repeat(10) {
            let first = one(port, &request("GET", &format!("/{number}")));
            let second = one(port, &request("GET", "/good"));
            for answer in [first, second] {
                assert!(answer.starts_with("HTTP/1.1 200 OK"), "row 27, /{number}: {answer}");
                assert!(answer.ends_with("\r\n\r\nok"), "row 27, /{number}: {answer}");
            }
        }
    }
}

/// Sends a request and reads the answer as soon as it has come.
fn one(port: SocketAddr, request: &[u8]) -> String {
    let mut socket = raw::connect(port);
    let close = String::from_utf8_lossy(request).replace("host:", "connection: close\r\nhost:");
    socket.write_all(close.as_bytes()).unwrap();
    raw::read(&mut socket).text()
}

#[test]
fn a_request_that_is_not_answered_is_sent_again_only_where_that_is_safe() {
    let cases = [case(32, "", true)];
    let mesh = start([127, 10, 15, 2], &cases);
    for port in [mesh.sidecar.outbound(), mesh.sidecar.inbound()] {
        for (method, most) in [("GET", 2), ("POST", 1)] {
            for reused in [false, true] {
                if reused {
                    assert_eq!(raw::send(port, &request("GET", "/good")).statuses(), [200]);
                    mesh.origin.take();
                }
                let answer = raw::send(port, &request(method, "/0"));
                let seen: usize = mesh.origin.take_ended().iter().map(|seen| seen.requests).sum();
                let what = format!("row 32, {method}, reused: {reused}, {seen}: {answer:?}");
                assert!([[502], [503]].iter().any(|status| answer.statuses() == status), "{what}");
                assert!((1..=most).contains(&seen), "{what}");
            }
        }
    }
}
