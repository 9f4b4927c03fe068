//! The harness tested by itself: what it does not notice here, it would not notice in a mesh.

use std::net::SocketAddr;
use std::path::Path;
use std::time::Duration;

use crate::app::{App, BANNER, Manners, Running};
use crate::client::{self, Http2};
use crate::load::Load;
use crate::net::Net;
use crate::poll;
use crate::process::{Process, run};

async fn http(net: &Net, manners: Manners) -> Running {
    App::http().manners(manners).start("alone", SocketAddr::new(net.next(), 8080)).await
}

#[tokio::test]
async fn an_application_tells_what_it_saw() {
    let net = Net::reserve();
    let app = http(&net, Manners::default()).await;
    let answer = client::get(app.address(), "http://api.shop/a?b=c").await.unwrap();
    assert_eq!(answer.pod(), Some("alone"));
    let seen = answer.json();
    assert_eq!((&seen["path"], &seen["host"]), (&"/a?b=c".into(), &"api.shop".into()));
    let mut h2 = Http2::connect(app.address()).await.unwrap();
    let request = http::Request::get("http://api.shop/x").body(crate::body::empty()).unwrap();
    let answer = h2.send(request).await.unwrap();
    assert_eq!(answer.json()["version"], "HTTP/2.0");
    assert_eq!((app.requests(), app.connections()), (2, 2));
}

#[tokio::test]
async fn a_load_counts_every_failure() {
    let net = Net::reserve();
    let app = http(&net, Manners { failing: 30, ..Manners::default() }).await;
    let load = Load::get(app.address(), "http://api.shop/{n}", 200);
    load.run_for(100).await;
    let report = load.stop().await;
    let (all, failed) = (report.samples.len(), report.failures().len());
    assert_eq!(failed, all * 30 / 100, "of {all}");
    assert!(app.connections() < 10, "connections are reused: {}", app.connections());
}

#[tokio::test]
#[should_panic(expected = "requests failed; the first")]
async fn a_load_with_failures_is_not_clean() {
    let net = Net::reserve();
    let app = http(&net, Manners { resetting: true, ..Manners::default() }).await;
    let load = Load::get(app.address(), "http://api.shop/", 100);
    load.run_for(10).await;
    load.stop().await.assert_clean(1);
}

#[tokio::test]
async fn an_application_that_is_dropped_is_gone_with_its_connections() {
    let net = Net::reserve();
    let app = http(&net, Manners::default()).await;
    let address = app.address();
    let mut connection = client::Http1::connect(address).await.unwrap();
    connection.send(client::request("GET", "http://a/")).await.unwrap();
    drop(app);
    poll::until_true("the connection is closed", poll::SOON, async || {
        !connection.is_reusable().await
    })
    .await;
    client::Http1::connect(address).await.map(drop).unwrap_err();
}

#[tokio::test]
async fn the_tcp_application_speaks_first_and_last() {
    let net = Net::reserve();
    let app = App::tcp().start("tcp", SocketAddr::new(net.next(), 8080)).await;
    let mut socket = tokio::net::TcpStream::connect(app.address()).await.unwrap();
    tokio::io::AsyncWriteExt::write_all(&mut socket, b"abc").await.unwrap();
    tokio::io::AsyncWriteExt::shutdown(&mut socket).await.unwrap();
    let mut all = String::new();
    tokio::io::AsyncReadExt::read_to_string(&mut socket, &mut all).await.unwrap();
    assert_eq!(all, format!("{BANNER}abcbye after 3 bytes\n"));
}

#[tokio::test]
async fn a_process_ends_with_its_value() {
    let dir = tempfile::tempdir().unwrap();
    let process = Process::start("sleep", dir.path(), Path::new("/bin/sleep"), ["100"], &[]);
    let proc = format!("/proc/{}", process.id());
    assert!(Path::new(&proc).exists());
    drop(process);
    assert!(!Path::new(&proc).exists());
}

#[tokio::test]
#[should_panic(expected = "panicked")]
async fn a_process_that_panicked_fails_its_test() {
    let dir = tempfile::tempdir().unwrap();
    let script = ["-c", "echo thread main panicked at src/x.rs"];
    let mut process = Process::start("sh", dir.path(), Path::new("/bin/sh"), script, &[]);
    process.wait(poll::SOON).await;
}

#[tokio::test]
#[should_panic(expected = "still runs after")]
async fn a_program_that_hangs_fails_its_test() {
    run(Path::new("/bin/sleep"), ["100"], &[], Duration::from_millis(50)).await;
}

#[tokio::test]
#[should_panic(expected = "two is three: not within")]
async fn what_never_comes_true_fails_with_its_name() {
    poll::until_true("two is three", Duration::from_millis(20), async || 2 == 3).await;
}
