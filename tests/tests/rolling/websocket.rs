//! A WebSocket through the sidecar (RFC 6455): opened, some echoes, closed in order.

use std::io;
use std::net::SocketAddr;
use std::time::Duration;

use anyhow::{Context, ensure};
use tests::client::converse;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use super::persist::Failed;
use crate::shop::API;

/// Key and mask are for proxies that do not know WebSockets; any will do.
const KEY: &str = "dGhlIHNhbXBsZSBub25jZQ==";
const MASK: [u8; 4] = [0x37, 0xfa, 0x21, 0x3d];

const TEXT: u8 = 0x81;
const CLOSE: u8 = 0x88;

/// An open WebSocket to the application, which sends back every byte.
pub(super) async fn open(proxy: SocketAddr) -> Result<TcpStream, Failed> {
    let host = API.trim_start_matches("http://");
    let head = format!(
        "GET /upgrade HTTP/1.1\r\nhost: {host}\r\nconnection: Upgrade\r\nupgrade: websocket\r\n\
         sec-websocket-version: 13\r\nsec-websocket-key: {KEY}\r\n\r\n"
    );
    match converse(proxy, &head).await {
        Ok((answer, socket)) if answer.starts_with("HTTP/1.1 101 ") => Ok(socket),
        Ok((answer, _)) => Err(Failed::Lost(anyhow::anyhow!("no 101: {answer}"))),
        Err(error) if is_refused(&error) => Err(Failed::NeverSent(error.to_string())),
        Err(error) => Err(Failed::Lost(error)),
    }
}

/// Only a connect is refused.
fn is_refused(error: &anyhow::Error) -> bool {
    let io = error.downcast_ref::<io::Error>();
    io.is_some_and(|error| error.kind() == io::ErrorKind::ConnectionRefused)
}

/// Talks for `length`, and closes.
pub(super) async fn talk(
    mut socket: TcpStream,
    number: u64,
    length: Duration,
) -> anyhow::Result<()> {
    let end = tokio::time::Instant::now() + length;
    for turn in 0.. {
        echo(&mut socket, &frame(TEXT, format!("{number}, turn {turn}").as_bytes()))
            .await
            .with_context(|| format!("turn {turn}"))?;
        if tokio::time::Instant::now() >= end {
            break;
        }
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
    echo(&mut socket, &frame(CLOSE, &1000_u16.to_be_bytes())).await.context("the close")?;
    socket.shutdown().await?;
    let mut rest = Vec::new();
    socket.read_to_end(&mut rest).await.context("the end")?;
    ensure!(rest.is_empty(), "{rest:?} after the close");
    Ok(())
}

async fn echo(socket: &mut TcpStream, frame: &[u8]) -> anyhow::Result<()> {
    socket.write_all(frame).await?;
    let mut answer = vec![0; frame.len()];
    socket.read_exact(&mut answer).await?;
    ensure!(answer == frame, "{answer:?} is not {frame:?}");
    Ok(())
}

/// A masked frame of less than 126 bytes (RFC 6455 §5.2).
fn frame(opcode: u8, payload: &[u8]) -> Vec<u8> {
    let mut frame = vec![opcode, 0x80 | u8::try_from(payload.len()).unwrap()];
    frame.extend(MASK);
    frame.extend(payload.iter().zip(MASK.iter().cycle()).map(|(byte, mask)| byte ^ mask));
    frame
}
