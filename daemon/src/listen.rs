//! Listening sockets, with errors that say which port of which part is taken.

use std::io;
use std::net::{SocketAddr, TcpListener};

use socket2::{Domain, Protocol, Socket, Type};

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

/// Listens on a TCP address, non-blocking, for `what`; `setting` is the flag that chose it.
///
/// # Errors
/// A [`ListenError`] that names the address, the part and the flag.
pub fn tcp(
    address: SocketAddr,
    what: &'static str,
    setting: &'static str,
) -> Result<TcpListener, ListenError> {
    open(address).map_err(|source| ListenError { address, what, setting, source })
}

fn open(address: SocketAddr) -> io::Result<TcpListener> {
    let socket = Socket::new(Domain::for_address(address), Type::STREAM, Some(Protocol::TCP))?;
    // A restart may bind while connections of the process before it linger in TIME_WAIT.
    socket.set_reuse_address(true)?;
    socket.set_nonblocking(true)?;
    socket.bind(&address.into())?;
    socket.listen(BACKLOG)?;
    Ok(socket.into())
}

#[cfg(test)]
mod tests {
    use super::*;

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
