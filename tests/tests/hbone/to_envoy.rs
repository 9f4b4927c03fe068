//! Envoy is called: by our sidecar, where a Pod's annotation says that HBONE is all it speaks.

use std::io::ErrorKind;
use std::net::SocketAddr;

use http::StatusCode;
use serde_json::json;
use tests::app::{App, BANNER, Running};
use tests::client;
use tests::envoy::{Envoy, MESH_PORT};
use tests::grpc::Note;
use tests::grpc::echo_client::EchoClient;
use tests::mesh::Mesh;
use tests::pod::{APP_PORT, Pod};
use tests::poll::{self, SOON};
use tests::yaml;
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::{TcpListener, TcpStream};
use tonic::Code;
use tonic::transport::Endpoint;

use super::envoy_of;

const URL: &str = "http://data.shop/orders";
const TARGET: &str = "data.shop:80";

/// Our pod `shop/web`, and Envoy in front of an application of the Service `shop/data`.
struct Called {
    web: Pod,
    envoy: Envoy,
    application: SocketAddr,
    mesh: Mesh,
}

impl Called {
    /// Nothing listens at the application's address yet. The control plane says that `account` is
    /// who Envoy is.
    async fn as_account(account: &str) -> Self {
        let mesh = Mesh::start().await;
        let application = SocketAddr::new(mesh.free_address(), APP_PORT);
        let tls = envoy_of(&mesh, "web").await;
        let envoy = Envoy::server(&mesh, &tls, application).await;
        let objects = yaml::service("shop/data", 80, APP_PORT)
            + &yaml::endpoints("shop/data", APP_PORT, &[application.ip()])
            + &foreign(&yaml::pod("shop/data-1", account, application.ip()));
        mesh.write("data.yaml", &objects);
        let web = mesh.pod("shop/web").start().await;
        Self { web, envoy, application, mesh }
    }

    /// With an application.
    async fn with(app: App) -> (Self, Running) {
        let called = Self::as_account("envoy").await;
        let app = app.start("data", called.application).await;
        called.web.until_known(TARGET).await;
        // That was a connection, too, and no test is to count it as its own.
        poll::until_true("it is accepted", SOON, async || app.connections() == 1).await;
        (called, app)
    }
}

/// The Pod, with a sidecar of another mesh.
fn foreign(pod: &str) -> String {
    let annotations = format!("sidecar: hbone, pillion.dev/mesh-port: '{MESH_PORT}'");
    pod.replace("sidecar: enabled", &annotations)
}

/// A tunnel to the TCP application, whose greeting was read.
async fn tunnel(web: &Pod) -> BufReader<TcpStream> {
    let mut tunnel = BufReader::new(client::connect(web.proxy(), TARGET).await.unwrap());
    let mut line = String::new();
    tokio::time::timeout(SOON, tunnel.read_line(&mut line)).await.expect("a greeting").unwrap();
    assert_eq!(line, BANNER);
    tunnel
}

#[tokio::test(flavor = "multi_thread")]
async fn requests_reach_the_application_behind_envoy_on_one_connection_that_is_kept() {
    let (called, app) = Called::with(App::http()).await;
    let known = app.connections();
    for _ in 0..5 {
        let answer = called.web.get(URL).await;
        assert_eq!((answer.status.as_u16(), answer.pod()), (200, Some("data")), "{answer:?}");
        let seen = answer.json();
        assert_eq!((&seen["path"], &seen["host"]), (&json!("/orders"), &json!("data.shop")));
        assert_eq!(seen["version"], json!("HTTP/1.1"));
        let ours = seen["headers"].as_object().unwrap().keys().find(|key| key.contains("pillion"));
        assert_eq!(ours, None, "nothing of ours is said to whom it means nothing");
    }
    assert_eq!(app.connections() - known, 1, "the connection in the tunnel is kept");
    assert_eq!(
        called.envoy.stat("http.hbone.downstream_cx_total").await,
        1,
        "and that to Envoy too"
    );
    let metrics = called.web.metrics().await;
    let labels = [("service", "shop/data"), ("tls", "mutual"), ("status", "200")];
    assert_eq!(metrics.sum("pillion_requests_total", &labels), 5.0);
}

#[tokio::test(flavor = "multi_thread")]
async fn more_requests_at_once_than_a_connection_has_streams_are_all_answered() {
    const REQUESTS: u64 = 250;
    let (called, _app) = Called::with(App::http()).await;
    let proxy = called.web.proxy();
    let requests = (0..REQUESTS).map(|_| client::get(proxy, "http://data.shop/delay/1000"));
    for answer in futures_util::future::join_all(requests).await {
        assert_eq!(answer.expect("an answer").status, 200);
    }
    let connections = called.envoy.stat("http.hbone.downstream_cx_total").await;
    assert!((2..=4).contains(&connections), "{connections} connections to Envoy");
}

#[tokio::test(flavor = "multi_thread")]
async fn grpc_calls_reach_the_application_behind_envoy_with_their_trailers() {
    let (called, app) = Called::with(App::http()).await;
    let known = app.connections();
    let proxy = Endpoint::from_shared(format!("http://{}", called.web.proxy())).unwrap();
    let channel = proxy.origin("http://data.shop:80".parse().unwrap()).connect().await.unwrap();
    let mut client = EchoClient::new(channel);
    for turn in 0..5 {
        let note = Note { text: format!("turn {turn}"), ..Note::default() };
        let answer = client.unary(note.clone()).await.unwrap().into_inner();
        assert_eq!((answer.text, answer.pod.as_str()), (note.text, "data"));
    }
    let failing = Note { fail_with: Code::DataLoss as u32, ..Note::default() };
    assert_eq!(client.unary(failing).await.unwrap_err().code(), Code::DataLoss);
    assert_eq!(app.connections() - known, 1, "HTTP/2 is spoken in one tunnel");
}

#[tokio::test(flavor = "multi_thread")]
async fn bytes_reach_the_application_behind_envoy_and_each_half_ends_by_itself() {
    let (called, _app) = Called::with(App::tcp()).await;
    let mut tunnel = tunnel(&called.web).await;
    tunnel.write_all(b"and now me\n").await.unwrap();
    let mut line = String::new();
    tunnel.read_line(&mut line).await.unwrap();
    assert_eq!(line, "and now me\n");
    tunnel.shutdown().await.unwrap();
    let mut rest = String::new();
    tokio::time::timeout(SOON, tunnel.read_to_string(&mut rest)).await.expect("an end").unwrap();
    assert_eq!(rest, "bye after 11 bytes\n");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_upgraded_connection_carries_bytes_through_envoy() {
    let (called, _app) = Called::with(App::http()).await;
    let head = "GET /upgrade HTTP/1.1\r\nhost: data.shop\r\nconnection: upgrade\r\n\
                upgrade: websocket\r\n\r\n";
    let (head, mut socket) = client::converse(called.web.proxy(), head).await.unwrap();
    assert!(head.starts_with("HTTP/1.1 101"), "{head}");
    socket.write_all(b"frame").await.unwrap();
    let mut back = [0; 5];
    tokio::time::timeout(SOON, socket.read_exact(&mut back)).await.expect("the echo").unwrap();
    assert_eq!(&back, b"frame");
}

/// How an application ends a connection after it has sent half of what it wanted to say.
#[derive(Debug, Clone, Copy)]
enum End {
    Closed,
    Reset,
}

/// An application that answers a word of four bytes with `half of `, and the next with its end.
async fn ends(address: SocketAddr, end: End) {
    let listener = TcpListener::bind(address).await.unwrap();
    tokio::spawn(async move {
        loop {
            let (mut socket, _) = listener.accept().await.unwrap();
            tokio::spawn(async move {
                let mut word = [0; 4];
                // A connection without a word only wants to know who is there.
                if socket.read_exact(&mut word).await.is_ok() {
                    socket.write_all(b"half of ").await.unwrap();
                    socket.read_exact(&mut word).await.unwrap();
                    if matches!(end, End::Reset) {
                        socket.set_zero_linger().unwrap();
                    }
                }
            });
        }
    });
}

/// A tunnel whose application has sent its half and ended the connection; what is read then.
async fn ended(called: &Called, end: End) -> (TcpStream, std::io::Result<usize>) {
    ends(called.application, end).await;
    called.web.until_known(TARGET).await;
    let mut tunnel = client::connect(called.web.proxy(), TARGET).await.unwrap();
    tunnel.write_all(b"word").await.unwrap();
    let mut half = [0; 8];
    tunnel.read_exact(&mut half).await.unwrap();
    tunnel.write_all(b"more").await.unwrap();
    let last = tokio::time::timeout(SOON, tunnel.read(&mut half)).await.expect("an end");
    (tunnel, last)
}

/// Waits until `web` has counted connections that ended with `error`, or without.
async fn until_counted(web: &Pod, error: &str, connections: f64) {
    let labels = [("service", "shop/data"), ("error", error), ("tls", "mutual")];
    poll::until("the connection is counted", SOON, async || {
        let metrics = web.metrics().await;
        let counted = metrics.sum("pillion_tcp_connections_total", &labels);
        let shown = || metrics.show("pillion_tcp_connections_total");
        if counted == connections { Ok(()) } else { Err(shown()) }
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_application_that_resets_behind_envoy_is_no_orderly_end() {
    let called = Called::as_account("envoy").await;
    let (_tunnel, last) = ended(&called, End::Reset).await;
    assert_eq!(last.map_err(|error| error.kind()), Err(ErrorKind::ConnectionReset));
    until_counted(&called.web, "upstream_reset", 1.0).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_application_that_ends_first_behind_envoy_is_no_failure() {
    let called = Called::as_account("envoy").await;
    let (mut tunnel, last) = ended(&called, End::Closed).await;
    assert_eq!(last.map_err(|error| error.kind()), Ok(0));
    tunnel.shutdown().await.unwrap();
    // That of `until_known`, and this one.
    until_counted(&called.web, "", 2.0).await;
    until_counted(&called.web, "upstream_reset", 0.0).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn envoy_that_cannot_reach_its_application_is_an_endpoint_that_refuses() {
    let called = Called::as_account("envoy").await;
    called.web.until_known(TARGET).await;
    let answer = called.web.get(URL).await;
    let expected = (StatusCode::SERVICE_UNAVAILABLE, Some("connect_refused"));
    assert_eq!((answer.status, answer.error()), expected, "{answer:?}");
    let _app = App::http().start("data", called.application).await;
    poll::until("the application answers", SOON, async || {
        let answer = called.web.get(URL).await;
        if answer.status == 200 { Ok(()) } else { Err(answer) }
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_envoy_that_is_killed_is_refused_and_whoever_else_is_there_answers() {
    let (mut called, _app) = Called::with(App::http()).await;
    assert_eq!(called.web.get(URL).await.status, 200);
    called.envoy.kill();
    let answer = called.web.get(URL).await;
    let expected = (StatusCode::SERVICE_UNAVAILABLE, Some("connect_refused"));
    assert_eq!((answer.status, answer.error()), expected, "{answer:?}");

    let ours = called.mesh.pod("shop/data").instance("ours").app(App::http()).unregistered();
    let ours = ours.start().await;
    let both = [called.application.ip(), ours.address()];
    let objects = yaml::service("shop/data", 80, APP_PORT)
        + &yaml::endpoints("shop/data", APP_PORT, &both)
        + &foreign(&yaml::pod("shop/data-1", "envoy", both[0]))
        + &yaml::pod("shop/data-2", "data", both[1]);
    called.mesh.write("data.yaml", &objects);
    called.web.until_answered_by(URL, 1).await;
    for _ in 0..20 {
        let answer = called.web.get(URL).await;
        assert_eq!((answer.status.as_u16(), answer.pod()), (200, Some("ours")), "{answer:?}");
    }
    let metrics = called.web.metrics().await;
    let tried = [("service", "shop/data"), ("reason", "connect_refused")];
    assert!(metrics.sum("pillion_retries_total", &tried) > 0.0, "Envoy was tried, too");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_envoy_with_another_identity_than_its_pod_is_sent_nothing() {
    let called = Called::as_account("data").await;
    let app = App::http().start("data", called.application).await;
    called.web.until_known(TARGET).await;
    let answer = called.web.get(URL).await;
    let expected = (StatusCode::SERVICE_UNAVAILABLE, Some("tls_peer_identity_mismatch"));
    assert_eq!((answer.status, answer.error()), expected, "{answer:?}");
    let refusal = client::connect(called.web.proxy(), TARGET).await.unwrap_err().to_string();
    assert!(refusal.contains("x-pillion-error: tls_peer_identity_mismatch"), "{refusal}");
    assert_eq!(called.envoy.stat("http.hbone.downstream_rq_total").await, 0);
    assert_eq!(app.connections(), 0);
}

/// In TLS 1.3 a client learns only after its first words that its certificate is not wanted, or finds
/// no more than a connection that is closed: only the outcome is certain.
#[tokio::test(flavor = "multi_thread")]
async fn a_sidecar_that_envoy_does_not_let_in_reaches_nothing() {
    let (called, app) = Called::with(App::http()).await;
    let known = app.connections();
    let stranger = called.mesh.pod("shop/stranger").start().await;
    stranger.until_known(TARGET).await;
    let answer = stranger.get(URL).await;
    assert_eq!(answer.status, StatusCode::SERVICE_UNAVAILABLE, "{answer:?}");
    assert_eq!((app.requests(), app.connections()), (0, known));
    assert_eq!(called.web.get(URL).await.status, 200);
}
