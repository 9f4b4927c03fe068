//! Many connections at once, with large bodies both ways.

use std::collections::BTreeMap;
use std::net::SocketAddr;

use tests::body;
use tests::client::{self, Http1};
use tokio::task::JoinSet;

/// Requests on each.
const REQUESTS: usize = 2;

/// Bytes of each body, there and back.
const SIZE: usize = 1 << 20;

/// Sends it through the outbound port `proxy`, and gives how many requests failed, by why.
///
/// # Errors
/// When a client ended by a panic.
pub(crate) async fn send(
    proxy: SocketAddr,
    connections: usize,
) -> anyhow::Result<BTreeMap<String, usize>> {
    let mut clients = JoinSet::new();
    for _ in 0..connections {
        clients.spawn(client(proxy));
    }
    let mut failed = BTreeMap::new();
    while let Some(done) = clients.join_next().await {
        for reason in done? {
            *failed.entry(reason).or_default() += 1;
        }
    }
    Ok(failed)
}

/// Sends one request after another on one connection, and gives why some failed.
async fn client(proxy: SocketAddr) -> Vec<String> {
    let mut failed = Vec::new();
    let mut connection = match Http1::connect(proxy).await {
        Ok(connection) => connection,
        Err(error) => return vec![error.to_string(); REQUESTS],
    };
    for _ in 0..REQUESTS {
        let body = body::full(vec![b'x'; SIZE]);
        let request = client::with_body("POST", "http://api.shop/echo", body);
        match connection.send(request).await {
            Ok(answer) if answer.status == 200 && answer.body.len() == SIZE => {}
            Ok(answer) => failed.push(answer.error().unwrap_or("a wrong answer").to_owned()),
            Err(error) => failed.push(error.to_string()),
        }
    }
    failed
}
