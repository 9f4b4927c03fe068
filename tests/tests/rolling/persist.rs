//! The one liberty that a client takes, as every library for HTTP does: what was never sent is
//! sent again.

use std::time::{Duration, Instant};

use anyhow::bail;

/// How long a client goes on with what was never sent.
const PATIENCE: Duration = Duration::from_secs(5);

/// The pause before it is tried again.
const PAUSE: Duration = Duration::from_millis(20);

/// Why there is no answer.
#[derive(Debug)]
pub(super) enum Failed {
    /// The server has not taken the request: refused, GOAWAY, or a connection closed before.
    NeverSent(String),
    /// Anything else: it may have been processed, and the client must not send it again.
    Lost(anyhow::Error),
}

impl<E: Into<anyhow::Error>> From<E> for Failed {
    fn from(error: E) -> Self {
        Self::Lost(error.into())
    }
}

/// Tries until the request was taken, and gives what came of it.
pub(super) async fn persist<T, F>(mut attempt: impl FnMut() -> F) -> anyhow::Result<T>
where
    F: Future<Output = Result<T, Failed>>,
{
    let deadline = Instant::now() + PATIENCE;
    loop {
        match attempt().await {
            Ok(answer) => return Ok(answer),
            Err(Failed::Lost(error)) => return Err(error),
            Err(Failed::NeverSent(why)) if Instant::now() >= deadline => {
                bail!("never sent, in {PATIENCE:?}: {why}")
            }
            Err(Failed::NeverSent(_)) => tokio::time::sleep(PAUSE).await,
        }
    }
}
