//! What is sent on a connection after its handshake: records, sealed where they are sent from.

use std::cmp::min;
use std::io::{self, IoSlice};
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bytes::{Buf, BytesMut};
use rustls::{AlertDescription, ContentType, Error, HandshakeType};
use tokio::io::AsyncWrite;

use super::keys::Keys;
use super::record::{AROUND, MAX_CONTENT, Sealer};
use crate::server::WRITE;

/// What is sent.
pub(super) struct Writing {
    pub(super) sealer: Sealer,
    pub(super) out: BytesMut,
    /// The other side wants another key to be used.
    pub(super) renew: bool,
    pub(super) closed: bool,
}

impl Writing {
    pub(super) fn new(sealer: Sealer) -> Self {
        Self { sealer, out: BytesMut::new(), renew: false, closed: false }
    }

    /// Seals what `pieces` hold, as much as is written at once, and says how much that was.
    pub(super) fn seal(&mut self, keys: &mut Keys, pieces: &[IoSlice<'_>]) -> Result<usize, Error> {
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
    pub(super) fn close(&mut self, level: u8, why: AlertDescription) -> Result<(), Error> {
        if std::mem::replace(&mut self.closed, true) {
            return Ok(());
        }
        self.sealer.seal(&mut self.out, ContentType::Alert, |out| {
            out.extend_from_slice(&[level, why.into()]);
        })
    }

    /// Sends what is sealed.
    pub(super) fn poll_send<I>(&mut self, cx: &mut Context<'_>, io: &mut I) -> Poll<io::Result<()>>
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
