//! A client of HTTP/2 that sends frames as they are (RFC 9113 §4.1), for what no well-behaved
//! library does. Header blocks use no compression (RFC 7541 §6.2.2).

use std::io;
use std::net::SocketAddr;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};

/// Types of frames (RFC 9113 §6).
pub const DATA: u8 = 0;
/// See [`DATA`].
pub const HEADERS: u8 = 1;
/// See [`DATA`].
pub const RST_STREAM: u8 = 3;
/// See [`DATA`].
pub const SETTINGS: u8 = 4;
/// See [`DATA`].
pub const PING: u8 = 6;
/// See [`DATA`].
pub const GOAWAY: u8 = 7;

/// The flag of DATA and HEADERS that nothing follows on their stream.
const END_STREAM: u8 = 1;

/// The flag of HEADERS that the block is whole.
const END_HEADERS: u8 = 4;

/// The flag of SETTINGS and PING that they answer one.
const ACK: u8 = 1;

const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

/// The longest text that one byte of length can say (RFC 7541 §5.1).
const LONGEST_TEXT: usize = 126;

/// The reading side of a connection.
#[derive(Debug)]
pub struct Reader(OwnedReadHalf);

/// The writing side; its streams are 1, 3, 5...
#[derive(Debug)]
pub struct Writer {
    socket: OwnedWriteHalf,
    next: u32,
}

/// A frame as it came.
#[derive(Debug, Clone)]
pub struct Frame {
    /// Its type.
    pub kind: u8,
    /// Its flags.
    pub flags: u8,
    /// Its stream; 0 for the connection.
    pub stream: u32,
    /// What it says.
    pub payload: Vec<u8>,
}

/// How a stream or a connection ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ended {
    /// The stream was reset, with this error code.
    Reset(u32),
    /// The stream was answered.
    Answered,
    /// The connection ended, with this error code if there was a GOAWAY.
    Connection(Option<u32>),
}

/// Connects with prior knowledge and default settings.
///
/// # Errors
/// When there is no connection.
pub async fn connect(address: SocketAddr) -> io::Result<(Reader, Writer)> {
    let socket = TcpStream::connect(address).await?;
    socket.set_nodelay(true)?;
    let (read, write) = socket.into_split();
    let mut writer = Writer { socket: write, next: 1 };
    writer.bytes(&[PREFACE, &frame(SETTINGS, 0, 0, &[])].concat()).await?;
    Ok((Reader(read), writer))
}

impl Writer {
    /// Sends the head of a GET without a body, and gives its stream.
    ///
    /// # Errors
    /// When the other side takes nothing any more.
    pub async fn get(&mut self, authority: &str, path: &str) -> io::Result<u32> {
        let (stream, bytes) = self.request(authority, path);
        self.bytes(&bytes).await?;
        Ok(stream)
    }

    /// The next stream and the frame that opens it with a GET.
    pub fn request(&mut self, authority: &str, path: &str) -> (u32, Vec<u8>) {
        let fields =
            [(":method", "GET"), (":scheme", "http"), (":path", path), (":authority", authority)];
        let stream = self.next;
        self.next += 2;
        (stream, frame(HEADERS, END_HEADERS | END_STREAM, stream, &block(&fields)))
    }

    /// Sends bytes as they are.
    ///
    /// # Errors
    /// When the other side takes nothing any more.
    pub async fn bytes(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.socket.write_all(bytes).await
    }

    /// Says that a SETTINGS or PING has come, where `frame` is one.
    ///
    /// # Errors
    /// When the other side takes nothing any more.
    pub async fn acknowledge(&mut self, came: &Frame) -> io::Result<()> {
        match (came.kind, came.flags & ACK) {
            (SETTINGS, 0) => self.bytes(&frame(SETTINGS, ACK, 0, &[])).await,
            (PING, 0) => self.bytes(&frame(PING, ACK, 0, &came.payload)).await,
            _ => Ok(()),
        }
    }
}

impl Reader {
    /// The next frame.
    ///
    /// # Errors
    /// When the connection has ended.
    pub async fn frame(&mut self) -> io::Result<Frame> {
        let mut head = [0; 9];
        self.0.read_exact(&mut head).await?;
        let [a, b, c, kind, flags, stream @ ..] = head;
        let mut payload = vec![0; u32::from_be_bytes([0, a, b, c]) as usize];
        self.0.read_exact(&mut payload).await?;
        Ok(Frame { kind, flags, stream: u32::from_be_bytes(stream), payload })
    }

    /// Reads until `stream` has ended, or the connection for stream 0.
    pub async fn ended(&mut self, stream: u32) -> Ended {
        let mut goaway = None;
        while let Ok(frame) = self.frame().await {
            match frame.ends() {
                Some(ended) if frame.stream == stream => return ended,
                _ if frame.kind == GOAWAY => goaway = frame.number(4),
                _ => {}
            }
        }
        Ended::Connection(goaway)
    }
}

impl Frame {
    /// How it ends its stream, if it does.
    pub fn ends(&self) -> Option<Ended> {
        match self.kind {
            RST_STREAM => Some(Ended::Reset(self.number(0).unwrap_or_default())),
            DATA | HEADERS if self.flags & END_STREAM != 0 => Some(Ended::Answered),
            _ => None,
        }
    }

    fn number(&self, at: usize) -> Option<u32> {
        let bytes = self.payload.get(at..at + 4)?;
        Some(u32::from_be_bytes(bytes.try_into().ok()?))
    }
}

/// A frame.
pub fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let length = u32::try_from(payload.len()).expect("no such frame").to_be_bytes();
    let mut frame = length[1..].to_vec();
    frame.extend([kind, flags]);
    frame.extend(stream.to_be_bytes());
    frame.extend(payload);
    frame
}

fn block(fields: &[(&str, &str)]) -> Vec<u8> {
    let mut block = Vec::new();
    for (name, value) in fields {
        block.push(0);
        for text in [name, value] {
            assert!(text.len() <= LONGEST_TEXT, "{text} is too long for this client");
            block.push(text.len() as u8);
            block.extend_from_slice(text.as_bytes());
        }
    }
    block
}
