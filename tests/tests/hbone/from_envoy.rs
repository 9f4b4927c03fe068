//! Envoy calls: CONNECT to the mesh port of one of our sidecars.

use std::io::ErrorKind;
use std::net::SocketAddr;

use serde_json::json;
use tests::app::{App, BANNER};
use tests::client;
use tests::envoy::Envoy;
use tests::grpc::Note;
use tests::grpc::echo_client::EchoClient;
use tests::mesh::Mesh;
use tests::pod::{APP_PORT, Pod};
use tests::poll::{self, SOON};
use tests::svid::Svid;
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::{TcpListener, TcpStream};

use super::envoy_of;
use crate::shop::Shop;

/// Envoy, and our pod `shop/api` that it calls.
struct Callee {
    envoy: Envoy,
    api: Pod,
    mesh: Mesh,
}

impl Callee {
    async fn with(app: App) -> Self {
        let mesh = Mesh::start().await;
        let api = mesh.pod("shop/api").app(app).start().await;
        let tls = envoy_of(&mesh, "api").await;
        let target = SocketAddr::new(api.address(), APP_PORT);
        let envoy = Envoy::client(&mesh, &tls, api.address(), &[target]).await;
        Self { envoy, api, mesh }
    }
}

/// Waits until `api` has counted at least one of `metric` with these labels.
async fn until_counted(api: &Pod, metric: &str, labels: &[(&str, &str)]) {
    poll::until(&format!("{metric} {labels:?}"), SOON, async || {
        let metrics = api.metrics().await;
        if metrics.sum(metric, labels) > 0.0 { Ok(()) } else { Err(metrics.show(metric)) }
    })
    .await;
}

/// What comes back from `door`, to whoever sends it a request and waits for the end.
async fn refusal(door: SocketAddr) -> Vec<u8> {
    let mut socket = TcpStream::connect(door).await.expect("Envoy listens");
    let request = b"GET / HTTP/1.1\r\nhost: api.shop\r\n\r\n";
    let mut answer = Vec::new();
    // Envoy may have reset it already: that is as good as an end without an answer.
    if socket.write_all(request).await.is_ok() {
        let read = tokio::time::timeout(SOON, socket.read_to_end(&mut answer)).await;
        let _ = read.expect("an end of the connection");
    }
    answer
}

#[tokio::test(flavor = "multi_thread")]
async fn the_application_is_told_of_envoy_what_its_certificate_proves_and_nothing_else() {
    let Callee { envoy, api, mesh: _mesh } = Callee::with(App::http()).await;
    let request = http::Request::get("/orders?n=1")
        .header("host", "api.shop")
        .header("x-pillion-peer", Shop::identity("web"))
        .body(tests::body::empty());
    let answer = client::send(envoy.door(0), request.unwrap()).await.unwrap();
    assert_eq!(answer.status, 200, "{answer:?}");
    let seen = answer.json();
    assert_eq!((&seen["path"], &seen["host"]), (&json!("/orders?n=1"), &json!("api.shop")));
    assert_eq!(seen["version"], json!("HTTP/1.1"));
    assert_eq!(seen["headers"]["x-pillion-peer"], json!([Shop::identity("envoy")]));
    let labels = [("direction", "inbound"), ("tls", "mutual"), ("status", "200")];
    until_counted(&api, "pillion_requests_total", &labels).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn requests_of_one_connection_and_grpc_calls_come_through_tunnels_of_envoy() {
    let Callee { envoy, api, mesh: _mesh } = Callee::with(App::http()).await;
    let mut kept = client::Http1::connect(envoy.door(0)).await.unwrap();
    for path in ["/one", "/two", "/three"] {
        let request = http::Request::get(path).header("host", "api.shop");
        let answer = kept.send(request.body(tests::body::empty()).unwrap()).await.unwrap();
        assert_eq!(answer.json()["path"], json!(path));
    }
    let mut grpc = EchoClient::connect(format!("http://{}", envoy.door(0))).await.unwrap();
    let note = Note { text: "hello".to_owned(), ..Note::default() };
    let answer = grpc.unary(note).await.unwrap().into_inner();
    assert_eq!((answer.text.as_str(), answer.pod.as_str()), ("hello", "api"));
    let calls = api.app().seen();
    let peers = calls.iter().map(|call| call.headers["x-pillion-peer"].to_str().unwrap());
    assert_eq!(peers.collect::<Vec<_>>(), vec![Shop::identity("envoy"); 4]);
}

#[tokio::test(flavor = "multi_thread")]
async fn bytes_of_envoy_are_carried_and_the_application_may_speak_first() {
    let Callee { envoy, api, mesh: _mesh } = Callee::with(App::tcp()).await;
    let mut socket = BufReader::new(TcpStream::connect(envoy.door(0)).await.unwrap());
    let mut line = String::new();
    tokio::time::timeout(SOON, socket.read_line(&mut line)).await.expect("a greeting").unwrap();
    assert_eq!(line, BANNER);
    socket.write_all(b"12345").await.unwrap();
    socket.shutdown().await.unwrap();
    let mut rest = String::new();
    tokio::time::timeout(SOON, socket.read_to_string(&mut rest)).await.expect("an end").unwrap();
    assert_eq!(rest, "12345bye after 5 bytes\n");
    let labels = [("direction", "inbound"), ("tls", "mutual"), ("error", "")];
    until_counted(&api, "pillion_tcp_connections_total", &labels).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_that_resets_before_envoy_is_no_orderly_end_for_the_application() {
    let mesh = Mesh::start().await;
    let api = mesh.pod("shop/api").flags(["--app-port", "8080"]).start().await;
    let target = SocketAddr::new(api.address(), APP_PORT);
    let listener = TcpListener::bind(target).await.unwrap();
    let tls = envoy_of(&mesh, "api").await;
    let envoy = Envoy::client(&mesh, &tls, api.address(), &[target]).await;
    let mut client = TcpStream::connect(envoy.door(0)).await.unwrap();
    client.write_all(b"half of ").await.unwrap();
    let (mut served, _) = listener.accept().await.unwrap();
    let mut half = [0; 8];
    served.read_exact(&mut half).await.unwrap();
    client.set_zero_linger().unwrap();
    drop(client);
    let end = tokio::time::timeout(SOON, served.read(&mut half)).await.expect("an end");
    assert_eq!(end.map_err(|error| error.kind()), Err(ErrorKind::ConnectionReset));
}

#[tokio::test(flavor = "multi_thread")]
async fn envoy_gets_no_further_than_to_the_ports_of_the_application() {
    let mesh = Mesh::start().await;
    let api = mesh.pod("shop/api").app(App::http()).start().await;
    let other = App::http().start("other", SocketAddr::new(mesh.free_address(), APP_PORT)).await;
    let unnamed = App::http().start("unnamed", SocketAddr::new(api.address(), 9000)).await;
    let targets = [other.address(), unnamed.address(), api.admin(), api.app().address()];
    let tls = envoy_of(&mesh, "api").await;
    let envoy = Envoy::client(&mesh, &tls, api.address(), &targets).await;
    for (target, error) in [(0, "port_denied"), (1, "port_denied"), (2, "loop_detected")] {
        let before = refused(&api, error).await;
        assert_eq!(refusal(envoy.door(target)).await, b"", "{}", targets[usize::from(target)]);
        poll::until_true("the refusal is counted", SOON, async || {
            refused(&api, error).await == before + 1.0
        })
        .await;
    }
    assert_eq!((other.connections(), unnamed.connections()), (0, 0));
    let answer = client::get_direct(envoy.door(3), "/").await.expect("the application's port");
    assert_eq!((answer.status.as_u16(), answer.pod()), (200, Some("api")));
}

/// How many connections were refused to peers for this reason.
async fn refused(api: &Pod, error: &str) -> f64 {
    let labels = [("direction", "inbound"), ("tls", "mutual"), ("error", error)];
    api.metrics().await.sum("pillion_tcp_connections_total", &labels)
}

#[tokio::test(flavor = "multi_thread")]
async fn envoy_with_the_same_identity_by_another_authority_is_nobody() {
    let Callee { envoy, api, mesh } = Callee::with(App::http()).await;
    let other = Mesh::start().await;
    let mut tls = envoy_of(&mesh, "api").await;
    tls.svid = Svid::signed(&other, "envoy", &Shop::identity("envoy")).await;
    let stranger = Envoy::client(&mesh, &tls, api.address(), &[api.app().address()]).await;
    assert_eq!(refusal(stranger.door(0)).await, b"");
    let labels = [("direction", "inbound"), ("result", "tls_handshake_failed")];
    until_counted(&api, "pillion_tls_handshakes_total", &labels).await;
    assert_eq!(api.app().connections(), 0);
    let answer = client::get_direct(envoy.door(0), "/").await.expect("ours is let in");
    assert_eq!(answer.status, 200);
}
