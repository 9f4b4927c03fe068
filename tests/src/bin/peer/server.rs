//! Servers: one that sends back what it gets, one that takes no connection, and one of HTTP/1.1. A
//! thread a connection.

use std::io::{self, BufRead, BufReader, Read, Write};
use std::net::{Ipv6Addr, TcpListener, TcpStream};
use std::thread;
use std::time::Duration;

/// Sends back what comes and says how the connection ended: `closed` or `reset` on standard
/// output. A client that ends its side gets `bye after N bytes` before the end.
pub(crate) fn echo(port: u16, greeting: &str) -> io::Result<()> {
    let greeting = greeting.to_owned();
    serve(port, move |socket| match echo_one(socket, &greeting) {
        Ok(()) => println!("closed"),
        Err(_) => println!("reset"),
    })
}

fn echo_one(mut socket: TcpStream, greeting: &str) -> io::Result<()> {
    socket.write_all(greeting.as_bytes())?;
    let (mut buffer, mut total) = (vec![0; 64 * 1024], 0);
    loop {
        match socket.read(&mut buffer)? {
            0 => break,
            read => {
                socket.write_all(&buffer[..read])?;
                total += read;
            }
        }
    }
    socket.write_all(format!("bye after {total} bytes\n").as_bytes())
}

/// Resets every connection before a word is said, as a server does that is killed with connections
/// that it has not accepted yet.
pub(crate) fn slam(port: u16) -> io::Result<()> {
    serve(port, |socket| {
        // One that is gone already is what was wanted.
        let _ = socket2::SockRef::from(&socket).set_linger(Some(Duration::ZERO));
    })
}

/// Answers requests without a body with `name` and keeps the connection.
pub(crate) fn http(port: u16, name: &str) -> io::Result<()> {
    let answer = format!(
        "HTTP/1.1 200 OK\r\ncontent-type: text/plain\r\ncontent-length: {}\r\n\r\n{name}",
        name.len()
    );
    serve(port, move |socket| {
        // A client that goes away has what it wanted.
        let _ = http_one(socket, &answer);
    })
}

fn http_one(mut socket: TcpStream, answer: &str) -> io::Result<()> {
    let mut lines = BufReader::new(socket.try_clone()?);
    let mut line = String::new();
    while lines.read_line(&mut line)? > 0 {
        if line == "\r\n" {
            socket.write_all(answer.as_bytes())?;
        }
        line.clear();
    }
    Ok(())
}

/// Listens on every address of the pod, of both families.
fn serve(port: u16, one: impl Fn(TcpStream) + Clone + Send + 'static) -> io::Result<()> {
    let listener = TcpListener::bind((Ipv6Addr::UNSPECIFIED, port))?;
    loop {
        let (socket, _) = listener.accept()?;
        socket.set_nodelay(true)?;
        let one = one.clone();
        thread::spawn(move || one(socket));
    }
}
