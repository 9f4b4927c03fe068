//! What becomes of a client's connection once HTTP ends on it: after a CONNECT or an Upgrade that is
//! granted.

use http::{Request, Version};
use model::code::ErrorCode;
use tokio_util::either::Either;

use crate::error::ProxyError;
use crate::http1::{OnSwitch, Switched as Connection};
use crate::streams::OnTunnel;
use crate::tunnel::Tunnel;

/// The client's connection, when HTTP ends on it.
#[derive(Debug)]
pub(crate) enum Switch {
    /// In HTTP/1, all of it.
    Http1(Option<OnSwitch>),
    /// In HTTP/2, the stream of the request.
    Http2(Option<OnTunnel>),
}

/// A client's connection on which HTTP has ended.
pub(crate) type Switched = Either<Connection, Tunnel>;

impl Switch {
    /// Of the connection that `request` came on.
    pub(crate) fn of<B>(request: &mut Request<B>) -> Self {
        match request.version() {
            Version::HTTP_2 => Self::Http2(request.extensions_mut().remove()),
            _ => Self::Http1(request.extensions_mut().remove()),
        }
    }

    /// Resolves when the response that grants it was sent.
    pub(crate) async fn granted(self) -> Result<Switched, ProxyError> {
        let gone = |detail| ProxyError::new(ErrorCode::ClientClosed, detail);
        match self {
            Self::Http1(Some(client)) => match client.granted().await {
                Some(client) => Ok(Either::Left(client)),
                None => Err(gone("the connection has ended")),
            },
            Self::Http2(Some(client)) => match client.granted().await {
                Some(client) => Ok(Either::Right(client)),
                None => Err(gone("the stream has ended")),
            },
            Self::Http1(None) | Self::Http2(None) => Err(gone("it can carry nothing but HTTP")),
        }
    }
}
