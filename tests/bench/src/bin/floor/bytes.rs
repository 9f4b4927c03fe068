//! Bytes of a connection, both ways until both ends have closed.

use std::io;

use tokio::io::{
    AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, copy_bidirectional_with_sizes,
};
use tokio::net::TcpStream;

/// Bytes of each of the two buffers: four full TLS records.
const BUFFER: usize = 64 * 1024;

/// Says which of the pod's ports a connection is for.
pub(crate) async fn write_port(
    stream: &mut (impl AsyncWrite + Unpin),
    port: u16,
) -> io::Result<()> {
    stream.write_u16(port).await
}

/// Hears which of the pod's ports a connection is for.
pub(crate) async fn read_port(stream: &mut (impl AsyncRead + Unpin)) -> io::Result<u16> {
    stream.read_u16().await
}

/// Carries bytes between a plain and an encrypted connection.
pub(crate) async fn relay(
    mut plain: TcpStream,
    mut encrypted: impl AsyncRead + AsyncWrite + Unpin,
) -> io::Result<()> {
    copy_bidirectional_with_sizes(&mut plain, &mut encrypted, BUFFER, BUFFER).await?;
    Ok(())
}
