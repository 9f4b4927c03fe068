//! A real sidecar against a control plane that says what the test tells it to: the push protocol
//! from the sidecar's side, and what a publication means for requests.

#![allow(clippy::unwrap_used, clippy::expect_used)] // a test says what is wrong by failing

mod control_plane;
mod support;

use std::io::{Read, Write};
use std::net::{IpAddr, SocketAddr, TcpListener};
use std::time::Duration;

use control_plane::{ControlPlane, DAY};
use model::owner::Owner;
use model::service::MeshPeer;
use support::{Sidecar, endpoint, eventually, service};
use wire::Kind;
use wire::proto::{self, sync_request::Kind as Said};

/// An application that answers every request with `body` and the peer it was told of.
fn application(address: [u8; 4], body: &'static str) -> SocketAddr {
    let listener = TcpListener::bind((IpAddr::from(address), 0)).unwrap();
    let at = listener.local_addr().unwrap();
    std::thread::spawn(move || {
        for socket in listener.incoming() {
            let mut socket = socket.unwrap();
            std::thread::spawn(move || {
                let mut head = Vec::new();
                while !head.ends_with(b"\r\n\r\n") {
                    let mut byte = [0];
                    if socket.read(&mut byte).unwrap_or(0) == 0 {
                        return;
                    }
                    head.push(byte[0]);
                }
                let head = String::from_utf8(head).unwrap();
                let peer = head.lines().find(|line| line.starts_with("x-pillion-peer"));
                let text = format!("{body} {}", peer.unwrap_or("nobody"));
                let length = text.len();
                let _ = write!(
                    socket,
                    "HTTP/1.1 200 OK\r\ncontent-length: {length}\r\nconnection: close\r\n\r\n{text}"
                );
            });
        }
    });
    at
}

#[test]
fn a_request_goes_through_two_sidecars_and_the_application_learns_who_calls() {
    let mut control_plane = ControlPlane::start();
    let app = application([127, 9, 1, 2], "hello");
    let port = app.port().to_string();
    let args = ["--service", "shop/api", "--app-port", &port];
    let server = Sidecar::start(&control_plane, [127, 9, 1, 2], &args);
    let mut server_stream = control_plane.accept();
    let registration = server_stream.hello().registration.clone().unwrap();
    assert_eq!((registration.app_port, registration.mesh_port), (app.port().into(), 15008));
    server_stream.update(vec![], vec![]);
    server.wait_until_ready();

    let client = Sidecar::start(&control_plane, [127, 9, 1, 3], &[]);
    let mut stream = control_plane.accept();
    stream.update(vec![], vec![]);
    client.wait_until_ready();
    let asked = std::thread::spawn(move || {
        let answer = client.get("http://api/");
        (client, answer)
    });
    assert_eq!(stream.subscribed(), ["shop/api"]);
    let peer = MeshPeer::pillion(15008, control_plane.identity("shop", "test"));
    stream.update(vec![service("shop/api", vec![endpoint(app, Some(peer))])], vec![]);
    let (client, answer) = asked.join().unwrap();
    assert!(answer.starts_with("HTTP/1.1 200 "), "{answer}");
    assert!(
        answer.contains("hello x-pillion-peer: spiffe://cluster.local/ns/shop/sa/test"),
        "{answer}"
    );

    // The endpoint is the same, and somebody else is expected there: nothing is sent.
    let stranger = MeshPeer::pillion(15008, control_plane.identity("shop", "other"));
    stream.update(vec![service("shop/api", vec![endpoint(app, Some(stranger))])], vec![]);
    stream.acknowledged();
    let answer = client.get("http://api/");
    assert!(answer.starts_with("HTTP/1.1 503 "), "{answer}");
    assert!(answer.contains("x-pillion-error: tls_peer_identity_mismatch"), "{answer}");
}

#[test]
fn a_refused_resource_is_named_and_the_last_good_one_stays() {
    let mut control_plane = ControlPlane::start();
    let app = application([127, 9, 2, 2], "plain");
    let client = Sidecar::start(&control_plane, [127, 9, 2, 3], &[]);
    let mut stream = control_plane.accept();
    let good = service("shop/api", vec![endpoint(app, None)]);
    stream.update(vec![good], vec![]);
    assert!(stream.acknowledged().rejected.is_empty());
    client.wait_until_ready();
    assert!(client.get("http://api/").contains("plain nobody"));

    let mut bad = service("shop/api", vec![endpoint(app, None)]);
    bad.version = "bad".into();
    if let Some(proto::resource::Body::Service(body)) = &mut bad.body {
        body.endpoints[0].address = "somewhere".into();
    }
    stream.update(vec![bad, service("shop/other", vec![])], vec![]);
    let acknowledged = stream.acknowledged();
    assert_eq!(acknowledged.rejected.len(), 1, "{acknowledged:?}");
    assert_eq!(acknowledged.rejected[0].name, "shop/api");
    assert!(acknowledged.rejected[0].reason.contains("address"), "{acknowledged:?}");
    assert!(client.get("http://api/").contains("plain nobody"), "the last good one stays");
    assert!(client.get("http://other/").contains("x-pillion-error: no_endpoints"));
}

#[test]
fn a_new_stream_resumes_with_what_is_held() {
    let mut control_plane = ControlPlane::start();
    let app = application([127, 9, 3, 2], "still here");
    let client = Sidecar::start(&control_plane, [127, 9, 3, 3], &[]);
    let mut stream = control_plane.accept();
    let good = service("shop/api", vec![endpoint(app, None)]);
    stream.update(vec![good.clone()], vec![]);
    stream.acknowledged();
    client.wait_until_ready();
    stream.end();

    assert!(client.get("http://api/").contains("still here"), "no stream, and nothing changes");
    let stream = control_plane.accept();
    let known = &stream.hello().known;
    assert_eq!(known.len(), 1);
    assert_eq!((known[0].name.as_str(), &known[0].version), ("shop/api", &good.version));
    assert!(stream.by_certificate(), "a sidecar that has a certificate needs no token");
    assert!(client.get("http://api/").contains("still here"));
}

#[test]
fn a_service_that_does_not_exist_is_told_from_a_control_plane_that_does_not_answer() {
    let mut control_plane = ControlPlane::start();
    let client = Sidecar::start(&control_plane, [127, 9, 4, 3], &[]);
    let mut stream = control_plane.accept();
    stream.update(vec![], vec![]);
    client.wait_until_ready();
    let silent = client.get("http://silent/");
    assert!(silent.contains("x-pillion-error: discovery_timeout"), "{silent}");
    assert_eq!(stream.subscribed(), ["shop/silent"]);
    let removed = proto::Removed { kind: Kind::Service.encode(), name: "shop/silent".into() };
    stream.update(vec![], vec![removed]);
    eventually("the absence is known", || {
        client.get("http://silent/").contains("x-pillion-error: service_unknown")
    });
    stream.update(vec![service("shop/silent", vec![])], vec![]);
    eventually("it has appeared", || {
        client.get("http://silent/").contains("x-pillion-error: no_endpoints")
    });
}

#[test]
fn the_first_word_is_hello_and_the_second_asks_for_a_certificate() {
    let mut control_plane = ControlPlane::start();
    let _client = Sidecar::start(&control_plane, [127, 9, 5, 3], &[]);
    let stream = control_plane.accept();
    assert_eq!(stream.hello().address, "127.9.5.3");
    assert!(stream.hello().registration.is_none());
    assert!(!stream.by_certificate());
    eventually("a certificate was asked for", || {
        stream.said().iter().any(|kind| matches!(kind, Said::Certificate(_)))
    });
}

#[test]
fn an_address_leads_to_the_service_that_has_it() {
    let mut control_plane = ControlPlane::start();
    let app = application([127, 9, 8, 2], "hello");
    let sidecar = Sidecar::start(&control_plane, [127, 9, 8, 3], &[]);
    let mut stream = control_plane.accept();
    stream.update(vec![], vec![]);
    sidecar.wait_until_ready();
    assert!(sidecar.get("http://10.96.0.7/").contains("service_unknown"));
    assert!(sidecar.get(&format!("http://10.0.0.7:{}/", app.port())).contains("service_unknown"));
    let asked: Vec<String> = stream
        .said()
        .into_iter()
        .filter_map(|said| match said {
            Said::Subscribe(subscribe) => Some(subscribe.add_addresses),
            _ => None,
        })
        .flatten()
        .collect();
    assert_eq!(asked, ["10.96.0.7", "10.0.0.7"]);
    stream.update(
        vec![
            service("shop/api", vec![endpoint(app, None)]),
            owner("10.96.0.7", Owner::Service("shop/api".parse().unwrap())),
        ],
        vec![],
    );
    stream.acknowledged();
    assert!(sidecar.get("http://10.96.0.7/").ends_with("hello nobody"));
}

fn owner(address: &str, owner: Owner) -> proto::Resource {
    wire::resource::encode(address, &wire::Body::Address(owner))
}

/// By its own clock it can use none of them.
#[test]
fn certificates_that_have_ended_when_they_come_are_asked_for_more_and_more_seldom() {
    let mut control_plane = ControlPlane::late_by(2 * DAY);
    let client = Sidecar::start(&control_plane, [127, 9, 20, 3], &[]);
    let mut stream = control_plane.accept();
    stream.update(vec![], vec![]);
    std::thread::sleep(Duration::from_secs(2));
    let asked = |said: &Said| matches!(said, Said::Certificate(_));
    let asked = stream.said().into_iter().filter(asked).count();
    assert!((2..=20).contains(&asked), "{asked} requests in two seconds");
    control_plane.set_clock();
    client.wait_until_ready();
}
