//! The house by itself: what it promises to the tests that live in it, without a mesh.

use std::path::Path;
use std::process::Command;
use std::time::Instant;

use futures_util::FutureExt;
use futures_util::future::join_all;
use tests::house::{House, Mesh, Options, Pod, Program, Stack};
use tests::poll::{self, SOON};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

async fn open(mesh: Mesh, stack: Stack) -> House {
    House::start(Options { mesh, stack, ..Options::default() }).await
}

/// `api`, which sends back what it gets at port 7 of its Service, and `web`, a client.
async fn echo_and_client(house: &House) -> (Pod, Pod) {
    let echo = Program::peer(&["echo", "7777", "hello\n"]);
    let api = house.pod("shop/api").port(7, 7777).app(echo);
    tokio::join!(api.start(), house.pod("shop/web").start())
}

fn exists(namespace: &str) -> bool {
    Path::new("/run/netns").join(namespace).exists()
        || Path::new("/etc/netns").join(namespace).exists()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_pod_reaches_another_by_every_name_of_its_service() {
    let house = open(Mesh::Off, Stack::Dual).await;
    let (_api, web) = echo_and_client(&house).await;
    for name in ["api", "api.shop", "api.shop.svc.cluster.local", "10.96.0.1", "[fd00:96::1]"] {
        let client = Program::peer(&["half-close", &format!("{name}:7"), "one two"]);
        let output = web.run(&client).await;
        assert_eq!(output.stdout, "hello\none twobye after 7 bytes\n", "{name}: {output:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_pod_has_addresses_of_its_own_and_no_others_of_the_machine() {
    for (stack, addresses) in [(Stack::V4, 1), (Stack::Dual, 2), (Stack::V6, 1)] {
        let house = open(Mesh::Off, stack).await;
        let web = house.pod("shop/web").start().await;
        let show = Program::find("ip", "iproute2").args(["-o", "addr", "show", "scope", "global"]);
        let output = web.run(&show).await;
        let lines: Vec<&str> = output.stdout.lines().collect();
        assert_eq!(lines.len(), addresses, "{stack:?}: {output:?}");
        for address in web.addresses().all() {
            assert!(output.stdout.contains(&format!(" {address}/")), "{output:?}");
        }
        let whoami = web.run(&Program::find("id", "coreutils").args(["-u"])).await;
        assert_eq!(whoami.stdout, "65534\n");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_test_dials_from_inside_of_a_pod() {
    let house = open(Mesh::Off, Stack::V4).await;
    let (_api, web) = echo_and_client(&house).await;
    let mut stream = web.dial("api:7").await.unwrap();
    stream.write_all(b"abc").await.unwrap();
    stream.shutdown().await.unwrap();
    let mut all = String::new();
    tokio::time::timeout(SOON, stream.read_to_string(&mut all)).await.expect("an end").unwrap();
    assert_eq!(all, "hello\nabcbye after 3 bytes\n");
    let refused = web.dial("127.0.0.1:9").await.unwrap_err().to_string();
    assert!(refused.contains("refused"), "{refused}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_cluster_ip_spreads_connections_over_all_pods_of_a_service() {
    let house = open(Mesh::Off, Stack::V4).await;
    let api = |name: &'static str| {
        let app = Program::peer(&["http", "8080", name]);
        house.pod("shop/api").instance(name).port(80, 8080).app(app).start()
    };
    let (_one, _two, web) = tokio::join!(api("one"), api("two"), house.pod("shop/web").start());
    let mut seen = Vec::new();
    poll::until_true("both pods answer", SOON, async || {
        seen.push(web.get("http://api/").await.unwrap().text());
        ["one", "two"].iter().all(|name| seen.iter().any(|answer| answer == name))
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_service_that_comes_later_is_found_by_programs_that_run_already() {
    let house = open(Mesh::Off, Stack::V4).await;
    let web = house.pod("shop/web").start().await;
    web.dial("api:80").await.unwrap_err();
    let app = Program::peer(&["http", "8080", "late"]);
    let _api = house.pod("shop/api").port(80, 8080).app(app).start().await;
    assert_eq!(web.get("http://api/").await.unwrap().text(), "late");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_cluster_ip_with_nobody_behind_it_is_refused_at_once() {
    let house = open(Mesh::Off, Stack::Dual).await;
    let web = house.pod("shop/web").start().await;
    for address in ["10.96.0.200:80", "[fd00:96::c8]:80"] {
        let error = web.dial(address).await.unwrap_err().to_string();
        assert!(error.contains("refused"), "{address}: {error}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_end_and_a_reset_of_a_client_arrive_as_what_they_are() {
    let house = open(Mesh::Off, Stack::V4).await;
    let (api, web) = echo_and_client(&house).await;
    // The probe of the pod's start was the first of the log's lines.
    for (client, end) in [("half-close", "closed"), ("reset", "reset")] {
        let before = api.app_log().lines().count();
        let output = web.run(&Program::peer(&[client, "api:7", "x"])).await;
        assert_eq!(output.code, Some(0), "{output:?}");
        poll::until(&format!("the server sees that {client}"), SOON, async || {
            let log = api.app_log();
            let ends: Vec<&str> = log.lines().skip(before).collect();
            if ends == [end] { Ok(()) } else { Err(log) }
        })
        .await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn two_houses_have_the_same_addresses_and_do_not_meet() {
    let (one, two) = tokio::join!(open(Mesh::Off, Stack::V4), open(Mesh::Off, Stack::V4));
    let api = |house: &'static str| Program::peer(&["http", "8080", house]);
    let first = async || {
        let server = one.pod("shop/api").port(80, 8080).app(api("one"));
        tokio::join!(server.start(), one.pod("shop/web").start())
    };
    let second = async || {
        let server = two.pod("shop/api").port(80, 8080).app(api("two"));
        tokio::join!(server.start(), two.pod("shop/web").start())
    };
    let ((_server, web), (_other_server, other)) = tokio::join!(first(), second());
    assert_eq!(web.get("http://api/").await.unwrap().text(), "one");
    assert_eq!(other.get("http://api/").await.unwrap().text(), "two");
    let names = [one.namespaces(), two.namespaces()].concat();
    assert_eq!(names.len(), 6, "{names:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_test_that_panics_leaves_nothing_behind() {
    let mut names = Vec::new();
    let (mut stray, mut logs) = (0, None);
    let test = async {
        let house = open(Mesh::Off, Stack::V4).await;
        let (_api, web) = echo_and_client(&house).await;
        // A daemon, as brokers start them: no child of ours.
        let script = "setsid sleep 300 >/dev/null 2>&1 & echo $!";
        let output = web.run(&Program::at("/bin/sh").args(["-c", script])).await;
        stray = output.stdout.trim().parse().unwrap();
        names = house.namespaces();
        logs = Some(house.logs());
        panic!("as a failing test does");
    };
    let failed = std::panic::AssertUnwindSafe(test).catch_unwind().await;
    failed.expect_err("it panics");
    assert_eq!(names.len(), 3, "{names:?}");
    for name in &names {
        assert!(!exists(name), "{name} is left");
    }
    let proc = format!("/proc/{stray}/cmdline");
    let left = std::fs::read(proc).unwrap_or_default();
    assert!(left.is_empty(), "the daemon {stray} is left");
    let logs = logs.expect("the house was there");
    assert!(logs.join("app-api.log").is_file(), "a failed test keeps its logs");
    std::fs::remove_dir_all(logs.parent().unwrap()).unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_killed_test_left_is_removed_by_the_next() {
    let mut dead = Command::new("/bin/true").spawn().unwrap();
    dead.wait().unwrap();
    let leftover = format!("pillion-{}-0-hub", dead.id());
    let ip = tests::tools::find("ip", "iproute2");
    let made = Command::new(ip).args(["netns", "add", &leftover]).status().unwrap();
    assert!(made.success() && exists(&leftover));
    std::fs::create_dir_all(Path::new("/etc/netns").join(&leftover)).unwrap();
    let [dropped, kept] = ["dropped", "kept"].map(|name| {
        let name = format!("pillion-house-{}-{name}", dead.id());
        let dir = std::env::temp_dir().join(name);
        std::fs::create_dir(&dir).unwrap();
        dir
    });
    std::fs::write(kept.join("kept"), "").unwrap();
    tests::house::namespace::sweep();
    assert!(!exists(&leftover), "{leftover} is left");
    assert!(!dropped.exists(), "the files of a killed test are left");
    assert!(kept.exists(), "the files of a failed test are for whoever looks for the reason");
    std::fs::remove_dir_all(kept).unwrap();
}

/// Prints how long a house of five pods takes to open; it asserts that all of them are there.
async fn five_pods(mesh: Mesh) {
    // What is made once is not the house's time.
    tests::bins::bins();
    let started = Instant::now();
    let house = open(mesh, Stack::V4).await;
    let pods = ["a", "b", "c", "d", "e"].map(|name| {
        let app = Program::peer(&["http", "8080", name]);
        house.pod(&format!("shop/{name}")).port(80, 8080).app(app).start()
    });
    let pods = join_all(pods).await;
    eprintln!("a house of five pods, mesh {mesh:?}: open after {:?}", started.elapsed());
    for name in ["a", "b", "c", "d", "e"] {
        let answer = pods[0].get(&format!("http://{name}/")).await.unwrap();
        assert_eq!(answer.text(), name);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_house_of_five_pods_opens() {
    five_pods(Mesh::Off).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_mesh_of_five_pods_opens() {
    five_pods(Mesh::On).await;
}
