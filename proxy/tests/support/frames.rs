//! A client of HTTP/2 that sends frames as they are (RFC 9113 §4.1), with header blocks that
//! use no compression (RFC 7541 §6.2.2).

use std::io::{self, ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpStream};

use super::PATIENCE;
use super::raw::connect;

pub(crate) const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
pub(crate) const DATA: u8 = 0;
pub(crate) const HEADERS: u8 = 1;
pub(crate) const PRIORITY: u8 = 2;
pub(crate) const RST_STREAM: u8 = 3;
pub(crate) const SETTINGS: u8 = 4;
pub(crate) const PUSH_PROMISE: u8 = 5;
pub(crate) const PING: u8 = 6;
pub(crate) const GOAWAY: u8 = 7;
pub(crate) const WINDOW_UPDATE: u8 = 8;
pub(crate) const CONTINUATION: u8 = 9;
pub(crate) const END_STREAM: u8 = 1;
pub(crate) const END_HEADERS: u8 = 4;

/// The setting of RFC 9113 §6.5.2 for the window of each stream.
pub(crate) const INITIAL_WINDOW_SIZE: u16 = 4;

/// What frames travel on.
pub(crate) trait Wire: Read + Write + Send {}

impl<W: Read + Write + Send> Wire for W {}

/// A connection; the streams are 1, 3, 5...
pub(crate) struct Client {
    wire: Box<dyn Wire>,
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
    /// Not, for as long as anybody is waited for.
    Open,
}

/// A frame as it came.
#[derive(Debug, Clone)]
pub(crate) struct Came {
    pub(crate) kind: u8,
    pub(crate) flags: u8,
    pub(crate) stream: u32,
    pub(crate) payload: Vec<u8>,
}

impl Came {
    /// The number at this place of the payload.
    pub(crate) fn number(&self, at: usize) -> u32 {
        u32::from_be_bytes(self.payload[at..at + 4].try_into().unwrap())
    }
}

impl Client {
    pub(crate) fn connect(to: SocketAddr) -> Self {
        Self::over(plain(to), &[])
    }

    /// A client on `wire` that has sent these settings.
    pub(crate) fn over(wire: impl Wire + 'static, settings: &[(u16, u32)]) -> Self {
        let mut client = Self::silent(wire);
        client.bytes(PREFACE);
        let setting = |(name, value): &(u16, u32)| {
            [name.to_be_bytes().as_slice(), &value.to_be_bytes()].concat()
        };
        let settings: Vec<u8> = settings.iter().flat_map(setting).collect();
        client.frame(SETTINGS, 0, 0, &settings);
        client
    }

    /// One that has sent nothing.
    pub(crate) fn silent(wire: impl Wire + 'static) -> Self {
        Self { wire: Box::new(wire), next: 1 }
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
        let flags = END_HEADERS | if end { END_STREAM } else { 0 };
        self.frame(HEADERS, flags, stream, &block(fields));
    }

    pub(crate) fn data(&mut self, stream: u32, data: &[u8], end: bool) {
        self.frame(DATA, u8::from(end), stream, data);
    }

    /// Reads until `stream` has ended, or the connection for stream 0.
    pub(crate) fn wait(&mut self, stream: u32) -> Ended {
        let mut body = Vec::new();
        let mut goaway = None;
        loop {
            let came = match self.read() {
                Ok(came) => came,
                Err(error) if is_late(&error) => return Ended::Open,
                Err(_) => return Ended::Connection(goaway),
            };
            match came.kind {
                GOAWAY => goaway = Some(came.number(4)),
                SETTINGS if came.flags == 0 => {
                    self.frame(SETTINGS, 1, 0, &[]);
                }
                RST_STREAM if came.stream == stream => return Ended::Reset(came.number(0)),
                DATA if came.stream == stream => body.extend_from_slice(&came.payload),
                _ => {}
            }
            let ended = came.kind <= HEADERS && came.flags & END_STREAM != 0;
            if ended && came.stream == stream {
                return Ended::Answered(String::from_utf8_lossy(&body).into_owned());
            }
        }
    }

    /// Sends a frame; says whether the other side still takes any.
    pub(crate) fn frame(&mut self, kind: u8, flags: u8, stream: u32, payload: &[u8]) -> bool {
        self.bytes(&frame(kind, flags, stream, payload))
    }

    /// Sends bytes as they are; says whether the other side still takes any.
    pub(crate) fn bytes(&mut self, bytes: &[u8]) -> bool {
        self.wire.write_all(bytes).and_then(|()| self.wire.flush()).is_ok()
    }

    /// The next frame.
    pub(crate) fn read(&mut self) -> io::Result<Came> {
        let mut head = [0; 9];
        self.wire.read_exact(&mut head)?;
        let length = u32::from_be_bytes([0, head[0], head[1], head[2]]);
        let mut payload = vec![0; length as usize];
        self.wire.read_exact(&mut payload)?;
        let stream = u32::from_be_bytes([head[5], head[6], head[7], head[8]]);
        Ok(Came { kind: head[3], flags: head[4], stream, payload })
    }
}

/// A connection without TLS.
pub(crate) fn plain(to: SocketAddr) -> TcpStream {
    let socket = connect(to);
    socket.set_read_timeout(Some(PATIENCE)).unwrap();
    socket
}

/// A frame.
pub(crate) fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let length = u32::try_from(payload.len()).unwrap().to_be_bytes();
    let mut frame = length[1..].to_vec();
    frame.extend([kind, flags]);
    frame.extend(stream.to_be_bytes());
    frame.extend(payload);
    frame
}

/// Fields without compression.
pub(crate) fn block(fields: &[(&[u8], &[u8])]) -> Vec<u8> {
    let mut block = Vec::new();
    for (name, value) in fields {
        block.push(0);
        for text in [name, value] {
            assert!(text.len() < 127);
            block.push(text.len() as u8);
            block.extend_from_slice(text);
        }
    }
    block
}

fn is_late(error: &io::Error) -> bool {
    [ErrorKind::WouldBlock, ErrorKind::TimedOut].contains(&error.kind())
}
