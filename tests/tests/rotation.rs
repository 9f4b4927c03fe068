//! Certificates that live for seconds, under load for minutes.

use std::time::{Duration, Instant};

use tests::app::App;
use tests::load::{Load, Spec};
use tests::mesh::{Mesh, Options};
use tests::pod::APP_PORT;
use tests::poll::{self, SOON};
use tests::yaml;

use crate::shop::API;

const LIFETIME: &str = "20s";
const LOADED: Duration = Duration::from_secs(120);

#[tokio::test(flavor = "multi_thread")]
async fn certificates_of_twenty_seconds_rotate_over_two_minutes_without_a_failed_request() {
    let objects = vec![("mesh.yaml", yaml::service("shop/api", 80, APP_PORT))];
    let options = Options { certificate_lifetime: Some(LIFETIME), objects, ..Options::default() };
    let mesh = Mesh::with(options).await;
    let api = mesh.pod("shop/api").app(App::http()).start().await;
    let web = mesh.pod("shop/web").start().await;
    web.until_answered_by(API, 1).await;

    // One load on connections that stay, and one on a new connection each time.
    let steady = Load::get(web.proxy(), API, 40);
    let fresh = Load::start(Spec {
        proxy: web.proxy(),
        method: "GET",
        url: API.to_owned(),
        rate: 10,
        fresh: true,
    });
    let started = Instant::now();
    while started.elapsed() < LOADED {
        steady.run_for(100).await;
        for pod in [&web, &api] {
            let expiry =
                pod.metrics().await.sum("pillion_certificate_expiry_timestamp_seconds", &[]);
            let left = expiry - now();
            assert!((0.0..=25.0).contains(&left), "{}: {left} s left", pod.name());
        }
    }
    steady.stop().await.assert_clean(2400);
    fresh.stop().await.assert_clean(640);
    for pod in [&web, &api] {
        let metrics = pod.metrics().await;
        let renewed = metrics.sum("pillion_certificate_renewals_total", &[("result", "ok")]);
        assert!(renewed >= 6.0, "{}: {renewed} in two minutes", pod.name());
        let failed = metrics.sum("pillion_certificate_renewals_total", &[("result", "error")]);
        assert_eq!(failed, 0.0, "{}", pod.name());
    }
    // What was renewed is also used: no connection outlives the certificates that opened it.
    let metrics = web.metrics().await;
    let labels = [("direction", "outbound"), ("result", "ok")];
    let handshakes = metrics.sum("pillion_tls_handshakes_total", &labels);
    assert!(handshakes >= 5.0, "{handshakes} handshakes over six lifetimes");
}

/// Fail closed: an identity whose time is over is none.
#[tokio::test(flavor = "multi_thread")]
async fn certificates_that_nobody_renews_end_in_errors_and_come_back_with_the_control_plane() {
    let objects = vec![("mesh.yaml", yaml::service("shop/api", 80, APP_PORT))];
    let mesh =
        Mesh::with(Options { certificate_lifetime: Some("8s"), objects, ..Options::default() })
            .await;
    let api = mesh.pod("shop/api").app(App::http()).start().await;
    let web = mesh.pod("shop/web").start().await;
    web.until_answered_by(API, 1).await;
    mesh.control_plane().kill();
    let answer = poll::until("requests fail", SOON, async || {
        let answer = web.get(API).await;
        if answer.status == 503 { Ok(answer) } else { Err(answer) }
    })
    .await;
    let codes = ["identity_missing", "tls_cert_expired", "tls_handshake_failed"];
    assert!(answer.error().is_some_and(|code| codes.contains(&code)), "{answer:?}");
    let before = api.app().requests();
    for _ in 0..10 {
        assert_eq!(web.get(API).await.status, 503, "it must not come back by itself");
    }
    assert_eq!(api.app().requests(), before);
    mesh.restart_control_plane().await;
    web.until_answered_by(API, 1).await;
}

fn now() -> f64 {
    std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap().as_secs_f64()
}
