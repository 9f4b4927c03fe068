//! Every bound of a sidecar, met on purpose: what a client is told, what it costs, and that a good
//! client beside notices nothing. As a table for the documentation, each row of which asserts what
//! it says; what no other test meets is an ordinary test as well.

mod hello;
mod memory;
mod messages;
mod row;
mod streams;
mod waits;

use tests::app::App;
use tests::mesh::Mesh;
use tests::pod::APP_PORT;
use tests::yaml;

use self::row::{Door, HEAD};
use crate::shop::API;

#[tokio::test(flavor = "multi_thread")]
async fn requests_before_the_first_configuration_wait_for_it_up_to_a_bound() {
    Box::pin(waits::parked()).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_connection_beyond_the_bound_waits_until_another_has_ended() {
    Box::pin(waits::places()).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_only_place_is_for_whichever_port_is_used() {
    let mesh = Mesh::with_objects(yaml::service("shop/api", 80, APP_PORT)).await;
    let api = mesh.pod("shop/api").app(App::http()).flags(["--max-connections", "1"]);
    let _api = api.start().await;
    let web = mesh.pod("shop/web").start().await;
    web.until_answered_by(API, 1).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_label_has_a_thousand_names_of_tls_clients_and_then_one_for_all_others() {
    Box::pin(memory::labels(Door::Client)).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_came_beside_a_few_bytes_is_not_kept_with_them() {
    Box::pin(streams::crumbs()).await;
}

/// `cargo test --workspace --test e2e -- --ignored --nocapture the_table_of_bounds`
#[tokio::test(flavor = "multi_thread")]
#[ignore = "it takes minutes, and prints a table for the documentation"]
async fn the_table_of_bounds() {
    eprintln!("{HEAD}");
    let print = |rows: Vec<row::Row>| rows.iter().for_each(|row| eprintln!("{row}"));
    print(Box::pin(messages::rows()).await);
    print(Box::pin(streams::rows()).await);
    print(Box::pin(waits::rows()).await);
    print(Box::pin(memory::rows()).await);
}
