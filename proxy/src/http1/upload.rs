//! The body of a request while it is answered: fed to whoever handles it, and read over where nobody
//! wants it.

use std::task::{Context, Poll};

use bytes::BytesMut;

use super::decode::{BadBody, Decoder};
use super::pipe::{Feed, Wants, pipe};
use crate::body::BodyError;
use crate::received::Received;

/// How much of a body that nobody wants is read for the sake of what follows it.
const UNWANTED: usize = 64 * 1024;

/// The body of the request that is being answered.
pub(super) struct Upload {
    pub(super) decoder: Decoder,
    /// `None` once nobody wants it any more.
    pub(super) feed: Option<Feed>,
    /// The client waits for word before it sends it.
    pub(super) expects: bool,
}

/// What can be done for a request's body.
pub(super) enum Feeding {
    /// Nothing before its reader wants more.
    Waits,
    /// Its reader wants what has not come yet.
    Hungry,
    /// Nothing any more.
    Over,
}

impl Upload {
    /// The body of a request, and what whoever handles it reads. What came with the head is there
    /// at once.
    pub(super) fn open(
        decoder: Option<Decoder>,
        expects: bool,
        read: &mut BytesMut,
    ) -> (Self, Received) {
        let Some(decoder) = decoder else {
            let upload = Self { decoder: Decoder::Over, feed: None, expects: false };
            return (upload, Received::Nothing);
        };
        let (feed, body) = pipe(decoder.left());
        let expects = expects && read.is_empty();
        let mut upload = Self { decoder, feed: Some(feed), expects };
        upload.feed(read);
        (upload, Received::Piped(body))
    }

    pub(super) fn poll(&mut self, cx: &mut Context<'_>, read: &mut BytesMut) -> Feeding {
        loop {
            let Some(feed) = &self.feed else {
                let over = self.decoder.is_over();
                return if over { Feeding::Over } else { Feeding::Waits };
            };
            match feed.poll_wants(cx) {
                Poll::Pending => return Feeding::Waits,
                Poll::Ready(Wants::Nothing) => self.feed = None,
                Poll::Ready(Wants::More) if self.feed(read) => {}
                Poll::Ready(Wants::More) => return Feeding::Hungry,
            }
        }
    }

    /// Gives the reader the next piece of what has come; says whether there was one, or an end.
    fn feed(&mut self, read: &mut BytesMut) -> bool {
        let Some(feed) = &self.feed else { return false };
        match self.decoder.decode(read) {
            Ok(Some(frame)) => feed.give(Ok(frame), self.decoder.is_over()),
            Ok(None) if self.decoder.is_over() => feed.end(),
            Ok(None) => return false,
            Err(bad) => feed.give(Err(bad.into()), true),
        }
        if self.decoder.is_over() {
            // The reader has it all; what comes next is another request's.
            self.feed = None;
        }
        true
    }

    /// Reads over what has come of a body that nobody wants.
    pub(super) fn pass_over(&mut self, read: &mut BytesMut) {
        let mut passed_over = 0;
        if self.feed.as_ref().is_some_and(|feed| !feed.is_left()) {
            return;
        }
        while let Ok(Some(frame)) = self.decoder.decode(read) {
            passed_over += frame.data_ref().map_or(0, bytes::Bytes::len);
            if passed_over > UNWANTED {
                return;
            }
        }
    }

    /// Whether something is left of it that nobody will read.
    pub(super) fn is_abandoned(&self) -> bool {
        !self.decoder.is_over() && self.feed.as_ref().is_none_or(Feed::is_left)
    }
}

impl From<BadBody> for BodyError {
    fn from(bad: BadBody) -> Self {
        match bad {
            BadBody::Malformed => Self::Malformed,
            BadBody::Trailers => Self::TrailersTooLarge,
        }
    }
}
