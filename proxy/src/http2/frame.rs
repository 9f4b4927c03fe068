//! Frames of HTTP/2 as they are on the wire (RFC 9113 §4.1, §6, §7).

use std::fmt;

use bytes::BytesMut;

/// What a client sends before its first frame (RFC 9113 §3.4).
pub(super) const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

/// The length of a frame's head.
pub(crate) const HEAD: usize = 9;

/// The largest window (RFC 9113 §6.9.1).
pub(super) const MOST_WINDOW: i64 = (1 << 31) - 1;

/// Kinds of frames (RFC 9113 §6).
pub(super) mod kind {
    pub(in crate::http2) const DATA: u8 = 0;
    pub(in crate::http2) const HEADERS: u8 = 1;
    pub(in crate::http2) const PRIORITY: u8 = 2;
    pub(in crate::http2) const RST_STREAM: u8 = 3;
    pub(in crate::http2) const SETTINGS: u8 = 4;
    pub(in crate::http2) const PUSH_PROMISE: u8 = 5;
    pub(in crate::http2) const PING: u8 = 6;
    pub(in crate::http2) const GOAWAY: u8 = 7;
    pub(in crate::http2) const WINDOW_UPDATE: u8 = 8;
    pub(in crate::http2) const CONTINUATION: u8 = 9;
}

/// Flags of frames; each is one of some kinds alone.
pub(super) mod flag {
    /// Of SETTINGS and PING: it answers one.
    pub(in crate::http2) const ACK: u8 = 1;
    /// Of DATA and HEADERS: nothing comes after it on the stream.
    pub(in crate::http2) const END_STREAM: u8 = 1;
    /// Of HEADERS and CONTINUATION: the block is whole.
    pub(in crate::http2) const END_HEADERS: u8 = 4;
    /// Of DATA and HEADERS: the payload begins with the length of its padding.
    pub(in crate::http2) const PADDED: u8 = 8;
    /// Of HEADERS: the block comes after a priority.
    pub(in crate::http2) const PRIORITY: u8 = 0x20;
}

/// The head of a frame.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Head {
    /// Of the payload.
    pub(super) length: usize,
    pub(super) kind: u8,
    pub(super) flags: u8,
    /// 0 for the connection.
    pub(super) stream: u32,
}

impl Head {
    /// Reads the head at the beginning of `bytes`, where there is a whole one.
    pub(super) fn read(bytes: &[u8]) -> Option<Self> {
        let [a, b, c, kind, flags, s, t, u, v] = *bytes.first_chunk::<HEAD>()?;
        let length = u32::from_be_bytes([0, a, b, c]) as usize;
        Some(Self { length, kind, flags, stream: u32::from_be_bytes([s & 0x7f, t, u, v]) })
    }

    /// As it is on the wire.
    pub(super) const fn bytes(self) -> [u8; HEAD] {
        // invariant: no frame that we send is longer than 2^24 - 1; the peer's setting is bounded.
        let [_, a, b, c] = (self.length as u32).to_be_bytes();
        let [s, t, u, v] = self.stream.to_be_bytes();
        [a, b, c, self.kind, self.flags, s, t, u, v]
    }

    pub(super) const fn has(self, flag: u8) -> bool {
        self.flags & flag != 0
    }
}

/// Writes a frame with a payload of so many bytes, known beforehand.
pub(super) fn write<const N: usize>(
    out: &mut BytesMut,
    kind: u8,
    flags: u8,
    stream: u32,
    payload: [u8; N],
) {
    out.extend_from_slice(&Head { length: N, kind, flags, stream }.bytes());
    out.extend_from_slice(&payload);
}

/// Why a stream or a connection ends (RFC 9113 §7).
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Reason(pub(super) u32);

impl Reason {
    pub(crate) const NO_ERROR: Self = Self(0);
    pub(crate) const PROTOCOL_ERROR: Self = Self(1);
    pub(crate) const INTERNAL_ERROR: Self = Self(2);
    pub(crate) const FLOW_CONTROL_ERROR: Self = Self(3);
    pub(crate) const STREAM_CLOSED: Self = Self(5);
    pub(crate) const FRAME_SIZE_ERROR: Self = Self(6);
    pub(crate) const REFUSED_STREAM: Self = Self(7);
    pub(crate) const CANCEL: Self = Self(8);
    pub(crate) const COMPRESSION_ERROR: Self = Self(9);
    pub(crate) const CONNECT_ERROR: Self = Self(10);
    pub(crate) const ENHANCE_YOUR_CALM: Self = Self(11);
}

/// The names that RFC 9113 §7 gives them, in their order.
const REASONS: [&str; 14] = [
    "NO_ERROR",
    "PROTOCOL_ERROR",
    "INTERNAL_ERROR",
    "FLOW_CONTROL_ERROR",
    "SETTINGS_TIMEOUT",
    "STREAM_CLOSED",
    "FRAME_SIZE_ERROR",
    "REFUSED_STREAM",
    "CANCEL",
    "COMPRESSION_ERROR",
    "CONNECT_ERROR",
    "ENHANCE_YOUR_CALM",
    "INADEQUATE_SECURITY",
    "HTTP_1_1_REQUIRED",
];

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match REASONS.get(self.0 as usize) {
            Some(name) => f.write_str(name),
            None => write!(f, "the unknown code {}", self.0),
        }
    }
}

impl fmt::Debug for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}
