//! TLS between sidecars. The handshake is rustls's, and so are the keys; the records that follow it
//! are sealed and opened here, where they are: rustls copies what they carry twice each way, and keeps
//! 4 KiB for each connection to read into. A connection that rests has no buffer.

mod handshake;
mod keys;
mod reading;
mod record;
#[cfg(test)]
mod tests;
mod writing;

use std::io::{self, IoSlice};
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bytes::BytesMut;
use rustls::{AlertDescription, Error, ExtractedSecrets, InvalidMessage};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

pub(crate) use self::handshake::{Established, accept, connect};
use self::keys::Keys;
use self::reading::{End, Reading};
use self::record::{Opener, Sealer};
use self::writing::Writing;

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

impl<I: AsyncRead + AsyncWrite + Unpin> TlsStream<I> {
    /// `read` came with the handshake.
    fn new(io: I, read: BytesMut, secrets: ExtractedSecrets, keys: Keys) -> Result<Self, Error> {
        let reading = Reading::new(Opener::new(secrets.rx)?, read);
        let writing = Writing::new(Sealer::new(secrets.tx, keys.limit())?);
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
            if ready!(this.reading.poll_fill(&mut this.io, cx))? == 0 {
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
