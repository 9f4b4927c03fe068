//! Requests in HTTP/2: many on each connection.

use std::future::{Future, poll_fn};
use std::pin::pin;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::task::Poll;
use std::time::Instant;

use bytes::Bytes;
use h2::client::{Builder, ResponseFuture, SendRequest};
use http::{Request, Response};
use http_body::Body as _;
use model::code::ErrorCode;
use tokio::io::{AsyncRead, AsyncWrite};

use super::connect;
use super::failure;
use super::pool::{Peer, Peers, Shared};
use super::shared::{self, Connections, Life, Place, Sender, StreamGuard, acquire};
use crate::body::RequestBody;
use crate::error::ProxyError;
use crate::frames::Frames;
use crate::guard::Guard;
use crate::headers::content_length;
use crate::rarely::Rarely;
use crate::received::{Received, Stream};
use crate::server::{
    CONNECTION_WINDOW, FRAME, MAX_HEAD, MAX_STREAMS, MESH_FRAME, READER_TIMEOUT, SEND_BUFFER,
    STREAM_WINDOW,
};
use crate::streams::keepalive;
use crate::streams::send::{Sending, Stopped};

/// What all streams may be sent ahead of their readers. It is more than their windows come to, for
/// h2 takes it for the measure of how many small pieces may wait: half of it, at 256 bytes each. A
/// few readers that stall on many messages must not end the connection.
const SHARED_WINDOW: u32 = 4 * CONNECTION_WINDOW;

/// What opens streams on a connection, until it takes no more of them.
#[derive(Clone)]
pub(super) struct Streams {
    pub(super) sender: SendRequest<Bytes>,
    closed: Arc<AtomicBool>,
}

/// A connection that carries requests.
pub(super) struct Requests(Streams);

impl Streams {
    /// Whether no stream can be opened any more.
    pub(super) fn is_closed(&self) -> bool {
        self.closed.load(Ordering::Relaxed)
    }

    /// No stream is opened any more.
    pub(super) fn close(&self) {
        self.closed.store(true, Ordering::Relaxed);
    }

    /// How many streams the other side carries at the same time, as far as we want that.
    pub(super) fn most(&self) -> u32 {
        let theirs = u32::try_from(self.sender.current_max_send_streams()).unwrap_or(u32::MAX);
        theirs.min(MAX_STREAMS)
    }
}

/// Sends a request on a stream of its own.
pub(super) async fn send(
    pool: &Arc<Shared>,
    peer: &Peer,
    request: &mut Request<RequestBody>,
) -> Result<(Response<Received>, StreamGuard), ProxyError> {
    let (place, mut sender) = ready(pool, peer).await?;
    let (head, body) = std::mem::take(request).into_parts();
    let ended = body.is_end_stream();
    let failed = |error: h2::Error, code| ProxyError::new(code, format!("{peer}: {error}"));
    let (response, stream) = sender
        .send_request(Request::from_parts(head, ()), ended)
        .map_err(|error| failed(error, ErrorCode::UpstreamRefused))?;
    let response = if ended {
        response.await
    } else {
        let sending = Sending::new(stream, body, READER_TIMEOUT);
        answered(response, sending)
            .await
            .map_err(|error| ProxyError::new(error.code(), format!("{peer}: {error}")))?
    };
    let response = response.map_err(|error| {
        let code = failure::http2_code(&error);
        failed(error, code)
    })?;
    let (head, stream) = response.into_parts();
    let length = content_length(&head.headers);
    let received = Received::Http2(Stream::new(stream, length));
    Ok((Response::from_parts(head, received), place.into()))
}

/// A place on a connection that takes requests: one may close between our look and our request.
async fn ready(
    pool: &Arc<Shared>,
    peer: &Peer,
) -> Result<(Place<Requests>, SendRequest<Bytes>), ProxyError> {
    for _ in 0..=Requests::MAX_CONNECTIONS {
        let place: Place<Requests> = acquire(pool, peer).await?;
        match place.sender().0.sender.clone().ready().await {
            Ok(sender) => return Ok((place, sender)),
            Err(error) => tracing::debug!(%error, %peer, "a request goes to another connection"),
        }
        place.sender().0.close();
    }
    Err(ProxyError::new(ErrorCode::UpstreamRefused, format!("{peer}: every connection closes")))
}

/// The head of the response, while the body of the request is sent; what is not sent by then goes
/// on in a task of its own.
async fn answered(
    response: ResponseFuture,
    mut sending: Sending<RequestBody>,
) -> Result<Result<Response<h2::RecvStream>, h2::Error>, crate::body::BodyError> {
    let mut response = pin!(response);
    let mut sent = false;
    let answered = poll_fn(|cx| {
        if !sent {
            match sending.poll(cx) {
                Poll::Pending => {}
                Poll::Ready(Err(Stopped::Broken(error))) => return Poll::Ready(Err(error)),
                // Where it is refused, the response says why.
                Poll::Ready(Ok(()) | Err(Stopped::Refused(_))) => sent = true,
            }
        }
        response.as_mut().poll(cx).map(Ok)
    })
    .await?;
    if !sent {
        tokio::spawn(async move { drop(poll_fn(|cx| sending.poll(cx)).await) });
    }
    Ok(answered)
}

impl Sender for Requests {
    const MAX_CONNECTIONS: usize = 8;
    const MAX_WAITING: u32 = 128;

    fn peers(pool: &Shared) -> &Mutex<Peers<Connections<Self>>> {
        &pool.http2
    }

    async fn open(pool: Arc<Shared>, peer: Peer) -> Result<(Self, Life), ProxyError> {
        match &peer {
            Peer::Mesh(address, identity) => {
                let (io, life) = shared::mesh(&pool, *address, identity).await?;
                let limit = pool.mesh.config.connect_timeout;
                let io = connect::greeted(*address, io, limit).await?;
                let streams = handshake(&peer, io, None, &life, SHARED_WINDOW).await?;
                Ok((Self(streams), life))
            }
            Peer::Http1(_) | Peer::Http2(_) | Peer::Tunnel(_) => {
                let (io, stream) = pool.dial(&peer).await?;
                let life = Life::unproved();
                let streams = handshake(&peer, io, stream, &life, SHARED_WINDOW).await?;
                Ok((Self(streams), life))
            }
        }
    }

    fn is_closed(&self) -> bool {
        self.0.is_closed()
    }

    // Not the other side's: a request that is one too many for it waits its turn.
    fn max_streams(&self) -> u32 {
        MAX_STREAMS
    }
}

/// HTTP/2 on `io`, which may itself be a `stream` of another connection; all streams together may
/// be sent `window` bytes ahead of their readers.
pub(super) async fn handshake<I>(
    peer: &Peer,
    io: I,
    stream: Option<StreamGuard>,
    life: &Life,
    window: u32,
) -> Result<Streams, ProxyError>
where
    I: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let frame = if matches!(peer, Peer::Mesh(..)) { MESH_FRAME } else { FRAME };
    let io = Guard::new(io, Frames::of_server(Instant::now()), READER_TIMEOUT);
    let (sender, mut connection) = Builder::new()
        .enable_push(false)
        .initial_window_size(STREAM_WINDOW)
        .initial_connection_window_size(window)
        .initial_max_send_streams(MAX_STREAMS as usize)
        .max_frame_size(frame)
        .max_header_list_size(MAX_HEAD as u32)
        .max_send_buffer_size(SEND_BUFFER)
        .handshake::<_, Bytes>(io)
        .await
        .map_err(|error| {
            ProxyError::new(failure::http2_code(&error), format!("{peer}: {error}"))
        })?;
    let closed = Arc::new(AtomicBool::new(false));
    let cut = life.cut();
    let (told, lost) = (Arc::clone(&closed), keepalive::lost(connection.ping_pong()));
    let name = peer.to_string();
    let over = Rarely::new(async move {
        tokio::select! {
            () = lost => tracing::debug!(peer = name, "connection in HTTP/2 lost: no answer to PING"),
            () = cut => {}
        }
    });
    let name = peer.to_string();
    tokio::spawn(async move {
        tokio::select! {
            biased;
            ended = connection => if let Err(error) = ended {
                tracing::debug!(%error, peer = name, "connection in HTTP/2 ended with an error");
            },
            () = over => {}
        }
        told.store(true, Ordering::Relaxed);
        drop(stream);
    });
    Ok(Streams { sender, closed })
}
