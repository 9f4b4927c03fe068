//! gRPC through two sidecars: every kind of call, its trailers and its status.

use std::time::{Duration, Instant};

use futures_util::{StreamExt, stream};
use tests::app::App;
use tests::grpc::Note;
use tests::grpc::echo_client::EchoClient;
use tests::poll::{self, SOON};
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::Code;
use tonic::transport::{Channel, Endpoint};

use crate::shop::Shop;

async fn open() -> (Shop, EchoClient<Channel>) {
    let shop = Shop::with("", App::http()).await;
    let client = client_of(&shop, "http://api.shop:80").await;
    (shop, client)
}

/// HTTP/2 with prior knowledge to the sidecar, for the authority of `origin`.
async fn client_of(shop: &Shop, origin: &str) -> EchoClient<Channel> {
    let proxy = format!("http://{}", shop.web.proxy());
    let endpoint = Endpoint::from_shared(proxy).unwrap().origin(origin.parse().unwrap());
    EchoClient::new(endpoint.timeout(Duration::from_secs(60)).connect().await.unwrap())
}

fn note(text: &str) -> Note {
    Note { text: text.to_owned(), ..Note::default() }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_unary_call_is_answered_over_mutual_tls() {
    let (shop, mut client) = open().await;
    let answer = client.unary(note("hello")).await.unwrap().into_inner();
    assert_eq!((answer.text.as_str(), answer.pod.as_str()), ("hello", "api"));
    let labels = [("service", "shop/api"), ("grpc_status", "0"), ("tls", "mutual")];
    poll::until("the call is counted", SOON, async || {
        let metrics = shop.web.metrics().await;
        let counted = metrics.has("pillion_requests_total", &labels);
        counted.then_some(()).ok_or_else(|| metrics.show("pillion_requests_total"))
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_failing_call_keeps_its_status_message_and_metadata() {
    let (_shop, mut client) = open().await;
    for code in [Code::NotFound, Code::FailedPrecondition, Code::DataLoss] {
        let failing = Note { fail_with: code as u32, ..note("x") };
        let status = client.unary(failing).await.unwrap_err();
        assert_eq!(status.code(), code);
        assert_eq!(status.message(), "failing \"x\"");
        assert_eq!(status.metadata().get("x-detail").unwrap(), "as asked for");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_stream_arrives_as_it_is_sent_and_ends_with_its_trailers() {
    let (_shop, mut client) = open().await;
    let call = Note { count: 5, pause_ms: 300, fail_with: Code::Aborted as u32, ..note("tick") };
    let started = Instant::now();
    let mut stream = client.server_stream(call).await.unwrap().into_inner();
    let first = stream.message().await.unwrap().unwrap();
    assert!(started.elapsed() < Duration::from_millis(1400), "the first came with the last");
    assert_eq!(first.count, 0);
    for count in 1..5 {
        assert_eq!(stream.message().await.unwrap().unwrap().count, count);
    }
    let status = stream.message().await.unwrap_err();
    assert_eq!(status.code(), Code::Aborted);
    assert_eq!(status.metadata().get("x-detail").unwrap(), "as asked for");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_stream_is_gathered_whole() {
    let (_shop, mut client) = open().await;
    let notes = stream::iter((0..1000).map(|number| note(&number.to_string())));
    let answer = client.client_stream(notes).await.unwrap().into_inner();
    assert_eq!(answer.count, 1000);
    assert!(answer.text.starts_with("0,1,2,") && answer.text.ends_with(",999"), "{}", answer.text);
}

#[tokio::test(flavor = "multi_thread")]
async fn both_ends_can_talk_in_turns() {
    let (_shop, mut client) = open().await;
    let (send, notes) = mpsc::channel(1);
    let mut answers = client.both(ReceiverStream::new(notes)).await.unwrap().into_inner();
    for turn in 0..50 {
        let text = format!("turn {turn}");
        send.send(note(&text)).await.unwrap();
        assert_eq!(answers.message().await.unwrap().unwrap().text, text);
    }
    drop(send);
    assert!(answers.next().await.is_none(), "the end of one side ends the other");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_unknown_service_is_unavailable_with_the_code_of_the_sidecar() {
    let (shop, _) = open().await;
    let mut client = client_of(&shop, "http://nothing.shop:80").await;
    let status = client.unary(note("x")).await.unwrap_err();
    assert_eq!(status.code(), Code::Unavailable, "{status:?}");
    assert_eq!(status.metadata().get("x-pillion-error").unwrap(), "service_unknown");
}

/// What a client of gRPC tries again, where RST_STREAM is a fault of the server's for it.
#[tokio::test(flavor = "multi_thread")]
async fn a_stream_that_loses_its_application_or_its_sidecar_is_unavailable() {
    for sidecar_too in [false, true] {
        let (mut shop, mut client) = open().await;
        let call = Note { count: 1000, pause_ms: 100, ..note("tick") };
        let mut stream = client.server_stream(call).await.unwrap().into_inner();
        stream.message().await.unwrap().unwrap();
        if sidecar_too {
            shop.api.kill();
        } else {
            shop.api.stop_app();
        }
        let status = loop {
            match stream.message().await {
                Ok(message) => assert!(message.is_some(), "it never ends cleanly"),
                Err(status) => break status,
            }
        };
        assert_eq!(status.code(), Code::Unavailable, "{status:?}");
        assert!(status.message().starts_with("pillion: upstream_reset: "), "{status:?}");
        let labels = [("grpc_status", "14"), ("service", "shop/api")];
        poll::until("it is counted as what it is", SOON, async || {
            let metrics = shop.web.metrics().await;
            let counted = metrics.has("pillion_requests_total", &labels);
            counted.then_some(()).ok_or_else(|| metrics.show("pillion_requests_total"))
        })
        .await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_call_that_its_client_gives_up_ends_at_the_application_too() {
    let (shop, mut client) = open().await;
    let call = Note { count: 1000, pause_ms: 200, ..note("tick") };
    let mut stream = client.server_stream(call).await.unwrap().into_inner();
    stream.message().await.unwrap();
    drop(stream);
    poll::until("no request is under way", SOON, async || {
        let metrics = shop.api.metrics().await;
        let open = metrics.sum("pillion_requests_in_flight", &[("direction", "inbound")]);
        if open == 0.0 { Ok(()) } else { Err(open) }
    })
    .await;
}
