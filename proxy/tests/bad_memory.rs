//! What hostile clients and applications in HTTP/1.1 may have a sidecar hold: rows of the
//! catalogue of bad inputs.

#![allow(clippy::unwrap_used, clippy::expect_used)] // a test says what is wrong by failing

mod control_plane;
mod support;

use std::io::Write;

use control_plane::ControlPlane;
use support::origin::Origin;
use support::{Sidecar, raw};

/// The largest head, in bytes.
const MAX_HEAD: usize = 128 * 1024;

/// What a sidecar may hold besides.
const SLACK: usize = 8 * 1024 * 1024;

#[test]
fn a_head_holds_no_more_than_twice_its_limit() {
    const CLIENTS: usize = 100;
    let mut control_plane = ControlPlane::start();
    let origin = Origin::friendly([127, 10, 91, 2]);
    let (sidecar, _stream) = Sidecar::before(&mut control_plane, &origin);
    // One field without an end, of which the limit is not reached yet; and then it is.
    let head = format!("GET /x HTTP/1.1\r\nhost: api\r\na: {}", "b".repeat(MAX_HEAD - 1024));
    for port in [sidecar.outbound(), sidecar.inbound()] {
        let before = sidecar.memory();
        let mut clients: Vec<_> = (0..CLIENTS).map(|_| raw::connect(port)).collect();
        for client in &mut clients {
            client.write_all(head.as_bytes()).unwrap();
        }
        let last = raw::send(port, raw::get("").as_bytes());
        assert_eq!(last.statuses(), [200], "row 17, {port}: a neighbour");
        let grown = sidecar.memory().saturating_sub(before);
        assert!(grown < CLIENTS * 2 * MAX_HEAD + SLACK, "row 17, {port}: {grown} bytes more");
        for client in &mut clients {
            let _ = client.write_all(&[b'b'; 2 * MAX_HEAD]);
            let answer = raw::read(client);
            assert_eq!((answer.statuses(), answer.closed), (vec![431], true), "row 17, {port}");
        }
        let grown = sidecar.memory().saturating_sub(before);
        assert!(grown < CLIENTS * 2 * MAX_HEAD + SLACK, "row 17, {port}: {grown} bytes more");
    }
}

#[test]
fn interim_responses_without_end_are_not_kept() {
    let mut control_plane = ControlPlane::start();
    let origin = Origin::scripted([127, 10, 92, 2], |_| {
        (b"HTTP/1.1 103 Early Hints\r\nlink: </a>\r\n\r\n".repeat(20_000), true)
    });
    let (sidecar, _stream) = Sidecar::before(&mut control_plane, &origin);
    for port in [sidecar.outbound(), sidecar.inbound()] {
        let before = sidecar.memory();
        for _ in 0..20 {
            let answer = raw::send(port, raw::get("connection: close\r\n").as_bytes());
            assert_eq!(answer.statuses(), [502], "row 31, {port}");
        }
        let grown = sidecar.memory().saturating_sub(before);
        assert!(grown < SLACK, "row 31, {port}: {grown} bytes more");
    }
}
