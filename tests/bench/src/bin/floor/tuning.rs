//! The settings of the connections, the same wherever they occur.

use hyper::{client, server};
use hyper_util::rt::TokioExecutor;

/// Bytes of an HTTP/2 stream's window: large, so that it never decides how fast a transfer is.
const STREAM_WINDOW: u32 = 1 << 20;

/// Bytes of an HTTP/2 connection's window.
const CONNECTION_WINDOW: u32 = 1 << 24;

/// Streams on one connection: more than any load has requests at once.
const STREAMS: u32 = 4096;

/// ALPN of HTTP/2.
pub(crate) const H2: &[u8] = b"h2";

/// ALPN of an application's bytes.
pub(crate) const BYTES: &[u8] = b"bytes";

/// The header that carries the application's port.
pub(crate) const PORT: &str = "x-port";

/// An HTTP/2 client's connection.
pub(crate) fn http2_client() -> client::conn::http2::Builder<TokioExecutor> {
    let mut builder = client::conn::http2::Builder::new(TokioExecutor::new());
    builder
        .initial_stream_window_size(STREAM_WINDOW)
        .initial_connection_window_size(CONNECTION_WINDOW)
        .initial_max_send_streams(STREAMS as usize);
    builder
}

/// An HTTP/2 server's connection.
pub(crate) fn http2_server() -> server::conn::http2::Builder<TokioExecutor> {
    let mut builder = server::conn::http2::Builder::new(TokioExecutor::new());
    builder
        .initial_stream_window_size(STREAM_WINDOW)
        .initial_connection_window_size(CONNECTION_WINDOW)
        .max_concurrent_streams(STREAMS);
    builder
}
