//! Bounds at which somebody waits: for a peer, for the first configuration, for a place, for a
//! descriptor; and how long a client may say nothing.

use std::net::SocketAddr;
use std::time::Duration;

use futures_util::future::join_all;
use tests::app::App;
use tests::client::{self, Answer, Http1, Http2};
use tests::mesh::Mesh;
use tests::pod::{APP_PORT, Pod};
use tests::poll::{self, SOON};
use tests::yaml;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::sync::mpsc;
use tokio::time::timeout;

use super::row::{Door, Row, Scene, Watch, What};
use crate::shop::API;

/// Requests on one connection of a client: as many as a sidecar takes.
const STREAMS: usize = 100;

/// What does not come within this time is waited for.
const A_MOMENT: Duration = Duration::from_millis(500);

pub(crate) async fn rows() -> Vec<Row> {
    let mut rows = vec![peer().await, parked().await, places().await, descriptors().await];
    rows.extend(silence().await);
    rows
}

/// Sends `count` requests at once; their answers come as they end.
async fn many(proxy: SocketAddr, url: &str, count: usize) -> mpsc::UnboundedReceiver<Answer> {
    let (tell, answers) = mpsc::unbounded_channel();
    for sent in (0..count).step_by(STREAMS) {
        let connection = Http2::connect(proxy).await.unwrap();
        for _ in sent..count.min(sent + STREAMS) {
            let (mut connection, tell) = (connection.clone(), tell.clone());
            let request = client::request("GET", url);
            tokio::spawn(async move {
                // One that is missing fails the test, with its own words.
                if let Ok(answer) = connection.send(request).await {
                    let _ = tell.send(answer);
                }
            });
        }
    }
    answers
}

/// `more` are refused with `overload`, in whatever order they came; then the others wait.
async fn refused(answers: &mut mpsc::UnboundedReceiver<Answer>, more: usize) {
    for _ in 0..more {
        let answer = timeout(SOON, answers.recv()).await.expect("an answer").expect("one for each");
        assert_eq!((answer.status.as_u16(), answer.error()), (503, Some("overload")), "{answer:?}");
    }
    let further = timeout(A_MOMENT, answers.recv()).await;
    assert!(further.is_err(), "the others wait: {further:?}");
}

async fn served(answers: &mut mpsc::UnboundedReceiver<Answer>, count: usize) {
    for _ in 0..count {
        let answer =
            timeout(2 * SOON, answers.recv()).await.expect("an answer").expect("one for each");
        assert_eq!(answer.status, 200, "{answer:?}");
    }
}

/// A peer that is slow: 800 requests are under way, 1,024 wait for them.
async fn peer() -> Row {
    const BOUND: usize = 8 * (100 + 128);
    const MORE: usize = 76;
    let scene = Scene::open().await;
    let mut watch = scene.watch(Door::Client).await;
    let url = format!("{API}/delay/3000");
    let mut answers = many(scene.shop.web.proxy(), &url, BOUND + MORE).await;
    refused(&mut answers, MORE).await;
    watch.measure();
    served(&mut answers, BOUND).await;
    let what = What {
        bound: "requests for one peer, 800 under way and 1,024 that wait",
        how: format!("{} requests at once for a peer that takes 3 s", BOUND + MORE),
        saw: "503 `overload` for 76 at once; 200 for the others, in their turn".to_owned(),
    };
    watch.end(what).await
}

/// A sidecar that starts before its control plane.
pub(crate) async fn parked() -> Row {
    const BOUND: usize = 1024;
    const MORE: usize = 76;
    let mesh = Mesh::with_objects(yaml::service("shop/api", 80, APP_PORT)).await;
    let _api = mesh.pod("shop/api").app(App::http()).start().await;
    let other = mesh.pod("shop/other").start().await;
    other.until_answered_by(API, 1).await;
    mesh.control_plane().kill();
    let web = mesh.pod("shop/web").start_unready().await;
    poll::until("its outbound port is open", SOON, async || {
        TcpStream::connect(web.proxy()).await.map(drop)
    })
    .await;
    let mut watch = Watch::start(&web, "client's", other.proxy(), API).await;
    let mut answers = many(web.proxy(), API, BOUND + MORE).await;
    refused(&mut answers, MORE).await;
    watch.measure();
    mesh.restart_control_plane().await;
    served(&mut answers, BOUND).await;
    let what = What {
        bound: "requests before the first configuration, 1,024",
        how: format!("{} requests at once while the control plane is down", BOUND + MORE),
        saw: "503 `overload` for 76 at once; 200 for the others once it is there".to_owned(),
    };
    watch.end(what).await
}

/// Connections that hold their places.
async fn hold(proxy: SocketAddr, count: usize) -> Vec<Http1> {
    let held = join_all((0..count).map(async |_| {
        let mut held = Http1::connect(proxy).await.unwrap();
        assert_eq!(held.send(client::request("GET", API)).await.unwrap().status, 200);
        held
    }));
    held.await
}

/// Asks on a new connection, which waits; `release` lets it in.
async fn waits_until<T>(proxy: SocketAddr, release: T, watch: &mut Watch<'_>) {
    let mut fresh = tokio::spawn(async move { client::get(proxy, API).await });
    let early = timeout(A_MOMENT, &mut fresh).await;
    assert!(early.is_err(), "there is no place for a new one: {early:?}");
    watch.measure();
    drop(release);
    assert_eq!(fresh.await.unwrap().unwrap().status, 200);
}

/// A mesh whose client has these flags.
async fn with_flags(flags: &[&str]) -> (Pod, Pod, Mesh) {
    let mesh = Mesh::with_objects(yaml::service("shop/api", 80, APP_PORT)).await;
    let api = mesh.pod("shop/api").app(App::http()).start().await;
    let web = mesh.pod("shop/web").flags(flags).start().await;
    web.until_answered_by(API, 1).await;
    (web, api, mesh)
}

/// `--max-connections`; one place is the good client's.
pub(crate) async fn places() -> Row {
    const BOUND: usize = 50;
    let (web, _api, _mesh) = with_flags(&["--max-connections", &BOUND.to_string()]).await;
    let mut watch = Watch::start(&web, "client's", web.proxy(), API).await;
    let mut held = hold(web.proxy(), BOUND - 1).await;
    let last = held.pop();
    waits_until(web.proxy(), last, &mut watch).await;
    let what = What {
        bound: "`--max-connections`",
        how: format!("a connection beside {BOUND}, the bound"),
        saw: "waits; 200 as soon as another has ended".to_owned(),
    };
    watch.end(what).await
}

/// RLIMIT_NOFILE.
async fn descriptors() -> Row {
    const BOUND: usize = 256;
    let (web, _api, _mesh) = with_flags(&[]).await;
    let mut watch = Watch::start(&web, "client's", web.proxy(), API).await;
    web.sidecar().limit_descriptors(BOUND as u64);
    let mut flood = Vec::new();
    for _ in 0..2 * BOUND {
        flood.push(TcpStream::connect(web.proxy()).await.unwrap());
    }
    poll::until_true("no descriptor is left", SOON, async || web.sidecar().descriptors() >= BOUND)
        .await;
    waits_until(web.proxy(), flood, &mut watch).await;
    assert!(web.metrics().await.sum("pillion_accept_errors_total", &[]) >= 1.0);
    let what = What {
        bound: "descriptors (`RLIMIT_NOFILE`)",
        how: "512 connections, and 256 descriptors from one moment to the next".to_owned(),
        saw: "waits in the kernel; 200 as soon as others have ended".to_owned(),
    };
    watch.end(what).await
}

/// Clients who never say a thing, at every port, or nothing after an answer.
async fn silence() -> Vec<Row> {
    const FIRST: &str = "time to the first byte, 10 s";
    let scene = Scene::open().await;
    let (outbound, inbound) = (scene.address(Door::Client), scene.address(Door::Server));
    let mesh = scene.shop.api.mesh_port();
    vec![
        silent(&scene, Door::Client, outbound, FIRST, "silent connections", "").await,
        silent(&scene, Door::Server, inbound, FIRST, "silent connections", "").await,
        silent(
            &scene,
            Door::Server,
            mesh,
            "time for a TLS handshake, 10 s",
            "silent connections to the mesh port",
            "",
        )
        .await,
        silent(
            &scene,
            Door::Client,
            outbound,
            "time for a head, 10 s",
            "connections in HTTP/1.1 with half a head after an answer",
            "GET /x HTTP/1.1\r\nhost: api.shop\r\n\r\nGET /x",
        )
        .await,
    ]
}

/// Three hundred connections that say no more than `said`.
async fn silent(
    scene: &Scene,
    door: Door,
    address: SocketAddr,
    bound: &'static str,
    how: &str,
    said: &str,
) -> Row {
    const CLIENTS: usize = 300;
    let mut watch = scene.watch(door).await;
    let connected = join_all((0..CLIENTS).map(async |_| {
        let mut socket = TcpStream::connect(address).await.unwrap();
        socket.write_all(said.as_bytes()).await.unwrap();
        socket
    }));
    let connected = connected.await;
    tokio::time::sleep(A_MOMENT).await;
    watch.measure();
    let ends = join_all(connected.into_iter().map(async |mut socket| {
        let mut heard = String::new();
        let ended = timeout(SOON, socket.read_to_string(&mut heard)).await;
        ended.expect("an end").unwrap_or_default();
        heard
    }));
    for heard in ends.await {
        let answers = heard.matches("HTTP/1.1 200 ").count();
        assert_eq!(answers, usize::from(!said.is_empty()), "{bound}: {heard}");
        assert!(answers == 1 || heard.is_empty(), "{bound}: {heard}");
    }
    let (how, saw) = (format!("{CLIENTS} {how}"), "closed without a word".to_owned());
    watch.end(What { bound, how, saw }).await
}
