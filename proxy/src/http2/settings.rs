//! SETTINGS (RFC 9113 §6.5): ours as they are told, and the other side's as they are read.

use bytes::BytesMut;

use super::Role;
use super::frame::{self, Head, MOST_WINDOW, PREFACE, Reason, kind};
use super::hpack::Encoder;
use crate::server::{CONNECTION_WINDOW, MAX_HEAD, MAX_STREAMS, STREAM_WINDOW};

const HEADER_TABLE_SIZE: u16 = 1;
const ENABLE_PUSH: u16 = 2;
const MAX_CONCURRENT_STREAMS: u16 = 3;
const INITIAL_WINDOW_SIZE: u16 = 4;
const MAX_FRAME_SIZE: u16 = 5;
const MAX_HEADER_LIST_SIZE: u16 = 6;
/// RFC 8441 §3.
const ENABLE_CONNECT_PROTOCOL: u16 = 8;

/// The window of a connection, and of each stream, at the beginning (RFC 9113 §6.9.2).
pub(super) const FIRST_WINDOW: u32 = 65_535;

/// The least that MAX_FRAME_SIZE may be, and what it is at the beginning.
const LEAST_FRAME: u32 = 1 << 14;
const MOST_FRAME: u32 = (1 << 24) - 1;

/// What the other side may use of our memory for the compression of fields (RFC 7541 §4.2).
pub(super) const HEADER_TABLE: usize = 4096;

/// How one side of a connection is to behave.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Settings {
    /// How much all streams together may send us ahead of their readers, in bytes.
    pub(crate) window: u32,
    /// How much each stream may.
    pub(crate) stream_window: u32,
    /// How many streams there may be at the same time.
    pub(crate) streams: u32,
    /// The largest frame that we take.
    pub(crate) frame: u32,
    /// The largest head that we take.
    pub(crate) head: u32,
    /// Whether a stream may become a WebSocket (RFC 8441).
    pub(crate) websocket: bool,
}

impl Settings {
    /// What every connection of ours has, with frames of so many bytes at most.
    pub(crate) const fn with_frames(frame: u32) -> Self {
        Self {
            window: CONNECTION_WINDOW,
            stream_window: STREAM_WINDOW,
            streams: MAX_STREAMS,
            frame,
            head: MAX_HEAD as u32,
            websocket: false,
        }
    }

    /// Writes what a connection begins with.
    pub(super) fn write(self, role: Role, out: &mut BytesMut) {
        let mut settings = Vec::with_capacity(5);
        match role {
            Role::Client => {
                out.extend_from_slice(PREFACE);
                settings.push((ENABLE_PUSH, 0));
            }
            Role::Server => settings.push((MAX_CONCURRENT_STREAMS, self.streams)),
        }
        settings.push((INITIAL_WINDOW_SIZE, self.stream_window));
        settings.push((MAX_FRAME_SIZE, self.frame));
        settings.push((MAX_HEADER_LIST_SIZE, self.head));
        if self.websocket {
            settings.push((ENABLE_CONNECT_PROTOCOL, 1));
        }
        let length = 6 * settings.len();
        let head = Head { length, kind: kind::SETTINGS, flags: 0, stream: 0 };
        out.extend_from_slice(&head.bytes());
        for (name, value) in settings {
            out.extend_from_slice(&name.to_be_bytes());
            out.extend_from_slice(&value.to_be_bytes());
        }
        let more = self.window.saturating_sub(FIRST_WINDOW);
        if more > 0 {
            frame::write(out, kind::WINDOW_UPDATE, 0, 0, more.to_be_bytes());
        }
    }
}

/// What the other side takes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Theirs {
    /// How much each stream may be sent ahead, in bytes.
    pub(super) window: i64,
    /// The largest frame.
    pub(super) frame: usize,
    /// How many streams of ours at the same time, where it says so.
    pub(super) streams: Option<u32>,
}

impl Default for Theirs {
    fn default() -> Self {
        Self { window: i64::from(FIRST_WINDOW), frame: LEAST_FRAME as usize, streams: None }
    }
}

impl Theirs {
    /// Takes up what a frame of SETTINGS says, in its order; `encoder` follows what is said of its table.
    ///
    /// # Errors
    /// What the connection ends with.
    pub(super) fn read(&mut self, payload: &[u8], encoder: &mut Encoder) -> Result<(), Reason> {
        if !payload.len().is_multiple_of(6) {
            return Err(Reason::FRAME_SIZE_ERROR);
        }
        for setting in payload.chunks_exact(6) {
            let name = u16::from_be_bytes([setting[0], setting[1]]);
            let value = u32::from_be_bytes([setting[2], setting[3], setting[4], setting[5]]);
            match name {
                HEADER_TABLE_SIZE => encoder.resize(value as usize),
                ENABLE_PUSH | ENABLE_CONNECT_PROTOCOL if value > 1 => {
                    return Err(Reason::PROTOCOL_ERROR);
                }
                MAX_CONCURRENT_STREAMS => self.streams = Some(value),
                INITIAL_WINDOW_SIZE if i64::from(value) > MOST_WINDOW => {
                    return Err(Reason::FLOW_CONTROL_ERROR);
                }
                INITIAL_WINDOW_SIZE => self.window = value.into(),
                MAX_FRAME_SIZE if !(LEAST_FRAME..=MOST_FRAME).contains(&value) => {
                    return Err(Reason::PROTOCOL_ERROR);
                }
                MAX_FRAME_SIZE => self.frame = value as usize,
                _ => {}
            }
        }
        Ok(())
    }
}
