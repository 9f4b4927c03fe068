//! The helper that the house starts inside of its pods: small servers, clients with bad habits,
//! a stopwatch for the first byte, and a door through which a test dials from a pod.
//!
//! A process cannot enter another network namespace for one socket without `setns`, which is
//! unsafe code; so what must happen inside of a pod happens in this program, started there.

// A helper answers on standard output and reports on standard error.
#![allow(clippy::print_stdout, clippy::print_stderr)]

mod client;
mod dial;
mod server;
mod watch;

use std::io;
use std::process::ExitCode;

const USAGE: &str = "usage: peer COMMAND
  echo PORT [GREETING]             send back what comes; greet first if told to
  slam PORT                        reset every connection before a word is said
  http PORT NAME                   answer every HTTP/1.1 request with NAME
  headers PORT                     answer every HTTP/1.1 request with its header fields, as JSON
  dial SOCKET                      open a TCP connection for each client of a Unix socket
  first-byte TARGET OPENING TIMES  microseconds from connect to the first byte, one a line
  half-close TARGET TEXT           send TEXT, end the sending side, print the rest
  reset TARGET TEXT                send TEXT, read a byte, end with a reset
  watch TARGET OPENING             print what becomes of a connection and of the next ones
TARGET is HOST:PORT; OPENING is hexadecimal: what the client says first (empty: the server does).";

fn main() -> ExitCode {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let args: Vec<&str> = args.iter().map(String::as_str).collect();
    match run(&args) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("{error}");
            ExitCode::FAILURE
        }
    }
}

fn run(args: &[&str]) -> io::Result<()> {
    match args {
        ["echo", port] => server::echo(number(port)?, ""),
        ["echo", port, greeting] => server::echo(number(port)?, greeting),
        ["slam", port] => server::slam(number(port)?),
        ["http", port, name] => server::http(number(port)?, name),
        ["headers", port] => server::headers(number(port)?),
        ["dial", socket] => dial::serve(socket),
        ["first-byte", target, opening, times] => {
            client::first_byte(target, &bytes(opening)?, number(times)?)
        }
        ["half-close", target, text] => client::half_close(target, text),
        ["reset", target, text] => client::reset(target, text),
        ["watch", target, opening] => watch::watch(target, &bytes(opening)?),
        _ => Err(io::Error::other(USAGE)),
    }
}

fn number(text: &str) -> io::Result<u16> {
    text.parse().map_err(|_| io::Error::other(format!("{text:?} is no number\n{USAGE}")))
}

fn bytes(hexadecimal: &str) -> io::Result<Vec<u8>> {
    let wrong = || io::Error::other(format!("{hexadecimal:?} is not hexadecimal\n{USAGE}"));
    let pairs = hexadecimal.as_bytes().chunks(2);
    let byte = |pair: &[u8]| u8::from_str_radix(str::from_utf8(pair).ok()?, 16).ok();
    pairs.map(|pair| byte(pair).ok_or_else(wrong)).collect()
}
