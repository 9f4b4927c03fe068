//! SIGTERM: what runs finishes, what comes goes elsewhere, and the sidecar leaves with 0.

use std::time::{Duration, Instant};

use rustix::process::Signal;
use tests::client;
use tests::load::Load;
use tests::poll::SOON;
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use crate::shop::{API, Shop, replicas};

#[tokio::test(flavor = "multi_thread")]
async fn a_replica_leaves_under_load_without_a_failed_request() {
    let (web, pods, _mesh) = replicas("", &["api-1", "api-2"]).await;
    let load = Load::get(web.proxy(), API, 150);
    load.run_for(200).await;
    let status = pods[0].terminate(SOON).await;
    assert_eq!(status.code(), Some(0), "{status}");
    load.run_for(300).await;
    load.stop().await.assert_clean(400);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_replica_restarts_under_load_again_and_again_without_a_failed_request() {
    let (web, pods, _mesh) = replicas("", &["api-1", "api-2"]).await;
    let load = Load::get(web.proxy(), API, 100);
    for pod in pods.iter().cycle().take(4) {
        pod.terminate(SOON).await;
        pod.restart_sidecar().await;
        let before = pod.app().requests();
        tests::poll::until_true(&format!("{} gets requests again", pod.name()), SOON, async || {
            pod.app().requests() > before
        })
        .await;
    }
    load.stop().await.assert_clean(160);
}

#[tokio::test(flavor = "multi_thread")]
async fn requests_under_way_finish_at_both_sidecars() {
    let shop = Shop::open().await;
    for (pod, name) in [(&shop.api, "the server's"), (&shop.web, "the client's")] {
        let proxy = shop.web.proxy();
        let url = format!("{API}/delay/2000");
        let before = shop.api.app().requests();
        let slow = tokio::spawn(async move { client::get(proxy, &url).await });
        tests::poll::until_true("the request is under way", SOON, async || {
            shop.api.app().requests() > before
        })
        .await;
        let started = Instant::now();
        let status = pod.terminate(SOON).await;
        let answer = slow.await.unwrap().unwrap_or_else(|error| panic!("{name}: {error:#}"));
        assert_eq!(answer.status, 200, "{name}: {answer:?}");
        assert_eq!(status.code(), Some(0), "{name}: {status}");
        assert!(started.elapsed() < Duration::from_secs(15), "{name}: {:?}", started.elapsed());
        pod.restart_sidecar().await;
        shop.web.until_answered_by(API, 1).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_draining_sidecar_says_close_and_is_not_ready() {
    let shop = Shop::open().await;
    let url = format!("{API}/delay/1500");
    let proxy = shop.web.proxy();
    let mut connection = client::Http1::connect(proxy).await.unwrap();
    let slow = tokio::spawn(async move {
        connection.send(client::request("GET", &url)).await.map(|answer| (answer, connection))
    });
    tests::poll::until_true("the request is under way", SOON, async || {
        shop.api.app().requests() == 1
    })
    .await;
    shop.web.sidecar().signal(Signal::TERM);
    tests::poll::until("the sidecar is not ready", SOON, async || {
        match client::get_direct(shop.web.admin(), "/ready").await {
            Ok(answer) if answer.status == 200 => Err(answer),
            _ => Ok(()),
        }
    })
    .await;
    let (answer, mut connection) = slow.await.unwrap().unwrap();
    assert_eq!(answer.header("connection"), Some("close"), "{answer:?}");
    assert!(!connection.is_reusable().await);
}

/// What was never told to go elsewhere is served: a new connection, and one that was idle.
#[tokio::test(flavor = "multi_thread")]
async fn a_draining_sidecar_answers_on_idle_and_on_new_connections_and_closes_them() {
    let shop = Shop::open().await;
    let proxy = shop.web.proxy();
    let mut idle = Vec::new();
    for _ in 0..10 {
        let mut connection = client::Http1::connect(proxy).await.unwrap();
        assert_eq!(connection.send(client::request("GET", API)).await.unwrap().status, 200);
        idle.push(connection);
    }
    shop.web.sidecar().signal(Signal::TERM);
    tests::poll::until("the sidecar drains", SOON, async || {
        match client::get_direct(shop.web.admin(), "/ready").await {
            Ok(answer) if answer.status == 200 => Err(answer),
            _ => Ok(()),
        }
    })
    .await;
    let mut served = Vec::new();
    for mut connection in idle {
        // One that stays idle is closed after a moment.
        if connection.is_reusable().await {
            served.push(("idle", connection.send(client::request("GET", API)).await));
        }
    }
    assert!(!served.is_empty(), "the idle connections were closed at once");
    for _ in 0..10 {
        let mut connection = client::Http1::connect(proxy).await.unwrap();
        served.push(("new", connection.send(client::request("GET", API)).await));
    }
    for (which, answer) in served {
        let answer = answer.unwrap_or_else(|error| panic!("{which}: {error:#}"));
        let seen = (answer.status.as_u16(), answer.header("connection"));
        assert_eq!(seen, (200, Some("close")), "{which}: {answer:?}");
    }
}

/// A server that speaks first would keep its clients for ever: the deadline ends them.
#[tokio::test(flavor = "multi_thread")]
async fn the_deadline_ends_what_does_not_finish() {
    let shop = Shop::with("", tests::app::App::tcp()).await;
    let quick = shop.mesh.pod("shop/quick").flags(["--drain-timeout", "2s"]).start().await;
    let mut tunnel = client::connect(quick.proxy(), "api.shop:80").await.unwrap();
    tunnel.write_all(b"x").await.unwrap();
    let started = Instant::now();
    let status = quick.terminate(SOON).await;
    let took = started.elapsed();
    assert!(took >= Duration::from_millis(1900), "the tunnel was still in use: {took:?}");
    assert_eq!(status.code(), Some(0), "{status}");
    let mut rest = Vec::new();
    let _ = tokio::time::timeout(SOON, tunnel.read_to_end(&mut rest)).await.expect("an end");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_control_plane_leaves_at_a_sigterm_with_0() {
    let shop = Shop::open().await;
    shop.mesh.control_plane().signal(Signal::TERM);
    let status = tests::poll::until("the control plane leaves", SOON, async || {
        shop.mesh.control_plane().ended().ok_or("it runs")
    })
    .await;
    assert_eq!(status.code(), Some(0), "{status}");
    assert_eq!(shop.web.get(API).await.status, 200);
}
