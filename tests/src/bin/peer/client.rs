//! Clients: a stopwatch, and two that end a connection in ways that ordinary clients do not.

use std::io::{self, Read, Write};
use std::net::{Shutdown, TcpStream};
use std::time::{Duration, Instant};

/// Longest wait for a byte: a client that hangs fails its test with a reason.
const LIMIT: Duration = Duration::from_secs(10);

/// Prints, for each of `times` new connections, the microseconds from the connect to the first
/// byte that the server sent.
pub(crate) fn first_byte(target: &str, opening: &[u8], times: u16) -> io::Result<()> {
    for _ in 0..times {
        let started = Instant::now();
        let mut socket = connect(target)?;
        socket.write_all(opening)?;
        socket.read_exact(&mut [0])?;
        println!("{}", started.elapsed().as_micros());
    }
    Ok(())
}

/// Ends the sending side after `text` and prints all that the server still says.
pub(crate) fn half_close(target: &str, text: &str) -> io::Result<()> {
    let mut socket = connect(target)?;
    socket.write_all(text.as_bytes())?;
    socket.shutdown(Shutdown::Write)?;
    io::copy(&mut socket, &mut io::stdout())?;
    Ok(())
}

/// Ends with a reset, once the server has said a byte and so holds the connection.
pub(crate) fn reset(target: &str, text: &str) -> io::Result<()> {
    let mut socket = connect(target)?;
    socket.write_all(text.as_bytes())?;
    socket.read_exact(&mut [0])?;
    socket2::SockRef::from(&socket).set_linger(Some(Duration::ZERO))
}

/// Connects, with a limit to every read.
pub(crate) fn connect(target: &str) -> io::Result<TcpStream> {
    let socket = TcpStream::connect(target)?;
    socket.set_nodelay(true)?;
    socket.set_read_timeout(Some(LIMIT))?;
    Ok(socket)
}
