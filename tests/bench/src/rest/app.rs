//! The application behind the sidecars that are measured: it says the same bytes every time, in
//! whatever its client speaks.

use bytes::Bytes;
use h2::RecvStream;
use h2::server::SendResponse;
use http::header::{CONTENT_TYPE, HeaderMap, HeaderValue};
use http::{Request, Response};
use tests::app::App;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

/// The body of every answer in HTTP.
pub(crate) const BODY: &str = "hello, world\n";

/// The media type of gRPC's messages.
pub(crate) const GRPC: &str = "application/grpc";

/// A message of gRPC: not compressed, its length, and a text as field 1.
pub(crate) const MESSAGE: &[u8] = b"\0\0\0\0\x0e\x0a\x0chello, world";

/// HTTP/1.1, HTTP/2 and gRPC on one port, and an echo for anything else.
pub(crate) fn app() -> App {
    App::scripted(|socket| async move {
        // How a client ends its connection is its own business.
        let _ = serve(socket).await;
    })
}

async fn serve(socket: TcpStream) -> anyhow::Result<()> {
    socket.set_nodelay(true)?;
    let mut start = [0; 3];
    while socket.peek(&mut start).await? < start.len() {
        socket.readable().await?;
    }
    match &start {
        b"PRI" => streams(socket).await,
        b"GET" => requests(socket).await,
        _ => echo(socket).await,
    }
}

async fn requests(mut socket: TcpStream) -> anyhow::Result<()> {
    let length = BODY.len();
    let answer = format!(
        "HTTP/1.1 200 OK\r\ncontent-type: text/plain\r\ncontent-length: {length}\r\n\r\n{BODY}"
    );
    let mut head = Vec::new();
    while socket.read_buf(&mut head).await? > 0 {
        if head.ends_with(b"\r\n\r\n") {
            head.clear();
            socket.write_all(answer.as_bytes()).await?;
        }
    }
    Ok(())
}

async fn streams(socket: TcpStream) -> anyhow::Result<()> {
    let mut connection = h2::server::handshake(socket).await?;
    while let Some(accepted) = connection.accept().await {
        let (request, respond) = accepted?;
        tokio::spawn(async move {
            // As above.
            let _ = answer(request, respond).await;
        });
    }
    Ok(())
}

async fn answer(
    request: Request<RecvStream>,
    mut respond: SendResponse<Bytes>,
) -> Result<(), h2::Error> {
    let is_grpc = request.headers().get(CONTENT_TYPE).is_some_and(|value| value == GRPC);
    let mut body = request.into_body();
    while let Some(bytes) = body.data().await {
        body.flow_control().release_capacity(bytes?.len())?;
    }
    let mut response = Response::new(());
    let media_type = if is_grpc { GRPC } else { "text/plain" };
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static(media_type));
    let mut stream = respond.send_response(response, false)?;
    if is_grpc {
        stream.send_data(Bytes::from_static(MESSAGE), false)?;
        let status = ("grpc-status", "0");
        let trailers = [status].map(|(name, value)| {
            (http::HeaderName::from_static(name), HeaderValue::from_static(value))
        });
        stream.send_trailers(HeaderMap::from_iter(trailers))
    } else {
        stream.send_data(Bytes::from_static(BODY.as_bytes()), true)
    }
}

async fn echo(mut socket: TcpStream) -> anyhow::Result<()> {
    let (mut reader, mut writer) = socket.split();
    tokio::io::copy(&mut reader, &mut writer).await?;
    Ok(())
}
