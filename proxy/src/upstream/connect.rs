//! Opening connections: TCP, and mutual TLS to a named identity on top of it.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use certs::HandshakeFailure;
use model::code::ErrorCode;
use rustls::ClientConfig;
use tokio::net::TcpStream;
use tokio::time::timeout;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

use crate::error::ProxyError;
use crate::telemetry::metrics::{Direction, Metrics};

/// A TCP connection to `address`, within `limit`.
///
/// # Errors
/// `connect_refused`, `connect_timeout` or `connect_failed`.
pub async fn tcp(address: SocketAddr, limit: Duration) -> Result<TcpStream, ProxyError> {
    let failed = |error: io::Error| {
        let code = match error.kind() {
            io::ErrorKind::ConnectionRefused | io::ErrorKind::ConnectionReset => {
                ErrorCode::ConnectRefused
            }
            io::ErrorKind::TimedOut => ErrorCode::ConnectTimeout,
            _ => ErrorCode::ConnectFailed,
        };
        ProxyError::new(code, format!("{address}: {error}"))
    };
    let connecting = timeout(limit, TcpStream::connect(address)).await.map_err(|_| {
        ProxyError::new(ErrorCode::ConnectTimeout, format!("{address}: no answer in {limit:?}"))
    })?;
    let socket = connecting.map_err(failed)?;
    socket.set_nodelay(true).map_err(failed)?;
    Ok(socket)
}

/// A connection to the sidecar at `address`, which must prove the identity that `config` expects,
/// within `limit` for TCP and again for TLS.
///
/// # Errors
/// Those of [`tcp`], `tls_peer_identity_mismatch`, `tls_cert_expired` or `tls_handshake_failed`.
pub async fn mesh(
    address: SocketAddr,
    config: Arc<ClientConfig>,
    limit: Duration,
    metrics: &Metrics,
) -> Result<TlsStream<TcpStream>, ProxyError> {
    let socket = tcp(address, limit).await?;
    let started = Instant::now();
    let handshake = TlsConnector::from(config).connect(certs::server_name(), socket);
    let result = match timeout(limit, handshake).await {
        Ok(result) => result.map_err(|error| handshake_error(address, &error)),
        Err(_) => Err(ProxyError::new(
            ErrorCode::TlsHandshakeFailed,
            format!("{address}: the TLS handshake took longer than {limit:?}"),
        )),
    };
    match &result {
        Ok(_) => metrics.tls.handshake_done(Direction::Outbound, started.elapsed()),
        Err(error) => metrics.tls.handshake_failed(Direction::Outbound, error.code),
    }
    result
}

fn handshake_error(address: SocketAddr, error: &io::Error) -> ProxyError {
    let failure = certs::classify(error);
    let code = match failure {
        HandshakeFailure::IdentityMismatch { .. } => ErrorCode::TlsIdentityMismatch,
        HandshakeFailure::Expired(_) => ErrorCode::TlsCertExpired,
        HandshakeFailure::Untrusted(_) | HandshakeFailure::Other(_) => {
            ErrorCode::TlsHandshakeFailed
        }
    };
    ProxyError::new(code, format!("{address}: {failure}"))
}
