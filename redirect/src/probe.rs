//! One connection through the rules, and the proof that it was redirected: whoever accepts it on
//! the outbound port must know where it was sent.
//!
//! The sidecar answers a connection to a probed address with one line and closes; where no sidecar
//! listens yet (an init container), the probe is its own sidecar for the moment.

use std::io::{self, Read as _};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpStream, UdpSocket};
use std::time::{Duration, Instant};

use socket2::{Domain, Protocol, Socket, Type};

/// Longest time for a connection, and again for the sidecar's answer.
const PATIENCE: Duration = Duration::from_secs(2);
/// What the sidecar's line begins with; the original destination and a line feed follow.
const GREETING: &str = "pillion redirect ";
/// More than the longest line of a sidecar.
const LONGEST: usize = 128;
const BACKLOG: i32 = 16;

/// Why a probe proves nothing good.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Flaw {
    /// There is no way to send anything in this family.
    #[error("no route ({0})")]
    NoRoute(io::Error),
    /// The probe cannot be its own sidecar.
    #[error("cannot listen on port {0}: {1}")]
    Listen(u16, io::Error),
    /// Nobody got the connection.
    #[error(
        "not redirected, or nobody listens on the outbound port of loopback: no connection to \
         {0}: {1}"
    )]
    NotRedirected(SocketAddr, io::Error),
    /// The connection was made, but not to the probe.
    #[error("not redirected: somebody else accepted the connection to {0}")]
    Elsewhere(SocketAddr),
    /// The kernel does not tell the original destination.
    #[error("redirected, but the original destination is lost: {0}")]
    Lost(io::Error),
    /// Another original destination.
    #[error("wrong original destination: {seen} in place of {sent}")]
    Other { sent: SocketAddr, seen: String },
    /// Who listens on the outbound port is no sidecar, or none that knows its redirect.
    #[error("what listens on port {0} did not answer as a Pillion sidecar does: {1}")]
    NoSidecar(u16, String),
}

/// Connects to `target`, whose port is the outbound port, through the rules.
///
/// # Errors
/// The [`Flaw`] that was found.
pub(crate) fn probe(target: SocketAddr) -> Result<(), Flaw> {
    has_route(target).map_err(Flaw::NoRoute)?;
    match listen(target) {
        Ok(listener) => ask_kernel(&listener, target),
        Err(error) if error.kind() == io::ErrorKind::AddrInUse => ask_sidecar(target),
        Err(error) => Err(Flaw::Listen(target.port(), error)),
    }
}

/// Whether the namespace has a route: a datagram socket finds out without sending anything. A
/// connection could not tell it from an error that a router sends.
fn has_route(target: SocketAddr) -> io::Result<()> {
    UdpSocket::bind(SocketAddr::new(any(target), 0))?.connect(target)
}

const fn any(like: SocketAddr) -> IpAddr {
    match like {
        SocketAddr::V4(_) => IpAddr::V4(Ipv4Addr::UNSPECIFIED),
        SocketAddr::V6(_) => IpAddr::V6(Ipv6Addr::UNSPECIFIED),
    }
}

/// Listens as a sidecar would. `[::]` takes IPv4 as well, so that it cannot be had beside a sidecar
/// that listens for IPv4 only: that one leaves the application's IPv6 unanswered.
fn listen(target: SocketAddr) -> io::Result<Socket> {
    let socket = Socket::new(Domain::for_address(target), Type::STREAM, Some(Protocol::TCP))?;
    // Connections of a sidecar that has just ended may linger in TIME_WAIT.
    socket.set_reuse_address(true)?;
    if target.is_ipv6() {
        socket.set_only_v6(false)?;
    }
    socket.bind(&SocketAddr::new(any(target), target.port()).into())?;
    socket.listen(BACKLOG)?;
    Ok(socket)
}

fn connect(target: SocketAddr) -> Result<TcpStream, Flaw> {
    TcpStream::connect_timeout(&target, PATIENCE)
        .map_err(|error| Flaw::NotRedirected(target, error))
}

/// The probe is both ends. The application's connections come the same way, and are closed. Where
/// one of them has the probe's own source port the kernel gives the other a new one: the port alone
/// is no proof that a connection with another destination is the probe's, so that the right one is
/// waited for.
fn ask_kernel(listener: &Socket, target: SocketAddr) -> Result<(), Flaw> {
    let stream = connect(target)?;
    let own = stream.local_addr().map_err(|error| Flaw::NotRedirected(target, error))?;
    let deadline = Instant::now() + PATIENCE;
    let mut flaw = Flaw::Elsewhere(target);
    while let Ok((accepted, from)) = accept(listener, deadline) {
        match judge_kernel(&accepted, target) {
            Ok(()) => return Ok(()),
            Err(found) if from == own => flaw = found,
            Err(_) => {}
        }
    }
    Err(flaw)
}

fn accept(listener: &Socket, deadline: Instant) -> io::Result<(Socket, SocketAddr)> {
    listener.set_read_timeout(Some(left(deadline)?))?;
    let (socket, from) = listener.accept()?;
    let from = from.as_socket().ok_or(io::ErrorKind::Unsupported)?;
    Ok((socket, from))
}

fn judge_kernel(accepted: &Socket, target: SocketAddr) -> Result<(), Flaw> {
    let seen = match target {
        SocketAddr::V4(_) => accepted.original_dst_v4(),
        SocketAddr::V6(_) => accepted.original_dst_v6(),
    };
    match seen.map_err(Flaw::Lost)?.as_socket() {
        Some(seen) if seen == target => Ok(()),
        seen => {
            let seen = seen.map_or_else(|| "none".into(), |seen| seen.to_string());
            Err(Flaw::Other { sent: target, seen })
        }
    }
}

/// The time until the deadline, which is never nothing: no timeout would mean to wait for ever.
fn left(deadline: Instant) -> io::Result<Duration> {
    match deadline.saturating_duration_since(Instant::now()) {
        Duration::ZERO => Err(io::ErrorKind::TimedOut.into()),
        left => Ok(left),
    }
}

/// The sidecar is the other end.
fn ask_sidecar(target: SocketAddr) -> Result<(), Flaw> {
    let mut stream = connect(target)?;
    let line = read_line(&mut stream)
        .map_err(|error| Flaw::NoSidecar(target.port(), error.to_string()))?;
    judge_sidecar(&line, target)
}

/// What comes before the connection is closed, within the time and length of a sidecar's line.
fn read_line(stream: &mut TcpStream) -> io::Result<Vec<u8>> {
    let deadline = Instant::now() + PATIENCE;
    let mut line = Vec::new();
    let mut buffer = [0; LONGEST];
    while line.len() < LONGEST && !line.ends_with(b"\n") {
        stream.set_read_timeout(Some(left(deadline)?))?;
        match stream.read(&mut buffer) {
            Ok(0) => break,
            Ok(count) => line.extend(&buffer[..count]),
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                return Err(io::ErrorKind::TimedOut.into());
            }
            Err(error) => return Err(error),
        }
    }
    Ok(line)
}

fn judge_sidecar(line: &[u8], target: SocketAddr) -> Result<(), Flaw> {
    let text = String::from_utf8_lossy(line);
    let seen = text.strip_prefix(GREETING).and_then(|rest| rest.strip_suffix('\n'));
    match seen {
        None if line.is_empty() => Err(Flaw::NoSidecar(target.port(), "it closed".into())),
        None => Err(Flaw::NoSidecar(target.port(), format!("it said {text:?}"))),
        Some(seen) if seen.parse() == Ok(target) => Ok(()),
        Some(seen) => Err(Flaw::Other { sent: target, seen: seen.escape_debug().to_string() }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_sidecars_line_with_the_destination_is_a_proof() {
        let target: SocketAddr = "192.0.2.1:15001".parse().unwrap();
        let cases = [
            ("pillion redirect 192.0.2.1:15001\n", None),
            ("pillion redirect 192.0.2.1:15001", Some("did not answer")),
            ("pillion redirect 192.0.2.1:80\n", Some("192.0.2.1:80 in place of 192.0.2.1:15001")),
            ("pillion redirect x\u{7}\n", Some("destination: x\\u{7} in place of")),
            ("HTTP/1.1 400 Bad Request\r\n", Some("it said \"HTTP/1.1 400 Bad Request")),
            ("", Some("it closed")),
        ];
        for (line, flaw) in cases {
            let outcome = judge_sidecar(line.as_bytes(), target).map_err(|flaw| flaw.to_string());
            match flaw {
                None => assert_eq!(outcome, Ok(()), "{line:?}"),
                Some(part) => {
                    let message = outcome.unwrap_err();
                    assert!(message.contains(part), "{line:?}: {message}");
                }
            }
        }
        let target: SocketAddr = "[2001:db8::1]:15001".parse().unwrap();
        assert!(judge_sidecar(b"pillion redirect [2001:db8::1]:15001\n", target).is_ok());
    }
}
