//! Requests in HTTP/2: many on each connection.

use std::collections::HashMap;
use std::sync::{Arc, Mutex};
use std::time::Instant;

use http::{Request, Response};
use hyper::body::Incoming;
use hyper::client::conn::http2::{self, SendRequest};
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use model::code::ErrorCode;
use tokio::io::{AsyncRead, AsyncWrite};

use super::failure::{self, Used};
use super::pool::{Peer, Shared};
use super::shared::{self, Connections, Life, Place, Sender, StreamGuard, acquire};
use super::{Connection, connect};
use crate::body::RequestBody;
use crate::error::ProxyError;
use crate::frames::Frames;
use crate::guard::Guard;
use crate::server::{
    CONNECTION_WINDOW, MAX_HEAD, MAX_STREAMS, PING_INTERVAL, PING_TIMEOUT, READER_TIMEOUT,
    SEND_BUFFER, STREAM_WINDOW,
};

/// What all streams may be sent ahead of their readers. It is more than their windows come to, for
/// h2 takes it for the measure of how many small pieces may wait: half of it, at 256 bytes each. A
/// few readers that stall on many messages must not end the connection.
const SHARED_WINDOW: u32 = 4 * CONNECTION_WINDOW;

/// Sends a request on a stream of its own.
pub(super) async fn send(
    pool: &Arc<Shared>,
    peer: &Peer,
    mut request: Request<RequestBody>,
) -> Result<(Response<Incoming>, Connection), ProxyError> {
    // A connection may close between our look and our request: hyper then gives the request back.
    for _ in 0..=SendRequest::<RequestBody>::MAX_CONNECTIONS {
        let place: Place<SendRequest<RequestBody>> = acquire(pool, peer).await?;
        let mut sender = place.sender().clone();
        if sender.ready().await.is_err() {
            continue;
        }
        match sender.try_send_request(request).await {
            Ok(response) => return Ok((response, Connection::Http2(place.into()))),
            Err(mut failed) => match failed.take_message() {
                Some(unsent) => request = unsent,
                None => return Err(failure::of_request(failed.error(), peer, Used::First)),
            },
        }
    }
    Err(ProxyError::new(ErrorCode::UpstreamRefused, format!("{peer}: every connection closes")))
}

impl Sender for SendRequest<RequestBody> {
    const MAX_CONNECTIONS: usize = 8;
    const MAX_WAITING: u32 = 128;

    fn peers(pool: &Shared) -> &Mutex<HashMap<Peer, Connections<Self>>> {
        &pool.http2
    }

    async fn open(pool: Arc<Shared>, peer: Peer) -> Result<(Self, Life), ProxyError> {
        match &peer {
            Peer::Mesh(address, identity) => {
                let (io, life) = shared::mesh(&pool, *address, identity).await?;
                let limit = pool.mesh.config.connect_timeout;
                let io = connect::greeted(*address, io, limit).await?;
                Ok((handshake(&peer, io, None, &life).await?, life))
            }
            Peer::Http1(_) | Peer::Http2(_) | Peer::Tunnel(_) => {
                let (io, stream) = pool.dial(&peer).await?;
                let life = Life::unproved();
                Ok((handshake(&peer, io, stream, &life).await?, life))
            }
        }
    }

    fn is_closed(&self) -> bool {
        self.is_closed()
    }

    fn max_streams(&self) -> u32 {
        MAX_STREAMS
    }
}

/// HTTP/2 on `io`, which may itself be a `stream` of another connection.
async fn handshake<I>(
    peer: &Peer,
    io: I,
    stream: Option<StreamGuard>,
    life: &Life,
) -> Result<SendRequest<RequestBody>, ProxyError>
where
    I: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let io = Guard::new(io, Frames::of_server(Instant::now()), READER_TIMEOUT);
    let (sender, connection) = http2::Builder::new(TokioExecutor::new())
        .timer(TokioTimer::new())
        .initial_stream_window_size(STREAM_WINDOW)
        .initial_connection_window_size(SHARED_WINDOW)
        .initial_max_send_streams(MAX_STREAMS as usize)
        .max_header_list_size(MAX_HEAD as u32)
        .max_send_buf_size(SEND_BUFFER)
        .keep_alive_interval(PING_INTERVAL)
        .keep_alive_timeout(PING_TIMEOUT)
        .keep_alive_while_idle(true)
        .handshake(TokioIo::new(io))
        .await
        .map_err(|error| failure::of_request(&error, peer, Used::First))?;
    // The requests on the connection hear how it ended; nobody else asks.
    let cut = life.cut();
    tokio::spawn(async move {
        tokio::select! {
            ended = connection => drop(ended),
            () = cut => {}
        }
        drop(stream);
    });
    Ok(sender)
}
