//! Tunnels through other sidecars: CONNECT streams (HBONE), on connections of their own, for they
//! live long and must not take the place of requests.

use std::net::SocketAddr;
use std::sync::{Arc, Mutex};

use http::{Request, Response, StatusCode};
use model::code::ErrorCode;
use model::headers as names;

use super::failure;
use super::http2::{Streams, begin};
use super::pool::{Peer, Peers, Shared};
use super::shared::{self, Connections, Life, Place, Sender, StreamGuard, acquire};
use crate::error::ProxyError;
use crate::http2;
use crate::tunnel::Tunnel;

/// Connections tried for one stream: a connection may close between our look and our request.
const MAX_ATTEMPTS: usize = 3;

/// A connection that carries tunnels.
pub(super) struct Tunnels(Streams);

/// A tunnel through a sidecar, by a CONNECT stream whose `:authority` is the application's address.
pub(super) async fn open(
    pool: &Arc<Shared>,
    peer: &Peer,
    target: SocketAddr,
) -> Result<(Tunnel, StreamGuard), ProxyError> {
    let request = Request::connect(target.to_string())
        .body(())
        .map_err(|error| ProxyError::new(ErrorCode::Internal, error.to_string()))?;
    let mut attempts = 1;
    loop {
        let place: Place<Tunnels> = acquire(pool, peer).await?;
        match connect(place.sender(), &request).await {
            Ok((response, tunnel)) if response.status().is_success() => {
                return Ok((tunnel, place.into()));
            }
            Ok((response, _)) => return Err(refused(&response, peer)),
            // The connection takes no more streams. Nothing was carried yet: another may do.
            Err(error) if attempts < MAX_ATTEMPTS && !error.is_reset() => {
                tracing::debug!(%error, %peer, "a tunnel is tried again on another connection");
                place.sender().0.close();
                attempts += 1;
            }
            Err(error) => {
                let code = failure::http2_code(&error);
                return Err(ProxyError::new(code, format!("{peer}: {error}")));
            }
        }
    }
}

fn refused(response: &Response<()>, peer: &Peer) -> ProxyError {
    let reported = response.headers().get(names::ERROR).and_then(|code| code.to_str().ok());
    let code = reported.and_then(ErrorCode::from_name);
    let code = code.unwrap_or_else(|| refusal(response.status()));
    ProxyError::new(code, format!("{peer} refused the connection with {}", response.status()))
}

/// What a sidecar means that does not know our codes: RFC 9110 §15.6 has words for one that could
/// not connect. Nothing was carried then, so that another endpoint may be tried.
const fn refusal(status: StatusCode) -> ErrorCode {
    match status {
        StatusCode::BAD_GATEWAY => ErrorCode::ConnectFailed,
        StatusCode::SERVICE_UNAVAILABLE => ErrorCode::ConnectRefused,
        StatusCode::GATEWAY_TIMEOUT => ErrorCode::ConnectTimeout,
        _ => ErrorCode::UpstreamProtocol,
    }
}

async fn connect(
    tunnels: &Tunnels,
    request: &Request<()>,
) -> Result<(Response<()>, Tunnel), http2::Error> {
    let (response, send) = tunnels.0.opener.place().await?.send(request, false)?;
    let (head, receive) = response.await?.into_parts();
    Ok((Response::from_parts(head, ()), Tunnel::new(send, receive)))
}

impl Sender for Tunnels {
    // As many as there are connections of the application: those are bounded.
    const MAX_CONNECTIONS: usize = usize::MAX;
    const MAX_WAITING: u32 = 0;

    fn peers(pool: &Shared) -> &Mutex<Peers<Connections<Self>>> {
        &pool.tunnels
    }

    async fn open(pool: Arc<Shared>, peer: Peer) -> Result<(Self, Life), ProxyError> {
        let Peer::Mesh(address, identity) = &peer else {
            let detail = format!("{peer} is no sidecar");
            return Err(ProxyError::new(ErrorCode::Internal, detail));
        };
        let (io, life) = shared::mesh(&pool, *address, identity).await?;
        let streams = begin(&peer, io, None, &life);
        Ok((Self(streams), life))
    }

    fn is_closed(&self) -> bool {
        self.0.is_closed()
    }

    fn max_streams(&self) -> u32 {
        self.0.most()
    }
}
