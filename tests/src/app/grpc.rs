//! The gRPC application: one call of each kind (`proto/echo.proto`).

use std::pin::Pin;
use std::time::Duration;

use futures_util::{Stream, StreamExt, stream};
use http::header::CONTENT_TYPE;
use http::{HeaderMap, Request, Response};
use http_body_util::BodyExt;
use hyper::body::Incoming;
use tonic::codegen::Service;
use tonic::{Code, Status, Streaming};

use crate::body::AnyBody;
use crate::grpc::Note;
use crate::grpc::echo_server::{Echo, EchoServer};

/// Trailing metadata that a failing call carries.
const DETAIL: (&str, &str) = ("x-detail", "as asked for");

type Notes = Pin<Box<dyn Stream<Item = Result<Note, Status>> + Send>>;

/// Whether a request is a gRPC call.
pub(super) fn is_grpc(headers: &HeaderMap) -> bool {
    headers.get(CONTENT_TYPE).is_some_and(|value| value.as_bytes().starts_with(b"application/grpc"))
}

/// Answers a call.
pub(super) async fn answer(request: Request<Incoming>, pod: &str) -> Response<AnyBody> {
    let mut server = EchoServer::new(Application { pod: pod.to_owned() });
    let response = server.call(request).await.unwrap_or_else(|never| match never {});
    response.map(|body| body.map_err(Into::into).boxed_unsync())
}

struct Application {
    pod: String,
}

impl Application {
    fn reply(&self, note: Note) -> Note {
        Note { pod: self.pod.clone(), ..note }
    }
}

/// The failure that a note asks for.
fn failure(note: &Note) -> Option<Status> {
    let code = i32::try_from(note.fail_with).ok().filter(|code| *code != 0)?;
    let mut status = Status::new(Code::from(code), format!("failing {:?}", note.text));
    status.metadata_mut().insert(DETAIL.0, DETAIL.1.parse().unwrap());
    Some(status)
}

#[tonic::async_trait]
impl Echo for Application {
    type ServerStreamStream = Notes;
    type BothStream = Notes;

    async fn unary(&self, request: tonic::Request<Note>) -> Result<tonic::Response<Note>, Status> {
        let note = request.into_inner();
        match failure(&note) {
            Some(status) => Err(status),
            None => Ok(tonic::Response::new(self.reply(note))),
        }
    }

    async fn server_stream(
        &self,
        request: tonic::Request<Note>,
    ) -> Result<tonic::Response<Notes>, Status> {
        let note = self.reply(request.into_inner());
        let pause = Duration::from_millis(note.pause_ms.into());
        let end = stream::iter(failure(&note).map(Err));
        let notes = stream::iter(0..note.count).then(move |count| {
            let note = Note { count, ..note.clone() };
            async move {
                tokio::time::sleep(pause).await;
                Ok(note)
            }
        });
        Ok(tonic::Response::new(notes.chain(end).boxed()))
    }

    async fn client_stream(
        &self,
        request: tonic::Request<Streaming<Note>>,
    ) -> Result<tonic::Response<Note>, Status> {
        let mut notes = request.into_inner();
        let mut texts = Vec::new();
        while let Some(note) = notes.message().await? {
            texts.push(note.text);
        }
        let count = u32::try_from(texts.len()).unwrap();
        let note = Note { text: texts.join(","), count, ..Note::default() };
        Ok(tonic::Response::new(self.reply(note)))
    }

    async fn both(
        &self,
        request: tonic::Request<Streaming<Note>>,
    ) -> Result<tonic::Response<Notes>, Status> {
        let pod = self.pod.clone();
        let notes = request.into_inner().map(move |note| {
            let note = note?;
            match failure(&note) {
                Some(status) => Err(status),
                None => Ok(Note { pod: pod.clone(), ..note }),
            }
        });
        Ok(tonic::Response::new(notes.boxed()))
    }
}
