//! A request that comes back to where it was: row 83 of the catalogue of bad inputs.

#![allow(clippy::unwrap_used, clippy::expect_used)] // a test says what is wrong by failing

mod control_plane;
mod support;

use std::net::{IpAddr, SocketAddr};

use control_plane::ControlPlane;
use model::service::MeshPeer;
use support::origin::Origin;
use support::{Sidecar, endpoint, raw, service};

/// The last request on its connection.
const PLAIN: &str = "connection: close\r\n";

/// One that asks for another protocol.
const UPGRADE: &str = "connection: close, upgrade\r\nupgrade: websocket\r\n";

/// The requests to `x`, with these fields, of which the application knows the last.
fn request(kind: &str, fields: &str) -> String {
    format!("GET /x HTTP/1.1\r\nhost: api\r\n{kind}{fields}\r\n")
}

fn hops(request: &str) -> Option<String> {
    let line = request.lines().find(|line| line.starts_with("x-pillion-hops:"))?;
    Some(format!("{line}\r\n"))
}

#[test]
fn a_request_that_its_applications_pass_on_in_circles_is_stopped() {
    assert_stopped([127, 10, 81, 2], PLAIN);
}

#[test]
fn an_upgrade_that_its_applications_pass_on_in_circles_is_stopped() {
    assert_stopped([127, 10, 83, 2], UPGRADE);
}

fn assert_stopped(address: [u8; 4], kind: &'static str) {
    let outbound = SocketAddr::new(IpAddr::from(address), 15001);
    // The application asks the Service that it is of, with the headers that it was sent.
    let origin = Origin::scripted(address, move |asked| {
        let fields = hops(asked).expect("the application sees how far the request has come");
        (raw::send(outbound, request(kind, &fields).as_bytes()).bytes, true)
    });
    let mut control_plane = ControlPlane::start();
    let (sidecar, mut stream) = Sidecar::before(&mut control_plane, &origin);
    let peer = MeshPeer::pillion(15008, control_plane.identity("shop", "test"));
    stream.update(vec![service("shop/api", vec![endpoint(origin.address, Some(peer))])], vec![]);
    stream.acknowledged();

    let answer = raw::send(sidecar.outbound(), request(kind, "").as_bytes());
    assert_eq!(answer.statuses(), [508], "{answer:?}");
    assert!(answer.text().contains("pillion: loop_detected: "), "{answer:?}");
    let requests: usize = origin.take().iter().map(|seen| seen.requests).sum();
    assert_eq!(requests, 8);
}

#[test]
fn nobody_outside_of_the_mesh_counts_hops_or_sees_them() {
    let origin = Origin::friendly([127, 10, 82, 2]);
    let mut control_plane = ControlPlane::start();
    let (sidecar, _stream) = Sidecar::before(&mut control_plane, &origin);
    for (port, fields) in [
        (sidecar.inbound(), "x-pillion-hops: 8\r\n"),
        (sidecar.inbound(), "x_pillion_hops: 8\r\n"),
        // The endpoint is not in the mesh.
        (sidecar.outbound(), "x-pillion-hops: 7\r\n"),
        (sidecar.outbound(), ""),
    ] {
        let answer = raw::send(port, request(PLAIN, fields).as_bytes());
        assert_eq!(answer.statuses(), [200], "{port} {fields}");
        assert!(!origin.take_text().contains("hops"), "{port} {fields}");
    }
}
