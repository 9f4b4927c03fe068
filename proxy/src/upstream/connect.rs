//! Opening connections: TCP, and mutual TLS to a named identity on top of it.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::BytesMut;
use certs::HandshakeFailure;
use model::code::ErrorCode;
use rustix::io::Errno;
use rustls::ClientConfig;
use tokio::io::AsyncReadExt;
use tokio::net::TcpStream;
use tokio::time::timeout;

use crate::error::ProxyError;
use crate::mesh::MESH_ALPN;
use crate::sniff::Prefixed;
use crate::soon::within;
use crate::telemetry::metrics::{Direction, Metrics};
use crate::tls::{self, Established, TlsStream};

/// A TCP connection to `address`, within `limit`.
///
/// # Errors
/// `connect_refused`, `connect_timeout` or `connect_failed`; `overload` without a descriptor or
/// port of our own.
pub async fn tcp(address: SocketAddr, limit: Duration) -> Result<TcpStream, ProxyError> {
    let failed =
        |error: io::Error| ProxyError::new(connect_code(&error), format!("{address}: {error}"));
    let connecting = within(limit, TcpStream::connect(address)).await.map_err(|_| {
        ProxyError::new(ErrorCode::ConnectTimeout, format!("{address}: no answer in {limit:?}"))
    })?;
    let socket = connecting.map_err(failed)?;
    socket.set_nodelay(true).map_err(failed)?;
    Ok(socket)
}

/// Whose fault it is that there is no connection. That we have no descriptor or port left says
/// nothing of the endpoint: nobody is ejected for it.
fn connect_code(error: &io::Error) -> ErrorCode {
    use io::ErrorKind as E;
    let own = [Errno::MFILE, Errno::NFILE, Errno::NOMEM, Errno::NOBUFS, Errno::ADDRNOTAVAIL];
    match error.kind() {
        _ if Errno::from_io_error(error).is_some_and(|errno| own.contains(&errno)) => {
            ErrorCode::Overload
        }
        E::ConnectionRefused | E::ConnectionReset => ErrorCode::ConnectRefused,
        E::TimedOut => ErrorCode::ConnectTimeout,
        _ => ErrorCode::ConnectFailed,
    }
}

/// A connection to the sidecar at `address`, which must prove the identity that `config` expects,
/// within `limit` for TCP and again for TLS.
///
/// # Errors
/// Those of [`tcp`], `tls_peer_identity_mismatch`, `tls_cert_expired` or `tls_handshake_failed`.
pub(super) async fn mesh(
    address: SocketAddr,
    config: Arc<ClientConfig>,
    limit: Duration,
    metrics: &Metrics,
) -> Result<Established<TcpStream>, ProxyError> {
    let socket = tcp(address, limit).await?;
    let started = Instant::now();
    let handshake = tls::connect(socket, config, certs::server_name());
    let result = match timeout(limit, handshake).await {
        Ok(result) => result
            .map_err(|error| handshake_error(address, &error))
            .and_then(|established| agreed(address, established)),
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

/// Waits for the first word of one of our own sidecars, its SETTINGS (RFC 9113 §3.4). In TLS 1.3 the
/// client has finished before the server has judged its certificate (RFC 8446 §4.4.2): what is sent
/// before that word may be lost, and nobody could tell whether it was processed.
///
/// # Errors
/// Those of the handshake.
pub(super) async fn greeted(
    address: SocketAddr,
    mut io: TlsStream<TcpStream>,
    limit: Duration,
) -> Result<Prefixed<TlsStream<TcpStream>>, ProxyError> {
    let mut word = BytesMut::with_capacity(64);
    let failed =
        |what: String| ProxyError::new(ErrorCode::TlsHandshakeFailed, format!("{address}: {what}"));
    match timeout(limit, io.read_buf(&mut word)).await {
        Ok(Ok(1..)) => Ok(Prefixed::new(word, io)),
        Ok(Ok(0)) => Err(failed("the server ended the connection after the handshake".into())),
        Ok(Err(error)) => Err(handshake_error(address, &error)),
        Err(_) => Err(failed(format!("the server said nothing for {limit:?}"))),
    }
}

/// rustls refuses another protocol than ours, but not a server that names none (RFC 7301 §3.2).
fn agreed(
    address: SocketAddr,
    established: Established<TcpStream>,
) -> Result<Established<TcpStream>, ProxyError> {
    if established.protocol.as_deref() == Some(MESH_ALPN) {
        return Ok(established);
    }
    let detail = format!("{address}: the server did not agree to h2 by ALPN");
    Err(ProxyError::new(ErrorCode::TlsHandshakeFailed, detail))
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_we_lack_ourselves_is_not_the_endpoints_fault() {
        for (errno, code) in [
            (Errno::MFILE, ErrorCode::Overload),
            (Errno::NFILE, ErrorCode::Overload),
            (Errno::ADDRNOTAVAIL, ErrorCode::Overload),
            (Errno::CONNREFUSED, ErrorCode::ConnectRefused),
            (Errno::CONNRESET, ErrorCode::ConnectRefused),
            (Errno::TIMEDOUT, ErrorCode::ConnectTimeout),
            (Errno::HOSTUNREACH, ErrorCode::ConnectFailed),
        ] {
            assert_eq!(connect_code(&errno.into()), code, "{errno}");
        }
        let late = io::Error::new(io::ErrorKind::TimedOut, "ours");
        assert_eq!(connect_code(&late), ErrorCode::ConnectTimeout);
    }
}
