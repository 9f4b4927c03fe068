//! A sink of uploads: HTTP/1.1.

use http::{Request, Response};
use hyper::body::{Body, Incoming};
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use tokio::net::TcpStream;

/// Serves a connection: each response says how many bytes the request had.
pub(super) async fn serve(stream: TcpStream) -> anyhow::Result<()> {
    let builder = hyper::server::conn::http1::Builder::new();
    Ok(builder.serve_connection(TokioIo::new(stream), service_fn(count)).await?)
}

async fn count(request: Request<Incoming>) -> Result<Response<String>, hyper::Error> {
    let (mut body, mut sum) = (std::pin::pin!(request.into_body()), 0);
    while let Some(frame) = std::future::poll_fn(|cx| body.as_mut().poll_frame(cx)).await {
        sum += frame?.data_ref().map_or(0, |data| data.len());
    }
    Ok(Response::new(sum.to_string()))
}
