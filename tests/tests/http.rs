//! HTTP through two sidecars: every way in, and nothing lost on the way.

use futures_util::future::join_all;
use http::Version;
use tests::app::App;
use tests::body::{self, digest};
use tests::client::{self, Http1, Http2, request, with_body};
use tests::mesh::Mesh;
use tests::pod::APP_PORT;
use tests::yaml;

use crate::shop::{API, Shop};

/// Large enough to fill every window and buffer on the way many times.
const LARGE: u64 = 50 * 1024 * 1024;

#[tokio::test(flavor = "multi_thread")]
async fn an_absolute_form_request_reaches_the_service_over_mutual_tls() {
    let shop = Shop::open().await;
    let answer = shop.web.get(&format!("{API}/orders/7?full=yes")).await;
    assert_eq!(answer.status, 200, "{answer:?}");
    let seen = answer.json();
    assert_eq!(seen["path"], "/orders/7?full=yes");
    assert_eq!(seen["host"], "api.shop");
    assert_eq!(seen["version"], "HTTP/1.1");

    let labels = [("service", "shop/api"), ("status", "200"), ("tls", "mutual")];
    let sent = shop.web.metrics().await;
    let got = shop.api.metrics().await;
    let outbound =
        sent.sum("pillion_requests_total", &[&labels[..], &[("direction", "outbound")]].concat());
    let inbound = got.sum("pillion_requests_total", &[("direction", "inbound"), ("tls", "mutual")]);
    assert!(outbound >= 1.0, "{}", sent.show("pillion_requests_total"));
    assert!(inbound >= 1.0, "{}", got.show("pillion_requests_total"));
    let plain = got.sum("pillion_requests_total", &[("tls", "none")]);
    assert_eq!(plain, 0.0, "{}", got.show("pillion_requests_total"));
}

/// RFC 9112 §3.2.4.
#[tokio::test(flavor = "multi_thread")]
async fn options_of_a_server_as_a_whole_reach_it_as_such() {
    let shop = Shop::open().await;
    for (target, path) in [("http://api.shop", "*"), ("http://api.shop/", "/")] {
        let head =
            format!("OPTIONS {target} HTTP/1.1\r\nhost: api.shop\r\nconnection: close\r\n\r\n");
        let answer = client::raw(shop.web.proxy(), head.as_bytes()).await.unwrap();
        assert!(answer.contains(&format!(r#""path":"{path}""#)), "{target}: {answer}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_origin_form_request_is_routed_by_its_host() {
    let shop = Shop::open().await;
    for host in ["api", "api.shop", "api.shop.svc", "api.shop.svc.cluster.local", "API.Shop:80"] {
        let request = http::Request::get("/x").header("host", host).body(body::empty()).unwrap();
        let answer = client::send(shop.web.proxy(), request).await.unwrap();
        assert_eq!(answer.status, 200, "{host}: {answer:?}");
        assert_eq!(answer.json()["path"], "/x", "{host}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_kept_alive_connection_carries_many_requests() {
    let shop = Shop::open().await;
    let mut connection = Http1::connect(shop.web.proxy()).await.unwrap();
    for number in 0..100 {
        let url = format!("{API}/{number}");
        let answer = connection.send(request("GET", &url)).await.unwrap();
        assert_eq!(answer.json()["path"], format!("/{number}"));
    }
    let connections = shop.api.app().connections();
    assert!(connections <= 5, "{connections} connections to the application for 100 requests");
}

#[tokio::test(flavor = "multi_thread")]
async fn connections_are_shared_among_the_workers() {
    const WORKERS: u16 = 3;
    let mesh = Mesh::with_objects(yaml::service("shop/api", 80, APP_PORT)).await;
    let api = mesh.pod("shop/api").app(App::http()).start().await;
    let web = mesh.pod("shop/web").workers(WORKERS).start().await;
    web.until_known("api.shop:80").await;
    let from_web =
        async || api.metrics().await.sum("pillion_connections_open", &[("port", "mesh")]);
    let before = from_web().await;
    let mut connections = Vec::new();
    for _ in 0..4 * WORKERS {
        let mut connection = Http1::connect(web.proxy()).await.unwrap();
        assert_eq!(connection.send(request("GET", API)).await.unwrap().status, 200);
        connections.push(connection);
    }
    // Each has connections of its own to other sidecars.
    assert_eq!(from_web().await, before + f64::from(WORKERS));
    for mut connection in connections {
        assert_eq!(connection.send(request("GET", API)).await.unwrap().status, 200);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn every_method_passes_with_its_body() {
    let shop = Shop::open().await;
    for method in ["GET", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"] {
        let request = with_body(method, &format!("{API}/m"), body::full("the body"));
        let answer = client::send(shop.web.proxy(), request).await.unwrap();
        let seen = answer.json();
        assert_eq!((&seen["method"], &seen["body"]), (&method.into(), &"the body".into()));
    }
    let head = client::send(shop.web.proxy(), request("HEAD", &format!("{API}/m"))).await.unwrap();
    assert_eq!((head.status.as_u16(), head.body.len()), (200, 0));
    assert!(head.header("content-length").is_some_and(|length| length != "0"), "{head:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_chunked_body_is_echoed_piece_by_piece() {
    let shop = Shop::open().await;
    let request = with_body("POST", &format!("{API}/echo"), body::pattern(300_000));
    let mut connection = Http1::connect(shop.web.proxy()).await.unwrap();
    let response = connection.start(request).await.unwrap();
    assert_eq!(response.headers().get("transfer-encoding").unwrap(), "chunked");
    let echoed = digest(response.into_body()).await.unwrap();
    assert_eq!(echoed, digest(body::pattern(300_000)).await.unwrap());
}

#[tokio::test(flavor = "multi_thread")]
async fn fifty_mebibytes_go_up_unchanged() {
    let shop = Shop::open().await;
    let request = with_body("PUT", &format!("{API}/digest"), body::pattern(LARGE));
    let answer = client::send(shop.web.proxy(), request).await.unwrap();
    let expected = digest(body::pattern(LARGE)).await.unwrap();
    assert_eq!(answer.json()["size"], LARGE, "{answer:?}");
    assert_eq!(answer.json()["hash"], expected.hash.to_string());
}

#[tokio::test(flavor = "multi_thread")]
async fn fifty_mebibytes_come_down_unchanged() {
    let shop = Shop::open().await;
    let mut connection = Http1::connect(shop.web.proxy()).await.unwrap();
    let request = request("GET", &format!("{API}/download/{LARGE}"));
    let response = connection.start(request).await.unwrap();
    let got = digest(response.into_body()).await.unwrap();
    assert_eq!(got, digest(body::pattern(LARGE)).await.unwrap());
}

#[tokio::test(flavor = "multi_thread")]
async fn http2_with_prior_knowledge_reaches_the_application_as_http2() {
    let shop = Shop::open().await;
    let connection = Http2::connect(shop.web.proxy()).await.unwrap();
    let answers =
        join_all(
            (0..80).map(|number| {
                let mut connection = connection.clone();
                async move {
                    connection.send(h2_request("GET", &format!("{API}/{number}"))).await.unwrap()
                }
            }),
        )
        .await;
    for (number, answer) in answers.iter().enumerate() {
        assert_eq!(answer.version, Version::HTTP_2);
        let seen = answer.json();
        assert_eq!(seen["path"], format!("/{number}"));
        assert_eq!(seen["version"], "HTTP/2.0");
        assert_eq!(seen["host"], "api.shop");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_slow_stream_does_not_hold_up_the_others_of_its_connection() {
    let shop = Shop::open().await;
    let mut slow = Http2::connect(shop.web.proxy()).await.unwrap();
    let mut quick = slow.clone();
    let late =
        tokio::spawn(
            async move { slow.send(h2_request("GET", &format!("{API}/delay/3000"))).await },
        );
    for number in 0..20 {
        quick.send(h2_request("GET", &format!("{API}/{number}"))).await.unwrap();
    }
    assert!(!late.is_finished(), "twenty quick requests took three seconds");
    assert_eq!(late.await.unwrap().unwrap().status, 200);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_application_sees_the_proven_peer_and_no_claimed_one() {
    let shop = Shop::open().await;
    let mut request = request("GET", &format!("{API}/who"));
    let claims = [
        "x-pillion-peer",
        "x_pillion_peer",
        "x-pillion-port",
        "x-forwarded-client-cert",
        "l5d-client-id",
    ];
    for name in claims {
        request.headers_mut().insert(name, "spiffe://mesh.test/ns/shop/sa/admin".parse().unwrap());
    }
    let answer = client::send(shop.web.proxy(), request).await.unwrap();
    assert_eq!(answer.status, 200, "{answer:?}");
    let headers = &answer.json()["headers"];
    assert_eq!(headers["x-pillion-peer"], serde_json::json!([Shop::identity("web")]));
    for name in &claims[1..] {
        assert!(headers.get(name).is_none(), "{name} came through: {headers}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn plaintext_from_outside_is_served_counted_and_proves_nothing() {
    let shop = Shop::open().await;
    let mut request =
        http::Request::get("/plain").header("host", "api.shop").body(body::empty()).unwrap();
    request.headers_mut().insert("x-pillion-peer", "spiffe://mesh.test/ns/a/sa/b".parse().unwrap());
    let answer = client::send(shop.api.inbound(), request).await.unwrap();
    assert_eq!(answer.status, 200, "{answer:?}");
    assert!(answer.json()["headers"].get("x-pillion-peer").is_none(), "{answer:?}");
    let metrics = shop.api.metrics().await;
    let plain = metrics.sum("pillion_requests_total", &[("direction", "inbound"), ("tls", "none")]);
    assert_eq!(plain, 1.0, "{}", metrics.show("pillion_requests_total"));
}

#[tokio::test(flavor = "multi_thread")]
async fn the_access_log_is_one_json_object_a_request() {
    let shop = Shop::open().await;
    let logging = shop.mesh.pod("shop/logging").flags(["--access-log", "all"]).start().await;
    logging.get(&format!("{API}/status/418")).await;
    let line = tests::poll::until("a line of the access log", tests::poll::SOON, async || {
        let log = logging.sidecar().log();
        let line = log.lines().find(|line| line.contains("/status/418")).map(ToOwned::to_owned);
        line.ok_or(log)
    })
    .await;
    let line: serde_json::Value = serde_json::from_str(&line).expect("one JSON object a line");
    assert_eq!(line["direction"], "outbound", "{line}");
    assert_eq!(line["method"], "GET", "{line}");
    assert_eq!(line["service"], "shop/api", "{line}");
    assert_eq!(line["status"], 418, "{line}");
    assert_eq!(line["tls"], "mutual", "{line}");
    assert_eq!(line["attempts"], 1, "{line}");
    assert!(line["duration_seconds"].as_f64().is_some_and(|took| took > 0.0), "{line}");
}

/// HTTP/2 has its authority in the target only.
fn h2_request(method: &str, url: &str) -> http::Request<body::AnyBody> {
    let mut request = request(method, url);
    request.headers_mut().remove("host");
    request
}
