//! The machine fails: processes are killed or stopped, ways are cut, descriptors run out. What is
//! lost is what was under way there and nothing else, and nobody has to help afterwards.

use std::net::{IpAddr, SocketAddr};
use std::time::{Duration, Instant};

use rustix::process::Signal;
use tests::app::App;
use tests::client::{self, Answer, Http1};
use tests::hole::{BlackHole, Frozen, Resetting};
use tests::link::Link;
use tests::load::{Load, Spec};
use tests::mesh::Mesh;
use tests::pod::{APP_PORT, Pod};
use tests::poll::{self, SOON};
use tests::yaml;
use tokio::net::TcpStream;

use crate::shop::{API, Shop, replicas};

const MESH_PORT: u16 = 15_008;

/// Row 106: of ten requests under way none arrives twice, and they alone fail.
#[tokio::test(flavor = "multi_thread")]
async fn a_killed_sidecar_loses_what_was_under_way_and_nothing_else() {
    let (web, pods, _mesh) = replicas("", &["killed", "other"]).await;
    let beside = Load::get(web.proxy(), API, 50);
    let url = format!("{API}/delay/3000");
    let posts: Vec<_> = (0..10).map(|_| tokio::spawn(send(web.proxy(), "POST", &url))).collect();
    poll::until_true("the requests are under way", SOON, async || {
        pods.iter().map(delayed).sum::<usize>() == 10
    })
    .await;
    let lost = delayed(&pods[0]);
    assert!(lost > 0, "the test needs some there");
    pods[0].sidecar().kill();
    let mut failed = 0;
    for post in posts {
        let answer = post.await.unwrap();
        match answer.status.as_u16() {
            200 => assert_eq!(answer.pod(), Some("other"), "{answer:?}"),
            503 => {
                assert_eq!(answer.error(), Some("upstream_reset"), "{answer:?}");
                failed += 1;
            }
            _ => panic!("{answer:?}"),
        }
    }
    assert_eq!(failed, lost, "those under way there, and no other");
    assert_eq!(pods.iter().map(delayed).sum::<usize>(), 10, "none was sent twice");
    pods[0].restart_sidecar().await;
    let before = pods[0].app().requests();
    poll::until_true("it gets requests again", SOON, async || {
        pods[0].app().requests() > before + 10
    })
    .await;
    beside.stop().await.assert_clean(100);
}

/// Requests to `/delay` that the application has seen.
fn delayed(pod: &Pod) -> usize {
    pod.app().seen().iter().filter(|seen| seen.path.starts_with("/delay/")).count()
}

fn send(proxy: SocketAddr, method: &str, url: &str) -> impl Future<Output = Answer> + use<> {
    let request = client::request(method, url);
    async move { client::send(proxy, request).await.unwrap() }
}

/// Row 106.
#[tokio::test(flavor = "multi_thread")]
async fn what_is_sent_one_after_another_arrives_in_order_over_the_kill_of_a_sidecar() {
    let shop = Shop::open().await;
    let mut connection = Http1::connect(shop.web.proxy()).await.unwrap();
    let mut post = async |number: usize| {
        let request = client::request("POST", &format!("{API}/order/{number}"));
        connection.send(request).await.unwrap().status
    };
    for number in 0..20 {
        assert_eq!(post(number).await, 200);
    }
    shop.api.sidecar().kill();
    for number in 20..40 {
        assert_eq!(post(number).await, 503, "there is nobody");
    }
    shop.api.restart_sidecar().await;
    let mut number = 40;
    poll::until_true("requests are answered again", SOON, async || {
        number += 1;
        post(number).await == 200
    })
    .await;
    for number in number + 1..number + 20 {
        assert_eq!(post(number).await, 200);
    }
    let seen = shop.api.app().seen();
    let order = seen.iter().filter_map(|seen| seen.path.strip_prefix("/order/"));
    let order: Vec<usize> = order.map(|number| number.parse().unwrap()).collect();
    assert!(order.is_sorted_by(|one, next| one < next), "{order:?}");
    assert_eq!(order.len(), 40, "what was answered with 503 never arrived: {order:?}");
}

/// Row 106: the client's own sidecar.
#[tokio::test(flavor = "multi_thread")]
async fn the_kill_of_a_clients_sidecar_is_its_own_affair() {
    let shop = Shop::open().await;
    let other = shop.mesh.pod("shop/other").start().await;
    other.until_known("api.shop:80").await;
    let load = Load::get(other.proxy(), API, 50);
    let proxy = shop.web.proxy();
    let url = format!("{API}/delay/20000");
    let under_way = tokio::spawn(async move { client::get(proxy, &url).await });
    poll::until_true("it is under way", SOON, async || delayed(&shop.api) == 1).await;
    shop.web.sidecar().kill();
    assert!(under_way.await.unwrap().is_err(), "its connection is gone");
    shop.web.restart_sidecar().await;
    shop.web.until_answered_by(API, 1).await;
    load.run_for(50).await;
    load.stop().await.assert_clean(50);
}

/// Row 108. The control plane is gone, so that nobody takes the endpoint away: PINGs without an
/// answer, timeouts and ejection alone must do.
#[tokio::test(flavor = "multi_thread")]
async fn a_stopped_sidecar_is_ejected_and_no_idempotent_request_fails() {
    let (web, pods, mesh) = replicas("", &["stopped", "api-1", "api-2"]).await;
    mesh.control_plane().kill();
    let load = Load::get(web.proxy(), API, 40);
    load.run_for(80).await;
    pods[0].sidecar().signal(Signal::STOP);
    until_ejected(&web, 2 * SOON).await;
    load.run_for(80).await;
    let before = pods[0].app().requests();
    pods[0].sidecar().signal(Signal::CONT);
    poll::until_true("it gets requests again", 3 * SOON, async || {
        pods[0].app().requests() > before + 10
    })
    .await;
    load.stop().await.assert_clean(200);
}

async fn until_ejected(web: &Pod, limit: Duration) {
    poll::until("an ejection", limit, async || {
        let metrics = web.metrics().await;
        let ejections = metrics.sum("pillion_ejections_total", &[("service", "shop/api")]);
        if ejections >= 1.0 { Ok(()) } else { Err(metrics.show("pillion_retries_total")) }
    })
    .await;
}

/// Row 108: the kernel still takes connections for it, and nothing more comes.
#[tokio::test(flavor = "multi_thread")]
async fn a_stopped_application_is_ejected_by_the_timeouts_of_its_route() {
    let rule = "  - backendRefs: [{name: api, port: 80}]\n\
                \x20   timeouts: {request: 20s, backendRequest: 500ms}\n\
                \x20   retry: {codes: [503], attempts: 2, backoff: 10ms}";
    let (web, _pods, mesh) = replicas(&yaml::route("shop/api", rule), &["api-1", "api-2"]).await;
    let address = mesh.free_address();
    let _frozen = Frozen::open(SocketAddr::new(address, APP_PORT));
    let flags = ["--app-port", "8080", "--service", "shop/api"];
    let stopped = mesh.pod("shop/api").instance("stopped").address(address).flags(flags);
    let _stopped = stopped.start().await;
    until_endpoints(&web, 3.0).await;
    let load = Load::get(web.proxy(), API, 50);
    until_ejected(&web, SOON).await;
    load.run_for(100).await;
    load.stop().await.assert_clean(100);
}

async fn until_endpoints(web: &Pod, count: f64) {
    poll::until(&format!("{count} endpoints"), SOON, async || {
        let metrics = web.metrics().await;
        let endpoints = metrics.sum("pillion_endpoints", &[("service", "shop/api")]);
        if endpoints >= count { Ok(()) } else { Err(metrics.show("pillion_endpoints")) }
    })
    .await;
}

/// Adds an endpoint to `shop/api` that a sidecar of the mesh should stand behind.
async fn add_endpoint(mesh: &Mesh, web: &Pod, address: IpAddr, count: f64) {
    let objects = yaml::endpoints("shop/api", APP_PORT, &[address])
        + &yaml::pod("shop/api-bad", "api", address);
    mesh.write("bad.yaml", &objects);
    until_endpoints(web, count).await;
}

/// Row 110: two loads, for what was never sent may be sent again whatever its method.
async fn nobody_notices(web: &Pod) {
    let start = |method| {
        let (proxy, url) = (web.proxy(), format!("{API}/order/{method}"));
        Load::start(Spec { proxy, method, url, rate: 50, fresh: false })
    };
    let loads = [start("GET"), start("POST")];
    until_ejected(web, SOON).await;
    let ejected = Instant::now();
    for load in &loads {
        load.run_for(100).await;
    }
    for load in loads {
        let report = load.stop().await;
        report.assert_clean(100);
        assert!(report.sent_in(ejected..).samples.len() >= 90);
    }
}

/// Row 110.
#[tokio::test(flavor = "multi_thread")]
async fn one_of_three_endpoints_may_be_a_black_hole() {
    let (web, _pods, mesh) = replicas("", &["api-1", "api-2"]).await;
    let address = mesh.free_address();
    let _hole = BlackHole::open(SocketAddr::new(address, MESH_PORT)).await;
    add_endpoint(&mesh, &web, address, 3.0).await;
    nobody_notices(&web).await;
    let retried = [("reason", "connect_timeout")];
    assert!(web.metrics().await.sum("pillion_retries_total", &retried) >= 1.0);
}

/// Row 110.
#[tokio::test(flavor = "multi_thread")]
async fn one_of_three_endpoints_may_reset_every_connection() {
    let (web, _pods, mesh) = replicas("", &["api-1", "api-2"]).await;
    let address = mesh.free_address();
    let _resetting = Resetting::open(SocketAddr::new(address, MESH_PORT)).await;
    add_endpoint(&mesh, &web, address, 3.0).await;
    nobody_notices(&web).await;
    let retried = [("reason", "tls_handshake_failed")];
    assert!(web.metrics().await.sum("pillion_retries_total", &retried) >= 1.0);
}

/// A client, the only replica of `api`, and the way between them.
async fn linked(delay: Duration) -> (Pod, Pod, Link, Mesh) {
    let mesh = Mesh::with_objects(yaml::service("shop/api", 80, APP_PORT)).await;
    let api = mesh.pod("shop/api").app(App::http()).unregistered().start().await;
    let address = mesh.free_address();
    let link = Link::start(SocketAddr::new(address, MESH_PORT), api.mesh_port(), delay).await;
    let web = mesh.pod("shop/web").start().await;
    assert_eq!(web.get(API).await.error(), Some("no_endpoints"));
    add_endpoint(&mesh, &web, address, 1.0).await;
    web.until_answered_by(API, 1).await;
    (web, api, link, mesh)
}

/// Row 109.
#[tokio::test(flavor = "multi_thread")]
async fn a_way_of_100_ms_is_only_slow() {
    let (web, _api, _link, _mesh) = linked(Duration::from_millis(50)).await;
    let load = Load::get(web.proxy(), API, 50);
    load.run_for(200).await;
    let report = load.stop().await;
    report.assert_clean(200);
    let quickest = report.samples.iter().map(|sample| sample.took).min();
    assert!(quickest >= Some(Duration::from_millis(100)), "{quickest:?}");
}

/// Row 109: shorter than what PINGs find out, so that connections live through it.
#[tokio::test(flavor = "multi_thread")]
async fn a_short_cut_fails_nothing() {
    let (web, api, link, _mesh) = linked(Duration::ZERO).await;
    let load = Load::get(web.proxy(), API, 50);
    load.run_for(50).await;
    link.cut();
    let before = api.app().requests();
    tokio::time::sleep(Duration::from_secs(2)).await;
    assert!(api.app().requests() <= before + 5, "nothing passes");
    link.heal();
    load.run_for(200).await;
    load.stop().await.assert_clean(200);
}

/// Row 109: longer than what PINGs allow.
#[tokio::test(flavor = "multi_thread")]
async fn a_long_cut_fails_by_timeouts_and_is_forgotten_when_it_is_over() {
    const CODES: [&str; 3] = ["upstream_reset", "tls_handshake_failed", "upstream_refused"];
    let (web, _api, link, _mesh) = linked(Duration::ZERO).await;
    let load = Load::get(web.proxy(), API, 20);
    load.run_for(20).await;
    link.cut();
    let cut = Instant::now();
    let post = send(web.proxy(), "POST", API).await;
    assert_eq!(post.error(), Some("upstream_reset"), "what PINGs find out: {post:?}");
    poll::until_true("requests fail", SOON, async || load.so_far().failures().len() >= 10).await;
    link.heal();
    web.until_answered_by(API, 1).await;
    let healed = Instant::now();
    load.run_for(100).await;
    let report = load.stop().await;
    report.sent_in(..cut).assert_clean(20);
    report.sent_in(healed..).assert_clean(90);
    for failure in report.failures() {
        let what = failure.failure.as_ref().unwrap();
        assert!(CODES.iter().any(|code| what.contains(code)), "{what}");
    }
}

/// Row 111.
#[tokio::test(flavor = "multi_thread")]
async fn without_descriptors_the_old_are_served_and_the_new_wait() {
    const LIMIT: usize = 256;
    let shop = Shop::open().await;
    let proxy = shop.web.proxy();
    let mut old = Http1::connect(proxy).await.unwrap();
    assert_eq!(old.send(client::request("GET", API)).await.unwrap().status, 200);
    shop.web.sidecar().limit_descriptors(LIMIT as u64);
    let mut flood = Vec::new();
    for _ in 0..2 * LIMIT {
        flood.push(TcpStream::connect(proxy).await.unwrap());
    }
    poll::until("no descriptor is left", SOON, async || {
        let open = shop.web.sidecar().descriptors();
        if open >= LIMIT { Ok(()) } else { Err(open) }
    })
    .await;
    let fresh = tokio::spawn(async move { client::get(proxy, API).await });

    let (before, begun) = (shop.web.sidecar().cpu_ticks(), Instant::now());
    for _ in 0..20 {
        assert_eq!(old.send(client::request("GET", API)).await.unwrap().status, 200);
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    let ticks = shop.web.sidecar().cpu_ticks() - before;
    let bound = begun.elapsed().as_millis() as u64 / 10 / 5;
    assert!(ticks <= bound, "{ticks} ticks are more than a fifth of the time, {bound}");
    assert!(!fresh.is_finished(), "there is no descriptor for a new one");

    drop(flood);
    assert_eq!(fresh.await.unwrap().unwrap().status, 200);
    shop.web.until_answered_by(API, 1).await;
    let metrics = shop.web.metrics().await;
    assert!(metrics.sum("pillion_accept_errors_total", &[]) >= 1.0);
    assert_eq!(metrics.sum("pillion_ejections_total", &[]), 0.0);
}
