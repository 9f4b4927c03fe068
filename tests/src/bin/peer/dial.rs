//! A door into a pod: a Unix socket has a path and no network namespace, so a test outside can
//! connect to it, name a target, and has a TCP connection that was opened inside.

use std::io::{self, BufRead, BufReader, Read, Write};
use std::net::{Shutdown, TcpStream};
use std::os::unix::net::{UnixListener, UnixStream};
use std::thread;

/// Serves each client: one line with HOST:PORT, answered by `ok` or by the error, then bytes.
pub(crate) fn serve(path: &str) -> io::Result<()> {
    let listener = UnixListener::bind(path)?;
    loop {
        let (door, _) = listener.accept()?;
        thread::spawn(move || {
            // The test sees the end of its connection.
            let _ = pass(door);
        });
    }
}

fn pass(mut door: UnixStream) -> io::Result<()> {
    let mut reader = BufReader::new(door.try_clone()?);
    let mut target = String::new();
    reader.read_line(&mut target)?;
    let mut socket = match TcpStream::connect(target.trim_end()) {
        Ok(socket) => socket,
        Err(error) => return writeln!(door, "{error}"),
    };
    socket.set_nodelay(true)?;
    writeln!(door, "ok")?;
    let (mut answers, mut back) = (socket.try_clone()?, door);
    let answering = thread::spawn(move || {
        // Either end going away ends this direction, and no other word is needed.
        let _ = carry(&mut answers, &mut back);
        let _ = back.shutdown(Shutdown::Write);
    });
    let sent = carry(&mut reader, &mut socket);
    socket.shutdown(Shutdown::Write).and(sent)?;
    let _ = answering.join();
    Ok(())
}

fn carry(from: &mut impl Read, to: &mut impl Write) -> io::Result<()> {
    let mut buffer = vec![0; 64 * 1024];
    loop {
        match from.read(&mut buffer)? {
            0 => return Ok(()),
            read => to.write_all(&buffer[..read])?,
        }
    }
}
