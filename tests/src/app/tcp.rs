//! The TCP application: it greets, echoes, and at the client's end of stream says goodbye.

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

/// What every client gets before it has sent anything.
pub const BANNER: &str = "hello, who speaks first?\n";

/// Serves one connection. Its last line is `bye after N bytes`.
pub(super) async fn serve(mut socket: TcpStream) {
    // A client that goes away has what it wanted.
    let _ = echo(&mut socket).await;
}

async fn echo(socket: &mut TcpStream) -> std::io::Result<()> {
    socket.set_nodelay(true)?;
    socket.write_all(BANNER.as_bytes()).await?;
    let (mut buffer, mut total) = (vec![0; 64 * 1024], 0);
    loop {
        match socket.read(&mut buffer).await? {
            0 => break,
            read => {
                socket.write_all(&buffer[..read]).await?;
                total += read;
            }
        }
    }
    socket.write_all(format!("bye after {total} bytes\n").as_bytes()).await?;
    socket.shutdown().await
}
