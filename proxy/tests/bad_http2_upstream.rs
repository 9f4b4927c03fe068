//! Endpoints and sidecars that answer in HTTP/2 as they should not: what the client gets, and who
//! is asked again. Rows of the catalogue of bad inputs, in plaintext and through the mesh.

#![allow(clippy::unwrap_used, clippy::expect_used)] // a test says what is wrong by failing

mod control_plane;
mod support;

use std::net::{IpAddr, SocketAddr, TcpListener};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use certs::ClientAuth;
use control_plane::{ControlPlane, Stream};
use model::service::MeshPeer;
use support::doors::Door;
use support::frames::*;
use support::raw;
use support::upstream::{Upstream, ok};
use support::{Sidecar, endpoint, service};

/// A sidecar and its stream to the control plane.
struct Sender {
    sidecar: Sidecar,
    _stream: Stream,
}

/// A sidecar whose Service has these endpoints.
fn sidecar_of(
    control_plane: &mut ControlPlane,
    address: [u8; 4],
    upstreams: &[&Upstream],
    mesh: bool,
) -> Sender {
    let sidecar = Sidecar::start(control_plane, address, &[]);
    let mut stream = control_plane.accept();
    let identity = control_plane.identity("shop", "api");
    let peer = |at: &SocketAddr| mesh.then(|| MeshPeer::pillion(at.port(), identity.clone()));
    let endpoints =
        upstreams.iter().map(|upstream| endpoint(upstream.address, peer(&upstream.address)));
    stream.update(vec![service("shop/api", endpoints.collect())], vec![]);
    stream.acknowledged();
    sidecar.wait_until_ready();
    Sender { sidecar, _stream: stream }
}

type Script = fn(&mut Client, u32, usize);

/// Two endpoints with the same script, behind TLS for the mesh.
fn two(
    control_plane: &ControlPlane,
    address: [u8; 4],
    mesh: bool,
    script: Script,
) -> [Upstream; 2] {
    let identity = control_plane.certificate(&control_plane.identity("shop", "api"));
    let tls = mesh.then(|| identity.server_config(&[b"h2"], ClientAuth::Required));
    [0, 1].map(|more| {
        let [a, b, c, d] = address;
        let at = SocketAddr::new(IpAddr::from([a, b, c, d + more]), 0);
        Upstream::start(at, tls.clone(), script)
    })
}

fn goaway(client: &mut Client, last: u32, code: u32) {
    client.frame(GOAWAY, 0, 0, &[last.to_be_bytes(), code.to_be_bytes()].concat());
}

/// What a POST with this body gets.
fn post(door: &Door, body: &[u8]) -> Ended {
    let mut client = door.connect();
    let stream = door.open(&mut client, "POST", "/x", false);
    client.data(stream, body, true);
    client.wait(stream)
}

#[test]
fn what_a_goaway_leaves_out_is_sent_elsewhere_once_whatever_its_method() {
    for (mesh, address) in [(false, [127, 10, 71, 2]), (true, [127, 10, 71, 12])] {
        let mut control_plane = ControlPlane::start();
        // It turns its first request away.
        let upstreams = two(&control_plane, address, mesh, |client, stream, before| {
            if before == 0 { goaway(client, 0, 0) } else { ok(client, stream) }
        });
        let sender =
            sidecar_of(&mut control_plane, [127, 10, 71, address[3] + 4], &[&upstreams[0]], mesh);
        let door = Door::outbound(&sender.sidecar);
        assert_eq!(post(&door, b"abc"), Ended::Answered("ok".into()), "row 54, mesh: {mesh}");
        assert_eq!(upstreams[0].requests(), 2, "row 54, mesh: {mesh}");
    }
}

#[test]
fn what_a_goaway_takes_in_is_finished() {
    for (mesh, address) in [(false, [127, 10, 72, 2]), (true, [127, 10, 72, 12])] {
        let mut control_plane = ControlPlane::start();
        // The second request comes; the first is taken in, the second is left out.
        let upstreams = two(&control_plane, address, mesh, |client, stream, before| match before {
            0 => {}
            1 => {
                goaway(client, 1, 0);
                ok(client, 1);
            }
            _ => ok(client, stream),
        });
        let sender =
            sidecar_of(&mut control_plane, [127, 10, 72, address[3] + 4], &[&upstreams[0]], mesh);
        let door = Door::outbound(&sender.sidecar);
        let mut client = door.connect();
        let first = door.open(&mut client, "POST", "/1", true);
        support::eventually("the first request is there", || upstreams[0].requests() == 1);
        let mut other = door.connect();
        let second = door.open(&mut other, "POST", "/2", true);
        assert_eq!(client.wait(first), Ended::Answered("ok".into()), "row 54, mesh: {mesh}");
        assert_eq!(other.wait(second), Ended::Answered("ok".into()), "row 54, mesh: {mesh}");
        assert_eq!(upstreams[0].requests(), 3, "row 54, mesh: {mesh}");
    }
}

#[test]
fn an_endpoint_that_left_out_a_request_is_not_asked_for_it_again_while_there_is_another() {
    let mut control_plane = ControlPlane::start();
    let [bad, good] = two(&control_plane, [127, 10, 73, 2], false, |client, stream, _| {
        if stream == 1 { goaway(client, 0, 0) } else { ok(client, stream) }
    });
    drop(good);
    let good = Upstream::plain([127, 10, 73, 5], |client, stream, _| ok(client, stream));
    let sender = sidecar_of(&mut control_plane, [127, 10, 73, 6], &[&bad, &good], false);
    let door = Door::outbound(&sender.sidecar);
    for _ in 0..20 {
        let (asked, served) = (bad.requests(), good.requests());
        assert_eq!(post(&door, b"abc"), Ended::Answered("ok".into()), "row 54");
        assert!(bad.requests() <= asked + 1, "row 54: asked once");
        assert_eq!(good.requests(), served + 1, "row 54");
    }
    assert!(bad.requests() > 0, "row 54: it was asked at all");
}

/// What one attempt is sent over must not be seen in another.
#[test]
fn a_body_that_was_framed_for_http1_is_sent_to_a_sidecar_without_that() {
    let mut control_plane = ControlPlane::start();
    let identity = control_plane.identity("shop", "api");
    let tls = control_plane.certificate(&identity).server_config(&[b"h2"], ClientAuth::Required);
    let at = SocketAddr::from(([127, 10, 77, 2], 0));
    let good = Upstream::start(at, Some(tls), |client, stream, _| ok(client, stream));
    // It takes connections, and gives none of them an answer.
    let bad = TcpListener::bind(SocketAddr::from(([127, 10, 77, 3], 0))).unwrap();
    let address = bad.local_addr().unwrap();
    let connections = Arc::new(AtomicUsize::new(0));
    let counted = Arc::clone(&connections);
    std::thread::spawn(move || {
        for socket in bad.incoming() {
            counted.fetch_add(1, Ordering::SeqCst);
            drop(socket);
        }
    });
    let sidecar = Sidecar::start(&control_plane, [127, 10, 77, 4], &[]);
    let mut stream = control_plane.accept();
    let peer = MeshPeer::pillion(good.address.port(), identity);
    let endpoints = vec![endpoint(address, None), endpoint(good.address, Some(peer))];
    stream.update(vec![service("shop/api", endpoints)], vec![]);
    stream.acknowledged();
    sidecar.wait_until_ready();
    let put = "PUT http://api/x HTTP/1.1\r\nhost: api\r\ntransfer-encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n";
    for _ in 0..20 {
        let answer = raw::send(sidecar.outbound(), put.as_bytes());
        assert_eq!(answer.statuses(), [200], "{}", answer.text());
    }
    assert!(connections.load(Ordering::SeqCst) > 0, "the other endpoint was tried at all");
    for head in good.told(HEADERS) {
        let chunked = head.payload.windows(7).any(|bytes| bytes == b"chunked");
        assert!(!chunked, "{}", head.payload.escape_ascii());
    }
}

#[test]
fn a_response_is_never_pushed() {
    for (mesh, address) in [(false, [127, 10, 74, 2]), (true, [127, 10, 74, 12])] {
        let mut control_plane = ControlPlane::start();
        let upstreams = two(&control_plane, address, mesh, |client, stream, _| {
            let promised = [
                (b":method".as_slice(), b"GET".as_slice()),
                (b":scheme", b"http"),
                (b":path", b"/pushed"),
                (b":authority", b"api"),
            ];
            let payload = [2_u32.to_be_bytes().as_slice(), &block(&promised)].concat();
            client.frame(PUSH_PROMISE, END_HEADERS, stream, &payload);
            ok(client, 2);
            ok(client, stream);
        });
        let sender =
            sidecar_of(&mut control_plane, [127, 10, 74, address[3] + 4], &[&upstreams[0]], mesh);
        let door = Door::outbound(&sender.sidecar);
        let Ended::Answered(body) = post(&door, b"abc") else { panic!("no answer") };
        assert!(body.starts_with("pillion: upstream_"), "mesh: {mesh}: {body}");
        support::eventually("it is told why", || upstreams[0].goaways() == [1]);
        assert!(upstreams[0].has_setting(ENABLE_PUSH, 0), "mesh: {mesh}: it was told before");
    }
}

#[test]
fn floods_of_an_endpoint_end_its_connection() {
    let floods: [(u8, Script); 4] = [
        (31, |client, stream, _| {
            let hints = frame(HEADERS, END_HEADERS, stream, &block(&[(b":status", b"103")]));
            let _ = (0..20_000).any(|_| !client.bytes(&hints));
        }),
        (45, |client, _, _| {
            let _ = (0..100_000).any(|_| !client.frame(PING, 0, 0, &[0; 8]));
        }),
        (47, |client, _, _| {
            let _ = (0..100_000).any(|_| !client.frame(99, 0, 0, &[0; 8]));
        }),
        (46, |client, stream, _| {
            client.headers(stream, &[(b":status", b"200")], false);
            let _ = (0..100_000).any(|_| !client.frame(DATA, 0, stream, &[]));
        }),
    ];
    for (n, (row, script)) in floods.into_iter().enumerate() {
        for (mesh, last) in [(false, 2), (true, 102)] {
            let mut control_plane = ControlPlane::start();
            let address = [127, 10, 75, 10 * n as u8 + last];
            let upstreams = two(&control_plane, address, mesh, script);
            let own = [127, 10, 75, address[3] + 4];
            let sender = sidecar_of(&mut control_plane, own, &[&upstreams[0]], mesh);
            let before = sender.sidecar.memory();
            let ended = post(&Door::outbound(&sender.sidecar), b"abc");
            let refused = match &ended {
                Ended::Answered(body) => body.starts_with("pillion: upstream_"),
                ended => matches!(ended, Ended::Reset(_)),
            };
            assert!(refused, "row {row}, mesh: {mesh}: {ended:?}");
            let grown = sender.sidecar.memory().saturating_sub(before);
            assert!(grown < 16 * 1024 * 1024, "row {row}, mesh: {mesh}: {grown} bytes more");
        }
    }
}
