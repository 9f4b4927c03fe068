//! Unary gRPC.

use std::pin::Pin;

use futures_util::Stream;
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo};
use tests::grpc::Note;
use tests::grpc::echo_server::{Echo, EchoServer};
use tokio::net::TcpStream;
use tonic::codegen::Service;
use tonic::{Request, Response, Status, Streaming};

/// Bytes of an answer's text, as of nginx's.
const TEXT: usize = 100;

/// Serves a connection.
pub(super) async fn serve(stream: TcpStream) -> anyhow::Result<()> {
    let server = EchoServer::new(Application);
    let handle = service_fn(move |request| server.clone().call(request));
    let mut builder = hyper::server::conn::http2::Builder::new(TokioExecutor::new());
    builder.max_concurrent_streams(4096);
    Ok(builder.serve_connection(TokioIo::new(stream), handle).await?)
}

struct Application;

type Notes = Pin<Box<dyn Stream<Item = Result<Note, Status>> + Send>>;

#[tonic::async_trait]
impl Echo for Application {
    type ServerStreamStream = Notes;
    type BothStream = Notes;

    async fn unary(&self, _: Request<Note>) -> Result<Response<Note>, Status> {
        Ok(Response::new(Note { text: "x".repeat(TEXT), ..Note::default() }))
    }

    async fn server_stream(&self, _: Request<Note>) -> Result<Response<Notes>, Status> {
        Err(Status::unimplemented("no stream is measured"))
    }

    async fn client_stream(&self, _: Request<Streaming<Note>>) -> Result<Response<Note>, Status> {
        Err(Status::unimplemented("no stream is measured"))
    }

    async fn both(&self, _: Request<Streaming<Note>>) -> Result<Response<Notes>, Status> {
        Err(Status::unimplemented("no stream is measured"))
    }
}
