//! Frames on their way to the other side, in the order in which they are written.

use bytes::{Bytes, BytesMut};

use super::Role;
use super::fields;
use super::frame::{self, HEAD, Head, Reason, flag, kind};
use super::hpack::Encoder;
use super::settings::{FIRST_WINDOW, Settings, Theirs};
use super::stream::{Next, Outgoing};
use crate::out::Out;

/// What is on its way to the other side, and what that takes.
#[derive(Debug)]
pub(super) struct Writer {
    pub(super) out: Out,
    pub(super) encoder: Encoder,
    pub(super) theirs: Theirs,
    /// What all streams together may still send.
    pub(super) window: i64,
}

/// What became of a stream's turn.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Turn {
    /// All of it was written.
    Done,
    /// The rest waits for the connection.
    Waits,
    /// The rest waits for the window of the stream.
    Shut,
}

impl Writer {
    /// One that begins with our settings, and knows none of theirs.
    pub(super) fn new(role: Role, settings: Settings) -> Self {
        let mut out = Out::default();
        out.append(|out| settings.write(role, out));
        let window = i64::from(FIRST_WINDOW);
        Self { out, encoder: Encoder::new(), theirs: Theirs::default(), window }
    }

    /// Writes what may be written of a stream's data, in at most so many frames, and what comes
    /// after it.
    pub(super) fn advance(&mut self, id: u32, outgoing: &mut Outgoing, frames: usize) -> Turn {
        for turn in 0.. {
            if outgoing.data.is_empty() {
                break;
            }
            if outgoing.window <= 0 {
                return Turn::Shut;
            }
            if self.window <= 0 || self.out.is_full() || turn == frames {
                return Turn::Waits;
            }
            let windows = usize::try_from(outgoing.window.min(self.window)).unwrap_or(0);
            let length = outgoing.data.len().min(windows).min(self.theirs.frame);
            let data = if length == outgoing.data.len() {
                std::mem::take(&mut outgoing.data)
            } else {
                outgoing.data.split_to(length)
            };
            let last = outgoing.data.is_empty() && matches!(outgoing.next, Next::End);
            self.data(id, data, last);
            outgoing.window -= length as i64;
            outgoing.moved = true;
            outgoing.ended |= last;
        }
        match std::mem::take(&mut outgoing.next) {
            Next::More => return Turn::Done,
            Next::End if outgoing.ended => {}
            Next::End => self.data(id, Bytes::new(), true),
            Next::Trailers(trailers) => self.block(id, true, |encoder, out| {
                fields::write_trailers(encoder, &trailers, out);
            }),
        }
        outgoing.ended = true;
        Turn::Done
    }

    fn data(&mut self, id: u32, data: Bytes, last: bool) {
        self.window -= data.len() as i64;
        let flags = if last { flag::END_STREAM } else { 0 };
        let head = Head { length: data.len(), kind: kind::DATA, flags, stream: id };
        self.out.text(&head.bytes());
        self.out.data(data);
    }

    /// Writes a block of fields, in as many frames as it takes.
    pub(super) fn block(
        &mut self,
        id: u32,
        last: bool,
        write: impl FnOnce(&mut Encoder, &mut BytesMut),
    ) {
        let (encoder, most) = (&mut self.encoder, self.theirs.frame);
        let ends = if last { flag::END_STREAM } else { 0 };
        self.out.append(|out| {
            let begin = out.len();
            out.extend_from_slice(&[0; HEAD]);
            write(encoder, out);
            let length = out.len() - begin - HEAD;
            let whole = length <= most;
            let first = Head {
                length: length.min(most),
                kind: kind::HEADERS,
                flags: ends | if whole { flag::END_HEADERS } else { 0 },
                stream: id,
            };
            out[begin..begin + HEAD].copy_from_slice(&first.bytes());
            if !whole {
                let rest = out.split_off(begin + HEAD + most);
                let pieces = rest.chunks(most).count();
                for (number, piece) in rest.chunks(most).enumerate() {
                    let flags = if number + 1 == pieces { flag::END_HEADERS } else { 0 };
                    let kind = kind::CONTINUATION;
                    let head = Head { length: piece.len(), kind, flags, stream: id };
                    out.extend_from_slice(&head.bytes());
                    out.extend_from_slice(piece);
                }
            }
        });
    }

    /// Writes a frame whose payload is known beforehand.
    pub(super) fn frame<const N: usize>(&mut self, kind: u8, flags: u8, id: u32, payload: [u8; N]) {
        self.out.append(|out| frame::write(out, kind, flags, id, payload));
    }

    pub(super) fn reset(&mut self, id: u32, reason: Reason) {
        self.frame(kind::RST_STREAM, 0, id, reason.0.to_be_bytes());
    }

    pub(super) fn goaway(&mut self, last: u32, reason: Reason) {
        let [a, b, c, d] = last.to_be_bytes();
        let [e, f, g, h] = reason.0.to_be_bytes();
        self.frame(kind::GOAWAY, 0, 0, [a, b, c, d, e, f, g, h]);
    }
}
