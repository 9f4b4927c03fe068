//! Retries, timeouts and ejection: what a client does not notice, and what it does.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use tests::app::{App, Manners};
use tests::client;
use tests::load::Load;
use tests::pod::APP_PORT;
use tests::poll::{self, SOON};
use tests::yaml;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::timeout;

use crate::shop::{API, Shop, replicas};

const RETRYING: &str = "  - backendRefs: [{name: api, port: 80}]\n\
                        \x20   retry: {codes: [503], attempts: 3, backoff: 10ms}";

#[tokio::test(flavor = "multi_thread")]
async fn a_route_retries_the_codes_that_it_names() {
    let shop = Shop::with(&yaml::route("shop/api", RETRYING), App::http()).await;
    let answer = shop.web.get(&format!("{API}/flaky/a/2")).await;
    assert_eq!(answer.status, 200, "{answer:?}");
    assert_eq!(shop.api.app().requests(), 3);
    let metrics = shop.web.metrics().await;
    let retries = metrics.sum("pillion_retries_total", &[("service", "shop/api")]);
    assert_eq!(retries, 2.0, "{}", metrics.show("pillion_retries_total"));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_route_retries_no_more_often_than_it_says() {
    let shop = Shop::with(&yaml::route("shop/api", RETRYING), App::http()).await;
    let answer = shop.web.get(&format!("{API}/flaky/b/100")).await;
    assert_eq!(answer.status, 503, "{answer:?}");
    assert_eq!(answer.error(), None, "the application's own answer is delivered");
    assert_eq!(shop.api.app().requests(), 4);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_retried_request_has_its_whole_body_again() {
    let shop = Shop::with(&yaml::route("shop/api", RETRYING), App::http()).await;
    let request = client::with_body("PUT", &format!("{API}/flaky/c/1"), tests::body::full("again"));
    let answer = client::send(shop.web.proxy(), request).await.unwrap();
    assert_eq!(answer.status, 200, "{answer:?}");
    assert_eq!(shop.api.app().requests(), 2);
    let lengths: Vec<_> = shop.api.app().seen();
    let lengths: Vec<_> = lengths.iter().map(|seen| seen.headers.get("content-length")).collect();
    assert!(lengths.iter().all(|length| length.is_some_and(|length| length == "5")), "{lengths:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_body_too_large_to_keep_loses_the_retry_and_not_the_request() {
    let shop = Shop::with(&yaml::route("shop/api", RETRYING), App::http()).await;
    let large = || tests::body::pattern(1024 * 1024);
    let send = async |path: &str| {
        let request = client::with_body("PUT", &format!("{API}{path}"), large());
        client::send(shop.web.proxy(), request).await.unwrap()
    };
    assert_eq!(send("/digest").await.json()["size"], 1024 * 1024);
    assert_eq!(send("/flaky/large/1").await.status, 503);
    assert_eq!(shop.api.app().requests(), 2);
    let metrics = shop.web.metrics().await;
    let denied = metrics.sum("pillion_retries_denied_total", &[("reason", "body_too_large")]);
    assert_eq!(denied, 1.0, "{}", metrics.show("pillion_retries_denied_total"));
}

/// The first attempt could read on while the second waits, past what is kept for it.
#[tokio::test(flavor = "multi_thread")]
async fn a_body_that_comes_while_a_retry_waits_is_sent_whole() {
    const SIZE: usize = 128 * 1024;
    let attempts = Arc::new(AtomicUsize::new(0));
    let app = App::scripted(move |mut socket| {
        let attempt = attempts.fetch_add(1, Ordering::SeqCst);
        async move {
            let mut read = Vec::new();
            while !read.windows(4).any(|end| end == b"\r\n\r\n") {
                socket.read_buf(&mut read).await.unwrap();
            }
            if attempt == 0 {
                // A response that does not end leaves the request open.
                socket.write_all(b"HTTP/1.1 503 x\r\ncontent-length: 9\r\n\r\n").await.unwrap();
                tokio::io::copy(&mut socket, &mut tokio::io::sink()).await.unwrap();
                return;
            }
            let head = read.windows(4).position(|end| end == b"\r\n\r\n").unwrap() + 4;
            while read.len() < head + SIZE {
                assert!(socket.read_buf(&mut read).await.unwrap() > 0, "the body is cut off");
            }
            let answer = [b"HTTP/1.1 200 x\r\ncontent-length: 131072\r\n\r\n", &read[head..]];
            socket.write_all(&answer.concat()).await.unwrap();
        }
    });
    let waiting = RETRYING.replace("10ms", "1s");
    let shop = Shop::with(&yaml::route("shop/api", &waiting), app).await;
    let body: Vec<u8> = (0..SIZE).map(|place| (place / 1024) as u8).collect();
    let mut client = TcpStream::connect(shop.web.proxy()).await.unwrap();
    let head = format!("PUT {API}/ HTTP/1.1\r\nhost: api.shop\r\ncontent-length: {SIZE}\r\n\r\n");
    client.write_all(&[head.as_bytes(), &body[..1024]].concat()).await.unwrap();
    tokio::time::sleep(Duration::from_millis(300)).await;
    client.write_all(&body[1024..]).await.unwrap();
    let mut answer = Vec::new();
    while !answer.ends_with(&body) {
        let more = timeout(SOON, client.read_buf(&mut answer)).await.expect("an answer").unwrap();
        assert!(more > 0, "{:?}", String::from_utf8_lossy(&answer));
    }
    assert!(answer.starts_with(b"HTTP/1.1 200"), "{:?}", String::from_utf8_lossy(&answer));
}

/// 20 % of the requests, 10 a second, and the hundred that an idle Service has saved.
#[tokio::test(flavor = "multi_thread")]
async fn retries_of_a_service_that_is_down_stay_within_the_budget() {
    let shop = Shop::with(&yaml::route("shop/api", RETRYING), App::http()).await;
    shop.api.app().behave(Manners { failing: 100, ..Manners::default() });
    let started = Instant::now();
    let load = Load::get(shop.web.proxy(), API, 200);
    load.run_for(1200).await;
    let sent = load.stop().await.samples.len();
    let seconds = started.elapsed().as_secs_f64();
    let retries = shop.api.app().requests() - sent;
    let budget = 0.2 * sent as f64 + 10.0 * seconds + 100.0;
    assert!((retries as f64) <= 1.1 * budget, "{retries} retries of {sent}, {budget} allowed");
    assert!(retries >= 100, "there were retries: {retries}");
    let metrics = shop.web.metrics().await;
    assert!(metrics.sum("pillion_retries_denied_total", &[("reason", "budget")]) > 0.0);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_application_error_is_delivered_and_not_retried_by_default() {
    let shop = Shop::open().await;
    let answer = shop.web.get(&format!("{API}/status/503")).await;
    assert_eq!((answer.status.as_u16(), answer.error()), (503, None), "{answer:?}");
    assert_eq!(shop.api.app().requests(), 1);
}

/// The slice names an address where nothing listens beside a pod that is there.
#[tokio::test(flavor = "multi_thread")]
async fn a_refused_connection_is_retried_elsewhere_by_default_whatever_the_method() {
    let (web, pods, mesh) = replicas("", &["api-1"]).await;
    let dead = mesh.free_address();
    mesh.write("slice.yaml", &yaml::endpoints("shop/api", APP_PORT, &[dead]));
    until_endpoints(&web, 2.0).await;
    for _ in 0..40 {
        let answer = client::send(web.proxy(), client::request("POST", API)).await.unwrap();
        assert_eq!(answer.status, 200, "{answer:?}");
    }
    assert!(pods[0].app().requests() >= 40);
    let metrics = web.metrics().await;
    let refused = metrics.sum("pillion_retries_total", &[("reason", "connect_refused")]);
    assert!(refused >= 1.0, "{}", metrics.show("pillion_retries_total"));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_lost_connection_is_retried_for_get_and_never_for_post() {
    let (web, pods, _mesh) = replicas("", &["api-1"]).await;
    let before = pods[0].app().requests();
    pods[0].app().behave(Manners { resetting: true, ..Manners::default() });
    let get = web.get(API).await;
    let gets = pods[0].app().requests() - before;
    assert_eq!(get.status, 503, "{get:?}");
    let error = get.error().expect("the other sidecar's error").to_owned();
    assert!(gets > 1, "a GET is tried again");
    let post = client::send(web.proxy(), client::request("POST", API)).await.unwrap();
    assert_eq!(post.status, 503, "{post:?}");
    assert_eq!(pods[0].app().requests() - before - gets, 1, "a POST is sent once");
    let failed = [("direction", "outbound"), ("error", &*error)];
    let metrics = web.metrics().await;
    assert!(metrics.sum("pillion_requests_total", &failed) >= 1.0, "{error}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_request_timeout_is_a_504_in_time() {
    let rule = "  - backendRefs: [{name: api, port: 80}]\n\x20   timeouts: {request: 300ms}";
    let shop = Shop::with(&yaml::route("shop/api", rule), App::http()).await;
    let started = Instant::now();
    let answer = shop.web.get(&format!("{API}/delay/20000")).await;
    let took = started.elapsed();
    let expected = (504, Some("request_timeout"));
    assert_eq!((answer.status.as_u16(), answer.error()), expected, "{answer:?}");
    assert!(took >= Duration::from_millis(290), "{took:?}");
    assert!(took < Duration::from_secs(10), "{took:?}");
    assert_eq!(shop.web.get(&format!("{API}/delay/1")).await.status, 200);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_attempt_timeout_without_retry_is_a_504_in_time() {
    let rule = "  - backendRefs: [{name: api, port: 80}]\n\x20   timeouts: {request: 30s, backendRequest: 200ms}";
    let shop = Shop::with(&yaml::route("shop/api", rule), App::http()).await;
    let started = Instant::now();
    let answer = shop.web.get(&format!("{API}/delay/20000")).await;
    let expected = (504, Some("attempt_timeout"));
    assert_eq!((answer.status.as_u16(), answer.error()), expected, "{answer:?}");
    assert!(started.elapsed() < Duration::from_secs(10), "{:?}", started.elapsed());
    assert_eq!(shop.api.app().requests(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_attempt_that_is_too_slow_is_followed_by_one_at_a_quicker_replica() {
    let rule = "  - backendRefs: [{name: api, port: 80}]\n\
                \x20   timeouts: {request: 30s, backendRequest: 500ms}\n\
                \x20   retry: {codes: [503], attempts: 2}";
    let (web, pods, _mesh) = replicas(&yaml::route("shop/api", rule), &["slow", "quick"]).await;
    pods[0].app().behave(Manners { delay: Duration::from_secs(20), ..Manners::default() });
    for _ in 0..20 {
        let answer = web.get(API).await;
        assert_eq!((answer.status.as_u16(), answer.pod()), (200, Some("quick")), "{answer:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_slow_replica_gets_few_requests() {
    let (web, pods, _mesh) = replicas("", &["slow", "quick-1", "quick-2"]).await;
    pods[0].app().behave(Manners { delay: Duration::from_millis(300), ..Manners::default() });
    let load = Load::get(web.proxy(), API, 100);
    load.run_for(400).await;
    let report = load.stop().await;
    report.assert_clean(320);
    assert!(report.share("slow") < 0.15, "{:?}", report.by_pod());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_failing_replica_is_ejected_and_the_last_one_never() {
    let (web, pods, _mesh) = replicas("", &["bad", "good"]).await;
    pods[0].app().behave(Manners { failing: 100, ..Manners::default() });
    let load = Load::get(web.proxy(), API, 100);
    poll::until("an ejection", SOON, async || {
        let metrics = web.metrics().await;
        let ejections = metrics.sum("pillion_ejections_total", &[("service", "shop/api")]);
        if ejections >= 1.0 { Ok(()) } else { Err(metrics.show("pillion_ejections_total")) }
    })
    .await;
    let ejected = Instant::now();
    load.run_for(200).await;
    let after = load.stop().await.sent_in(ejected..);
    assert!(after.share("good") > 0.9, "{:?}", after.by_pod());

    pods[1].app().behave(Manners { failing: 100, ..Manners::default() });
    for _ in 0..20 {
        let answer = web.get(API).await;
        assert_eq!(answer.error(), None, "the last replica still gets requests: {answer:?}");
        let labels = [("service", "shop/api"), ("state", "ready")];
        let ready = web.metrics().await.sum("pillion_endpoints", &labels);
        assert!(ready >= 1.0, "the last replica was ejected");
    }
}

async fn until_endpoints(web: &tests::pod::Pod, count: f64) {
    poll::until(&format!("{count} endpoints"), SOON, async || {
        let metrics = web.metrics().await;
        let endpoints = metrics.sum("pillion_endpoints", &[("service", "shop/api")]);
        if endpoints >= count { Ok(()) } else { Err(metrics.show("pillion_endpoints")) }
    })
    .await;
}
