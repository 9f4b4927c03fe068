//! Bytes that nobody looks into, on their way in: CONNECT streams of other sidecars (HBONE), and
//! plaintext connections that speak no HTTP.

use std::sync::Arc;

use http::{Request, Response};
use hyper::body::Incoming;
use hyper_util::rt::TokioIo;
use model::code::ErrorCode;
use model::host::{Authority, Host};
use model::spiffe::SpiffeId;
use tokio::io::{AsyncRead, AsyncWrite};

use super::Caller;
use super::application::Application;
use crate::body::Body;
use crate::error::ProxyError;
use crate::relay::Session;
use crate::telemetry::metrics::{Direction, Tls};
use crate::upstream::connect;
use crate::worker::Worker;

/// Answers a CONNECT of another sidecar: once the application is reached, 200 and then bytes.
pub async fn handle(worker: &Worker, peer: SpiffeId, request: Request<Incoming>) -> Response<Body> {
    let (mut session, reached) = match target(worker, &request) {
        Ok(application) => {
            let mut session = open(worker, &Caller::Mesh(peer), Arc::clone(&application.service));
            let reached = reach(worker, &mut session, &application).await;
            (session, reached)
        }
        Err(error) => (open(worker, &Caller::Mesh(peer), worker.mesh.own_label()), Err(error)),
    };
    let upstream = match reached {
        Ok(upstream) => upstream,
        Err(error) => {
            let response = error.response(false);
            session.fail(error);
            return response;
        }
    };
    tokio::spawn(async move {
        match hyper::upgrade::on(request).await {
            Ok(caller) => session.relay(TokioIo::new(caller), upstream).await,
            Err(error) => {
                session.fail(ProxyError::new(ErrorCode::ClientClosed, error.to_string()));
            }
        }
    });
    Response::new(Body::empty())
}

/// Carries a connection straight to the application.
pub async fn carry<I>(worker: &Worker, caller: Caller, io: I, application: Application)
where
    I: AsyncRead + AsyncWrite + Unpin,
{
    let mut session = open(worker, &caller, Arc::clone(&application.service));
    match reach(worker, &mut session, &application).await {
        Ok(upstream) => session.relay(io, upstream).await,
        Err(error) => session.fail(error),
    }
}

fn open(worker: &Worker, caller: &Caller, service: Arc<str>) -> Session {
    let mut session = Session::open(&worker.mesh, Direction::Inbound, service);
    if let Caller::Mesh(peer) = caller {
        session.tls = Tls::Mutual;
        session.peer = Some(peer.clone());
    }
    session
}

async fn reach(
    worker: &Worker,
    session: &mut Session,
    application: &Application,
) -> Result<tokio::net::TcpStream, ProxyError> {
    session.attempt(application.address, session.tls);
    connect::tcp(application.address, worker.mesh.config.connect_timeout).await
}

/// The port that the `:authority` of a CONNECT names; its address must be this workload's.
fn target(worker: &Worker, request: &Request<Incoming>) -> Result<Application, ProxyError> {
    let bad = |detail: String| ProxyError::new(ErrorCode::BadRequest, detail);
    let text = request.uri().authority().ok_or_else(|| bad("CONNECT without a target".into()))?;
    let wanted: Authority =
        text.as_str().parse().map_err(|error| bad(format!("CONNECT {text}: {error}")))?;
    let config = &worker.mesh.config;
    match (wanted.host, wanted.port) {
        (Host::Ip(address), Some(port))
            if address == config.address || address == config.app.address =>
        {
            Application::find(&worker.mesh, port)
        }
        _ => {
            let detail = format!("CONNECT {text}: this is the sidecar of {}", config.address);
            Err(ProxyError::new(ErrorCode::PortDenied, detail))
        }
    }
}
