//! What becomes of a client's connection once HTTP ends on it: after a CONNECT or an Upgrade that is
//! granted.

use http::{Request, Version};
use hyper::upgrade::{OnUpgrade, Upgraded};
use hyper_util::rt::TokioIo;
use model::code::ErrorCode;
use tokio_util::either::Either;

use crate::error::ProxyError;
use crate::resettable::{Reset, Told};
use crate::streams::OnTunnel;
use crate::tunnel::Tunnel;

/// The client's connection, when HTTP ends on it.
#[derive(Debug)]
pub(crate) enum Switch {
    /// In HTTP/1, all of it.
    Http1(OnUpgrade, Reset),
    /// In HTTP/2, the stream of the request.
    Http2(Option<OnTunnel>),
}

/// A client's connection on which HTTP has ended.
pub(crate) type Switched = Either<Told<TokioIo<Upgraded>>, Tunnel>;

impl Switch {
    /// Of the connection that `request` came on.
    pub(crate) fn of<B>(request: &mut Request<B>) -> Self {
        match request.version() {
            Version::HTTP_2 => Self::Http2(request.extensions_mut().remove()),
            _ => {
                let reset = request.extensions_mut().remove().unwrap_or_default();
                Self::Http1(hyper::upgrade::on(request), reset)
            }
        }
    }

    /// Resolves when the response that grants it was sent.
    pub(crate) async fn granted(self) -> Result<Switched, ProxyError> {
        let gone = |detail: String| ProxyError::new(ErrorCode::ClientClosed, detail);
        match self {
            Self::Http1(client, reset) => match client.await {
                Ok(client) => Ok(Either::Left(Told::new(TokioIo::new(client), reset))),
                Err(error) => Err(gone(error.to_string())),
            },
            Self::Http2(Some(client)) => match client.granted().await {
                Some(client) => Ok(Either::Right(client)),
                None => Err(gone("the stream has ended".into())),
            },
            Self::Http2(None) => Err(gone("the stream can carry nothing but HTTP".into())),
        }
    }
}
