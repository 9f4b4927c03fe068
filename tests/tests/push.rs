//! Configuration that changes under load: it follows at once, and no request notices.

use std::io::Write;
use std::time::{Duration, Instant};

use serde_json::Value;
use tests::app::App;
use tests::load::Load;
use tests::mesh::{LEASE, Mesh};
use tests::pod::{APP_PORT, Pod};
use tests::poll::{self, SOON};
use tests::yaml;

use crate::shop::{API, replicas};

const RATE: u32 = 100;

/// Longest time from a written file to traffic that follows: a second, and what a busy machine
/// may add.
const FOLLOWS: Duration = Duration::from_secs(10);

const ROUTE: &str = "route.yaml";

/// `api`, split over `blue` and `green`.
struct Split {
    _pods: [Pod; 3],
    mesh: Mesh,
    load: Load,
}

impl Split {
    /// All traffic at blue.
    async fn open() -> Self {
        let services = ["shop/api", "shop/blue", "shop/green"];
        let objects: String =
            services.iter().map(|name| yaml::service(name, 80, APP_PORT)).collect();
        let mesh = Mesh::with_objects(objects).await;
        mesh.write(ROUTE, &weights(50, 50));
        let blue = mesh.pod("shop/blue").app(App::http()).start().await;
        let green = mesh.pod("shop/green").app(App::http()).start().await;
        let web = mesh.pod("shop/web").start().await;
        web.until_known("blue.shop:80").await;
        web.until_known("green.shop:80").await;
        web.until_answered_by(&format!("{API}/ready"), 2).await;
        mesh.write(ROUTE, &weights(100, 0));
        let load = Load::get(web.proxy(), API, RATE);
        let split = Self { _pods: [web, blue, green], mesh, load };
        split.until_all_at("blue").await;
        split
    }

    /// Waits until all traffic goes to `pod`, and says after how long that was so.
    async fn until_all_at(&self, pod: &str) -> Duration {
        let written = Instant::now();
        poll::until(&format!("all traffic at {pod}"), FOLLOWS, async || {
            let recent = Instant::now() - Duration::from_millis(300);
            let report = self.load.so_far().sent_in(recent..);
            let all = report.samples.len() >= 10 && report.share(pod) == 1.0;
            if all { Ok(()) } else { Err(report.by_pod()) }
        })
        .await;
        written.elapsed()
    }
}

fn weights(blue: u32, green: u32) -> String {
    yaml::split_route("shop/api", &[("blue", blue), ("green", green)])
}

#[tokio::test(flavor = "multi_thread")]
async fn weights_follow_a_renamed_file_and_one_rewritten_in_place_without_a_failed_request() {
    let split = Split::open().await;
    split.mesh.write(ROUTE, &weights(0, 100));
    let renamed = split.until_all_at("green").await;
    split.mesh.write_in_place(ROUTE, &weights(100, 0));
    let rewritten = split.until_all_at("blue").await;
    split.mesh.write(ROUTE, &weights(90, 10));
    split.load.run_for(100).await;
    let settled = Instant::now();
    split.load.run_for(800).await;
    eprintln!("the split followed after {renamed:?} (renamed) and {rewritten:?} (in place)");
    let report = split.load.stop().await;
    report.assert_clean(800);
    let share = report.sent_in(settled..).share("green");
    assert!((0.05..=0.16).contains(&share), "10 % must go to green, {share} did");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_broken_file_is_reported_by_file_object_and_field_and_the_last_good_state_stays() {
    let split = Split::open().await;
    let broken = weights(0, 100).replace("weight: 100", "weight: many");
    split.mesh.write(ROUTE, &broken);
    let problem = poll::until("the problem is reported", SOON, async || {
        let problems = split.mesh.problems().await;
        problems.first().cloned().ok_or("no problem")
    })
    .await;
    assert_problem(
        &problem,
        "route.yaml",
        "HTTPRoute",
        "api",
        "spec.rules[0].backendRefs[1].weight",
    );
    let log = split.mesh.control_plane().log();
    let line = log.lines().find(|line| line.contains("backendRefs[1].weight"));
    let line = line.unwrap_or_else(|| panic!("the log does not name the field:\n{log}"));
    assert!(line.contains("route.yaml") && line.contains("shop/api"), "{line}");

    split.load.run_for(100).await;
    split.until_all_at("blue").await;
    split.mesh.write_in_place(ROUTE, "apiVersion: v1\nkind: [");
    split.load.run_for(100).await;
    split.until_all_at("blue").await;
    split.mesh.write(ROUTE, &weights(0, 100));
    split.until_all_at("green").await;
    poll::until("no problem is left", SOON, async || match &split.mesh.problems().await[..] {
        [] => Ok(()),
        left => Err(left.to_vec()),
    })
    .await;
    split.load.stop().await.assert_clean(240);
}

/// Where the fields of a problem stand is the control plane's affair: what counts is that they
/// are told apart.
fn assert_problem(problem: &Value, file: &str, kind: &str, name: &str, field: &str) {
    assert!(problem["field"].as_str().is_some_and(|shown| shown.starts_with(field)), "{problem}");
    let place = problem.to_string();
    for part in [file, kind, name] {
        assert!(place.contains(part), "{part:?} is missing in {problem}");
    }
    assert!(problem["message"].as_str().is_some_and(|message| !message.is_empty()), "{problem}");
}

/// Half of the file is a whole object: without the other half, `api` would have no route.
#[tokio::test(flavor = "multi_thread")]
async fn a_writer_that_pauses_in_the_middle_of_a_file_never_shows_half_of_it() {
    let split = Split::open().await;
    let first = yaml::service("shop/first", 80, APP_PORT);
    for (blue, green, pod) in [(0, 100, "green"), (100, 0, "blue"), (0, 100, "green")] {
        let path = split.mesh.config_dir().join(ROUTE);
        let mut file = std::fs::File::create(path).unwrap();
        file.write_all(first.as_bytes()).unwrap();
        tokio::time::sleep(Duration::from_millis(200)).await;
        file.write_all(weights(blue, green).as_bytes()).unwrap();
        drop(file);
        split.until_all_at(pod).await;
    }
    split.load.stop().await.assert_clean(40);
    let log = split.mesh.control_plane().log();
    assert!(!log.contains("ERROR"), "{log}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_rule_that_is_broken_leaves_other_objects_of_the_file_in_force() {
    let split = Split::open().await;
    let broken = yaml::service("shop/other", 80, APP_PORT).replace("port: 80", "port: 800000");
    split.mesh.write(ROUTE, &(broken + &weights(0, 100)));
    split.until_all_at("green").await;
    let problems = split.mesh.problems().await;
    assert_eq!(problems.len(), 1, "{problems:?}");
    assert_problem(&problems[0], "route.yaml", "Service", "other", "spec.ports[0].port");
    split.load.run_for(40).await;
    split.load.stop().await.assert_clean(40);
}

#[tokio::test(flavor = "multi_thread")]
async fn replicas_come_and_go_under_load_without_a_failed_request() {
    let (web, mut pods, mesh) = replicas("", &["api-1"]).await;
    let load = Load::get(web.proxy(), API, RATE);
    for name in ["api-2", "api-3"] {
        let pod = mesh.pod("shop/api").instance(name).app(App::http()).start().await;
        pods.push(pod);
        until_seen(&load, name).await;
    }
    let leaving = pods.remove(0);
    leaving.terminate(SOON).await;
    load.run_for(100).await;
    let gone = Instant::now();
    load.run_for(100).await;
    let report = load.stop().await;
    report.assert_clean(160);
    assert_eq!(report.sent_in(gone..).share("api-1"), 0.0);
}

/// Endpoints that objects name, in place of registered ones.
#[tokio::test(flavor = "multi_thread")]
async fn endpoints_of_a_slice_are_added_and_removed_under_load_without_a_failed_request() {
    let mesh = Mesh::start().await;
    let mut pods = Vec::new();
    for name in ["api-1", "api-2"] {
        let pod = mesh.pod("shop/api").instance(name).app(App::http()).unregistered();
        pods.push(pod.start().await);
    }
    let objects = |count: usize| {
        let addresses: Vec<_> = pods.iter().take(count).map(Pod::address).collect();
        let described =
            pods.iter().map(|pod| yaml::pod(&format!("shop/{}", pod.name()), "api", pod.address()));
        yaml::service("shop/api", 80, APP_PORT)
            + &yaml::endpoints("shop/api", APP_PORT, &addresses)
            + &described.collect::<String>()
    };
    mesh.write("api.yaml", &objects(1));
    let web = mesh.pod("shop/web").start().await;
    web.until_answered_by(API, 1).await;
    let load = Load::get(web.proxy(), API, RATE);
    load.run_for(50).await;
    mesh.write("api.yaml", &objects(2));
    until_seen(&load, "api-2").await;
    mesh.write_in_place("api.yaml", &objects(1));
    poll::until("all traffic at api-1", FOLLOWS, async || {
        let recent = Instant::now() - Duration::from_millis(300);
        let report = load.so_far().sent_in(recent..);
        let all = report.samples.len() >= 10 && report.share("api-1") == 1.0;
        if all { Ok(()) } else { Err(report.by_pod()) }
    })
    .await;
    let report = load.stop().await;
    report.assert_clean(80);
    let metrics = web.metrics().await;
    assert_eq!(metrics.sum("pillion_requests_total", &[("tls", "none")]), 0.0);
}

async fn until_seen(load: &Load, pod: &str) {
    poll::until(&format!("{pod} gets requests"), FOLLOWS, async || {
        let recent = Instant::now() - Duration::from_secs(1);
        let seen = load.so_far().sent_in(recent..).by_pod();
        if seen.contains_key(pod) { Ok(()) } else { Err(seen) }
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_killed_replica_is_gone_from_the_registry_within_seconds() {
    let (web, mut pods, _mesh) = replicas("", &["api-1", "api-2"]).await;
    pods[0].kill();
    poll::until("one endpoint is left", LEASE, async || {
        let metrics = web.metrics().await;
        let left = metrics.sum("pillion_endpoints", &[("service", "shop/api")]);
        if left == 1.0 { Ok(()) } else { Err(metrics.show("pillion_endpoints")) }
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_sidecar_receives_only_what_it_uses() {
    let services = (0..200).map(|n| yaml::service(&format!("shop/s{n}"), 80, APP_PORT));
    let mesh = Mesh::with_objects(services.collect::<String>()).await;
    let web = mesh.pod("shop/web").start().await;
    assert_eq!(web.get("http://s7.shop/").await.error(), Some("no_endpoints"));
    let received = web.metrics().await.sum("pillion_config_resources_received_total", &[]);
    assert!(received <= 5.0, "{received} resources for one Service");
}
