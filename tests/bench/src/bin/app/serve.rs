//! Servers: gRPC with tonic, a sink of uploads with hyper, and bytes.

mod bytes;
mod grpc;
mod sink;

use std::net::Ipv4Addr;

use tokio::net::{TcpListener, TcpStream};

/// Ports, as the driver knows them.
const GRPC: u16 = 8082;
const UPLOAD: u16 = 8083;
const BYTES: u16 = 9000;

/// Runs for ever.
pub(crate) async fn run() -> anyhow::Result<()> {
    tokio::try_join!(
        listen(GRPC, grpc::serve),
        listen(UPLOAD, sink::serve),
        listen(BYTES, bytes::serve)
    )?;
    Ok(())
}

async fn listen<F: Future<Output = anyhow::Result<()>> + Send + 'static>(
    port: u16,
    serve: impl Fn(TcpStream) -> F,
) -> anyhow::Result<()> {
    let socket = tokio::net::TcpSocket::new_v4()?;
    socket.set_reuseaddr(true)?;
    socket.bind((Ipv4Addr::UNSPECIFIED, port).into())?;
    let listener: TcpListener = socket.listen(8192)?;
    loop {
        let (stream, _) = listener.accept().await?;
        stream.set_nodelay(true)?;
        // What breaks ends one connection: the load sees it and counts it.
        tokio::spawn(serve(stream));
    }
}
