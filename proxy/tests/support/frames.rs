//! A client of HTTP/2 that sends frames as they are (RFC 9113 §4.1), with header blocks that
//! use no compression (RFC 7541 §6.2.2).

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};

use super::PATIENCE;
use super::raw::connect;

const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
const DATA: u8 = 0;
const HEADERS: u8 = 1;
const RST_STREAM: u8 = 3;
const SETTINGS: u8 = 4;
const GOAWAY: u8 = 7;
const END_STREAM: u8 = 1;
const END_HEADERS: u8 = 4;

/// A connection; the streams are 1, 3, 5...
pub(crate) struct Client {
    socket: TcpStream,
    next: u32,
}

/// How a stream ended.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Ended {
    /// With this error code.
    Reset(u32),
    /// With this body.
    Answered(String),
    /// The whole connection ended, with this error code if there was a GOAWAY.
    Connection(Option<u32>),
}

impl Client {
    pub(crate) fn connect(to: SocketAddr) -> Self {
        let mut socket = connect(to);
        socket.set_read_timeout(Some(PATIENCE)).unwrap();
        socket.write_all(PREFACE).unwrap();
        let mut client = Self { socket, next: 1 };
        client.frame(SETTINGS, 0, 0, &[]);
        client
    }

    /// Opens a stream with these fields, and gives its number.
    pub(crate) fn open(&mut self, fields: &[(&[u8], &[u8])], end: bool) -> u32 {
        let stream = self.next;
        self.next += 2;
        self.headers(stream, fields, end);
        stream
    }

    /// A block of fields, at the beginning or the end of a stream.
    pub(crate) fn headers(&mut self, stream: u32, fields: &[(&[u8], &[u8])], end: bool) {
        let mut block = Vec::new();
        for (name, value) in fields {
            block.push(0);
            for text in [name, value] {
                assert!(text.len() < 127);
                block.push(text.len() as u8);
                block.extend_from_slice(text);
            }
        }
        let flags = END_HEADERS | if end { END_STREAM } else { 0 };
        self.frame(HEADERS, flags, stream, &block);
    }

    pub(crate) fn data(&mut self, stream: u32, data: &[u8], end: bool) {
        self.frame(DATA, u8::from(end), stream, data);
    }

    /// Reads until `stream` has ended.
    pub(crate) fn wait(&mut self, stream: u32) -> Ended {
        let mut body = Vec::new();
        let mut goaway = None;
        loop {
            let Some((kind, flags, on, payload)) = self.read() else {
                return Ended::Connection(goaway);
            };
            let code =
                |at: usize| Some(u32::from_be_bytes(payload.get(at..at + 4)?.try_into().ok()?));
            match kind {
                GOAWAY => goaway = code(4),
                SETTINGS if flags == 0 => self.frame(SETTINGS, 1, 0, &[]),
                RST_STREAM if on == stream => return Ended::Reset(code(0).unwrap()),
                DATA if on == stream => body.extend_from_slice(&payload),
                _ => {}
            }
            if on == stream && kind <= HEADERS && flags & END_STREAM != 0 {
                return Ended::Answered(String::from_utf8_lossy(&body).into_owned());
            }
        }
    }

    fn frame(&mut self, kind: u8, flags: u8, stream: u32, payload: &[u8]) {
        let length = u32::try_from(payload.len()).unwrap().to_be_bytes();
        let mut frame = length[1..].to_vec();
        frame.extend([kind, flags]);
        frame.extend(stream.to_be_bytes());
        frame.extend(payload);
        // The other side may have closed already: the next read tells.
        let _ = self.socket.write_all(&frame);
    }

    fn read(&mut self) -> Option<(u8, u8, u32, Vec<u8>)> {
        let mut head = [0; 9];
        self.socket.read_exact(&mut head).ok()?;
        let length = u32::from_be_bytes([0, head[0], head[1], head[2]]);
        let mut payload = vec![0; length as usize];
        self.socket.read_exact(&mut payload).ok()?;
        let stream = u32::from_be_bytes([head[5], head[6], head[7], head[8]]);
        Some((head[3], head[4], stream, payload))
    }
}
