//! HTTP/2 and gRPC through two sidecars, stream by stream: deadlines, cancellations, resets,
//! GOAWAY and windows.

use std::future::poll_fn;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use bytes::Bytes;
use futures_util::future::join_all;
use h2::server::SendResponse;
use h2::{Reason, RecvStream};
use http::{HeaderMap, Request, Response};
use rustix::process::Signal;
use tests::app::App;
use tests::mesh::Mesh;
use tests::pod::APP_PORT;
use tests::poll::{self, SOON};
use tests::streams::{Streams, WINDOW, grpc, message, next, read, send};
use tests::yaml;
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};
use tokio::time::{sleep, timeout};

use crate::shop::{Shop, replicas};

/// A piece of what a writer writes that nobody reads.
const PIECE: usize = 16 * 1024;

/// How a stream ended at the application.
#[derive(Debug, PartialEq, Eq)]
enum End {
    Answered,
    Reset(Reason),
}

fn get(path: &str) -> Request<()> {
    Request::get(format!("http://api.shop{path}")).body(()).unwrap()
}

fn ok() -> Response<()> {
    Response::builder().header("content-type", "application/grpc").body(()).unwrap()
}

fn trailers(status: &'static str) -> HeaderMap {
    [("grpc-status".parse().unwrap(), status.parse().unwrap())].into_iter().collect()
}

/// An application that begins a call with as many messages as its path says, none for `/late`,
/// and then takes five seconds. How each of its streams ended is told.
fn slow() -> (App, UnboundedReceiver<End>) {
    let (tell, told) = unbounded_channel();
    let app = App::streams(move |request, respond| slow_call(request, respond, tell.clone()));
    (app, told)
}

async fn slow_call(
    request: Request<RecvStream>,
    mut respond: SendResponse<Bytes>,
    tell: UnboundedSender<End>,
) {
    let begun = request.uri().path().strip_prefix("/begun/").and_then(|count| count.parse().ok());
    let end = match begun {
        None => tokio::select! {
            reset = poll_fn(|cx| respond.poll_reset(cx)) => End::Reset(reset.unwrap()),
            () = sleep(Duration::from_secs(5)) => {
                let mut stream = respond.send_response(ok(), false).unwrap();
                stream.send_trailers(trailers("0")).unwrap();
                End::Answered
            }
        },
        Some(count) => {
            let mut stream = respond.send_response(ok(), false).unwrap();
            for number in 0u32..count {
                let text = format!("message {number}");
                stream.send_data(message(text.as_bytes()), false).unwrap();
            }
            tokio::select! {
                reset = poll_fn(|cx| stream.poll_reset(cx)) => End::Reset(reset.unwrap()),
                () = sleep(Duration::from_secs(5)) => {
                    stream.send_trailers(trailers("0")).unwrap();
                    End::Answered
                }
            }
        }
    };
    tell.send(end).unwrap();
}

async fn told(told: &mut UnboundedReceiver<End>) -> End {
    timeout(SOON, told.recv()).await.expect("an end at the application").unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_unary_call_whose_time_is_over_ends_with_status_4_at_both_ends() {
    let (app, mut ends) = slow();
    let shop = Shop::with("", app).await;
    let streams = Streams::connect(shop.web.proxy()).await;
    let answer = streams.call(grpc("/late", &[("grpc-timeout", "300m")])).await.unwrap();
    assert_eq!(answer.status(), 200, "{answer:?}");
    assert_eq!(answer.headers()["grpc-status"], "4", "{answer:?}");
    assert!(answer.body().is_end_stream(), "Trailers-Only: {answer:?}");
    assert_eq!(told(&mut ends).await, End::Reset(Reason::CANCEL));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stream_whose_time_is_over_brings_what_has_come_and_then_status_4() {
    let (app, mut ends) = slow();
    let shop = Shop::with("", app).await;
    let streams = Streams::connect(shop.web.proxy()).await;
    let answer = streams.call(grpc("/begun/3", &[("grpc-timeout", "700m")])).await.unwrap();
    assert_eq!(answer.headers().get("grpc-status"), None, "it has begun: {answer:?}");
    let (bytes, trailers) = read(&mut answer.into_body()).await.unwrap();
    let sent: Vec<u8> =
        (0..3).flat_map(|number| message(format!("message {number}").as_bytes())).collect();
    assert_eq!(bytes, sent);
    let trailers = trailers.expect("trailers");
    assert_eq!(trailers["grpc-status"], "4", "{trailers:?}");
    assert_eq!(told(&mut ends).await, End::Reset(Reason::CANCEL));
}

/// The client may be in a hurry; that is no fault of the endpoint's.
#[tokio::test(flavor = "multi_thread")]
async fn calls_whose_clients_do_not_wait_eject_nobody() {
    let mesh = Mesh::with_objects(yaml::service("shop/api", 80, APP_PORT)).await;
    let (mut pods, mut ends) = (Vec::new(), Vec::new());
    for name in ["api-1", "api-2"] {
        let (app, told) = slow();
        pods.push(mesh.pod("shop/api").instance(name).app(app).start().await);
        ends.push(told);
    }
    let web = mesh.pod("shop/web").start().await;
    web.until_known("api.shop:80").await;
    let streams = Streams::connect(web.proxy()).await;
    for _ in 0..24 {
        let call = grpc("/late", &[("grpc-timeout", "20m")]);
        assert_eq!(streams.call(call).await.unwrap().headers()["grpc-status"], "4");
    }
    let metrics = web.metrics().await;
    let ended = [("grpc_status", "4"), ("error", "request_timeout")];
    assert_eq!(metrics.sum("pillion_requests_total", &ended), 24.0);
    assert_eq!(metrics.sum("pillion_ejections_total", &[]), 0.0);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_streams_of_one_connection_are_balanced_one_by_one() {
    let (web, pods, _mesh) = replicas("", &["api-1", "api-2"]).await;
    let before: Vec<usize> = pods.iter().map(|pod| pod.app().requests()).collect();
    let streams = Streams::connect(web.proxy()).await;
    // At the same time: one by one they may all go to the quickest.
    let answers = join_all((0..40).map(|_| streams.ask(get("/delay/300")))).await;
    for answer in answers {
        assert_eq!(answer.unwrap().status(), 200);
    }
    for (pod, before) in pods.iter().zip(before) {
        let got = pod.app().requests() - before;
        assert!(got >= 5, "{} got {got} of 40", pod.name());
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stream_that_its_client_resets_is_reset_at_the_application() {
    let (app, mut ends) = slow();
    let shop = Shop::with("", app).await;
    let streams = Streams::connect(shop.web.proxy()).await;
    let (answer, mut stream) = streams.open(grpc("/begun/1", &[])).await;
    let mut answer = timeout(SOON, answer).await.unwrap().unwrap();
    assert_eq!(next(answer.body_mut()).await.unwrap().unwrap(), message(b"message 0"));
    stream.send_reset(Reason::CANCEL);
    assert_eq!(told(&mut ends).await, End::Reset(Reason::CANCEL), "after it was answered");

    let (answer, mut stream) = streams.open(grpc("/late", &[])).await;
    let inbound = [("direction", "inbound")];
    poll::until_true("the call is under way", SOON, async || {
        shop.api.metrics().await.sum("pillion_requests_in_flight", &inbound) >= 1.0
    })
    .await;
    stream.send_reset(Reason::CANCEL);
    drop(answer);
    assert_eq!(told(&mut ends).await, End::Reset(Reason::CANCEL), "before it was answered");
}

/// An application that resets each stream for the reason in its path: at once, or after a
/// beginning.
fn resetting() -> App {
    App::streams(|request, mut respond| async move {
        let path = request.uri().path().to_owned();
        let (begun, reason) = path.trim_start_matches('/').split_once('/').unwrap();
        let reason = Reason::from(reason.parse::<u32>().unwrap());
        if begun == "begun" {
            let mut stream = respond.send_response(ok(), false).unwrap();
            stream.send_data(message(b"a beginning"), false).unwrap();
            // Time for it to be sent.
            sleep(Duration::from_millis(200)).await;
            stream.send_reset(reason);
        } else {
            respond.send_reset(reason);
        }
    })
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stream_that_the_application_resets_never_ends_cleanly() {
    let shop = Shop::with("", resetting()).await;
    let streams = Streams::connect(shop.web.proxy()).await;
    for reason in [Reason::CANCEL, Reason::INTERNAL_ERROR, Reason::ENHANCE_YOUR_CALM] {
        let path = format!("/begun/{}", u32::from(reason));
        let answer = streams.call(grpc(&path, &[])).await.unwrap();
        assert_eq!(answer.status(), 200);
        let mut body = answer.into_body();
        assert_eq!(next(&mut body).await.unwrap().unwrap(), message(b"a beginning"));
        let error = read(&mut body).await.expect_err("a clean end");
        assert!(error.is_reset() && error.is_remote(), "{reason:?}: {error:?}");
    }
    for reason in [Reason::CANCEL, Reason::INTERNAL_ERROR, Reason::REFUSED_STREAM] {
        let path = format!("/never/{}", u32::from(reason));
        let answer = streams.call(grpc(&path, &[])).await.unwrap();
        assert_eq!(answer.headers()["grpc-status"], "14", "{reason:?}: {answer:?}");
        let answer = streams.ask(get(&path)).await.unwrap();
        assert!([502, 503].contains(&answer.status().as_u16()), "{reason:?}: {answer:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stream_that_runs_when_its_sidecar_leaves_finishes_after_goaway() {
    let (tell, ended) = tokio::sync::watch::channel(false);
    let app = App::streams(move |_, mut respond| {
        let mut ended = ended.clone();
        async move {
            let mut stream = respond.send_response(ok(), false).unwrap();
            stream.send_data(message(b"before"), false).unwrap();
            ended.wait_for(|ended| *ended).await.unwrap();
            stream.send_data(message(b"after"), false).unwrap();
            stream.send_trailers(trailers("0")).unwrap();
        }
    });
    let shop = Shop::with("", app).await;
    let streams = Streams::connect(shop.web.proxy()).await;
    let mut body = streams.call(grpc("/stream", &[])).await.unwrap().into_body();
    assert_eq!(next(&mut body).await.unwrap().unwrap(), message(b"before"));
    shop.web.sidecar().signal(Signal::TERM);
    poll::until_true("GOAWAY", SOON, async || streams.is_leaving().await).await;
    assert!(shop.web.sidecar().ended().is_none(), "the stream still runs");
    tell.send(true).unwrap();
    let (rest, trailers) = read(&mut body).await.unwrap();
    assert_eq!(rest, message(b"after"));
    assert_eq!(trailers.unwrap()["grpc-status"], "0");
    assert_eq!(shop.web.terminate(SOON).await.code(), Some(0));
}

/// All that may be on the way of one stream: both sidecars' windows and buffers on each hop, and
/// the sockets'. Without windows it would be all that there is.
const ON_THE_WAY: usize = 8 * 1024 * 1024;

/// More than may be on the way.
const MUCH: usize = 64 * 1024 * 1024;

async fn write_much(stream: &mut h2::SendStream<Bytes>, written: &AtomicUsize) -> bool {
    for _ in 0..MUCH / PIECE {
        if send(stream, Bytes::from_static(&[b'a'; PIECE]), false).await.is_err() {
            return false;
        }
        written.fetch_add(PIECE, Ordering::SeqCst);
    }
    stream.send_data(Bytes::new(), true).is_ok()
}

/// Waits until nothing is written any more, and says how much was.
async fn until_stopped(written: &AtomicUsize) -> usize {
    poll::until("the writer is stopped", SOON, async || {
        let before = written.load(Ordering::SeqCst);
        sleep(Duration::from_millis(500)).await;
        let now = written.load(Ordering::SeqCst);
        if now == before && now > 0 { Ok(now) } else { Err(now) }
    })
    .await
}

/// `/much` is answered with much, `/take` is taken once that is let, all else is answered.
fn streaming(written: &Arc<AtomicUsize>, take: &tokio::sync::watch::Receiver<bool>) -> App {
    let (written, take) = (Arc::clone(written), take.clone());
    App::streams(move |request, mut respond| {
        let (written, mut take) = (Arc::clone(&written), take.clone());
        async move {
            match request.uri().path() {
                "/much" => {
                    let mut stream = respond.send_response(Response::new(()), false).unwrap();
                    write_much(&mut stream, &written).await;
                }
                "/take" => {
                    take.wait_for(|take| *take).await.unwrap();
                    let read = read(&mut request.into_body()).await.unwrap().0.len();
                    let answer = Response::builder().header("x-read", read).body(()).unwrap();
                    respond.send_response(answer, true).unwrap();
                }
                _ => drop(respond.send_response(Response::new(()), true).unwrap()),
            }
        }
    })
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_that_does_not_read_stops_the_writer_and_no_other_stream() {
    let (written, (_let, take)) = (Arc::default(), tokio::sync::watch::channel(false));
    let shop = Shop::with("", streaming(&written, &take)).await;
    let streams = Streams::connect(shop.web.proxy()).await;
    let unread = streams.ask(get("/much")).await.unwrap();
    let stopped = until_stopped(&written).await;
    assert!((WINDOW as usize..ON_THE_WAY).contains(&stopped), "stopped after {stopped} bytes");
    for _ in 0..50 {
        assert_eq!(streams.ask(get("/other")).await.unwrap().status(), 200);
    }
    assert_eq!(written.load(Ordering::SeqCst), stopped);
    let (bytes, _) = read(&mut unread.into_body()).await.unwrap();
    assert_eq!(bytes.len(), MUCH, "and it goes on where it stopped");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_application_that_does_not_read_stops_the_client_and_no_other_stream() {
    let (let_it, take) = tokio::sync::watch::channel(false);
    let shop = Shop::with("", streaming(&Arc::default(), &take)).await;
    let streams = Streams::connect(shop.web.proxy()).await;
    let post = Request::post("http://api.shop/take").body(()).unwrap();
    let (answer, mut stream) = streams.open(post).await;
    let written = Arc::new(AtomicUsize::new(0));
    let counted = Arc::clone(&written);
    let writing = tokio::spawn(async move { write_much(&mut stream, &counted).await });
    let stopped = until_stopped(&written).await;
    assert!(stopped < ON_THE_WAY, "stopped after {stopped} bytes");
    for _ in 0..50 {
        assert_eq!(streams.ask(get("/other")).await.unwrap().status(), 200);
    }
    let_it.send(true).unwrap();
    let answer = timeout(2 * SOON, answer).await.expect("an answer").unwrap();
    assert_eq!(answer.headers()["x-read"], MUCH.to_string());
    assert!(writing.await.unwrap());
}

/// As in HTTP/1.1, and the end of the stream comes with the head.
#[tokio::test(flavor = "multi_thread")]
async fn answers_that_have_no_body_keep_their_content_length() {
    let app = App::streams(|request, mut respond| async move {
        let answer = match request.uri().path() {
            "/304" => Response::builder().status(304).header("content-length", "1234"),
            "/204" => Response::builder().status(204),
            _ => Response::builder().header("content-length", "1234"),
        };
        respond.send_response(answer.body(()).unwrap(), true).unwrap();
    });
    let shop = Shop::with("", app).await;
    let streams = Streams::connect(shop.web.proxy()).await;
    let cases = [
        ("GET", "/304", 304, Some("1234")),
        ("HEAD", "/304", 304, Some("1234")),
        ("GET", "/204", 204, None),
        ("HEAD", "/", 200, Some("1234")),
    ];
    for (method, path, status, length) in cases {
        let request = Request::builder().method(method).uri(format!("http://api.shop{path}"));
        let answer = streams.ask(request.body(()).unwrap()).await.unwrap();
        let got = answer.headers().get("content-length").map(|length| length.to_str().unwrap());
        assert_eq!((answer.status().as_u16(), got), (status, length), "{method} {path}");
        assert!(answer.body().is_end_stream(), "{method} {path}: {answer:?}");
    }
    let unknown = Request::head("http://nobody.shop/").body(()).unwrap();
    let answer = streams.ask(unknown).await.unwrap();
    assert_eq!(answer.headers()["x-pillion-error"], "service_unknown");
    assert!(answer.body().is_end_stream(), "an error that answers HEAD: {answer:?}");
}
