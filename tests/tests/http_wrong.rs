//! HTTP that goes wrong: a code of the catalogue for each way, and nothing served by mistake.

use std::time::{Duration, Instant};

use tests::app::App;
use tests::client;
use tests::mesh::Mesh;
use tests::pod::APP_PORT;
use tests::yaml;

use crate::shop::{API, Shop};

#[tokio::test(flavor = "multi_thread")]
async fn an_unknown_service_is_a_502_with_its_code() {
    let shop = Shop::open().await;
    let started = Instant::now();
    let answer = shop.web.get("http://nothing.shop/").await;
    assert_eq!(answer.status, 502, "{answer:?}");
    assert_eq!(answer.error(), Some("service_unknown"));
    assert!(answer.text().contains("nothing"), "the body names the Service: {}", answer.text());
    assert!(started.elapsed() < Duration::from_secs(10), "took {:?}", started.elapsed());
}

#[tokio::test(flavor = "multi_thread")]
async fn an_unknown_port_of_a_known_service_is_a_502_with_its_code() {
    let shop = Shop::open().await;
    let answer = shop.web.get(&format!("{API}:81/")).await;
    assert_eq!((answer.status.as_u16(), answer.error()), (502, Some("port_unknown")), "{answer:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_service_without_endpoints_is_a_503_with_its_code() {
    let mesh = Mesh::with_objects(yaml::service("shop/empty", 80, APP_PORT)).await;
    let web = mesh.pod("shop/web").start().await;
    let answer = web.get("http://empty.shop/").await;
    assert_eq!((answer.status.as_u16(), answer.error()), (503, Some("no_endpoints")), "{answer:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn routes_of_which_none_matches_are_a_404_with_its_code() {
    let rule = "  - matches: [{path: {type: PathPrefix, value: /only}}]\n\
                \x20   backendRefs: [{name: api, port: 80}]";
    let shop = Shop::with(&yaml::route("shop/api", rule), App::http()).await;
    let answer = shop.web.get(&format!("{API}/only/this")).await;
    assert_eq!(answer.status, 200, "{answer:?}");
    let answer = shop.web.get(&format!("{API}/onlythis")).await;
    assert_eq!(
        (answer.status.as_u16(), answer.error()),
        (404, Some("route_not_found")),
        "{answer:?}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_route_to_nothing_is_a_500_with_its_code() {
    let route = yaml::split_route("shop/api", &[("nowhere", 1)]);
    let shop = Shop::with(&route, App::http()).await;
    let answer = shop.web.get(API).await;
    let expected = (500, Some("route_backend_invalid"));
    assert_eq!((answer.status.as_u16(), answer.error()), expected, "{answer:?}");
    assert_eq!(shop.api.app().requests(), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_request_to_the_sidecar_itself_is_no_loop() {
    let shop = Shop::open().await;
    for port in [15001, 15006, 15008, 15020] {
        let answer = shop.web.get(&format!("http://{}:{port}/", shop.web.address())).await;
        assert!(
            answer.status.is_client_error() || answer.status.is_server_error(),
            "{port}: {answer:?}"
        );
        assert!(
            answer.error().is_some(),
            "{port}: the sidecar's own error is expected: {answer:?}"
        );
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn malformed_requests_are_refused_and_never_reach_the_application() {
    let shop = Shop::open().await;
    let cases = [
        ("two Hosts", "GET / HTTP/1.1\r\nhost: api.shop\r\nhost: data.shop\r\n\r\n"),
        ("no Host", "GET / HTTP/1.1\r\n\r\n"),
        ("an ambiguous Host", "GET / HTTP/1.1\r\nhost: api.shop@evil\r\n\r\n"),
        ("a Host list", "GET / HTTP/1.1\r\nhost: api.shop, data.shop\r\n\r\n"),
        (
            "two lengths",
            "POST / HTTP/1.1\r\nhost: api.shop\r\ncontent-length: 1\r\ncontent-length: 2\r\n\r\nab",
        ),
        ("a length in hex", "POST / HTTP/1.1\r\nhost: api.shop\r\ncontent-length: 0x1\r\n\r\na"),
        (
            "chunked not last",
            "POST / HTTP/1.1\r\nhost: api.shop\r\ntransfer-encoding: chunked, gzip\r\n\r\n0\r\n\r\n",
        ),
        ("a space before the colon", "GET / HTTP/1.1\r\nhost : api.shop\r\n\r\n"),
        ("a bare line feed in a name", "GET / HTTP/1.1\r\nhost: api.shop\r\na\nb: c\r\n\r\n"),
    ];
    for (what, head) in cases {
        let head = head.replacen("\r\n", "\r\nconnection: close\r\n", 1);
        let answer = client::raw(shop.web.proxy(), head.as_bytes()).await.unwrap();
        assert!(answer.starts_with("HTTP/1.1 400"), "{what}: {answer:?}");
    }
    assert_eq!(shop.api.app().requests(), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_header_beyond_the_limit_is_refused_and_one_below_passes() {
    let shop = Shop::open().await;
    for (size, status) in [(60 * 1024, 200), (400 * 1024, 431)] {
        let mut request = client::request("GET", API);
        request.headers_mut().insert("x-large", "a".repeat(size).parse().unwrap());
        let answer = client::send(shop.web.proxy(), request).await.unwrap();
        assert_eq!(answer.status, status, "{size} bytes: {answer:?}");
    }
    assert_eq!(shop.api.app().requests(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_mesh_port_serves_no_plaintext() {
    let shop = Shop::open().await;
    let request = b"GET / HTTP/1.1\r\nhost: api.shop\r\nconnection: close\r\n\r\n";
    let answer = client::raw(shop.api.mesh_port(), request).await.unwrap_or_default();
    assert!(!answer.contains("HTTP/1"), "{answer:?}");
    assert_eq!(shop.api.app().requests(), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn denied_plaintext_is_closed_and_counted() {
    let shop = Shop::open().await;
    let pod = shop.mesh.pod("shop/strict").app(App::http()).flags(["--inbound-plaintext", "deny"]);
    let pod = pod.start().await;
    let request = b"GET / HTTP/1.1\r\nhost: strict.shop\r\nconnection: close\r\n\r\n";
    let answer = client::raw(pod.inbound(), request).await.unwrap_or_default();
    assert!(!answer.contains("200"), "{answer:?}");
    assert_eq!(pod.app().requests(), 0);
    assert_eq!(shop.web.get("http://strict.shop:8080/").await.status, 200);
}

#[tokio::test(flavor = "multi_thread")]
async fn admin_answers_live_ready_metrics_and_config_and_nothing_else() {
    let shop = Shop::open().await;
    for (path, status) in
        [("/live", 200), ("/ready", 200), ("/metrics", 200), ("/config", 200), ("/nothing", 404)]
    {
        let answer = client::get_direct(shop.web.admin(), path).await.unwrap();
        assert_eq!(answer.status, status, "{path}: {answer:?}");
    }
    let config = shop.web.config().await.to_string();
    assert!(config.contains("shop/api") || config.contains("\"api\""), "{config}");
    assert!(!config.contains("PRIVATE KEY"), "/config must hold no key");
}
