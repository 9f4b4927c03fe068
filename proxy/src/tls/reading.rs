//! What comes on a connection after its handshake: records, opened where they were read.

use std::cmp::min;
use std::io;
use std::task::{Context, Poll};

use bytes::{Buf, BytesMut};
use rustls::{AlertDescription, ContentType, Error, HandshakeType, InvalidMessage, PeerMisbehaved};
use tokio::io::{AsyncRead, ReadBuf};

use super::keys::{self, Keys};
use super::record::{self, AROUND, MAX_CONTENT, Opened, Opener};
use super::writing::Writing;
use crate::fill::{Expected, Pace};
use crate::server::WRITE;

/// Most bytes that are read at once: what is written at once, in its records.
const READ: usize = WRITE + WRITE.div_ceil(MAX_CONTENT) * AROUND;

/// Most records in a row that bring nothing.
pub(super) const MAX_IDLE: u8 = 32;

/// Longest message after the handshake, in bytes.
const MAX_MESSAGE: usize = 64 * 1024;

/// What comes.
pub(super) struct Reading {
    opener: Opener,
    /// What was read: first what is left of the record that is open.
    pub(super) read: BytesMut,
    /// How long its content is,
    content: usize,
    /// and what follows that and belongs to it.
    rest: usize,
    pace: Pace,
    /// A message of TLS itself that is not whole yet.
    pub(super) message: BytesMut,
    /// How many records in a row brought nothing.
    idle: u8,
    pub(super) end: Option<End>,
}

/// Why nothing comes any more.
pub(super) enum End {
    /// The other side said so.
    Closed,
    Failed(Box<Error>),
}

impl Reading {
    /// `read` came with the handshake.
    pub(super) fn new(opener: Opener, read: BytesMut) -> Self {
        Self {
            opener,
            read: if read.is_empty() { BytesMut::new() } else { read },
            content: 0,
            rest: 0,
            pace: Pace::bounded(READ),
            message: BytesMut::new(),
            idle: 0,
            end: None,
        }
    }

    /// Hands out what is open.
    pub(super) fn give(&mut self, to: &mut ReadBuf<'_>) {
        if self.content == 0 {
            return;
        }
        let given = min(self.content, to.remaining());
        to.put_slice(&self.read[..given]);
        self.read.advance(given);
        self.content -= given;
        if self.content == 0 {
            self.read.advance(std::mem::take(&mut self.rest));
        }
    }

    /// Opens the next record, and acts on one that is TLS's own; says whether there was one.
    pub(super) fn open(&mut self, keys: &mut Keys, writing: &mut Writing) -> Result<bool, Error> {
        let Some(Opened { kind, length, rest }) = self.opener.open(&mut self.read)? else {
            return Ok(false);
        };
        if kind != ContentType::Handshake && !self.message.is_empty() {
            return Err(PeerMisbehaved::MessageInterleavedWithHandshakeMessage.into());
        }
        if kind == ContentType::ApplicationData && length > 0 {
            (self.content, self.rest, self.idle) = (length, rest, 0);
            return Ok(true);
        }
        self.idle += 1;
        if self.idle > MAX_IDLE {
            return Err(PeerMisbehaved::TooManyEmptyFragments.into());
        }
        match kind {
            ContentType::ApplicationData => {}
            ContentType::Alert => self.alert(length)?,
            ContentType::Handshake if length > 0 => {
                self.message.extend_from_slice(&self.read[..length]);
                self.messages(keys, writing)?;
            }
            kind => return Err(record::unexpected(kind)),
        }
        self.read.advance(length + rest);
        Ok(true)
    }

    /// What the other side says of the connection (§6).
    fn alert(&mut self, length: usize) -> Result<(), Error> {
        let [_, description] = self.read[..length] else {
            return Err(InvalidMessage::InvalidContentType.into());
        };
        match AlertDescription::from(description) {
            AlertDescription::CloseNotify => self.end = Some(End::Closed),
            AlertDescription::UserCanceled => {}
            description => return Err(Error::AlertReceived(description)),
        }
        Ok(())
    }

    /// Acts on the messages that are whole (§4.6).
    fn messages(&mut self, keys: &mut Keys, writing: &mut Writing) -> Result<(), Error> {
        while let Some((&[kind, long, high, low], after)) = self.message.split_first_chunk::<4>() {
            let length = u32::from_be_bytes([0, long, high, low]) as usize;
            if length > MAX_MESSAGE {
                return Err(InvalidMessage::HandshakePayloadTooLarge.into());
            }
            let Some(body) = after.get(..length) else { return Ok(()) };
            match HandshakeType::from(kind) {
                HandshakeType::NewSessionTicket => keys.ticket(body)?,
                HandshakeType::KeyUpdate => {
                    let asked = match body {
                        [asked @ 0..=1] => *asked == 1,
                        _ => return Err(InvalidMessage::InvalidKeyUpdate.into()),
                    };
                    if after.len() > length {
                        return Err(PeerMisbehaved::KeyEpochWithPendingFragment.into());
                    }
                    self.opener = Opener::new(keys.next_received()?)?;
                    writing.renew |= asked;
                }
                kind => return Err(keys::unexpected(kind)),
            }
            self.message.advance(4 + length);
        }
        if self.message.is_empty() {
            self.message = BytesMut::new();
        }
        Ok(())
    }

    /// Reads on and says how much; 0 at the end of the connection.
    pub(super) fn poll_fill<I: AsyncRead + Unpin>(
        &mut self,
        io: &mut I,
        cx: &mut Context<'_>,
    ) -> Poll<io::Result<usize>> {
        let polled = self.pace.poll_fill(io, &mut self.read, Expected::Anything, cx);
        if polled.is_pending() && self.read.is_empty() {
            self.read = BytesMut::new(); // nothing is kept while nothing comes
        }
        polled
    }
}
