//! HTTP at its edges: what breaks off, what stalls, what comes in crowds.

use std::time::{Duration, Instant};

use futures_util::future::join_all;
use tests::app::App;
use tests::body::{self, digest};
use tests::client::{self, Http1, Http2, request};
use tests::poll::{self, SOON};
use tokio::io::AsyncWriteExt;
use tokio::net::TcpStream;

use crate::shop::{API, Shop};

#[tokio::test(flavor = "multi_thread")]
async fn a_response_that_breaks_off_never_looks_whole() {
    let shop = Shop::open().await;
    for bytes in [0, 100, 1_000_000] {
        let url = format!("{API}/break/{bytes}");
        let mut http1 = Http1::connect(shop.web.proxy()).await.unwrap();
        let broken = http1.send(request("GET", &url)).await;
        assert!(broken.is_err(), "HTTP/1.1, {bytes} bytes: taken for whole: {broken:?}");
        let mut http2 = Http2::connect(shop.web.proxy()).await.unwrap();
        let mut call = request("GET", &url);
        call.headers_mut().remove("host");
        let broken = http2.send(call).await;
        assert!(broken.is_err(), "HTTP/2, {bytes} bytes: taken for whole: {broken:?}");
        assert_eq!(shop.web.get(API).await.status, 200, "the next request is not harmed");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_request_that_breaks_off_never_looks_whole_to_the_application() {
    let shop = Shop::open().await;
    let heads = [
        "content-length: 1000\r\n\r\nonly this",
        "transfer-encoding: chunked\r\n\r\n9\r\nonly this\r\n",
    ];
    for (number, head) in (1..).zip(heads) {
        let mut socket = TcpStream::connect(shop.web.proxy()).await.unwrap();
        let text = format!("POST /digest HTTP/1.1\r\nhost: api.shop\r\n{head}");
        socket.write_all(text.as_bytes()).await.unwrap();
        poll::until_true("the request is under way", SOON, async || {
            shop.api.app().requests() == number
        })
        .await;
        drop(socket);
        poll::until_true("the application sees it break off", SOON, async || {
            shop.api.app().broken() == number as u64
        })
        .await;
    }
    assert_eq!(shop.web.get(API).await.status, 200);
}

/// They share one connection between the sidecars.
#[tokio::test(flavor = "multi_thread")]
async fn a_client_that_does_not_read_holds_up_nobody_else() {
    let shop = Shop::open().await;
    let mut stalled = Vec::new();
    for _ in 0..3 {
        let mut connection = Http1::connect(shop.web.proxy()).await.unwrap();
        let url = format!("{API}/download/{}", 50 * 1024 * 1024);
        let response = connection.start(request("GET", &url)).await.unwrap();
        stalled.push((connection, response));
    }
    let started = Instant::now();
    for _ in 0..100 {
        assert_eq!(shop.web.get(API).await.status, 200);
    }
    assert!(started.elapsed() < Duration::from_secs(20), "{:?}", started.elapsed());
    let whole = digest(body::pattern(50 * 1024 * 1024)).await.unwrap();
    for (_connection, response) in stalled {
        assert_eq!(digest(response.into_body()).await.unwrap(), whole);
    }
}

/// More than one HTTP/2 connection between the sidecars may carry at a time.
#[tokio::test(flavor = "multi_thread")]
async fn four_hundred_requests_at_once_are_all_answered() {
    let shop = Shop::open().await;
    let proxy = shop.web.proxy();
    let url = format!("{API}/delay/1500");
    let answers = join_all((0..400).map(|_| client::get(proxy, &url))).await;
    for answer in answers {
        let answer = answer.unwrap();
        assert_eq!(answer.status, 200, "{answer:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn responses_without_a_body_leave_the_connection_usable() {
    let shop = Shop::open().await;
    let mut connection = Http1::connect(shop.web.proxy()).await.unwrap();
    for code in [204, 304, 200, 404] {
        let url = format!("{API}/status/{code}");
        for method in ["GET", "HEAD"] {
            let answer = connection.send(request(method, &url)).await.unwrap();
            assert_eq!(answer.status, code, "{method} {answer:?}");
            assert_eq!(answer.error(), None);
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_that_expects_100_is_told_to_go_on_or_answered() {
    let shop = Shop::open().await;
    let text = "POST /digest HTTP/1.1\r\nhost: api.shop\r\nexpect: 100-continue\r\n\
                content-length: 4\r\nconnection: close\r\n\r\n";
    let mut socket = TcpStream::connect(shop.web.proxy()).await.unwrap();
    socket.write_all(text.as_bytes()).await.unwrap();
    let mut first = [0; 12];
    let read = tokio::io::AsyncReadExt::read_exact(&mut socket, &mut first);
    tokio::time::timeout(SOON, read).await.expect("an interim answer").unwrap();
    assert_eq!(&first, b"HTTP/1.1 100");
    socket.write_all(b"body").await.unwrap();
    let mut rest = String::new();
    tokio::io::AsyncReadExt::read_to_string(&mut socket, &mut rest).await.unwrap();
    assert!(rest.contains("HTTP/1.1 200") && rest.contains("\"size\":4"), "{rest}");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_http_1_0_client_gets_no_chunks_and_an_end() {
    let shop = Shop::open().await;
    let text = b"GET /download/1000 HTTP/1.0\r\nhost: api.shop\r\n\r\n";
    let answer = client::raw(shop.web.proxy(), text).await.unwrap();
    let (head, body) = answer.split_once("\r\n\r\n").expect("a head");
    assert!(head.contains(" 200 "), "{head}");
    assert!(!head.to_lowercase().contains("chunked"), "{head}");
    assert!(!body.is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn connections_of_a_crowd_do_not_stay_with_the_sidecar() {
    let shop = Shop::open().await;
    let (proxy, api) = (shop.web.proxy(), API.to_owned());
    join_all((0..200).map(|_| client::get(proxy, &api))).await;
    poll::until("the connections are gone", SOON, async || {
        let metrics = shop.web.metrics().await;
        let open = metrics.sum("pillion_connections_open", &[("port", "outbound")]);
        if open == 0.0 { Ok(()) } else { Err(open) }
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_one_binary_runs_the_same_sidecar() {
    let shop = Shop::open().await;
    let pod = shop.mesh.pod("shop/one").app(App::http()).by_pillion().start().await;
    shop.web.until_answered_by("http://one.shop:8080/", 1).await;
    assert_eq!(pod.get(API).await.status, 200);
    assert_eq!(pod.terminate(SOON).await.code(), Some(0));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_receiver_of_spans_that_is_not_there_costs_no_request() {
    let shop = Shop::open().await;
    let nowhere = format!("http://{}:4317", shop.mesh.free_address());
    let pod = shop.mesh.pod("shop/traced").flags(["--otlp-endpoint", &nowhere]).start().await;
    let load = tests::load::Load::get(pod.proxy(), API, 200);
    load.run_for(600).await;
    load.stop().await.assert_clean(480);
    assert!(pod.sidecar().log().lines().count() < 100, "{}", pod.sidecar().log());
}
