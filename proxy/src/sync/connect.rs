//! The connection to the control plane: TLS 1.3 to its SPIFFE identity, proved by the trust
//! bundle, by the root that the join token names, or by what an earlier certificate brought.

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use certs::TokenPin;
use hyper_util::rt::TokioIo;
use model::spiffe::SpiffeId;
use rustls::ClientConfig;
use tokio::net::{TcpSocket, TcpStream};
use tokio::time::timeout;
use tokio_rustls::TlsConnector;
use tonic::transport::{Channel, Endpoint};

use crate::config::{ConfigError, ControlPlane, read_token_text};
use crate::mesh::Mesh;
use crate::sync::kept;

/// Longest time for TCP and TLS together.
const TIMEOUT: Duration = Duration::from_secs(5);

/// How a control plane that hangs is found out: PING, and how long the answer may take.
const PING_INTERVAL: Duration = Duration::from_secs(5);
const PING_TIMEOUT: Duration = Duration::from_secs(5);

/// What is spoken to the control plane.
const ALPN: &[u8] = b"h2";

/// How the sidecar shows who it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Proof {
    /// With the certificate that it has.
    Certificate,
    /// With its join token.
    Token,
}

/// Why there is no connection to the control plane.
#[derive(Debug, thiserror::Error)]
pub(super) enum ConnectError {
    /// A file is gone or broken since the start.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// The token is none, or its time is over.
    #[error("the join token is no use: {0}")]
    Token(#[from] certs::TokenError),
    /// Not reached.
    #[error("cannot connect to the control plane {address}: {source}")]
    Tcp {
        /// Where it should be.
        address: String,
        /// Why not.
        source: io::Error,
    },
    /// Reached, and not believed, or it did not believe us.
    #[error("the TLS handshake with the control plane {address} failed: {reason}")]
    Tls {
        /// Where it is.
        address: String,
        /// Why.
        reason: String,
    },
    /// The connection was lost before the first message.
    #[error("the connection to the control plane was lost: {0}")]
    Http2(#[from] tonic::transport::Error),
}

impl Proof {
    /// The certificate while it is good, else the token.
    pub(super) fn best(mesh: &Mesh) -> Self {
        if mesh.credentials().is_ok() { Self::Certificate } else { Self::Token }
    }
}

/// A channel to the control plane, and the token to send where that is the proof.
pub(super) async fn open(
    mesh: &Mesh,
    proof: Proof,
) -> Result<(Channel, Option<String>), ConnectError> {
    let settings = &mesh.config.control_plane;
    let (config, token) = match (proof, mesh.credentials()) {
        (Proof::Certificate, Ok(credentials)) => {
            let id = SpiffeId::control_plane(&settings.trust_domain);
            (credentials.identity.client_config(id, &[ALPN]), None)
        }
        _ => {
            let token = read_token_text(&settings.token_file)?;
            (first_contact(settings, &token)?, Some(token))
        }
    };
    let own = &mesh.config.addresses;
    let io =
        timeout(TIMEOUT, handshake(&settings.address, own, config)).await.unwrap_or_else(|_| {
            let source =
                io::Error::new(io::ErrorKind::TimedOut, format!("no answer in {TIMEOUT:?}"));
            Err(ConnectError::Tcp { address: settings.address.clone(), source })
        })?;
    let mut io = Some(TokioIo::new(io));
    let connector = tower::service_fn(move |_| {
        let io = io.take().ok_or_else(|| io::Error::other("a stream has one connection"));
        async { io }
    });
    // The authority is for HTTP/2's sake only: the connection is there already.
    let channel = Endpoint::from_static("http://control-plane.pillion")
        .http2_keep_alive_interval(PING_INTERVAL)
        .keep_alive_timeout(PING_TIMEOUT)
        .keep_alive_while_idle(true)
        .connect_with_connector(connector)
        .await?;
    Ok((channel, token))
}

/// The configuration of a sidecar that has no certificate yet.
fn first_contact(settings: &ControlPlane, token: &str) -> Result<Arc<ClientConfig>, ConnectError> {
    let id = SpiffeId::control_plane(&settings.trust_domain);
    Ok(match kept::first_bundle(settings) {
        Some(bundle) => certs::bundle_client_config(bundle, id, &[ALPN]),
        None => {
            let root = TokenPin::read(token)?.root_sha256;
            let root = root.ok_or_else(|| ConfigError::NoRoot(settings.token_file.clone()))?;
            certs::pinned_client_config(root, id, &[ALPN])
        }
    })
}

async fn handshake(
    address: &str,
    own: &[IpAddr],
    config: Arc<ClientConfig>,
) -> Result<tokio_rustls::client::TlsStream<TcpStream>, ConnectError> {
    let tcp_error = |source| ConnectError::Tcp { address: address.into(), source };
    let socket = connect(address, own).await.map_err(tcp_error)?;
    socket.set_nodelay(true).map_err(tcp_error)?;
    TlsConnector::from(config).connect(certs::server_name(), socket).await.map_err(|error| {
        let reason = certs::classify(&error).to_string();
        ConnectError::Tls { address: address.into(), reason }
    })
}

/// Connects to the first address of the name that answers, from the workload's own address of the
/// same version: that is where the control plane expects the workload. Where that is not possible,
/// as from one on loopback to another host, the system chooses.
async fn connect(address: &str, own: &[IpAddr]) -> io::Result<TcpStream> {
    let mut failed = io::Error::new(io::ErrorKind::NotFound, "the name has no address");
    let peers: Vec<SocketAddr> = tokio::net::lookup_host(address).await?.collect();
    // Each has its share, so that one that says nothing does not hide the others.
    let share = TIMEOUT / u32::try_from(peers.len().max(1)).unwrap_or(u32::MAX);
    for peer in peers {
        let own = own.iter().find(|own| own.is_ipv4() == peer.is_ipv4());
        match timeout(share, connect_from(own, peer)).await {
            Ok(Ok(socket)) => return Ok(socket),
            Ok(Err(error)) => failed = error,
            Err(_) => {
                let silent = format!("{peer}: no answer in {share:?}");
                failed = io::Error::new(io::ErrorKind::TimedOut, silent);
            }
        }
    }
    Err(failed)
}

async fn connect_from(own: Option<&IpAddr>, peer: SocketAddr) -> io::Result<TcpStream> {
    let both_local = own.is_none_or(|own| own.is_loopback() == peer.ip().is_loopback());
    let Some(own) = own.filter(|_| both_local) else { return TcpStream::connect(peer).await };
    let socket = if peer.is_ipv4() { TcpSocket::new_v4()? } else { TcpSocket::new_v6()? };
    match socket.bind(SocketAddr::new(*own, 0)) {
        Ok(()) => socket.connect(peer).await,
        Err(_) => TcpStream::connect(peer).await,
    }
}
