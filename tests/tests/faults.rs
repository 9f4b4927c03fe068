//! Things die, or stand still: the control plane, a replica with its application, whoever reads the log.
//! Nobody notices.

use std::collections::HashMap;
use std::time::Duration;

use tests::client;
use tests::load::{Load, Spec};
use tests::poll::{self, SOON};

use crate::shop::{API, Shop, replicas};

#[tokio::test(flavor = "multi_thread")]
async fn the_control_plane_may_be_killed_under_load() {
    let (web, pods, mesh) = replicas("", &["api-1", "api-2"]).await;
    let load = Load::get(web.proxy(), API, 100);
    load.run_for(100).await;
    mesh.control_plane().kill();
    poll::until("the loss is noticed", SOON, async || {
        let connected = web.metrics().await.sum("pillion_control_plane_connected", &[]);
        if connected == 0.0 { Ok(()) } else { Err(connected) }
    })
    .await;
    load.run_for(300).await;

    // New connections, of the client and between the sidecars, to a Service that is known.
    for _ in 0..20 {
        assert_eq!(web.get(API).await.status, 200);
    }
    assert_eq!(pods[0].get(&format!("{API}/self")).await.error(), Some("discovery_timeout"),);

    let ready = client::get_direct(web.admin(), "/ready").await.unwrap();
    assert_eq!(ready.status, 200, "losing the control plane changes nothing that runs: {ready:?}");

    let before = web.metrics().await.sum("pillion_config_resources_received_total", &[]);
    mesh.restart_control_plane().await;
    poll::until("the stream is open again", SOON, async || {
        let connected = web.metrics().await.sum("pillion_control_plane_connected", &[]);
        if connected == 1.0 { Ok(()) } else { Err(connected) }
    })
    .await;
    load.run_for(500).await;
    let report = load.stop().await;
    report.assert_clean(720);
    // The two leases come back one by one, and each may change the one Service.
    let after = web.metrics().await.sum("pillion_config_resources_received_total", &[]);
    assert!(after - before <= 3.0, "{before} resources before, {after} after the restart");
    assert_eq!(web.metrics().await.sum("pillion_endpoints", &[("service", "shop/api")]), 2.0);
}

/// Objects, in place of leases, make the same world after a restart: nothing is sent again.
#[tokio::test(flavor = "multi_thread")]
async fn a_stream_resumes_after_a_restart_without_a_full_resend() {
    let services = (0..50).map(|n| tests::yaml::service(&format!("shop/s{n}"), 80, 8080));
    let mesh = tests::mesh::Mesh::with_objects(services.collect::<String>()).await;
    let web = mesh.pod("shop/web").start().await;
    for n in 0..50 {
        assert_eq!(web.get(&format!("http://s{n}.shop/")).await.error(), Some("no_endpoints"));
    }
    let received = async || web.metrics().await.sum("pillion_config_resources_received_total", &[]);
    let before = received().await;
    assert!(before >= 50.0, "{before}");
    mesh.control_plane().kill();
    mesh.restart_control_plane().await;
    poll::until("the stream is open again", SOON, async || {
        let connected = web.metrics().await.sum("pillion_control_plane_connected", &[]);
        if connected == 1.0 { Ok(()) } else { Err(connected) }
    })
    .await;
    let changed = tests::yaml::service("shop/s7", 81, 8080);
    mesh.write("mesh.yaml", &(services_but_7() + &changed));
    poll::until("a change comes through", SOON, async || {
        let answer = web.get("http://s7.shop:81/").await;
        if answer.error() == Some("no_endpoints") { Ok(()) } else { Err(answer) }
    })
    .await;
    let resent = received().await - before;
    assert!((1.0..=3.0).contains(&resent), "{resent} resources came after the restart, 1 changed");
}

fn services_but_7() -> String {
    let numbers = (0..50).filter(|n| *n != 7);
    numbers.map(|n| tests::yaml::service(&format!("shop/s{n}"), 80, 8080)).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_replica_may_be_killed_under_load_and_no_idempotent_request_fails() {
    let (web, mut pods, _mesh) = replicas("", &["api-1", "api-2", "api-3"]).await;
    let load = Load::get(web.proxy(), API, 150);
    load.run_for(300).await;
    // The one that is used most: another may have lost its share by one slow answer.
    let busiest = pods.iter_mut().max_by_key(|pod| pod.app().requests()).unwrap();
    assert!(busiest.app().requests() >= 100, "a third of the load at the least");
    busiest.kill();
    load.run_for(1000).await;
    let report = load.stop().await;
    report.assert_clean(960);
    assert!(report.by_pod().len() == 3, "{:?}", report.by_pod());
}

/// Nobody tells that the endpoint is gone: retries and ejection alone must do.
#[tokio::test(flavor = "multi_thread")]
async fn a_replica_may_be_killed_while_the_control_plane_is_down() {
    let (web, mut pods, mesh) = replicas("", &["api-1", "api-2", "api-3"]).await;
    mesh.control_plane().kill();
    let load = Load::get(web.proxy(), API, 150);
    load.run_for(150).await;
    pods[1].kill();
    load.run_for(1500).await;
    load.stop().await.assert_clean(1280);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_post_is_never_sent_twice_when_a_replica_is_killed() {
    let (web, mut pods, _mesh) = replicas("", &["api-1", "api-2", "api-3"]).await;
    let spec = Spec {
        proxy: web.proxy(),
        method: "POST",
        url: format!("{API}/order/{{n}}"),
        rate: 150,
        fresh: false,
    };
    let load = Load::start(spec);
    load.run_for(300).await;
    // The application stays, so that what it saw can be counted; its sidecar is gone.
    pods[1].sidecar().kill();
    load.run_for(600).await;
    let report = load.stop().await;
    let mut sent: HashMap<String, usize> = HashMap::new();
    for seen in pods.iter_mut().flat_map(|pod| pod.app().seen()) {
        if seen.path.starts_with("/order/") {
            *sent.entry(seen.path).or_default() += 1;
        }
    }
    let twice: Vec<_> = sent.iter().filter(|(_, times)| **times > 1).collect();
    assert!(twice.is_empty(), "sent more than once: {twice:?}");
    let failed = report.failures().len();
    assert!(
        failed <= 10,
        "only what was under way may fail: {failed} {:#?}",
        report.failures().first()
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_killed_sidecar_is_ready_again_within_seconds_of_its_start() {
    let (web, _pods, _mesh) = replicas("", &["api-1"]).await;
    web.sidecar().kill();
    let started = std::time::Instant::now();
    web.restart_sidecar().await;
    web.until_answered_by(API, 1).await;
    assert!(started.elapsed() < Duration::from_secs(15), "{:?}", started.elapsed());
}

/// Lines are lost then, and counted.
#[tokio::test(flavor = "multi_thread")]
async fn a_standard_error_that_nobody_reads_stops_nobody() {
    let shop = Shop::open().await;
    let pipe = shop.mesh.logs().join("stuck");
    // Both ends of a pipe are the sidecar's own, so that it never fails either.
    let stuck = ["sh", "-c", "mkfifo \"$0\" && exec \"$@\" 2<>\"$0\"", pipe.to_str().unwrap()];
    let flags = ["--log-level", "debug", "--access-log", "all"];
    let quiet = shop.mesh.pod("shop/quiet").under(stuck).flags(flags).start().await;
    quiet.until_known("api.shop:80").await;
    // Each is a line of some 150 bytes in the log; the pipe takes 64 KiB.
    for _ in 0..3000 {
        let (head, _) = client::converse(quiet.proxy(), "GET\r\n\r\n").await.unwrap();
        assert!(head.starts_with("HTTP/1.1 400"), "{head}");
    }
    for _ in 0..10 {
        assert_eq!(quiet.get(API).await.status, 200);
    }
    let metrics = quiet.metrics().await;
    assert!(metrics.sum("pillion_log_dropped_total", &[]) > 0.0, "what is lost is counted");
    assert!(quiet.terminate(SOON).await.success(), "nor does it hold up the end");
}
