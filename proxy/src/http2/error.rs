//! Why a stream or a connection in HTTP/2 has ended.

use std::io;

use super::frame::Reason;

/// What ended a stream, or the connection that it was on.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// The stream was reset.
    #[error("stream reset by {by}: {reason}")]
    Reset {
        /// By whom.
        by: By,
        /// Why.
        reason: Reason,
    },
    /// The connection ended with a GOAWAY, or its GOAWAY left the stream out.
    #[error("connection ended by {by}: {reason}")]
    GoAway {
        /// By whom.
        by: By,
        /// Why.
        reason: Reason,
    },
    /// The connection failed below HTTP/2.
    #[error("{text}")]
    Io {
        /// In which way.
        kind: io::ErrorKind,
        /// The words of the one who noticed.
        text: String,
    },
}

/// Who ended a stream or a connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum By {
    /// The other side.
    Peer,
    /// We, because the other side broke the rules.
    Rules,
    /// We, because nobody wants it any more.
    Us,
}

impl std::fmt::Display for By {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Peer => "the other side",
            Self::Rules => "us for a broken rule",
            Self::Us => "us",
        })
    }
}

impl Error {
    /// We reset the stream ourselves.
    pub(crate) const fn reset(reason: Reason) -> Self {
        Self::Reset { by: By::Us, reason }
    }

    /// The connection can open no stream any more.
    pub(crate) const fn exhausted() -> Self {
        Self::Reset { by: By::Us, reason: Reason::REFUSED_STREAM }
    }

    /// The code, where there is one.
    pub const fn reason(&self) -> Option<Reason> {
        match self {
            Self::Reset { reason, .. } | Self::GoAway { reason, .. } => Some(*reason),
            Self::Io { .. } => None,
        }
    }

    /// Whether the other side broke a rule of HTTP/2.
    pub const fn is_broken_rule(&self) -> bool {
        matches!(self, Self::Reset { by: By::Rules, .. } | Self::GoAway { by: By::Rules, .. })
    }

    /// Whether it is about the stream alone.
    pub const fn is_reset(&self) -> bool {
        matches!(self, Self::Reset { .. })
    }

    /// Whether the other side has not begun to process what was on the stream (RFC 9113 §8.7).
    /// Only streams above the last one of a GOAWAY get its reason.
    pub fn is_unprocessed(&self) -> bool {
        let refused = self.reason() == Some(Reason::REFUSED_STREAM);
        refused || matches!(self, Self::GoAway { by: By::Peer, .. })
    }
}

impl From<io::Error> for Error {
    fn from(error: io::Error) -> Self {
        Self::Io { kind: error.kind(), text: error.to_string() }
    }
}
