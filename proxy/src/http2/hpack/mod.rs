//! HPACK: the fields of HTTP/2, made small and read again (RFC 7541).
//!
//! Both directions remember what went by in a table of 4,096 bytes, and hold no memory before the
//! first field. Fields that only this request has are kept out of it.

use bytes::Bytes;
use http::{HeaderName, HeaderValue};

mod decode;
mod encode;
mod huffman;
mod sent;
mod table;
#[cfg(test)]
mod tests;

pub(crate) use decode::Decoder;
pub(crate) use encode::Encoder;

/// A field as it was received.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Field {
    /// What the first line of HTTP/1.1 says, and its value.
    Pseudo(Pseudo, Bytes),
    Regular(HeaderName, HeaderValue),
    /// Well compressed, but its name or value is none that a field may have (RFC 9113 §8.2.1).
    Malformed,
}

/// The name of a pseudo header (RFC 9113 §8.3, RFC 8441 §4).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Pseudo {
    Method,
    Scheme,
    Authority,
    Path,
    Protocol,
    Status,
}

/// A block that cannot be decompressed: an error of the connection (RFC 9113 §4.3).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct BadBlock;

impl Pseudo {
    const fn name(self) -> &'static str {
        match self {
            Self::Method => ":method",
            Self::Scheme => ":scheme",
            Self::Authority => ":authority",
            Self::Path => ":path",
            Self::Protocol => ":protocol",
            Self::Status => ":status",
        }
    }

    const fn named(name: &[u8]) -> Option<Self> {
        Some(match name {
            b":method" => Self::Method,
            b":scheme" => Self::Scheme,
            b":authority" => Self::Authority,
            b":path" => Self::Path,
            b":protocol" => Self::Protocol,
            b":status" => Self::Status,
            _ => return None,
        })
    }
}
