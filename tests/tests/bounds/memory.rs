//! Bounds of what a sidecar keeps for others: names, bodies, retries, labels, connections.

use std::net::SocketAddr;
use std::time::Duration;

use futures_util::stream::{self, StreamExt};
use tests::app::{App, Manners};
use tests::body;
use tests::client::{self, Answer};
use tests::frames::{self, Reader, Writer};
use tests::mesh::Mesh;
use tests::metrics::Metrics;
use tests::pod::{APP_PORT, Pod};
use tests::poll::{self, SOON};
use tests::process;
use tests::yaml;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::task::JoinSet;

use super::hello;
use super::row::{Door, Row, Scene, Watch, What};
use crate::shop::API;

/// What a bound may cost where it is about a few bytes each.
const LITTLE: usize = 8 << 20;

const RETRYING: &str = "  - backendRefs: [{name: api, port: 80}]\n\
                        \x20   retry: {codes: [503], attempts: 1, backoff: 10ms}";

pub(crate) async fn rows() -> Vec<Row> {
    vec![
        names().await,
        body_of_one().await,
        bodies_of_all().await,
        budget().await,
        labels(Door::Client).await,
        labels(Door::Server).await,
        idle().await,
    ]
}

/// Sends `requests`, so many at the same time, and gives their answers.
async fn send_all(
    proxy: SocketAddr,
    requests: impl IntoIterator<Item = http::Request<body::AnyBody>>,
    at_once: usize,
) -> Vec<Answer> {
    let send = |request| async move { client::send(proxy, request).await.unwrap() };
    stream::iter(requests).map(send).buffer_unordered(at_once).collect().await
}

fn count(answers: &[Answer], status: u16) -> usize {
    answers.iter().filter(|answer| answer.status == status).count()
}

fn denied(metrics: &Metrics, reason: &str) -> f64 {
    metrics.sum("pillion_retries_denied_total", &[("reason", reason)])
}

/// Names that an application makes up.
async fn names() -> Row {
    const NAMES: usize = 5_000;
    let scene = Scene::open().await;
    let mut watch = scene.watch(Door::Client).await;
    let requests = (0..NAMES).map(|n| client::request("GET", &format!("http://n{n}.shop/")));
    let answers = send_all(scene.address(Door::Client), requests, 50).await;
    for answer in answers {
        let seen = (answer.status.as_u16(), answer.error());
        assert_eq!(seen, (502, Some("service_unknown")), "{answer:?}");
    }
    watch.measure();
    let what = What {
        bound: "names that do not exist, 1,024 remembered",
        how: format!("{NAMES} made-up names"),
        saw: "502 `service_unknown` for each".to_owned(),
    };
    let row = watch.end(what).await;
    assert!(row.grown() < LITTLE, "{row}");
    row
}

/// A body of just 64 KiB is sent again, a larger one is not.
async fn body_of_one() -> Row {
    const KEPT: usize = 64 * 1024;
    let scene = Scene::with(&yaml::route("shop/api", RETRYING)).await;
    let watch = scene.watch(Door::Client).await;
    let put = async |key: &str, size: usize| {
        let url = format!("{API}/flaky/{key}/1");
        let request = client::with_body("PUT", &url, body::full(vec![b'a'; size]));
        client::send(scene.address(Door::Client), request).await.unwrap()
    };
    assert_eq!(put("kept", KEPT).await.status, 200);
    let larger = put("larger", KEPT + 1).await;
    assert_eq!((larger.status.as_u16(), larger.error()), (503, None), "{larger:?}");
    assert_eq!(denied(&scene.shop.web.metrics().await, "body_too_large"), 1.0);
    let what = What {
        bound: "body kept for a retry, 64 KiB a request",
        how: "a PUT of 64 KiB and one byte, answered with 503 at first".to_owned(),
        saw: "the application's 503; `pillion_retries_denied_total{reason=\"body_too_large\"}`"
            .to_owned(),
    };
    watch.end(what).await
}

/// So many bodies within the bound of one that they are beyond the bound of all.
async fn bodies_of_all() -> Row {
    const SIZE: usize = 60 * 1024;
    const KEPT: usize = (16 << 20) / SIZE;
    const PUTS: usize = 320;
    let scene = Scene::with(&yaml::route("shop/api", RETRYING)).await;
    let mut watch = scene.watch(Door::Client).await;
    let delay = Duration::from_secs(4);
    scene.shop.api.app().behave(Manners { delay, ..Manners::default() });
    let before = scene.shop.api.app().requests();
    let put = |n| {
        let url = format!("{API}/flaky/{n}/1");
        client::with_body("PUT", &url, body::full(vec![b'a'; SIZE]))
    };
    let measuring = async {
        poll::until_true("the application has them all", SOON, async || {
            scene.shop.api.app().requests() >= before + PUTS
        })
        .await;
        watch.measure();
    };
    let sending = send_all(scene.address(Door::Client), (0..PUTS).map(put), PUTS);
    let (answers, ()) = tokio::join!(sending, measuring);
    let metrics = scene.shop.web.metrics().await;
    let lost = denied(&metrics, "body_too_large") as usize;
    assert!(lost >= PUTS - KEPT, "{lost} of {PUTS} were beyond what is kept");
    let over_budget = denied(&metrics, "budget") as usize;
    assert_eq!(count(&answers, 503), lost + over_budget);
    assert_eq!(count(&answers, 200), PUTS - lost - over_budget);
    assert!(answers.iter().all(|answer| answer.error().is_none()), "each by the application");
    let what = What {
        bound: "bodies kept for retries, 16 MiB a sidecar",
        how: format!("{PUTS} PUTs of 60 KiB at once, each answered with 503 at first"),
        saw: "the application's 503 for those that came too late; the others were sent again"
            .to_owned(),
    };
    watch.end(what).await
}

/// A Service that answers everything with what a route retries.
async fn budget() -> Row {
    const GETS: usize = 400;
    let scene = Scene::with(&yaml::route("shop/api", RETRYING)).await;
    let mut watch = scene.watch(Door::Client).await;
    scene.shop.api.app().behave(Manners { failing: 100, ..Manners::default() });
    let before = scene.shop.api.app().requests();
    let requests = (0..GETS).map(|_| client::request("GET", API));
    let answers = send_all(scene.address(Door::Client), requests, 100).await;
    watch.measure();
    assert!(answers.iter().all(|answer| answer.status == 503 && answer.error().is_none()));
    let denied = denied(&scene.shop.web.metrics().await, "budget") as usize;
    let retried = scene.shop.api.app().requests() - before - GETS;
    assert_eq!(retried + denied, GETS, "each was retried or was not");
    assert!(denied > 0 && retried >= 100, "{retried} retried, {denied} denied");
    let what = What {
        bound: "retries, 20 % and 10/s",
        how: format!("{GETS} GETs at once, each answered with 503"),
        saw: "the application's 503; `pillion_retries_denied_total{reason=\"budget\"}`".to_owned(),
    };
    watch.end(what).await
}

/// Names that TLS clients ask for, as a label of a metric.
pub(crate) async fn labels(door: Door) -> Row {
    const NAMES: usize = 1_000;
    const MORE: usize = 10;
    const COUNTED: &str = "pillion_tcp_tls_connections_total";
    let mesh = Mesh::with_objects(
        yaml::service("shop/db", 80, APP_PORT) + &yaml::service("shop/calm", 80, APP_PORT),
    )
    .await;
    let db = mesh.pod("shop/db").app(App::tcp()).start().await;
    let _calm = mesh.pod("shop/calm").app(App::http()).start().await;
    let web = mesh.pod("shop/web").start().await;
    web.until_known("db.shop:80").await;
    let (pod, at): (&Pod, _) = match door {
        Door::Client => (&web, "client's"),
        Door::Server => (&db, "server's"),
    };
    let mut watch = Watch::start(pod, at, web.proxy(), "http://calm.shop").await;
    greet(web.proxy(), 0..NAMES).await;
    let counted = async |labels: &[(&str, &str)], expected: usize| {
        poll::until(&format!("{expected} with {labels:?}"), SOON, async || {
            let counted = pod.metrics().await.sum(COUNTED, labels);
            if counted == expected as f64 { Ok(()) } else { Err(counted) }
        })
        .await;
    };
    counted(&[], NAMES).await;
    greet(web.proxy(), NAMES..NAMES + MORE).await;
    greet(web.proxy(), 7..8).await;
    counted(&[("sni", "other")], MORE).await;
    counted(&[("sni", "n7.example")], 2).await;
    let series = pod.metrics().await.show(COUNTED).lines().count();
    assert_eq!(series, NAMES + 1);
    watch.measure();
    let what = What {
        bound: "names of TLS clients as a label, 1,000",
        how: format!("{} connections, each with a name of its own", NAMES + MORE),
        saw: "served; the last 10 are counted as `sni=\"other\"`".to_owned(),
    };
    let row = watch.end(what).await;
    assert!(row.grown() < LITTLE, "{row}");
    row
}

/// TLS clients of these numbers, each of whom gets its hello back.
async fn greet(proxy: SocketAddr, numbers: std::ops::Range<usize>) {
    let one = |number: usize| async move {
        let hello = hello::client_hello(&format!("n{number}.example"));
        let mut tunnel = client::connect(proxy, "db.shop:80").await.unwrap();
        tunnel.write_all(&hello).await.unwrap();
        tunnel.shutdown().await.unwrap();
        let mut answer = Vec::new();
        tunnel.read_to_end(&mut answer).await.unwrap();
        assert!(answer.windows(hello.len()).any(|bytes| bytes == hello), "its own words");
    };
    stream::iter(numbers).map(one).buffer_unordered(20).collect::<()>().await;
}

/// Clients that are there and say no more than HTTP/2 wants.
async fn idle() -> Row {
    const CLIENTS: usize = 9_900;
    const EACH: usize = 64 * 1024;
    // The sidecar gets the test's own limit, and keeps a second descriptor for each connection:
    // so many connections are carried where 20,000 descriptors are the most that anybody may have.
    process::raise_own_descriptors(20_000);
    let mesh = Mesh::with_objects(yaml::service("shop/api", 80, APP_PORT)).await;
    let _api = mesh.pod("shop/api").app(App::http()).start().await;
    let web = mesh.pod("shop/web").start().await;
    web.until_answered_by(API, 1).await;
    let mut watch = Watch::start(&web, "client's", web.proxy(), API).await;
    let mut clients = JoinSet::new();
    for _ in 0..CLIENTS {
        let (reader, writer) = frames::connect(web.proxy()).await.unwrap();
        clients.spawn(stay(reader, writer));
    }
    let open = [("port", "outbound")];
    poll::until_true("all of them are served", 2 * SOON, async || {
        let metrics = web.metrics().await;
        metrics.sum("pillion_connections_open", &open) >= CLIENTS as f64
    })
    .await;
    // Longer than the time between two PINGs.
    tokio::time::sleep(Duration::from_secs(15)).await;
    watch.measure();
    assert!(clients.try_join_next().is_none(), "no idle connection is closed");
    let what = What {
        bound: "idle connections",
        how: format!("{CLIENTS} in HTTP/2, with 20,000 descriptors"),
        saw: "nothing".to_owned(),
    };
    let row = watch.end(what).await;
    assert!(row.grown() < CLIENTS * EACH, "{row}");
    row
}

/// Answers what must be answered, until the connection ends.
async fn stay(mut reader: Reader, mut writer: Writer) {
    while let Ok(frame) = reader.frame().await {
        if writer.acknowledge(&frame).await.is_err() {
            return;
        }
    }
}
