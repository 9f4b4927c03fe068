//! A sidecar whose container has little memory: it takes on nothing new before it is killed.

use tests::app::App;
use tests::cgroup::Group;
use tests::mesh::Mesh;
use tests::pod::{APP_PORT, Pod};
use tests::poll::{self, SOON};
use tests::yaml;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::{Duration, timeout};

use crate::shop::API;

const LIMIT: u64 = 48 << 20;

/// More connections than fit into it.
const MOST: usize = 9_000;

async fn pressure(web: &Pod) -> f64 {
    web.metrics().await.sum("pillion_memory_pressure", &[])
}

/// Asks on a connection that stays.
async fn ask(socket: &mut TcpStream) -> std::io::Result<String> {
    socket.write_all(b"GET / HTTP/1.1\r\nhost: api.shop\r\n\r\n").await?;
    let mut answer = Vec::new();
    loop {
        if socket.read_buf(&mut answer).await? == 0 {
            return Err(std::io::ErrorKind::UnexpectedEof.into());
        }
        let text = String::from_utf8_lossy(&answer);
        let Some((head, body)) = text.split_once("\r\n\r\n") else { continue };
        let length = head.lines().find_map(|line| line.strip_prefix("content-length: "));
        if length.and_then(|length| length.parse().ok()) == Some(body.len()) {
            return Ok(text.into_owned());
        }
    }
}

/// Connections that have had an answer and rest, as many as are taken.
async fn resting(web: &Pod) -> Vec<TcpStream> {
    let mut resting = Vec::new();
    while resting.len() < MOST {
        let asked = async {
            let mut socket = TcpStream::connect(web.proxy()).await?;
            ask(&mut socket).await?;
            std::io::Result::Ok(socket)
        };
        match timeout(Duration::from_secs(2), asked).await {
            Ok(Ok(connection)) => resting.push(connection),
            Ok(Err(error)) => panic!("connection {}: {error}", resting.len()),
            Err(_) => break,
        }
    }
    resting
}

#[tokio::test(flavor = "multi_thread")]
async fn what_does_not_fit_into_the_memory_waits_or_is_refused_and_nothing_is_killed() {
    let group = Group::with_memory(LIMIT);
    let mesh = Mesh::with_objects(yaml::service("shop/api", 80, APP_PORT)).await;
    let _api = mesh.pod("shop/api").app(App::http()).start().await;
    let web = mesh.pod("shop/web").under(group.entering()).start().await;
    web.until_known("api.shop:80").await;

    let mut connections = resting(&web).await;
    assert!(connections.len() < MOST, "there was room for all");
    assert_eq!(pressure(&web).await, 1.0, "{} connections", connections.len());
    let mut asking = connections.pop().unwrap();
    let answer = ask(&mut asking).await.unwrap();
    assert!(answer.starts_with("HTTP/1.1 200 "), "who is there is served: {answer}");

    // Readers who take nothing.
    let mut refused = None;
    for reader in &mut connections {
        let large = b"GET /download/67108864 HTTP/1.1\r\nhost: api.shop\r\n\r\n";
        reader.write_all(large).await.unwrap();
        let answer = ask(&mut asking).await.unwrap();
        if !answer.starts_with("HTTP/1.1 200 ") {
            refused = Some(answer);
            break;
        }
    }
    let refused = refused.expect("there was room for all readers");
    assert!(refused.starts_with("HTTP/1.1 503 "), "{refused}");
    assert!(refused.contains("x-pillion-error: overload\r\n"), "{refused}");
    assert_eq!(group.kills(), 0);

    drop((connections, asking));
    poll::until_true("all is well again", SOON, async || pressure(&web).await == 0.0).await;
    assert_eq!(web.get(API).await.status, 200);
    assert_eq!(group.kills(), 0);
    drop(web);
}
