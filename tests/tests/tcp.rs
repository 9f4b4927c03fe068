//! Bytes that nobody looks into, through CONNECT and two sidecars.

use std::time::Duration;

use tests::app::{App, BANNER};
use tests::body;
use tests::client;
use tests::pod::Pod;
use tests::poll::{self, SOON};
use tests::talk::Talk;
use tests::yaml;
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::TcpStream;

use crate::shop::Shop;

const TARGET: &str = "api.shop:80";

const UPGRADE: &str = "GET /upgrade HTTP/1.1\r\nhost: api.shop\r\nconnection: upgrade\r\n\
                       upgrade: websocket\r\n\r\n";

/// A tunnel to the TCP application, whose greeting was read.
async fn tunnel(web: &Pod) -> BufReader<TcpStream> {
    let mut tunnel = BufReader::new(client::connect(web.proxy(), TARGET).await.unwrap());
    let mut line = String::new();
    tokio::time::timeout(SOON, tunnel.read_line(&mut line)).await.expect("a greeting").unwrap();
    assert_eq!(line, BANNER);
    tunnel
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_may_speak_first_over_mutual_tls() {
    let shop = Shop::with("", App::tcp()).await;
    let mut tunnel = tunnel(&shop.web).await;
    tunnel.write_all(b"and now me\n").await.unwrap();
    let mut line = String::new();
    tunnel.read_line(&mut line).await.unwrap();
    assert_eq!(line, "and now me\n");
    drop(tunnel);
    for (pod, direction) in [(&shop.web, "outbound"), (&shop.api, "inbound")] {
        let labels = [("direction", direction), ("tls", "mutual")];
        poll::until(&format!("the {direction} connection is counted"), SOON, async || {
            let metrics = pod.metrics().await;
            let counted = metrics.has("pillion_tcp_connections_total", &labels);
            counted.then_some(()).ok_or_else(|| metrics.show("pillion_tcp_connections_total"))
        })
        .await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_half_closed_connection_still_brings_what_the_server_says_last() {
    let shop = Shop::with("", App::tcp()).await;
    let mut tunnel = tunnel(&shop.web).await;
    tunnel.write_all(b"12345").await.unwrap();
    tunnel.shutdown().await.unwrap();
    let mut rest = String::new();
    tokio::time::timeout(SOON, tunnel.read_to_string(&mut rest)).await.expect("an end").unwrap();
    assert_eq!(rest, "12345bye after 5 bytes\n");
}

#[tokio::test(flavor = "multi_thread")]
async fn twenty_mebibytes_come_back_unchanged() {
    const SIZE: u64 = 20 * 1024 * 1024;
    let shop = Shop::with("", App::tcp()).await;
    let (mut read, mut write) = tokio::io::split(tunnel(&shop.web).await);
    let sending = tokio::spawn(async move {
        let mut body = body::pattern(SIZE);
        while let Some(frame) = http_body_util::BodyExt::frame(&mut body).await {
            write.write_all(&frame.unwrap().into_data().unwrap()).await.unwrap();
        }
        write.shutdown().await.unwrap();
    });
    let mut all = Vec::new();
    tokio::time::timeout(4 * SOON, read.read_to_end(&mut all)).await.expect("an end").unwrap();
    sending.await.unwrap();
    let goodbye = format!("bye after {SIZE} bytes\n");
    assert!(all.ends_with(goodbye.as_bytes()), "{} bytes", all.len());
    all.truncate(all.len() - goodbye.len());
    let expected = body::digest(body::pattern(SIZE)).await.unwrap();
    assert_eq!(body::digest(body::full(all)).await.unwrap(), expected);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_connection_that_the_client_drops_is_dropped_at_the_server() {
    let shop = Shop::with("", App::tcp()).await;
    let tunnel = tunnel(&shop.web).await;
    let open = async || {
        let metrics = shop.api.metrics().await;
        metrics.sum("pillion_tcp_connections_open", &[("direction", "inbound")])
    };
    poll::until_true("the connection is open", SOON, async || open().await >= 1.0).await;
    drop(tunnel);
    poll::until_true("the connection is gone", SOON, async || open().await == 0.0).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_tunnel_to_an_unknown_service_is_refused_with_the_code() {
    let shop = Shop::with("", App::tcp()).await;
    let refusal = client::connect(shop.web.proxy(), "nothing.shop:80").await.unwrap_err();
    let refusal = refusal.to_string().to_lowercase();
    assert!(refusal.starts_with("http/1.1 502"), "{refusal}");
    assert!(refusal.contains("x-pillion-error: service_unknown"), "{refusal}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_tunnel_to_a_service_whose_application_is_down_is_refused_or_ends() {
    let mut shop = Shop::with("", App::tcp()).await;
    shop.api.stop_app();
    let outcome = client::connect(shop.web.proxy(), TARGET).await;
    if let Ok(mut tunnel) = outcome {
        let mut nothing = Vec::new();
        let read = tokio::time::timeout(Duration::from_secs(10), tunnel.read_to_end(&mut nothing));
        let _ = read.await.expect("the tunnel must end");
        assert!(nothing.is_empty(), "{nothing:?}");
    }
}

/// What a WebSocket needs: the upgrade goes through, and bytes both ways after it.
#[tokio::test(flavor = "multi_thread")]
async fn an_upgraded_connection_carries_bytes_both_ways() {
    let shop = Shop::open().await;
    let (head, mut socket) = client::converse(shop.web.proxy(), UPGRADE).await.unwrap();
    assert!(head.starts_with("HTTP/1.1 101"), "{head}");
    assert!(head.to_lowercase().contains("upgrade: websocket"), "{head}");
    for round in 0..10 {
        let sent = format!("frame {round}");
        socket.write_all(sent.as_bytes()).await.unwrap();
        let mut back = vec![0; sent.len()];
        let read = tokio::time::timeout(SOON, socket.read_exact(&mut back)).await;
        read.expect("the echo").unwrap();
        assert_eq!(back, sent.as_bytes());
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_upgraded_connection_keeps_its_place_among_those_that_are_open() {
    let shop = Shop::open().await;
    let until_open = async |expected: f64| {
        poll::until(&format!("{expected} connections"), SOON, async || {
            let metrics = shop.web.metrics().await;
            let open = metrics.sum("pillion_connections_open", &[("port", "outbound")]);
            if open == expected { Ok(()) } else { Err(open) }
        })
        .await;
    };
    until_open(0.0).await;
    let mut upgraded = Vec::new();
    for _ in 0..3 {
        let (head, mut socket) = client::converse(shop.web.proxy(), UPGRADE).await.unwrap();
        assert!(head.starts_with("HTTP/1.1 101"), "{head}");
        // What served HTTP on it has ended when bytes come back.
        socket.write_all(b"ping").await.unwrap();
        socket.read_exact(&mut [0; 4]).await.unwrap();
        upgraded.push(socket);
    }
    until_open(3.0).await;
    drop(upgraded);
    until_open(0.0).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_upgrade_that_the_application_does_not_want_is_an_ordinary_request() {
    let shop = Shop::open().await;
    let mut request = client::request("GET", &format!("{}/plain", crate::shop::API));
    request.headers_mut().insert("connection", "upgrade".parse().unwrap());
    request.headers_mut().insert("upgrade", "websocket".parse().unwrap());
    let answer = client::send(shop.web.proxy(), request).await.unwrap();
    assert_eq!((answer.status.as_u16(), &answer.json()["path"]), (200, &"/plain".into()));
}

#[tokio::test(flavor = "multi_thread")]
async fn an_upgrade_that_is_not_answered_has_the_time_of_an_attempt() {
    let app = App::scripted(|socket| async move {
        let mut talk = Talk::on(socket);
        // The head, and nothing more until the other side gives up.
        while talk.head().await.is_ok() {}
    });
    let rule = "  - backendRefs: [{name: api, port: 80}]\n\
                \x20   timeouts: {backendRequest: 300ms}";
    let shop = Shop::with(&yaml::route("shop/api", rule), app).await;
    let (head, _) = client::converse(shop.web.proxy(), UPGRADE).await.unwrap();
    assert!(head.starts_with("HTTP/1.1 504"), "{head}");
    assert!(head.to_lowercase().contains("x-pillion-error: attempt_timeout"), "{head}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_route_may_ask_for_an_upgrade() {
    let rules = "  - matches: [{headers: [{name: Upgrade, value: websocket}]}]\n\
                 \x20   backendRefs: [{name: api, port: 80}]\n\
                 \x20 - backendRefs: [{name: gone, port: 80}]";
    let shop = Shop::with(&yaml::route("shop/api", rules), App::http()).await;
    let (head, _) = client::converse(shop.web.proxy(), UPGRADE).await.unwrap();
    assert!(head.starts_with("HTTP/1.1 101"), "{head}");
    let answer = shop.web.get(crate::shop::API).await;
    let told = (answer.status.as_u16(), answer.error());
    assert_eq!(told, (500, Some("route_backend_invalid")), "{answer:?}");
}
