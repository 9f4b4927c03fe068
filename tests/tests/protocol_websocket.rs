//! WebSockets through two sidecars: over HTTP/1.1, and on a stream of HTTP/2 (RFC 8441) towards
//! an application that has HTTP/1.1 only. Both ends are a library's.

use bytes::Bytes;
use futures_util::{SinkExt, StreamExt};
use http::{Method, Request, Response, Version};
use hyper::body::Incoming;
use hyper::client::conn::http2::{self, SendRequest};
use hyper::ext::Protocol;
use hyper::upgrade::Upgraded;
use hyper_util::rt::{TokioExecutor, TokioIo};
use tests::app::App;
use tests::body::{self, AnyBody};
use tests::poll::{self, SOON};
use tests::streams::Streams;
use tests::talk::Talk;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio::sync::mpsc::{UnboundedReceiver, unbounded_channel};
use tokio::time::timeout;
use tokio_tungstenite::tungstenite::handshake::server;
use tokio_tungstenite::tungstenite::protocol::frame::coding::CloseCode;
use tokio_tungstenite::tungstenite::protocol::{CloseFrame, Role};
use tokio_tungstenite::tungstenite::{Error, Message};
use tokio_tungstenite::{WebSocketStream, accept_hdr_async, client_async};

use crate::shop::Shop;

const MEBIBYTE: usize = 1024 * 1024;

/// The subprotocol that clients offer and the application takes.
const SUBPROTOCOL: &str = "echo.test";

/// Sends every message back. How its clients close is told.
fn echo() -> (App, UnboundedReceiver<CloseFrame>) {
    let (tell, told) = unbounded_channel();
    let app = App::scripted(move |socket| {
        let tell = tell.clone();
        async move {
            let Ok(mut socket) = accept_hdr_async(socket, accept).await else { return };
            while let Some(Ok(message)) = socket.next().await {
                match message {
                    Message::Text(_) | Message::Binary(_) => drop(socket.send(message).await),
                    Message::Close(Some(frame)) => tell.send(frame).unwrap(),
                    // The library answers pings by itself.
                    _ => {}
                }
            }
        }
    });
    (app, told)
}

// The library's type for a refusal is large.
#[allow(clippy::result_large_err)]
fn accept(
    request: &server::Request,
    mut response: server::Response,
) -> Result<server::Response, server::ErrorResponse> {
    assert_eq!(request.uri().path(), "/talk");
    assert_eq!(request.headers()["host"], "api.shop");
    let offered = request.headers().get("sec-websocket-protocol").cloned();
    if let Some(offered) = offered {
        response.headers_mut().insert("sec-websocket-protocol", offered);
    }
    Ok(response)
}

/// The next message that is not an empty one of the library's own.
async fn next<S: AsyncRead + AsyncWrite + Unpin>(socket: &mut WebSocketStream<S>) -> Message {
    timeout(SOON, socket.next()).await.expect("a message").expect("no end").unwrap()
}

/// Text, binary, ping, a message larger than any buffer, and a close with code and reason.
async fn converse<S>(mut socket: WebSocketStream<S>, closed: &mut UnboundedReceiver<CloseFrame>)
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    let large: Vec<u8> = (0..MEBIBYTE).map(|at| (at % 251) as u8).collect();
    let messages = [
        Message::text("hello, мир"),
        Message::binary(vec![0, 1, 2, 255]),
        Message::text(""),
        Message::binary(large),
    ];
    for message in messages {
        socket.send(message.clone()).await.unwrap();
        assert!(next(&mut socket).await == message, "{} bytes come back", message.len());
    }
    socket.send(Message::Ping(Bytes::from_static(b"are you there?"))).await.unwrap();
    assert_eq!(next(&mut socket).await, Message::Pong(Bytes::from_static(b"are you there?")));

    let frame = CloseFrame { code: CloseCode::Library(4321), reason: "enough".into() };
    socket.close(Some(frame.clone())).await.unwrap();
    assert_eq!(timeout(SOON, closed.recv()).await.unwrap(), Some(frame.clone()));
    assert_eq!(next(&mut socket).await, Message::Close(Some(frame)));
    let end = timeout(SOON, socket.next()).await.expect("an end");
    assert!(end.is_none() || matches!(end, Some(Err(Error::ConnectionClosed))), "{end:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_websocket_over_http_1_1_carries_every_kind_of_message() {
    let (app, mut closed) = echo();
    let shop = Shop::with("", app).await;
    for _ in 0..2 {
        let stream = TcpStream::connect(shop.web.proxy()).await.unwrap();
        let mut request = client_request("ws://api.shop/talk");
        request.headers_mut().insert("sec-websocket-protocol", SUBPROTOCOL.parse().unwrap());
        let (socket, answer) = client_async(request, stream).await.unwrap();
        assert_eq!(answer.status(), 101);
        assert_eq!(answer.headers()["sec-websocket-protocol"], SUBPROTOCOL, "{answer:?}");
        converse(socket, &mut closed).await;
    }
}

fn client_request(url: &str) -> Request<()> {
    use tokio_tungstenite::tungstenite::client::IntoClientRequest;
    url.into_client_request().unwrap()
}

/// A connection in HTTP/2 that knows already what the sidecar offers.
async fn connect(shop: &Shop) -> SendRequest<AnyBody> {
    let socket = TcpStream::connect(shop.web.proxy()).await.unwrap();
    let handshake = http2::handshake(TokioExecutor::new(), TokioIo::new(socket));
    let (mut sender, connection) = handshake.await.unwrap();
    tokio::spawn(connection);
    let request = Request::get("http://nothing.shop/").body(body::empty()).unwrap();
    assert_eq!(sender.send_request(request).await.unwrap().status(), 502);
    sender
}

async fn extended(
    sender: &mut SendRequest<AnyBody>,
    path: &str,
    protocol: &'static str,
) -> Response<Incoming> {
    let mut request = Request::builder()
        .method(Method::CONNECT)
        .version(Version::HTTP_2)
        .uri(format!("http://api.shop{path}"))
        .header("sec-websocket-version", "13")
        .header("sec-websocket-protocol", SUBPROTOCOL)
        .body(body::empty())
        .unwrap();
    request.extensions_mut().insert(Protocol::from_static(protocol));
    timeout(SOON, sender.send_request(request)).await.expect("an answer").unwrap()
}

async fn upgraded(response: Response<Incoming>) -> WebSocketStream<TokioIo<Upgraded>> {
    let stream = timeout(SOON, hyper::upgrade::on(response)).await.unwrap().unwrap();
    WebSocketStream::from_raw_socket(TokioIo::new(stream), Role::Client, None).await
}

#[tokio::test(flavor = "multi_thread")]
async fn extended_connect_is_offered_and_a_websocket_runs_on_its_stream() {
    let (app, mut closed) = echo();
    let shop = Shop::with("", app).await;
    let raw = Streams::connect(shop.web.proxy()).await;
    poll::until_true("SETTINGS_ENABLE_CONNECT_PROTOCOL", SOON, async || {
        raw.offers_extended_connect()
    })
    .await;

    let mut sender = connect(&shop).await;
    let (mut first, second) = {
        let first = extended(&mut sender, "/talk", "websocket").await;
        let second = extended(&mut sender, "/talk", "websocket").await;
        assert_eq!((first.status().as_u16(), second.status().as_u16()), (200, 200));
        let headers = first.headers();
        assert_eq!(headers["sec-websocket-protocol"], SUBPROTOCOL, "{headers:?}");
        for name in ["sec-websocket-accept", "upgrade", "connection"] {
            assert!(!headers.contains_key(name), "RFC 8441 §5: {headers:?}");
        }
        (upgraded(first).await, upgraded(second).await)
    };
    first.send(Message::text("open")).await.unwrap();
    assert_eq!(next(&mut first).await, Message::text("open"));
    converse(second, &mut closed).await;
    // One stream's end is not the other's.
    converse(first, &mut closed).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_extended_connect_for_another_protocol_is_refused_and_harms_nobody() {
    let (app, mut closed) = echo();
    let shop = Shop::with("", app).await;
    let mut sender = connect(&shop).await;
    for protocol in ["connect-udp", "connect-ip", "h2c", "WebSocket?"] {
        let answer = extended(&mut sender, "/talk", protocol).await;
        assert!([400, 405, 501].contains(&answer.status().as_u16()), "{protocol}: {answer:?}");
    }
    let answer = extended(&mut sender, "/talk", "websocket").await;
    assert_eq!(answer.status(), 200, "{answer:?}");
    converse(upgraded(answer).await, &mut closed).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_application_without_websockets_says_so_to_an_extended_connect() {
    let shop = Shop::open().await;
    for status in [404, 426, 503, 302] {
        let stream = TcpStream::connect(shop.web.proxy()).await.unwrap();
        match client_async(format!("ws://api.shop/status/{status}"), stream).await {
            Err(Error::Http(answer)) => assert_eq!(answer.status(), status, "{answer:?}"),
            other => panic!("{status}: {other:?}"),
        }
    }
    let mut sender = connect(&shop).await;
    for status in [404, 426, 503, 302] {
        let answer = extended(&mut sender, &format!("/status/{status}"), "websocket").await;
        let (code, text) = (answer.status(), tests::client::read(answer).await.unwrap().text());
        assert_eq!(code, status, "{text}");
    }
    // A success would tell the client that it talks to the application from here on.
    let answer = extended(&mut sender, "/anything", "websocket").await;
    assert_eq!(answer.status(), 502, "{answer:?}");
    assert_eq!(answer.headers()["x-pillion-error"], "upstream_protocol_error", "{answer:?}");
}

/// Bytes of a WebSocket that end without its close, in the middle of a frame.
#[tokio::test(flavor = "multi_thread")]
async fn a_websocket_that_its_application_drops_ends_without_a_close() {
    let app = App::scripted(|socket| async move {
        let mut talk = Talk::on(socket);
        let Ok(head) = talk.head().await else { return };
        let key = head.lines().find_map(|line| line.strip_prefix("sec-websocket-key: "));
        let accept = tokio_tungstenite::tungstenite::handshake::derive_accept_key(
            key.expect("a key").as_bytes(),
        );
        let head = "HTTP/1.1 101 Switching Protocols\r\nconnection: upgrade\r\nupgrade: websocket";
        talk.say(format!("{head}\r\nsec-websocket-accept: {accept}\r\n\r\n")).await.unwrap();
        // A text of five bytes, of which three come.
        talk.say(b"\x81\x05hel").await.unwrap();
    });
    let shop = Shop::with("", app).await;
    let stream = TcpStream::connect(shop.web.proxy()).await.unwrap();
    let (mut socket, _) = client_async("ws://api.shop/", stream).await.unwrap();
    let over_http1 = timeout(SOON, socket.next()).await.expect("an end");
    assert!(matches!(over_http1, Some(Err(_))), "{over_http1:?}");
    let answer = extended(&mut connect(&shop).await, "/", "websocket").await;
    let over_http2 = timeout(SOON, upgraded(answer).await.next()).await.expect("an end");
    assert!(matches!(over_http2, Some(Err(_))), "{over_http2:?}");
}
