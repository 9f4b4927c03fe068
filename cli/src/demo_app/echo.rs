//! `echo`: a TCP server that speaks first, as MySQL, SMTP and NATS do: it greets, then says every
//! line back.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::{TcpListener, TcpStream};

/// The longest line that comes back whole.
const LONGEST: u64 = 64 << 10;

/// How long the server rests when it cannot accept.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);

/// Talks to everybody, for ever.
pub(crate) async fn serve(listener: TcpListener, name: String) {
    let name = Arc::new(name);
    loop {
        match listener.accept().await {
            Ok((socket, _)) => {
                let name = Arc::clone(&name);
                // A client that goes away ends the conversation.
                tokio::spawn(async move { talk(socket, &name).await });
            }
            Err(error) => {
                eprintln!("cannot accept a connection: {error}");
                tokio::time::sleep(ACCEPT_PAUSE).await;
            }
        }
    }
}

async fn talk(mut socket: TcpStream, name: &str) -> io::Result<()> {
    socket.set_nodelay(true)?;
    let (reader, mut writer) = socket.split();
    let mut reader = BufReader::new(reader);
    writer.write_all(greeting(name).as_bytes()).await?;
    let mut line = Vec::new();
    while (&mut reader).take(LONGEST).read_until(b'\n', &mut line).await? > 0 {
        writer.write_all(&line).await?;
        line.clear();
    }
    Ok(())
}

/// What the server says first.
fn greeting(name: &str) -> String {
    format!("hello from {name}, say something\n")
}
