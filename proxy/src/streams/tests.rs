//! Clients of HTTP/2 who are waited for, and one who asks too much, in frames as they are.

use std::future::{pending, poll_fn, ready};
use std::pin::Pin;

use bytes::Bytes;
use http_body::Body as _;
use model::code::ErrorCode;
use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream, duplex};
use tokio::task::JoinHandle;
use tokio::time::{sleep, timeout};

use super::*;
use crate::body::BodyError;
use crate::error::ProxyError;
use crate::upload::Upload;

const LIMIT: Duration = Duration::from_millis(300);

const DATA: u8 = 0;
const HEADERS: u8 = 1;
const RST_STREAM: u8 = 3;
const SETTINGS: u8 = 4;
const PING: u8 = 6;
const GOAWAY: u8 = 7;
const WINDOW_UPDATE: u8 = 8;

fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let length = (payload.len() as u32).to_be_bytes();
    let head = [&length[1..], &[kind, flags], &stream.to_be_bytes()].concat();
    [head.as_slice(), payload].concat()
}

/// `:method` (2 for GET, 3 for POST), `:scheme` http, `:path` / and what `more` says.
fn open(method: u8, end: bool, more: &[u8]) -> Vec<u8> {
    let fields = [&[0x80 | method, 0x86, 0x84], more].concat();
    frame(HEADERS, 4 | u8::from(end), 1, &fields)
}

/// A client of a server that answers with a mebibyte, or when the body of the request has ended.
async fn client(
    window: u32,
    buffer: usize,
) -> (DuplexStream, JoinHandle<Result<(), http2::Error>>) {
    client_until(pending(), window, buffer).await
}

/// As [`client`], of a server that leaves when `leave` resolves.
async fn client_until(
    leave: impl Future<Output = ()> + Send + 'static,
    window: u32,
    buffer: usize,
) -> (DuplexStream, JoinHandle<Result<(), http2::Error>>) {
    let (mut client, server) = duplex(buffer);
    let limits = Limits { reader: LIMIT, body: LIMIT, ..Limits::CLIENT };
    let served = tokio::spawn(serve(limits, server, leave, answer));
    let settings = [&[0, 4], window.to_be_bytes().as_slice()].concat();
    client.write_all(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n").await.unwrap();
    client.write_all(&frame(SETTINGS, 0, 0, &settings)).await.unwrap();
    (client, served)
}

async fn answer(request: Request<Received>) -> Response<Body> {
    let (parts, body) = request.into_parts();
    if body.is_end_stream() {
        return Response::new(Body::full(Bytes::from(vec![b'a'; 1024 * 1024])));
    }
    let mut body = Upload::new(body, &parts);
    while let Some(frame) = poll_fn(|cx| Pin::new(&mut body).poll_frame(cx)).await {
        match frame {
            Ok(_) => {}
            Err(error @ BodyError::Idle(_)) => {
                return ProxyError::new(error.code(), error.to_string()).response(false);
            }
            Err(_) => return ProxyError::new(ErrorCode::Internal, "").response(false),
        }
    }
    Response::new(Body::full(Bytes::from_static(b"whole")))
}

/// The next frame of this kind: its flags and payload.
async fn next(client: &mut DuplexStream, wanted: u8) -> (u8, Vec<u8>) {
    let found = async {
        loop {
            let mut head = [0; 9];
            client.read_exact(&mut head).await.unwrap();
            let length = u32::from_be_bytes([0, head[0], head[1], head[2]]);
            let mut payload = vec![0; length as usize];
            client.read_exact(&mut payload).await.unwrap();
            if head[3] == wanted {
                return (head[4], payload);
            }
        }
    };
    timeout(30 * LIMIT, found).await.unwrap()
}

#[tokio::test]
async fn a_response_that_nobody_reads_is_reset() {
    let (mut client, _served) = client(0, 1 << 20).await;
    client.write_all(&open(2, true, &[])).await.unwrap();
    assert_eq!(next(&mut client, RST_STREAM).await.1, [0, 0, 0, 8]);
}

#[tokio::test]
async fn one_that_is_read_slowly_is_not() {
    let (mut client, _served) = client(0, 1 << 20).await;
    client.write_all(&open(2, true, &[])).await.unwrap();
    let update = [
        frame(WINDOW_UPDATE, 0, 1, &[0, 0x20, 0, 0]),
        frame(WINDOW_UPDATE, 0, 0, &[0, 0x20, 0, 0]),
    ];
    sleep(LIMIT / 2).await;
    client.write_all(&update.concat()).await.unwrap();
    let mut read = 0;
    loop {
        let (flags, payload) = next(&mut client, DATA).await;
        read += payload.len();
        if flags & 1 == 1 {
            break;
        }
    }
    assert_eq!(read, 1024 * 1024);
}

#[tokio::test]
async fn a_connection_that_nobody_reads_ends() {
    let (mut client, served) = client(0x7fff_ffff, 1024).await;
    client.write_all(&open(2, true, &[])).await.unwrap();
    let ended = timeout(30 * LIMIT, served).await.unwrap().unwrap();
    assert!(ended.is_err(), "it ended with an error");
}

#[tokio::test]
async fn a_body_that_does_not_come_is_not_waited_for() {
    let (mut client, _served) = client(65_535, 1 << 20).await;
    client.write_all(&open(3, false, &[])).await.unwrap();
    client.write_all(&frame(DATA, 0, 1, b"abc")).await.unwrap();
    let (_, text) = next(&mut client, DATA).await;
    assert!(text.starts_with(b"pillion: body_timeout"), "{}", text.escape_ascii());
    assert_eq!(next(&mut client, RST_STREAM).await.1, [0; 4], "the rest is not wanted");
}

#[tokio::test]
async fn a_conversation_may_be_silent() {
    let (mut client, _served) = client(65_535, 1 << 20).await;
    let grpc = [&[0x0f, 0x10, 16], b"application/grpc".as_slice()].concat();
    client.write_all(&open(3, false, &grpc)).await.unwrap();
    sleep(3 * LIMIT).await;
    client.write_all(&frame(DATA, 1, 1, b"abc")).await.unwrap();
    assert_eq!(next(&mut client, DATA).await.1, b"whole");
}

#[tokio::test]
async fn one_who_comes_while_we_leave_may_ask_once() {
    let (mut client, _served) = client_until(ready(()), 65_535, 1 << 20).await;
    let early = timeout(LIMIT, next(&mut client, GOAWAY)).await;
    assert!(early.is_err(), "it has not asked yet");
    client.write_all(&open(2, true, &[])).await.unwrap();
    next(&mut client, GOAWAY).await;
    assert!(!next(&mut client, DATA).await.1.is_empty());
}

#[tokio::test]
async fn one_who_comes_while_we_leave_and_asks_nothing_is_told_to_go() {
    let (mut client, _served) = client_until(ready(()), 65_535, 1 << 20).await;
    next(&mut client, GOAWAY).await;
}

#[tokio::test]
async fn who_asks_too_much_is_told_to_be_calm() {
    let (client, _served) = client(65_535, 1 << 20).await;
    let (mut read, mut write) = tokio::io::split(client);
    tokio::spawn(async move {
        let _ = write.write_all(&frame(PING, 0, 0, &[0; 8]).repeat(20_000)).await;
        pending::<()>().await;
    });
    let mut bytes = Vec::new();
    let _ = timeout(30 * LIMIT, read.read_to_end(&mut bytes)).await.unwrap();
    let reason = [0, 0, 0, 11].as_slice();
    let last = &bytes[bytes.windows(4).rposition(|bytes| bytes == reason).unwrap() - 13..];
    assert_eq!(last[3], GOAWAY, "{}", last.escape_ascii());
    let pongs = bytes.windows(9).filter(|bytes| *bytes == [0, 0, 8, PING, 1, 0, 0, 0, 0]).count();
    assert!(pongs > 5_000, "{pongs} were answered before");
}
