//! Servers: one that sends back what it gets, one that takes no connection, and two of HTTP/1.1. A
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
    let name = name.to_owned();
    answer(port, "text/plain", move |_| name.clone())
}

/// Answers requests without a body with the fields of their heads, names in lower case, as a JSON
/// object.
pub(crate) fn headers(port: u16) -> io::Result<()> {
    answer(port, "application/json", |head| {
        let fields = head.iter().filter_map(|line| line.split_once(':'));
        let field = |(name, value): (&str, &str)| (name.to_lowercase(), value.trim().into());
        serde_json::Value::Object(fields.map(field).collect()).to_string()
    })
}

/// Answers each request by the lines of its head.
fn answer(
    port: u16,
    content_type: &'static str,
    body: impl Fn(&[String]) -> String + Clone + Send + 'static,
) -> io::Result<()> {
    serve(port, move |socket| {
        // A client that goes away has what it wanted.
        let _ = answer_one(socket, content_type, &body);
    })
}

fn answer_one(
    mut socket: TcpStream,
    content_type: &str,
    body: impl Fn(&[String]) -> String,
) -> io::Result<()> {
    let (mut lines, mut head) = (BufReader::new(socket.try_clone()?), Vec::new());
    let mut line = String::new();
    while lines.read_line(&mut line)? > 0 {
        if line == "\r\n" {
            let body = body(&std::mem::take(&mut head));
            let length = body.len();
            let head = format!("content-type: {content_type}\r\ncontent-length: {length}\r\n");
            socket.write_all(format!("HTTP/1.1 200 OK\r\n{head}\r\n{body}").as_bytes())?;
            line.clear();
        } else {
            head.push(std::mem::take(&mut line));
        }
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
