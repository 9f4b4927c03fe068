//! A root is removed while connections are open that it vouched for: row 72 of the catalogue of
//! bad inputs. Both sides drain them, what runs finishes, and what does not finish is cut.

#![allow(clippy::unwrap_used, clippy::expect_used)] // a test says what is wrong by failing

mod control_plane;
mod support;

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use bytes::Bytes;
use control_plane::ControlPlane;
use h2::RecvStream;
use h2::server::SendResponse;
use http::{Request, Response};
use model::service::{MeshPeer, MeshProtocol};
use rustls::AlertDescription::UnknownCA;
use support::caller::{self, Caller, Refused};
use support::mint::{Ca, WEB};
use support::origin::Origin;
use support::{Sidecar, endpoint, eventually, impostor, service};
use tokio::net::{TcpListener, TcpStream};
use tokio::runtime::Runtime;
use tokio::time::{sleep, timeout};
use tokio_rustls::TlsAcceptor;

const API: &str = "spiffe://cluster.local/ns/shop/sa/api";

/// How long a request to `/slow` runs.
const SLOW: Duration = Duration::from_secs(1);

/// Within this a removed root must have had its whole effect.
const BOUND: Duration = Duration::from_secs(60);

fn slow_origin(address: [u8; 4]) -> Origin {
    Origin::scripted(address, |request| {
        if request.starts_with("GET /slow ") {
            std::thread::sleep(SLOW);
        }
        (b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok".to_vec(), false)
    })
}

fn get(path: &str, port: u16) -> Request<()> {
    let mut request = caller::get(port);
    *request.uri_mut() = format!("http://api{path}").parse().unwrap();
    request
}

#[test]
fn callers_that_a_removed_root_vouched_for_are_drained_and_others_stay() {
    let mut control_plane = ControlPlane::start();
    let origin = slow_origin([127, 12, 45, 2]);
    let (sidecar, mut stream) = Sidecar::before(&mut control_plane, &origin);
    let (mesh, root) = (Ca::of(&control_plane), Ca::root_of(&control_plane));
    let removed = Ca::root("removed");
    let by_removed = || caller::config(Some(&removed.good(WEB)));
    let port = origin.address.port();

    let before = caller::verdict(sidecar.mesh(), by_removed());
    assert_eq!(before, Err(Refused::Alert(UnknownCA)), "it is not believed yet");
    stream.trust(&[&root.der, &removed.der]);
    let drained = Caller::connect(sidecar.mesh(), by_removed()).unwrap();
    let stays = Caller::connect(sidecar.mesh(), caller::config(Some(&mesh.good(WEB)))).unwrap();
    for caller in [&drained, &stays] {
        assert_eq!(caller.send(caller::get(port)).unwrap().status, 200);
    }
    let slow = drained.start(get("/slow", port));
    eventually("it is under way", || origin.take_text().contains("GET /slow "));

    stream.trust(&[&root.der]);
    let after = caller::verdict(sidecar.mesh(), by_removed());
    assert_eq!(after, Err(Refused::Alert(UnknownCA)));
    let answer = drained.runtime.block_on(slow).unwrap().unwrap();
    assert_eq!(answer.status, 200, "what was under way finishes");
    eventually("nothing more is served", || drained.send(caller::get(port)).is_err());
    assert_eq!(stays.send(caller::get(port)).unwrap().status, 200);
}

/// A tunnel has no end of its own.
#[test]
fn what_does_not_finish_is_cut() {
    let mut control_plane = ControlPlane::start();
    let origin = Origin::friendly([127, 12, 46, 2]);
    let (sidecar, mut stream) =
        Sidecar::in_front_of(&mut control_plane, [127, 12, 46, 2], origin.address, "tcp");
    let root = Ca::root_of(&control_plane);
    let removed = Ca::root("removed");
    stream.trust(&[&root.der, &removed.der]);
    let cut = Caller::connect(sidecar.mesh(), caller::config(Some(&removed.good(WEB)))).unwrap();
    let stays = Caller::connect(sidecar.mesh(), caller::config(Some(&root.good(WEB)))).unwrap();
    let target = origin.address.to_string();
    let [mut in_cut, mut in_stays] =
        [&cut, &stays].map(|by| by.tunnel(&target, b"GET / HTTP/1.1\r\n\r\n"));
    for (caller, tunnel) in [(&cut, &mut in_cut), (&stays, &mut in_stays)] {
        let answer = caller.runtime.block_on(tunnel.data()).unwrap().unwrap();
        assert!(answer.starts_with(b"HTTP/1.1 200 "), "{answer:?}");
    }

    stream.trust(&[&root.der]);
    let begun = Instant::now();
    let end = cut.runtime.block_on(async { timeout(BOUND, in_cut.data()).await });
    assert!(end.expect("in time").is_none_or(|data| data.is_err()));
    assert!(begun.elapsed() > SLOW, "it had its time to finish");
    let still = stays.runtime.block_on(async { timeout(SLOW, in_stays.data()).await });
    assert!(still.is_err(), "the other tunnel is open: {still:?}");
}

/// The sidecar of `api`, as far as this test needs one.
#[derive(Debug, Default)]
struct Api {
    accepted: AtomicUsize,
    open: AtomicUsize,
    slow: AtomicUsize,
}

impl Api {
    fn start(runtime: &Runtime, address: [u8; 4], ca: &Ca) -> (SocketAddr, Arc<Self>) {
        let api = Arc::new(Self::default());
        let acceptor = TlsAcceptor::from(Arc::new(impostor::config(&ca.good(API))));
        let listener = TcpListener::bind((IpAddr::from(address), 0));
        let listener = runtime.block_on(listener).unwrap();
        let at = listener.local_addr().unwrap();
        let serving = Arc::clone(&api);
        runtime.spawn(async move {
            loop {
                let (socket, _) = listener.accept().await.unwrap();
                tokio::spawn(Arc::clone(&serving).serve(acceptor.clone(), socket));
            }
        });
        (at, api)
    }

    async fn serve(self: Arc<Self>, acceptor: TlsAcceptor, socket: TcpStream) {
        let Ok(io) = acceptor.accept(socket).await else { return };
        self.accepted.fetch_add(1, Ordering::SeqCst);
        self.open.fetch_add(1, Ordering::SeqCst);
        if let Ok(mut connection) = h2::server::handshake(io).await {
            while let Some(Ok((request, respond))) = connection.accept().await {
                tokio::spawn(Arc::clone(&self).answer(request, respond));
            }
        }
        self.open.fetch_sub(1, Ordering::SeqCst);
    }

    async fn answer(
        self: Arc<Self>,
        request: Request<RecvStream>,
        mut respond: SendResponse<Bytes>,
    ) {
        if request.uri().path() == "/slow" {
            self.slow.fetch_add(1, Ordering::SeqCst);
            sleep(SLOW).await;
        }
        respond.send_response(Response::new(()), true).unwrap();
    }
}

#[test]
fn connections_to_a_server_that_a_removed_root_vouched_for_are_drained() {
    let mut control_plane = ControlPlane::start();
    let (runtime, removed) = (Runtime::new().unwrap(), Ca::root("removed"));
    let (at, api) = Api::start(&runtime, [127, 12, 47, 2], &removed);
    let sidecar = Sidecar::start(&control_plane, [127, 12, 47, 3], &[]);
    let mut stream = control_plane.accept();
    let peer = MeshPeer {
        port: at.port(),
        identity: API.parse().unwrap(),
        protocol: MeshProtocol::default(),
    };
    stream.update(vec![service("shop/api", vec![endpoint(at, Some(peer))])], vec![]);
    stream.acknowledged();
    sidecar.wait_until_ready();
    let refused = |what| {
        let answer = sidecar.get("http://api/");
        assert!(answer.contains("x-pillion-error: tls_handshake_failed\r\n"), "{what}: {answer}");
    };
    refused("it is not believed yet");

    let root = Ca::root_of(&control_plane);
    stream.trust(&[&root.der, &removed.der]);
    for _ in 0..3 {
        let answer = sidecar.get("http://api/");
        assert!(answer.starts_with("HTTP/1.1 200 "), "{answer}");
    }
    assert_eq!(api.accepted.load(Ordering::SeqCst), 1, "they shared one connection");
    std::thread::scope(|scope| {
        let slow = scope.spawn(|| sidecar.get("http://api/slow"));
        eventually("it is under way", || api.slow.load(Ordering::SeqCst) == 1);
        stream.trust(&[&root.der]);
        refused("its root is removed");
        let answer = slow.join().unwrap();
        assert!(answer.starts_with("HTTP/1.1 200 "), "what was under way finishes: {answer}");
    });
    eventually("the connection is closed", || api.open.load(Ordering::SeqCst) == 0);
    assert_eq!(api.accepted.load(Ordering::SeqCst), 1);
}
