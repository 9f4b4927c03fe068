//! Bodies of requests and responses, and what is left of a body when it was read.

use std::convert::Infallible;
use std::hash::{DefaultHasher, Hasher};
use std::sync::LazyLock;

use bytes::Bytes;
use futures_util::stream;
use http::HeaderMap;
use http_body::{Body, Frame};
use http_body_util::combinators::UnsyncBoxBody;
use http_body_util::{BodyExt, Empty, Full, StreamBody};

/// What can go wrong with a body.
pub type Error = Box<dyn std::error::Error + Send + Sync>;

/// Any body.
pub type AnyBody = UnsyncBoxBody<Bytes, Error>;

/// Bytes of one piece of [`pattern`].
const PIECE: usize = 64 * 1024;

/// Bytes after which [`pattern`] repeats itself: a prime, so that no two pieces are alike.
const PERIOD: usize = 251;

static PATTERN: LazyLock<Bytes> =
    LazyLock::new(|| (0..PIECE + PERIOD).map(|at| (at % PERIOD) as u8).collect());

/// No body.
pub fn empty() -> AnyBody {
    Empty::new().map_err(|never: Infallible| match never {}).boxed_unsync()
}

/// A body of known length.
pub fn full(bytes: impl Into<Bytes>) -> AnyBody {
    Full::new(bytes.into()).map_err(|never: Infallible| match never {}).boxed_unsync()
}

/// A body of unknown length (chunked in HTTP/1.1) that is made while it is sent: `size` bytes
/// that repeat with a period that fits no buffer.
pub fn pattern(size: u64) -> AnyBody {
    let pieces = stream::unfold(0, move |sent| async move {
        let next = usize::try_from(size - sent).unwrap_or(PIECE).min(PIECE);
        let start = usize::try_from(sent % PERIOD as u64).unwrap_or(0);
        let piece = PATTERN.slice(start..start + next);
        (next > 0).then(|| (Ok(Frame::data(piece)), sent + next as u64))
    });
    BodyExt::boxed_unsync(StreamBody::new(pieces))
}

/// A body as a digest: what it was, without keeping it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Digest {
    /// Bytes.
    pub size: u64,
    /// Of all bytes, in order.
    pub hash: u64,
    /// The trailers, where there were any.
    pub trailers: Option<HeaderMap>,
}

/// Reads a body to its end and keeps its digest only.
///
/// # Errors
/// When the body breaks off.
pub async fn digest<B>(mut body: B) -> Result<Digest, B::Error>
where
    B: Body<Data = Bytes> + Unpin,
{
    let (mut size, mut hasher, mut trailers) = (0, DefaultHasher::new(), None);
    while let Some(frame) = body.frame().await {
        match frame?.into_data() {
            Ok(data) => {
                size += data.len() as u64;
                hasher.write(&data);
            }
            Err(frame) => trailers = frame.into_trailers().ok(),
        }
    }
    Ok(Digest { size, hash: hasher.finish(), trailers })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_pattern_has_its_size_and_one_digest() {
        let size = 3 * PIECE as u64 + 17;
        let once = digest(pattern(size)).await.unwrap();
        assert_eq!(once.size, size);
        assert_eq!(once, digest(pattern(size)).await.unwrap());
        assert_ne!(once.hash, digest(pattern(size - 1)).await.unwrap().hash);
        assert_eq!(digest(pattern(0)).await.unwrap().size, 0);
    }
}
