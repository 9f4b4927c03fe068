//! A connection towards the application, whoever sends it and whatever it speaks: the tunnel of
//! another sidecar, or plaintext from outside of the mesh.

use std::io;
use std::sync::Arc;

use ::http::{Method, Request, Response};
use bytes::BytesMut;
use model::code::ErrorCode;
use model::service::Protocol;
use tokio::io::{AsyncRead, AsyncReadExt};
use tokio::net::TcpStream;
use tokio::time::timeout;

use super::application::Application;
use super::{Arrival, Caller, http};
use crate::body::Body;
use crate::carried::Carried;
use crate::error::ProxyError;
use crate::exchange::Exchange;
use crate::opaque::Opaque;
use crate::received::Received;
use crate::relay::Session;
use crate::server::{self, HEAD_TIMEOUT};
use crate::sniff::{Prefixed, Spoken, is_settings, sniff_on};
use crate::telemetry::metrics::{Direction, Tls};
use crate::upgrade::is_extended;
use crate::upstream::connect;
use crate::worker::Worker;

/// A connection to the application, or why there is none.
type Reached = Result<TcpStream, ProxyError>;

/// Carries `io` until it ends: as HTTP where that is what the client speaks, so that what an
/// application is told of its caller is always the sidecar's word; as bytes otherwise. `upstream`
/// is a connection to the application, where there is one already.
pub(super) async fn carry<I>(worker: Worker, arrival: Arrival, io: I, upstream: Option<TcpStream>)
where
    I: Carried + Send + 'static,
{
    let mut upstream = upstream.map(Ok);
    let application = Arc::clone(&arrival.application);
    if application.protocol == Protocol::Opaque {
        return Box::pin(relay(&worker, &arrival, io, upstream)).await;
    }
    let drain = match arrival.peer {
        Some(_) => worker.mesh.drain.within(),
        None => worker.mesh.drain.clone(),
    };
    let handle = |request| answer(worker.clone(), arrival.clone(), request);
    let refuse = |bad| arrival.refuse_unread(&worker.mesh, bad);
    let detected = Box::pin(detect(&worker, &application, io, &mut upstream));
    let detected = match arrival.peer {
        Some(_) => detected.await,
        // Outside of the mesh, a connection that nobody uses is not kept.
        None => timeout(HEAD_TIMEOUT, detected).await.unwrap_or_else(|late| Err(late.into())),
    };
    let (spoken, io) = match detected {
        Ok((Spoken::Other, io)) if application.protocol == Protocol::Detect => {
            return Box::pin(relay(&worker, &arrival, Opaque::new(io), upstream)).await;
        }
        Ok(detected) => detected,
        Err(error) => return tracing::debug!(%error, "inbound: connection lost"),
    };
    if let Err(error) = server::serve(spoken, io, &drain, handle, refuse).await {
        tracing::debug!(%error, "inbound: connection ended with an error");
    }
}

/// What is spoken on `io`; where nobody says so, from who speaks first and what the client says.
async fn detect<I: AsyncRead + Unpin>(
    worker: &Worker,
    application: &Application,
    mut io: I,
    upstream: &mut Option<Reached>,
) -> io::Result<(Spoken, Prefixed<I>)> {
    let mut read = BytesMut::with_capacity(1024);
    if application.protocol == Protocol::Detect
        && !client_speaks_first(worker, application, &mut io, &mut read, upstream).await
    {
        return Ok((Spoken::Other, Prefixed::new(read, io)));
    }
    sniff_on(read, io).await
}

/// Answers one request on the connection.
async fn answer(
    worker: Worker,
    arrival: Arrival,
    mut request: Request<Received>,
) -> Response<Body> {
    if request.method() == Method::CONNECT && !is_extended(&request) {
        let detail = "CONNECT is for the outbound and the mesh port";
        let exchange = Exchange::open(&worker.mesh, Direction::Inbound, &request);
        return arrival.refuse(exchange, &ProxyError::new(ErrorCode::MethodNotAllowed, detail));
    }
    http::handle(&worker, Caller::Connection(arrival), &mut request).await
}

/// Waits, without a timer, until one of the two says something; what the client says is in `read`
/// then. An application that cannot be reached leaves the word to the client, who gets the error;
/// one that resets the connection has had its word.
async fn client_speaks_first<I: AsyncRead + Unpin>(
    worker: &Worker,
    application: &Application,
    io: &mut I,
    read: &mut BytesMut,
    upstream: &mut Option<Reached>,
) -> bool {
    let server = async {
        if upstream.is_none() {
            *upstream = reach(worker, application).await.ok().map(Ok);
        }
        let Some(Ok(reached)) = upstream else { return false };
        let mut said = [0; 9];
        match reached.peek(&mut said).await {
            Ok(bytes) => !is_settings(&said[..bytes]),
            Err(error) => {
                let detail = format!("{}: {error}", application.address);
                *upstream = Some(Err(ProxyError::new(ErrorCode::UpstreamReset, detail)));
                true
            }
        }
    };
    tokio::select! {
        biased;
        _ = io.read_buf(read) => true,
        true = server => false,
    }
}

/// Carries bytes between the two.
async fn relay<I: Carried>(
    worker: &Worker,
    arrival: &Arrival,
    mut io: I,
    upstream: Option<Reached>,
) {
    let mut session = open(worker, arrival);
    let reached = match upstream {
        Some(reached) => reached,
        None => reach(worker, &arrival.application).await,
    };
    match reached {
        Ok(upstream) => session.relay(io, upstream).await,
        Err(error) => {
            io.reset();
            session.fail(error);
        }
    }
}

/// The session of a connection that arrived.
pub(super) fn open(worker: &Worker, arrival: &Arrival) -> Session {
    let service = Arc::clone(&arrival.application.service);
    let mut session = Session::open(&worker.mesh, Direction::Inbound, service);
    let tls = if arrival.peer.is_some() { Tls::Mutual } else { Tls::None };
    session.peer.clone_from(&arrival.peer);
    session.attempt(arrival.application.address, tls);
    session
}

/// A connection to the application.
pub(super) async fn reach(worker: &Worker, application: &Application) -> Reached {
    connect::tcp(application.address, worker.mesh.config.connect_timeout).await
}
