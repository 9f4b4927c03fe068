//! Where a connection was meant to go before it was redirected to one of the sidecar's ports.

use std::net::SocketAddr;

use socket2::SockRef;
use tokio::net::TcpStream;

/// What the kernel kept of a redirected connection (`SO_ORIGINAL_DST`); `None` for one that was
/// made to this port.
pub(crate) fn destination(socket: &TcpStream) -> Option<SocketAddr> {
    let local = socket.local_addr().ok()?;
    let socket = SockRef::from(socket);
    let kept = if local.is_ipv4() { socket.original_dst_v4() } else { socket.original_dst_v6() };
    let original = kept.ok()?.as_socket()?;
    let same = (original.ip(), original.port()) == (local.ip(), local.port());
    (!same).then_some(original)
}
