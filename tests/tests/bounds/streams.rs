//! Bounds of a connection in HTTP/2.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use bytes::Bytes;
use h2::SendStream;
use http::{Request, Response};
use tests::app::App;
use tests::frames::{self, Ended, Frame, PING, RST_STREAM, Reader, SETTINGS, Writer};
use tests::poll::{self, SOON};
use tests::streams::{self, Streams};
use tokio::io::AsyncWriteExt;
use tokio::net::TcpStream;
use tokio::time::timeout;

use super::row::{Door, Row, Scene, Watch, What};

const REFUSED_STREAM: u32 = 7;
const CANCEL: u32 = 8;
const ENHANCE_YOUR_CALM: u32 = 11;

/// Streams that a client may have at the same time.
const MOST_STREAMS: u32 = 100;

/// What a sidecar may hold of a response that nobody reads: two buffers of 256 KiB for what comes
/// from an application in HTTP/1.1, the larger case, and one of 64 KiB for what goes out.
const HELD: usize = (2 * 256 + 64) * 1024;

/// SETTINGS_INITIAL_WINDOW_SIZE (RFC 9113 §6.5.2): nothing of a body may be sent.
const NO_WINDOW: [u8; 6] = [0, 4, 0, 0, 0, 0];

/// What it may hold of streams that got little beside one that got much: the last of each with what
/// was read around it.
const BESIDE: usize = 24 << 20;

/// What it may hold besides.
const SLACK: usize = 8 << 20;

pub(crate) async fn rows() -> Vec<Row> {
    let scene = Scene::open().await;
    let mut rows = Vec::new();
    for door in [Door::Client, Door::Server] {
        rows.push(too_many(&scene, door).await);
        rows.push(flood(&scene, door, &PINGS).await);
        rows.push(flood(&scene, door, &RESETS).await);
    }
    // Each in a mesh of its own: a process gives memory back late.
    for version in [1, 2] {
        for door in [Door::Client, Door::Server] {
            rows.push(stalled(version, door).await);
        }
    }
    rows.push(crumbs().await);
    rows
}

/// The streams beyond the bound are refused, the others are answered.
async fn too_many(scene: &Scene, door: Door) -> Row {
    const MORE: u32 = 50;
    let mut watch = scene.watch(door).await;
    let (mut reader, mut writer) = frames::connect(scene.address(door)).await.unwrap();
    for _ in 0..MOST_STREAMS + MORE {
        writer.get("api.shop", "/delay/2000").await.unwrap();
    }
    let mut ended = HashMap::new();
    while ended.len() < (MOST_STREAMS + MORE) as usize {
        let frame = next(&mut reader).await;
        writer.acknowledge(&frame).await.unwrap();
        if let Some(end) = frame.ends() {
            ended.insert(frame.stream, end);
            watch.measure();
        }
    }
    for at in 0..MOST_STREAMS + MORE {
        let beyond = at >= MOST_STREAMS;
        let expected = if beyond { Ended::Reset(REFUSED_STREAM) } else { Ended::Answered };
        assert_eq!(ended[&(2 * at + 1)], expected, "stream {}", 2 * at + 1);
    }
    let what = What {
        bound: "streams of a connection, 100",
        how: "150 requests at once on one connection".to_owned(),
        saw: "RST_STREAM with REFUSED_STREAM for 50, and 100 answers".to_owned(),
    };
    watch.end(what).await
}

async fn next(reader: &mut Reader) -> Frame {
    timeout(SOON, reader.frame()).await.expect("a frame").expect("the connection is there")
}

/// One who sends too much of what moves nothing.
struct Flood {
    bound: &'static str,
    how: &'static str,
    times: usize,
    one: fn(&mut Writer) -> Vec<u8>,
}

const PINGS: Flood = Flood {
    bound: "frames that move nothing, 10,000 at once",
    how: "20,000 PINGs at once",
    times: 20_000,
    one: |_| frames::frame(PING, 0, 0, &[0; 8]),
};

const RESETS: Flood = Flood {
    bound: "requests reset at once, 500 beyond every second one",
    how: "5,000 requests, each reset at once",
    times: 5_000,
    one: |writer| {
        let (stream, request) = writer.request("api.shop", "/delay/60000");
        [request, frames::frame(RST_STREAM, 0, stream, &CANCEL.to_be_bytes())].concat()
    },
};

/// The whole connection ends, and is told why. What is sent after that end can take the GOAWAY with
/// it, so that not each who floods hears it.
async fn flood(scene: &Scene, door: Door, flood: &Flood) -> Row {
    const ATTEMPTS: usize = 10;
    let mut watch = scene.watch(door).await;
    for attempt in 1.. {
        let ended = flood_once(scene.address(door), flood).await;
        watch.measure();
        match ended {
            Ended::Connection(Some(ENHANCE_YOUR_CALM)) => break,
            Ended::Connection(None) if attempt < ATTEMPTS => {}
            other => panic!("{}, {attempt} times: {other:?}", flood.bound),
        }
    }
    let saw = "GOAWAY with ENHANCE_YOUR_CALM (11), closed".to_owned();
    watch.end(What { bound: flood.bound, how: flood.how.to_owned(), saw }).await
}

async fn flood_once(address: SocketAddr, flood: &Flood) -> Ended {
    let (mut reader, mut writer) = frames::connect(address).await.unwrap();
    let reading = tokio::spawn(async move { timeout(SOON, reader.ended(0)).await });
    for _ in 0..flood.times {
        let one = (flood.one)(&mut writer);
        // As long as anybody takes it.
        if writer.bytes(&one).await.is_err() {
            break;
        }
    }
    reading.await.unwrap().expect("an end")
}

/// Readers of HTTP/1.1 on a connection each, or of HTTP/2 on streams of one connection.
#[expect(dead_code, reason = "what is in it is only kept open")]
enum Readers {
    Http1(Vec<TcpStream>),
    Http2(Box<(Reader, Writer)>),
}

/// Asks for 64 MiB a hundred times.
const READERS: usize = 100;
const LARGE: &str = "/download/67108864";

impl Readers {
    async fn open(version: u8, proxy: SocketAddr) -> Self {
        if version == 2 {
            let (reader, mut writer) = frames::connect(proxy).await.unwrap();
            for _ in 0..READERS {
                writer.get("api.shop", LARGE).await.unwrap();
            }
            return Self::Http2(Box::new((reader, writer)));
        }
        let mut sockets = Vec::new();
        for _ in 0..READERS {
            let mut socket = TcpStream::connect(proxy).await.unwrap();
            let head = format!("GET {LARGE} HTTP/1.1\r\nhost: api.shop\r\n\r\n");
            socket.write_all(head.as_bytes()).await.unwrap();
            sockets.push(socket);
        }
        Self::Http1(sockets)
    }
}

/// A hundred readers who take nothing of 64 MiB each.
async fn stalled(version: u8, door: Door) -> Row {
    let scene = Scene::open().await;
    let mut watch = scene.watch(door).await;
    let readers = Readers::open(version, scene.shop.web.proxy()).await;
    poll::until_true("the application has them all", SOON, async || {
        let seen = scene.shop.api.app().seen();
        seen.iter().filter(|seen| seen.path == LARGE).count() == READERS
    })
    .await;
    until_settled(&mut watch).await;
    let how = format!("{READERS} readers in HTTP/{version} who take nothing of 64 MiB each");
    let saw = "waits; what is not read stays with the application".to_owned();
    let row = watch.end(What { bound: "a response that nobody reads", how, saw }).await;
    assert!(row.grown() < READERS * HELD + SLACK, "{row}");
    drop(readers);
    row
}

/// Waits until the sidecar holds no more than before for a second.
async fn until_settled(watch: &mut Watch<'_>) {
    let (mut most, mut since) = (0, Instant::now());
    let begun = Instant::now();
    while since.elapsed() < Duration::from_secs(1) {
        assert!(begun.elapsed() < SOON, "its memory grows without end");
        tokio::time::sleep(Duration::from_millis(50)).await;
        let now = watch.measure();
        if now > most + (1 << 20) {
            (most, since) = (now, Instant::now());
        }
    }
}

/// Streams that nobody reads, and how often each gets how many bytes.
const WAITING: usize = 50;
const TIMES: usize = 40;
const CRUMB: usize = 600;

/// What another stream gets between two of them.
const BETWEEN: usize = 64 * 1024;

/// Streams that get a few bytes each and are not read, while another one gets much on the very
/// connections that they share.
pub(super) async fn crumbs() -> Row {
    let waiting = Arc::default();
    let scene = Scene::of("", feeding(&waiting)).await;
    let proxy = scene.address(Door::Client);
    let mut watch = scene.watch(Door::Client).await;
    let (_reader, mut writer) = frames::connect(proxy).await.unwrap();
    writer.bytes(&frames::frame(SETTINGS, 0, 0, &NO_WINDOW)).await.unwrap();
    for _ in 0..WAITING {
        writer.get("api.shop", "/crumbs").await.unwrap();
    }
    poll::until_true("the application has them all", SOON, async || {
        waiting.lock().unwrap().len() == WAITING
    })
    .await;
    let much = Request::get("http://api.shop/much").body(()).unwrap();
    let answer = Streams::connect(proxy).await.ask(much).await.unwrap();
    let (mut body, mut read) = (answer.into_body(), 0);
    while let Some(piece) = streams::next(&mut body).await.unwrap() {
        read += piece.len();
    }
    assert_eq!(read, WAITING * TIMES * BETWEEN);
    watch.measure();
    let how = format!(
        "{WAITING} streams get {CRUMB} bytes {TIMES} times, each time beside 64 KiB of another that \
         is read"
    );
    let saw = "waits; what came beside is not kept with it".to_owned();
    let row = watch.end(What { bound: "a response that nobody reads", how, saw }).await;
    assert!(row.grown() < BESIDE, "{row}");
    row
}

/// Answers `/crumbs` with what comes of `/much`, which gets all else.
fn feeding(waiting: &Arc<Mutex<Vec<SendStream<Bytes>>>>) -> App {
    let waiting = Arc::clone(waiting);
    App::streams(move |request, mut respond| {
        let waiting = Arc::clone(&waiting);
        async move {
            let mut stream = respond.send_response(Response::new(()), false).unwrap();
            if request.uri().path() == "/crumbs" {
                return waiting.lock().unwrap().push(stream);
            }
            let mut crumbs = std::mem::take(&mut *waiting.lock().unwrap());
            for at in 0..WAITING * TIMES {
                crumbs[at % WAITING].send_data(vec![b'a'; CRUMB].into(), false).unwrap();
                streams::send(&mut stream, vec![b'a'; BETWEEN].into(), false).await.unwrap();
            }
            stream.send_data(Bytes::new(), true).unwrap();
            // They are reset when they are dropped.
            std::future::pending::<()>().await;
        }
    })
}
