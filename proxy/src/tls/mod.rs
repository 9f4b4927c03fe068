//! TLS between sidecars. The handshake is rustls's, and so are the keys; the records that follow it
//! are sealed and opened here, where they are: rustls copies what they carry twice each way, and keeps
//! 4 KiB for each connection to read into. A connection that rests has no buffer.

mod handshake;
mod keys;
mod record;
#[cfg(test)]
mod tests;

use std::cmp::min;
use std::io::{self, IoSlice};
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bytes::{Buf, BytesMut};
use rustls::{
    AlertDescription, ContentType, Error, ExtractedSecrets, HandshakeType, InvalidMessage,
    PeerMisbehaved,
};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

pub(crate) use self::handshake::{Established, accept, connect};
use self::keys::Keys;
use self::record::{AROUND, MAX_CONTENT, Opened, Opener, Sealer};
use crate::fill::{Expected, Pace};
use crate::server::WRITE;

/// Most bytes that are read at once: what is written at once, in its records.
const READ: usize = WRITE + WRITE.div_ceil(MAX_CONTENT) * AROUND;

/// Most records in a row that bring nothing.
const MAX_IDLE: u8 = 32;

/// Longest message after the handshake, in bytes.
const MAX_MESSAGE: usize = 64 * 1024;

/// The level of an alert, which means nothing in TLS 1.3 (RFC 8446 §6).
const WARNING: u8 = 1;
const FATAL: u8 = 2;

/// A connection after its handshake.
pub(crate) struct TlsStream<I> {
    io: I,
    keys: Keys,
    reading: Reading,
    writing: Writing,
}

/// What comes.
struct Reading {
    opener: Opener,
    /// What was read: first what is left of the record that is open.
    read: BytesMut,
    /// How long its content is,
    content: usize,
    /// and what follows that and belongs to it.
    rest: usize,
    pace: Pace,
    /// A message of TLS itself that is not whole yet.
    message: BytesMut,
    /// How many records in a row brought nothing.
    idle: u8,
    end: Option<End>,
}

/// Why nothing comes any more.
enum End {
    /// The other side said so.
    Closed,
    Failed(Box<Error>),
}

/// What is sent.
struct Writing {
    sealer: Sealer,
    out: BytesMut,
    /// The other side wants another key to be used.
    renew: bool,
    closed: bool,
}

impl<I: AsyncRead + AsyncWrite + Unpin> TlsStream<I> {
    /// `read` came with the handshake.
    fn new(io: I, read: BytesMut, secrets: ExtractedSecrets, keys: Keys) -> Result<Self, Error> {
        let reading = Reading {
            opener: Opener::new(secrets.rx)?,
            read: if read.is_empty() { BytesMut::new() } else { read },
            content: 0,
            rest: 0,
            pace: Pace::bounded(READ),
            message: BytesMut::new(),
            idle: 0,
            end: None,
        };
        let sealer = Sealer::new(secrets.tx, keys.limit())?;
        let writing = Writing { sealer, out: BytesMut::new(), renew: false, closed: false };
        Ok(Self { io, keys, reading, writing })
    }

    /// Ends a connection with what is wrong, and tells the other side.
    fn fail(&mut self, error: Error, cx: &mut Context<'_>) {
        if let Some(alert) = alert(&error)
            && self.writing.close(FATAL, alert).is_ok()
        {
            // One who cannot be told now is not told.
            let _ = self.writing.poll_send(cx, &mut self.io);
        }
        self.reading.end = Some(End::Failed(Box::new(error)));
    }
}

impl Reading {
    /// Hands out what is open.
    fn give(&mut self, to: &mut ReadBuf<'_>) {
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
    fn open(&mut self, keys: &mut Keys, writing: &mut Writing) -> Result<bool, Error> {
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
}

impl Writing {
    /// Seals what `pieces` hold, as much as is written at once, and says how much that was.
    fn seal(&mut self, keys: &mut Keys, pieces: &[IoSlice<'_>]) -> Result<usize, Error> {
        let all: usize = pieces.iter().map(|piece| piece.len()).sum();
        let taken = min(all, WRITE);
        self.out.reserve(taken + taken.div_ceil(MAX_CONTENT) * AROUND);
        let mut pieces = pieces.iter().map(|piece| &**piece);
        let (mut piece, mut left) = (&[][..], taken);
        while left > 0 {
            if self.renew || self.sealer.is_spent() {
                self.renew(keys)?;
            }
            let mut missing = min(left, MAX_CONTENT);
            left -= missing;
            self.sealer.seal(&mut self.out, ContentType::ApplicationData, |out| {
                while missing > 0 {
                    let (now, later) = piece.split_at(min(missing, piece.len()));
                    out.extend_from_slice(now);
                    missing -= now.len();
                    piece =
                        if later.is_empty() { pieces.next().unwrap_or_default() } else { later };
                }
            })?;
        }
        Ok(taken)
    }

    /// Says that another key follows, and goes on with it (§4.6.3).
    fn renew(&mut self, keys: &mut Keys) -> Result<(), Error> {
        let update = [HandshakeType::KeyUpdate.into(), 0, 0, 1, 0];
        self.sealer.seal(&mut self.out, ContentType::Handshake, |out| {
            out.extend_from_slice(&update);
        })?;
        self.renew = false;
        self.sealer.renew(keys.next_sent()?)
    }

    /// Says that nothing follows, and why.
    fn close(&mut self, level: u8, why: AlertDescription) -> Result<(), Error> {
        if std::mem::replace(&mut self.closed, true) {
            return Ok(());
        }
        self.sealer.seal(&mut self.out, ContentType::Alert, |out| {
            out.extend_from_slice(&[level, why.into()]);
        })
    }

    /// Sends what is sealed.
    fn poll_send<I>(&mut self, cx: &mut Context<'_>, io: &mut I) -> Poll<io::Result<()>>
    where
        I: AsyncWrite + Unpin,
    {
        if self.out.is_empty() {
            return Poll::Ready(Ok(()));
        }
        while !self.out.is_empty() {
            let sent = ready!(Pin::new(&mut *io).poll_write(cx, &self.out))?;
            if sent == 0 {
                return Poll::Ready(Err(io::ErrorKind::WriteZero.into()));
            }
            self.out.advance(sent);
        }
        self.out = BytesMut::new(); // nothing is kept until there is more to send
        Poll::Ready(Ok(()))
    }
}

impl<I: AsyncRead + AsyncWrite + Unpin> AsyncRead for TlsStream<I> {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        to: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        let before = to.filled().len();
        loop {
            this.reading.give(to);
            let came = to.filled().len() > before;
            if to.remaining() == 0 {
                return Poll::Ready(Ok(()));
            }
            match &this.reading.end {
                Some(End::Failed(error)) if !came => {
                    return Poll::Ready(Err(failure((**error).clone())));
                }
                Some(_) => return Poll::Ready(Ok(())),
                None => {}
            }
            match this.reading.open(&mut this.keys, &mut this.writing) {
                Ok(true) => continue,
                Ok(false) if came => return Poll::Ready(Ok(())),
                Ok(false) => {}
                Err(error) => {
                    this.fail(error, cx);
                    continue;
                }
            }
            let Reading { read, pace, .. } = &mut this.reading;
            if read.is_empty() {
                *read = BytesMut::new(); // nothing is kept while nothing comes
            }
            if ready!(pace.poll_fill(&mut this.io, read, Expected::Anything, cx))? == 0 {
                let text = "the connection ended without TLS's close_notify";
                return Poll::Ready(Err(io::Error::new(io::ErrorKind::UnexpectedEof, text)));
            }
        }
    }
}

impl<I: AsyncRead + AsyncWrite + Unpin> AsyncWrite for TlsStream<I> {
    fn poll_write(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        self.poll_write_vectored(cx, &[IoSlice::new(bytes)])
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        pieces: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let Self { io, keys, writing, .. } = self.get_mut();
        // Nothing is sealed before what was is sent.
        ready!(writing.poll_send(cx, io))?;
        if writing.closed {
            return Poll::Ready(Err(io::ErrorKind::BrokenPipe.into()));
        }
        let taken = writing.seal(keys, pieces).map_err(failure)?;
        // What does not go now goes when it is flushed.
        match writing.poll_send(cx, io) {
            Poll::Ready(Err(error)) => Poll::Ready(Err(error)),
            _ => Poll::Ready(Ok(taken)),
        }
    }

    fn is_write_vectored(&self) -> bool {
        true
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let Self { io, writing, .. } = self.get_mut();
        ready!(writing.poll_send(cx, io))?;
        Pin::new(io).poll_flush(cx)
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let Self { io, writing, .. } = self.get_mut();
        writing.close(WARNING, AlertDescription::CloseNotify).map_err(failure)?;
        ready!(writing.poll_send(cx, io))?;
        Pin::new(io).poll_shutdown(cx)
    }
}

impl<I> std::fmt::Debug for TlsStream<I> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("TlsStream").finish_non_exhaustive() // nor is a key shown
    }
}

/// What went wrong with TLS, where only a connection's errors are told.
fn failure(error: Error) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, error)
}

/// What the other side is told of an error; nothing of one that it has told of itself (§6.2).
const fn alert(error: &Error) -> Option<AlertDescription> {
    match error {
        Error::AlertReceived(_) => None,
        Error::DecryptError => Some(AlertDescription::BadRecordMac),
        Error::PeerSentOversizedRecord => Some(AlertDescription::RecordOverflow),
        Error::InvalidMessage(InvalidMessage::InvalidKeyUpdate) => {
            Some(AlertDescription::IllegalParameter)
        }
        Error::InvalidMessage(_) => Some(AlertDescription::DecodeError),
        Error::PeerMisbehaved(_)
        | Error::InappropriateMessage { .. }
        | Error::InappropriateHandshakeMessage { .. } => Some(AlertDescription::UnexpectedMessage),
        _ => Some(AlertDescription::InternalError),
    }
}
