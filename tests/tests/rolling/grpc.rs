//! gRPC calls that tell what was never sent from what is lost.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll};
use std::time::Duration;

use anyhow::{anyhow, ensure};
use futures_util::FutureExt;
use futures_util::future::BoxFuture;
use http::{Request, Response};
use http_body_util::BodyExt;
use hyper::body::Incoming;
use tests::body;
use tests::grpc::Note;
use tests::grpc::echo_client::EchoClient;
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::codegen::Service;
use tonic::{Status, Streaming};

use super::clients::Http2;
use super::persist::{Failed, persist};
use crate::shop::API;

/// The pause between two notes of a stream.
const PAUSE: Duration = Duration::from_millis(200);

/// One call's way to the sidecar.
#[derive(Clone)]
struct Way {
    http2: Arc<Http2>,
    never_sent: Arc<AtomicBool>,
}

impl Service<Request<tonic::body::Body>> for Way {
    type Response = Response<Incoming>;
    type Error = body::Error;
    type Future = BoxFuture<'static, Result<Response<Incoming>, body::Error>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), body::Error>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<tonic::body::Body>) -> Self::Future {
        let way = self.clone();
        let request = request.map(|body| body.map_err(Into::into).boxed_unsync());
        async move {
            way.http2.send(request).await.map_err(|failed| match failed {
                Failed::NeverSent(why) => {
                    way.never_sent.store(true, Ordering::Relaxed);
                    why.into()
                }
                Failed::Lost(error) => error.into(),
            })
        }
        .boxed()
    }
}

/// The head of a call's answer, whose status says what is wrong with it.
async fn call<T, F>(
    http2: &Arc<Http2>,
    mut begin: impl FnMut(EchoClient<Way>) -> F,
) -> anyhow::Result<T>
where
    F: Future<Output = Result<tonic::Response<T>, Status>>,
{
    persist(|| {
        let never_sent = Arc::<AtomicBool>::default();
        let way = Way { http2: Arc::clone(http2), never_sent: Arc::clone(&never_sent) };
        let answer = begin(EchoClient::with_origin(way, API.parse().unwrap()));
        async move {
            match answer.await {
                Ok(response) => Ok(response.into_inner()),
                Err(status) if never_sent.load(Ordering::Relaxed) => {
                    Err(Failed::NeverSent(status.to_string()))
                }
                Err(status) => Err(Failed::Lost(anyhow!("{status:?}"))),
            }
        }
    })
    .await
}

/// One note, one answer.
pub(super) async fn unary(http2: &Arc<Http2>, number: u64) -> anyhow::Result<()> {
    let note = note(number, 0);
    let answer = call(http2, |mut client| {
        let note = note.clone();
        async move { client.unary(note).await }
    })
    .await?;
    ensure!(answer.text == note.text, "{answer:?} to {note:?}");
    Ok(())
}

/// One note, answered again and again for `length`.
pub(super) async fn server_stream(
    http2: &Arc<Http2>,
    number: u64,
    length: Duration,
) -> anyhow::Result<()> {
    let notes = turns(length);
    let pause_ms = u32::try_from(PAUSE.as_millis())?;
    let asked = Note { count: notes, pause_ms, ..note(number, 0) };
    let mut answers = call(http2, |mut client| {
        let asked = asked.clone();
        async move { client.server_stream(asked).await }
    })
    .await?;
    for turn in 0..notes {
        expect(&mut answers, &asked.text, turn).await?;
    }
    let after = answers.message().await.map_err(|status| anyhow!("at the end: {status:?}"))?;
    ensure!(after.is_none(), "{after:?} after the end");
    Ok(())
}

/// Notes and answers in turns for `length`.
pub(super) async fn both_ways(
    http2: &Arc<Http2>,
    number: u64,
    length: Duration,
) -> anyhow::Result<()> {
    let mut say = None;
    let mut answers = call(http2, |mut client| {
        let (sender, notes) = mpsc::channel(1);
        say = Some(sender);
        async move { client.both(ReceiverStream::new(notes)).await }
    })
    .await?;
    let say = say.expect("a call was begun");
    for turn in 0..turns(length) {
        let note = note(number, turn);
        say.send(note.clone()).await.map_err(|_| anyhow!("nobody listens at turn {turn}"))?;
        expect(&mut answers, &note.text, turn).await?;
        tokio::time::sleep(PAUSE).await;
    }
    drop(say);
    let after = answers.message().await.map_err(|status| anyhow!("at the end: {status:?}"))?;
    ensure!(after.is_none(), "{after:?} after the end");
    Ok(())
}

async fn expect(answers: &mut Streaming<Note>, text: &str, turn: u32) -> anyhow::Result<()> {
    let answer = answers.message().await.map_err(|status| anyhow!("turn {turn}: {status:?}"))?;
    let right = answer.as_ref().is_some_and(|note| note.text == text && note.count == turn);
    ensure!(right, "{answer:?} at turn {turn} of {text}");
    Ok(())
}

fn turns(length: Duration) -> u32 {
    u32::try_from(length.as_millis() / PAUSE.as_millis()).unwrap()
}

fn note(number: u64, count: u32) -> Note {
    Note { text: format!("note {number}"), count, ..Note::default() }
}
