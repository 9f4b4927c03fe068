//! What a control plane does when it is asked to leave.

#![allow(clippy::unwrap_used, clippy::expect_used)] // a test says what is wrong by panicking

mod common;

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use common::{PATIENCE, Plane};
use tests::apiserver::ApiServer;
use tests::poll;
use tokio::net::{TcpListener, TcpStream};

async fn until_ready_says(plane: &Plane, words: &str) {
    poll::until("/ready changes", PATIENCE, async || {
        let answer = plane.get("/ready").await;
        if answer.contains(words) { Ok(()) } else { Err(answer) }
    })
    .await;
}

/// A control plane in a cluster, with its webhook's address.
async fn in_cluster() -> (Plane, SocketAddr, ApiServer) {
    let api = ApiServer::start().await;
    api.namespace("pillion-system", &serde_json::json!({}));
    let webhook = TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap();
    (Plane::start_on(&api, webhook), webhook, api)
}

#[tokio::test(flavor = "multi_thread")]
async fn whoever_has_not_heard_that_it_leaves_is_served_for_some_seconds() {
    let (mut plane, webhook, _api) = in_cluster().await;
    until_ready_says(&plane, "200 OK").await;
    let begun = Instant::now();
    plane.ask_to_leave();
    until_ready_says(&plane, "503 Service Unavailable").await;
    assert!(plane.get("/ready").await.contains("not ready: it is about to end"));
    while begun.elapsed() < Duration::from_secs(3) {
        for address in [webhook, plane.api] {
            TcpStream::connect(address).await.unwrap();
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    let code = poll::until("it leaves", PATIENCE, async || plane.has_left().ok_or("not yet")).await;
    assert_eq!(code, 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn whoever_asks_twice_does_not_wait_and_without_a_webhook_nobody_does() {
    let (mut twice, _, _api) = in_cluster().await;
    let begun = Instant::now();
    twice.ask_to_leave();
    until_ready_says(&twice, "it is about to end").await;
    assert_eq!(twice.terminate(), Some(0));
    assert!(begun.elapsed() < Duration::from_secs(5), "{:?}", begun.elapsed());
    let mut alone = Plane::start("");
    let begun = Instant::now();
    assert_eq!(alone.terminate(), Some(0));
    assert!(begun.elapsed() < Duration::from_secs(5), "{:?}", begun.elapsed());
}
