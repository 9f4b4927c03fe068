//! A conversation with the TCP server that speaks first, by CONNECT through the proxy.

use std::io;
use std::net::SocketAddr;
use std::time::Duration;

use tokio::io::{AsyncBufRead, AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::TcpStream;

/// Where the conversation goes.
pub(crate) const TARGET: &str = "echo.demo:7";

/// What the client says, line by line.
const LINES: [&str; 3] = ["how are you\n", "so am I\n", "good bye\n"];

/// The longest line that is read.
const LONGEST: u64 = 4096;

/// Connects through the proxy at `entry`, hears the greeting, says a few lines and hears each of
/// them again, and closes.
///
/// # Errors
/// What went otherwise, in words.
pub(crate) async fn converse(entry: SocketAddr, timeout: Duration) -> Result<(), String> {
    match tokio::time::timeout(timeout, talk(entry)).await {
        Ok(result) => result,
        Err(_) => Err(format!("no end of the conversation within {timeout:?}")),
    }
}

async fn talk(entry: SocketAddr) -> Result<(), String> {
    let socket =
        TcpStream::connect(entry).await.map_err(|error| format!("no connection: {error}"))?;
    let mut socket = BufReader::new(socket);
    connect(&mut socket).await?;
    let greeting = line(&mut socket, "the greeting").await?;
    if !greeting.starts_with("hello from ") {
        return Err(format!("the greeting is {greeting:?}"));
    }
    for said in LINES {
        say(&mut socket, said).await?;
        let heard = line(&mut socket, "a line said back").await?;
        if heard != said {
            return Err(format!("said {said:?}, heard {heard:?}"));
        }
    }
    socket.shutdown().await.map_err(|error| format!("cannot close: {error}"))?;
    match line(&mut socket, "the end").await?.as_str() {
        "" => Ok(()),
        more => Err(format!("heard {more:?} after the end")),
    }
}

/// Asks the proxy for the way to the server.
async fn connect(socket: &mut BufReader<TcpStream>) -> Result<(), String> {
    let request = format!("CONNECT {TARGET} HTTP/1.1\r\nHost: {TARGET}\r\n\r\n");
    say(socket, &request).await?;
    let status = line(socket, "the answer to CONNECT").await?;
    let mut fields = String::new();
    loop {
        let field = line(socket, "the answer to CONNECT").await?;
        if matches!(field.as_str(), "" | "\r\n") {
            break;
        }
        fields.push_str(&field);
    }
    match status.split(' ').nth(1) {
        Some("200") => Ok(()),
        _ => Err(format!("CONNECT was answered {:?} {fields:?}", status.trim_end())),
    }
}

async fn say(socket: &mut BufReader<TcpStream>, text: &str) -> Result<(), String> {
    socket.write_all(text.as_bytes()).await.map_err(|error| format!("cannot send: {error}"))
}

/// A line with its end; empty at the end of the stream.
async fn line(socket: &mut (impl AsyncBufRead + Unpin), what: &str) -> Result<String, String> {
    let mut line = String::new();
    let read: io::Result<_> = socket.take(LONGEST).read_line(&mut line).await;
    read.map_err(|error| format!("cannot read {what}: {error}"))?;
    Ok(line)
}

#[cfg(test)]
mod tests {
    use tokio::net::TcpListener;

    use super::*;

    /// A proxy and the server behind it in one: answers, greets, says lines back.
    async fn server(answer: &'static str, change: &'static str) -> SocketAddr {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        tokio::spawn(async move {
            let mut socket = BufReader::new(listener.accept().await.unwrap().0);
            while !matches!(line(&mut socket, "head").await.unwrap().as_str(), "" | "\r\n") {}
            say(&mut socket, answer).await.unwrap();
            loop {
                let heard = line(&mut socket, "line").await.unwrap_or_default();
                if heard.is_empty() || say(&mut socket, &(heard + change)).await.is_err() {
                    return;
                }
            }
        });
        address
    }

    #[tokio::test]
    async fn a_conversation_is_judged() {
        let good = "HTTP/1.1 200 OK\r\nx: y\r\n\r\nhello from echo-1\n";
        let cases = [
            (good, "", Ok(())),
            (good, "more\n", Err("said \"so am I\\n\", heard \"more\\n\"")),
            ("HTTP/1.1 200 OK\r\n\r\n220 smtp\n", "", Err("the greeting is")),
            ("HTTP/1.1 503 No\r\nx-pillion-error: no_endpoints\r\n\r\n", "", Err("no_endpoints")),
        ];
        for (answer, change, expected) in cases {
            let entry = server(answer, change).await;
            let result = converse(entry, Duration::from_secs(5)).await;
            match (result, expected) {
                (Ok(()), Ok(())) => {}
                (Err(reason), Err(part)) => assert!(reason.contains(part), "{reason}"),
                (result, _) => panic!("{answer:?}: {result:?}"),
            }
        }
    }

    #[tokio::test]
    async fn a_conversation_that_does_not_end_is_given_up() {
        let entry = server("HTTP/1.1 200 OK\r\n\r\n", "").await;
        let reason = converse(entry, Duration::from_millis(50)).await.unwrap_err();
        assert!(reason.contains("within 50ms"), "{reason}");
    }
}
