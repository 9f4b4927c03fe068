//! Bounds of one message in HTTP/1.1: each is met by fifty clients at the same time.

use std::fmt;
use std::net::SocketAddr;
use std::time::Duration;

use futures_util::future::join_all;
use tests::poll::SOON;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::{sleep, timeout};

use super::row::{Door, Row, Scene, What};

/// Clients that meet a bound together.
const CLIENTS: usize = 50;

/// How long nothing may come until a connection counts as left open.
const QUIET: Duration = Duration::from_secs(1);

const KIB: usize = 1024;

/// A message that is too large, in two parts: within the bound, and what goes beyond it.
struct Case {
    bound: &'static str,
    how: &'static str,
    within: String,
    beyond: String,
    /// By the client's sidecar.
    client: Refusal,
    /// By the server's.
    server: Refusal,
}

/// How a message is refused.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Refusal {
    /// None where the connection ends without a word.
    status: Option<String>,
    /// `x-pillion-error`: for the sidecar's own application only.
    code: Option<String>,
    closed: bool,
}

impl Refusal {
    fn new(status: &str, code: &str, closed: bool) -> Self {
        let some = |text: &str| Some(text.to_owned()).filter(|text| !text.is_empty());
        Self { status: some(status), code: some(code), closed }
    }

    /// As the answer says it.
    fn read(answer: &str, closed: bool) -> Self {
        let head = answer.to_lowercase();
        let status = head.split(' ').nth(1).unwrap_or_default();
        let code = head.split_once("x-pillion-error: ").and_then(|(_, rest)| rest.lines().next());
        Self::new(status, code.unwrap_or_default(), closed)
    }
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let end = if self.closed { "closed" } else { "the connection stays" };
        match (&self.status, &self.code) {
            (Some(status), Some(code)) => write!(f, "{status} `{code}`, {end}"),
            (Some(status), None) => write!(f, "{status}, {end}"),
            (None, _) => write!(f, "{end} without a word"),
        }
    }
}

const GET: &str = "GET /x HTTP/1.1\r\nhost: api.shop\r\n";

/// A chunked body up to its trailers.
const CHUNKED: &str = "POST /digest HTTP/1.1\r\nhost: api.shop\r\n\
                       transfer-encoding: chunked\r\n\r\n1\r\na\r\n";

fn long(length: usize) -> String {
    "b".repeat(length)
}

fn case(
    (bound, how): (&'static str, &'static str),
    (within, beyond): (String, &str),
    client: Refusal,
    server: Refusal,
) -> Case {
    Case { bound, how, within, beyond: beyond.to_owned(), client, server }
}

fn heads() -> Vec<Case> {
    let too_large = |code| Refusal::new("431", code, true);
    vec![
        case(
            ("head, 128 KiB", "a field without an end"),
            (format!("{GET}a: {}", long(127 * KIB)), &long(2 * KIB)),
            too_large("head_too_large"),
            too_large(""),
        ),
        case(
            ("fields of a head, 256", "257 fields"),
            (format!("{GET}{}", "a: b\r\n".repeat(250)), &format!("{}\r\n", "a: b\r\n".repeat(6))),
            too_large("head_too_large"),
            too_large(""),
        ),
        case(
            ("target, 16 KiB", "a path of 16 KiB and a byte"),
            (format!("GET /{}", long(16 * KIB - 1)), "b HTTP/1.1\r\nhost: api.shop\r\n\r\n"),
            Refusal::new("414", "target_too_long", false),
            Refusal::new("414", "", false),
        ),
        case(
            ("method, 64 bytes", "a method of 65 letters"),
            (long(64).to_uppercase(), "B /x HTTP/1.1\r\nhost: api.shop\r\n\r\n"),
            Refusal::new("400", "bad_request", false),
            // 64 letters are no HTTP yet: what is then said in it is cut off.
            Refusal::new("", "", true),
        ),
    ]
}

fn bodies() -> Vec<Case> {
    let too_large = || Refusal::new("431", "head_too_large", false);
    vec![
        case(
            ("trailers, 64 fields", "65 fields"),
            (format!("{CHUNKED}0\r\n{}", "a: b\r\n".repeat(64)), "a: b\r\n\r\n"),
            too_large(),
            Refusal::new("431", "", false),
        ),
        case(
            ("trailers, 16 KiB", "a field of 17 KiB"),
            (format!("{CHUNKED}0\r\na: {}", long(15 * KIB)), &format!("{}\r\n\r\n", long(2 * KIB))),
            too_large(),
            Refusal::new("431", "", false),
        ),
        case(
            ("chunk extensions, 16 KiB a message", "an extension of 17 KiB"),
            (
                format!("{CHUNKED}1;{}", long(15 * KIB)),
                &format!("{}\r\na\r\n0\r\n\r\n", long(2 * KIB)),
            ),
            Refusal::new("400", "bad_request", true),
            Refusal::new("400", "", true),
        ),
    ]
}

/// A row for each case and each door.
pub(crate) async fn rows() -> Vec<Row> {
    let scene = Scene::open().await;
    let mut rows = Vec::new();
    for case in heads().into_iter().chain(bodies()) {
        for door in [Door::Client, Door::Server] {
            rows.push(meet(&scene, door, &case).await);
        }
    }
    rows
}

async fn meet(scene: &Scene, door: Door, case: &Case) -> Row {
    let mut watch = scene.watch(door).await;
    let address = scene.address(door);
    let mut clients = join_all((0..CLIENTS).map(|_| begin(address, &case.within))).await;
    // Time for what is within the bound to be read.
    sleep(Duration::from_millis(300)).await;
    watch.measure();
    let answers = join_all(clients.iter_mut().map(|client| finish(client, &case.beyond))).await;
    let expected = if door == Door::Client { &case.client } else { &case.server };
    for answer in &answers {
        assert_eq!(answer, expected, "{}, {door:?}", case.bound);
    }
    let how = format!("{CLIENTS} clients with {}", case.how);
    watch.end(What { bound: case.bound, how, saw: expected.to_string() }).await
}

async fn begin(address: SocketAddr, sent: &str) -> TcpStream {
    let mut socket = TcpStream::connect(address).await.unwrap();
    socket.set_nodelay(true).unwrap();
    socket.write_all(sent.as_bytes()).await.unwrap();
    socket
}

/// Sends the rest, and reads until the other side closes or nothing more comes.
async fn finish(socket: &mut TcpStream, sent: &str) -> Refusal {
    // It may have closed already.
    let _ = socket.write_all(sent.as_bytes()).await;
    let mut all = Vec::new();
    let mut buffer = [0; 4096];
    loop {
        let limit = if all.is_empty() { SOON } else { QUIET };
        match timeout(limit, socket.read(&mut buffer)).await {
            Ok(Ok(read @ 1..)) => all.extend_from_slice(&buffer[..read]),
            ended => return Refusal::read(&String::from_utf8_lossy(&all), ended.is_ok()),
        }
    }
}
