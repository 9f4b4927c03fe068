//! Listening sockets, with errors that say which port of which part is taken.

use std::io;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr, TcpListener};
use std::time::Duration;

use socket2::{Domain, Protocol, Socket, TcpKeepalive, Type};

/// Connections that the kernel holds for us before `accept`.
const BACKLOG: i32 = 4096;

/// A socket that could not be opened.
#[derive(Debug, thiserror::Error)]
#[error("cannot listen on {address} for {what}: {source}{}", hint(source, setting))]
pub struct ListenError {
    /// The address that was asked for.
    pub address: SocketAddr,
    /// What would have listened there.
    pub what: &'static str,
    /// The flag that chooses another address.
    pub setting: &'static str,
    source: io::Error,
}

fn hint(source: &io::Error, setting: &str) -> String {
    match source.kind() {
        io::ErrorKind::AddrInUse => {
            format!("; another process has it: stop that one, or choose another with {setting}")
        }
        _ => format!("; it is set with {setting}"),
    }
}

/// Listens on a TCP address, non-blocking, for `what`; `setting` is the flag that chose it. `[::]`
/// is every address of this machine, of IPv4 too, whichever of the families it has; what connects
/// there is seen [as it is](peer).
///
/// # Errors
/// A [`ListenError`] that names the address, the part and the flag.
pub fn tcp(
    address: SocketAddr,
    what: &'static str,
    setting: &'static str,
) -> Result<TcpListener, ListenError> {
    let fail = |source| ListenError { address, what, setting, source };
    if address.ip() != Ipv6Addr::UNSPECIFIED {
        return open(address, Families::One).map_err(fail);
    }
    open(address, Families::Both).map_err(fail).or_else(|error| {
        let every = SocketAddr::from((Ipv4Addr::UNSPECIFIED, address.port()));
        if error.is_family_missing() {
            open(every, Families::One).map_err(fail)
        } else {
            Err(error)
        }
    })
}

/// Who connected, by an address that is of IPv4 where the connection is, though it came to `[::]`.
pub fn peer(seen: SocketAddr) -> SocketAddr {
    SocketAddr::new(seen.ip().to_canonical(), seen.port())
}

/// As [`tcp`], on each of `addresses` for itself; a family that this machine does not have is left
/// out, as long as there is another.
///
/// # Errors
/// As [`tcp`], for the first that fails otherwise, or when none is left.
pub fn tcp_on_all(
    addresses: &[SocketAddr],
    what: &'static str,
    setting: &'static str,
) -> Result<Vec<TcpListener>, ListenError> {
    let mut opened = Vec::new();
    let mut missing = None;
    for address in addresses {
        let fail = |source| ListenError { address: *address, what, setting, source };
        match open(*address, Families::One).map_err(fail) {
            Ok(listener) => opened.push(listener),
            Err(error) if address.ip().is_unspecified() && error.is_family_missing() => {
                missing = Some(error);
            }
            Err(error) => return Err(error),
        }
    }
    match missing {
        Some(error) if opened.is_empty() => Err(error),
        _ => Ok(opened),
    }
}

impl ListenError {
    /// EAFNOSUPPORT, or EADDRNOTAVAIL where the family is switched off.
    fn is_family_missing(&self) -> bool {
        const EAFNOSUPPORT: i32 = 97;
        self.source.raw_os_error() == Some(EAFNOSUPPORT)
            || self.source.kind() == io::ErrorKind::AddrNotAvailable
    }
}

/// Whether a socket of IPv6 takes connections of IPv4 too.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Families {
    One,
    Both,
}

fn open(address: SocketAddr, families: Families) -> io::Result<TcpListener> {
    let socket = Socket::new(Domain::for_address(address), Type::STREAM, Some(Protocol::TCP))?;
    if address.is_ipv6() {
        socket.set_only_v6(families == Families::One)?;
    }
    // A restart may bind while connections of the process before it linger in TIME_WAIT.
    socket.set_reuse_address(true)?;
    socket.set_nonblocking(true)?;
    // Connections inherit both.
    socket.set_tcp_nodelay(true)?;
    socket.set_tcp_keepalive(&keepalive())?;
    socket.bind(&address.into())?;
    socket.listen(BACKLOG)?;
    Ok(socket.into())
}

/// A connection whose other end is gone without a word is found out in about two minutes, however
/// long it has been idle.
fn keepalive() -> TcpKeepalive {
    TcpKeepalive::new()
        .with_time(Duration::from_secs(60))
        .with_interval(Duration::from_secs(15))
        .with_retries(4)
}

#[cfg(test)]
mod tests {
    use std::net::TcpStream;

    use super::*;

    #[test]
    fn every_address_is_of_both_families() {
        let listener = tcp(SocketAddr::from((Ipv6Addr::UNSPECIFIED, 0)), "the test", "--port");
        let listener = listener.unwrap();
        listener.set_nonblocking(false).unwrap();
        let port = listener.local_addr().unwrap().port();
        let client = TcpStream::connect((Ipv4Addr::LOCALHOST, port)).unwrap();
        let (_, seen) = listener.accept().unwrap();
        assert_eq!(peer(seen), client.local_addr().unwrap());
        let client = TcpStream::connect((Ipv6Addr::LOCALHOST, port)).unwrap();
        let (_, seen) = listener.accept().unwrap();
        assert_eq!(peer(seen), client.local_addr().unwrap());
    }

    #[test]
    fn connections_inherit_what_is_set_for_all() {
        let listener = tcp(SocketAddr::from(([127, 0, 0, 1], 0)), "the test", "--port").unwrap();
        listener.set_nonblocking(false).unwrap();
        let _client = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        let accepted = Socket::from(listener.accept().unwrap().0);
        assert!(accepted.tcp_nodelay().unwrap() && accepted.keepalive().unwrap());
        assert_eq!(accepted.tcp_keepalive_time().unwrap(), Duration::from_secs(60));
    }

    #[test]
    fn one_of_two_families_has_its_own_socket() {
        let both = [(Ipv4Addr::UNSPECIFIED, 0).into(), (Ipv6Addr::UNSPECIFIED, 0).into()];
        let listeners = tcp_on_all(&both, "the test", "--port").unwrap();
        let six = listeners[1].local_addr().unwrap().port();
        assert!(TcpStream::connect((Ipv4Addr::LOCALHOST, six)).is_err());
    }

    #[test]
    fn a_taken_port_names_address_part_and_flag() {
        let first = tcp(SocketAddr::from(([127, 0, 0, 1], 0)), "the test", "--port").unwrap();
        let taken = first.local_addr().unwrap();
        let error = tcp(taken, "the test", "--port").unwrap_err().to_string();
        for part in [taken.to_string().as_str(), "the test", "another process", "--port"] {
            assert!(error.contains(part), "{error:?} must name {part:?}");
        }
    }
}
