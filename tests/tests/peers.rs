//! Real clients and servers: what works directly must work through the mesh, unchanged.

use tests::house::peers::restart::{Seen, restart};
use tests::house::peers::{compare, peer};
use tests::house::{Mesh, Options, Pod, Stack};
use tests::poll::{self, SOON};

/// The pair lives until the answer is judged: a failure prints the logs of both.
async fn works(name: &str, mesh: Mesh, stack: Stack) {
    let pair = peer(name).open(Options { mesh, stack, ..Options::default() }).await;
    pair.talk().await.unwrap();
    if mesh == Mesh::On {
        went_through_it(pair.server()).await;
    }
}

/// What the client said came by mutual TLS, and not past the sidecars.
async fn went_through_it(server: &Pod) {
    const ENDED: [&str; 2] = ["pillion_requests_total", "pillion_tcp_connections_total"];
    poll::until_true("the server's sidecar counts it", SOON, async || {
        let (metrics, labels) =
            (server.metrics().await, [("direction", "inbound"), ("tls", "mutual")]);
        ENDED.iter().any(|name| metrics.sum(name, &labels) >= 1.0)
    })
    .await;
}

async fn directly(name: &str) {
    works(name, Mesh::Off, Stack::V4).await;
}

async fn through_the_mesh(name: &str) {
    works(name, Mesh::On, Stack::V4).await;
}

async fn over_ipv6(name: &str) {
    works(name, Mesh::On, Stack::V6).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn curl_and_nginx_speak_directly() {
    directly("nginx").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn curl_and_nginx_speak_through_the_mesh() {
    through_the_mesh("nginx").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn curl_and_nginx_speak_through_the_mesh_over_ipv6() {
    over_ipv6("nginx").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn grpc_in_python_speaks_directly() {
    directly("grpc").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn grpc_in_python_speaks_through_the_mesh() {
    through_the_mesh("grpc").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn grpc_in_python_speaks_through_the_mesh_over_ipv6() {
    over_ipv6("grpc").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn psql_and_postgres_speak_directly() {
    directly("postgres").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn psql_and_postgres_speak_through_the_mesh() {
    through_the_mesh("postgres").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn psql_and_postgres_speak_through_the_mesh_over_ipv6() {
    over_ipv6("postgres").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn redis_speaks_directly() {
    directly("redis").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn redis_speaks_through_the_mesh() {
    through_the_mesh("redis").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn redis_speaks_through_the_mesh_over_ipv6() {
    over_ipv6("redis").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn nats_and_jetstream_speak_directly() {
    directly("nats").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn nats_and_jetstream_speak_through_the_mesh() {
    through_the_mesh("nats").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn nats_and_jetstream_speak_through_the_mesh_over_ipv6() {
    over_ipv6("nats").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn pika_and_rabbitmq_speak_directly() {
    directly("rabbitmq").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn pika_and_rabbitmq_speak_through_the_mesh() {
    through_the_mesh("rabbitmq").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn pika_and_rabbitmq_speak_through_the_mesh_over_ipv6() {
    over_ipv6("rabbitmq").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn mariadb_speaks_directly() {
    directly("mariadb").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn mariadb_speaks_through_the_mesh() {
    through_the_mesh("mariadb").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn mariadb_speaks_through_the_mesh_over_ipv6() {
    over_ipv6("mariadb").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn smtp_speaks_directly() {
    directly("smtp").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn smtp_speaks_through_the_mesh() {
    through_the_mesh("smtp").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn smtp_speaks_through_the_mesh_over_ipv6() {
    over_ipv6("smtp").await;
}

/// A connection ends when its server is killed, the next ones fail, never in silence, and one
/// opens when the server is back; the real client finds all it had left.
fn assert_restarted(name: &str, seen: &Seen) {
    let (first, between) = seen.bare.split_first().expect("lines");
    let (last, between) = between.split_last().expect("lines");
    assert_eq!((first.as_str(), last.as_str()), ("open", "open"), "{name}: {seen:?}");
    assert!(between[0] == "ended closed" || between[0] == "ended reset", "{name}: {seen:?}");
    assert!(between.len() > 1, "{name}: {seen:?}");
    for attempt in &between[1..] {
        let known = ["attempt refused", "attempt closed", "attempt reset"];
        assert!(known.contains(&attempt.as_str()), "{name}: {seen:?}");
    }
    assert_eq!(seen.words(), peer(name).life(), "{name}: {seen:?}");
}

async fn restart_directly(name: &str) {
    let seen = restart(peer(name), Mesh::Off).await;
    assert_restarted(name, &seen);
    // One whose handshake the dying server still finished is reset.
    let refused = |line: &String| ["attempt refused", "attempt reset"].contains(&line.as_str());
    assert!(seen.bare.iter().any(refused), "a killed server's port is closed: {seen:?}");
}

async fn restart_through_the_mesh(name: &str) {
    assert_restarted(name, &restart(peer(name), Mesh::On).await);
}

#[tokio::test(flavor = "multi_thread")]
async fn clients_of_redis_see_its_restart_directly() {
    restart_directly("redis").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn clients_of_redis_see_its_restart_through_the_mesh() {
    restart_through_the_mesh("redis").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn clients_of_nats_see_its_restart_directly() {
    restart_directly("nats").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn clients_of_nats_see_its_restart_through_the_mesh() {
    restart_through_the_mesh("nats").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn clients_of_rabbitmq_see_its_restart_directly() {
    restart_directly("rabbitmq").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn clients_of_rabbitmq_see_its_restart_through_the_mesh() {
    restart_through_the_mesh("rabbitmq").await;
}

/// `cargo test --workspace --test e2e -- --ignored --nocapture the_table_of_peers`
#[tokio::test(flavor = "multi_thread")]
#[ignore = "it measures, and prints a table for the documentation"]
async fn the_table_of_peers() {
    eprintln!("{}", compare::table().await);
}
