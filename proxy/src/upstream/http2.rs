//! Requests in HTTP/2: many on each connection.

use std::future::{Future, poll_fn};
use std::pin::pin;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::task::Poll;

use http::{Request, Response};
use http_body::Body as _;
use model::code::ErrorCode;
use tokio::io::{AsyncRead, AsyncWrite};

use super::connect;
use super::failure;
use super::pool::{Answered, Peer, Peers, Shared};
use super::shared::{self, Connections, Life, Place, Sender, StreamGuard, acquire};
use crate::body::{BodyError, RequestBody};
use crate::error::ProxyError;
use crate::http2::{self, Answer, Connection, Opener, Opening, RecvStream, Settings};
use crate::rarely::Rarely;
use crate::received::Received;
use crate::server::{FRAME, MAX_STREAMS, MESH_FRAME, PING_TIMEOUT, READER_TIMEOUT};
use crate::streams::keepalive;
use crate::streams::send::{Sending, Stopped};

/// What opens streams on a connection, until it takes no more of them.
#[derive(Clone)]
pub(super) struct Streams {
    pub(super) opener: Opener,
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
        self.opener.most()
    }
}

/// Sends a request on a stream of its own.
pub(super) async fn send(
    pool: &Arc<Shared>,
    peer: &Peer,
    request: &mut Request<RequestBody>,
) -> Result<Answered, ProxyError> {
    let (place, opening) = ready(pool, peer).await?;
    let ended = request.body().is_end_stream();
    let failed = |error: http2::Error, code| ProxyError::new(code, format!("{peer}: {error}"));
    let (response, stream) =
        opening.send(request, ended).map_err(|error| failed(error, ErrorCode::UpstreamRefused))?;
    let response = if ended {
        response.await
    } else {
        let sending = Sending::new(stream, std::mem::take(request.body_mut()), READER_TIMEOUT);
        answered(response, sending)
            .await
            .map_err(|error| ProxyError::new(error.code(), format!("{peer}: {error}")))?
    };
    let response = response.map_err(|error| {
        let code = failure::http2_code(&error);
        failed(error, code)
    })?;
    let received = |stream: RecvStream| match stream.is_over() {
        true => Received::Nothing,
        false => Received::Http2(stream),
    };
    let (response, connected) = (response.map(received), Some(place.opened()));
    Ok(Answered { response, stream: Some(place.into()), connected })
}

/// A place on a connection that takes requests: one may close between our look and our request.
async fn ready(pool: &Arc<Shared>, peer: &Peer) -> Result<(Place<Requests>, Opening), ProxyError> {
    for _ in 0..=Requests::MAX_CONNECTIONS {
        let place: Place<Requests> = acquire(pool, peer).await?;
        match place.sender().0.opener.place().await {
            Ok(opening) => return Ok((place, opening)),
            Err(error) => tracing::debug!(%error, %peer, "a request goes to another connection"),
        }
        place.sender().0.close();
    }
    Err(ProxyError::new(ErrorCode::UpstreamRefused, format!("{peer}: every connection closes")))
}

/// The head of the response, while the body of the request is sent; what is not sent by then goes
/// on in a task of its own.
async fn answered(
    response: Answer,
    mut sending: Sending<RequestBody>,
) -> Result<Result<Response<RecvStream>, http2::Error>, BodyError> {
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
                let streams = begin(&peer, io, None, &life);
                Ok((Self(streams), life))
            }
            Peer::Http1(_) | Peer::Http2(_) | Peer::Tunnel(_) => {
                let (io, stream) = pool.dial(&peer).await?;
                let life = Life::unproved();
                let streams = begin(&peer, io, stream, &life);
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

/// HTTP/2 on `io`, which may itself be a `stream` of another connection.
pub(super) fn begin<I>(peer: &Peer, io: I, stream: Option<StreamGuard>, life: &Life) -> Streams
where
    I: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let frame = if matches!(peer, Peer::Mesh(..)) { MESH_FRAME } else { FRAME };
    let settings = Settings::with_frames(frame);
    let (opener, connection) = Connection::client(io, settings, READER_TIMEOUT);
    let closed = Arc::new(AtomicBool::new(false));
    let cut = life.cut();
    let (told, lost) = (Arc::clone(&closed), keepalive::lost(connection.watch(), PING_TIMEOUT));
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
            ended = connection.run() => if let Err(error) = ended {
                tracing::debug!(%error, peer = name, "connection in HTTP/2 ended with an error");
            },
            () = over => {}
        }
        told.store(true, Ordering::Relaxed);
        drop(stream);
    });
    Streams { opener, closed }
}
