//! A peer that takes requests and answers none: row 108 of the catalogue of faults. So many wait
//! for it and no more, whoever comes after them is told at once, and all are served in the end.

#![allow(clippy::unwrap_used, clippy::expect_used)] // a test says what is wrong by failing

mod control_plane;
mod support;

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use control_plane::ControlPlane;
use http::{Request, Response};
use model::service::{MeshPeer, MeshProtocol};
use support::mint::Ca;
use support::{Sidecar, endpoint, impostor, service};
use tokio::net::{TcpListener, TcpStream};
use tokio::runtime::Runtime;
use tokio::sync::{mpsc, watch};
use tokio::time::timeout;
use tokio_rustls::TlsAcceptor;

const API: &str = "spiffe://cluster.local/ns/shop/sa/api";

/// What may be under way and wait: eight connections with 100 streams, and 128 for each.
const BOUND: usize = 8 * (100 + 128);

/// The sidecar of `api`: it answers nothing until told to.
async fn stuck(listener: TcpListener, acceptor: TlsAcceptor, free: watch::Receiver<bool>) {
    loop {
        let (socket, _) = listener.accept().await.unwrap();
        let (acceptor, free) = (acceptor.clone(), free.clone());
        tokio::spawn(async move {
            let io = acceptor.accept(socket).await.unwrap();
            let mut connection = h2::server::Builder::new()
                .max_concurrent_streams(100)
                .handshake::<_, Bytes>(io)
                .await
                .unwrap();
            while let Some(Ok((_, mut respond))) = connection.accept().await {
                let mut free = free.clone();
                tokio::spawn(async move {
                    free.wait_for(|free| *free).await.unwrap();
                    let _ = respond.send_response(Response::new(()), true);
                });
            }
        });
    }
}

/// Sends `count` requests, a hundred a connection; what each is answered with comes by `answers`.
async fn send(to: SocketAddr, count: usize, answers: mpsc::UnboundedSender<(u16, String)>) {
    for sent in (0..count).step_by(100) {
        let socket = TcpStream::connect(to).await.unwrap();
        let (mut sender, connection) = h2::client::handshake(socket).await.unwrap();
        tokio::spawn(connection);
        for _ in sent..count.min(sent + 100) {
            sender = sender.ready().await.unwrap();
            let request = Request::get("http://api/").body(()).unwrap();
            let (response, _) = sender.send_request(request, true).unwrap();
            let answers = answers.clone();
            tokio::spawn(async move {
                let response = response.await.unwrap();
                let error = response.headers().get("x-pillion-error");
                let error = error.map_or("", |error| error.to_str().unwrap()).to_owned();
                let _ = answers.send((response.status().as_u16(), error));
            });
        }
    }
}

#[test]
fn what_waits_for_a_stuck_peer_is_bounded_and_served_in_the_end() {
    const MORE: usize = 76;
    let mut control_plane = ControlPlane::start();
    let sidecar = Sidecar::start(&control_plane, [127, 12, 52, 3], &[]);
    let mut stream = control_plane.accept();
    let runtime = Runtime::new().unwrap();
    let listener = TcpListener::bind((IpAddr::from([127, 12, 52, 2]), 0));
    let listener = runtime.block_on(listener).unwrap();
    let at = listener.local_addr().unwrap();
    let leaf = Ca::of(&control_plane).good(API);
    let acceptor = TlsAcceptor::from(Arc::new(impostor::config(&leaf)));
    let (release, free) = watch::channel(false);
    runtime.spawn(stuck(listener, acceptor, free));
    let peer = MeshPeer {
        port: at.port(),
        identity: API.parse().unwrap(),
        protocol: MeshProtocol::default(),
    };
    stream.update(vec![service("shop/api", vec![endpoint(at, Some(peer))])], vec![]);
    stream.acknowledged();
    sidecar.wait_until_ready();

    runtime.block_on(async {
        let (tell, mut answers) = mpsc::unbounded_channel();
        let mut next = async || timeout(support::PATIENCE, answers.recv()).await.unwrap().unwrap();
        send(sidecar.outbound(), BOUND + MORE, tell).await;
        for _ in 0..MORE {
            assert_eq!(next().await, (503, "overload".into()));
        }
        let further = timeout(Duration::from_millis(200), next()).await;
        assert!(further.is_err(), "the others wait: {further:?}");
        release.send_replace(true);
        for _ in 0..BOUND {
            assert_eq!(next().await, (200, String::new()));
        }
    });
}
