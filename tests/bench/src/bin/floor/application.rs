//! Connections to the applications of this pod: many of HTTP/1.1, one of HTTP/2.

use std::collections::{HashMap, VecDeque};
use std::net::Ipv4Addr;
use std::sync::{Arc, Mutex, PoisonError};

use anyhow::Context;
use http::header::HOST;
use http::{HeaderValue, Request, Response, Uri, Version};
use hyper::body::Incoming;
use hyper::client::conn::{http1, http2};
use hyper_util::rt::TokioIo;
use tokio::net::TcpStream;
use tokio::sync::OnceCell;

use crate::tuning;

/// The connections, by port.
#[derive(Default)]
pub(crate) struct Applications {
    /// Those in the order in which they got their last response: the first is idle before others.
    http1: Mutex<HashMap<u16, VecDeque<http1::SendRequest<Incoming>>>>,
    http2: Mutex<HashMap<u16, Arc<OnceCell<http2::SendRequest<Incoming>>>>>,
}

impl Applications {
    /// Sends a request over HTTP/1.1.
    pub(crate) async fn send_http1(
        &self,
        port: u16,
        mut request: Request<Incoming>,
    ) -> anyhow::Result<Response<Incoming>> {
        let host = request.uri().authority().context("no authority")?.as_str();
        let host = HeaderValue::from_str(host)?;
        request.headers_mut().insert(HOST, host);
        let path = request.uri_mut().path_and_query().cloned().context("no path")?;
        *request.uri_mut() = Uri::from(path);
        *request.version_mut() = Version::HTTP_11;
        let mut connection = match self.idle(port) {
            Some(connection) => connection,
            None => dial_http1(port).await?,
        };
        let response = connection.send_request(request).await?;
        self.http1
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .entry(port)
            .or_default()
            .push_back(connection);
        Ok(response)
    }

    /// The first connection that could take a request now.
    fn idle(&self, port: u16) -> Option<http1::SendRequest<Incoming>> {
        let mut connections = self.http1.lock().unwrap_or_else(PoisonError::into_inner);
        let connections = connections.get_mut(&port)?;
        for _ in 0..connections.len() {
            let connection = connections.pop_front()?;
            if connection.is_ready() {
                return Some(connection);
            }
            if !connection.is_closed() {
                connections.push_back(connection);
            }
        }
        None
    }

    /// Sends a request over HTTP/2.
    pub(crate) async fn send_http2(
        &self,
        port: u16,
        request: Request<Incoming>,
    ) -> anyhow::Result<Response<Incoming>> {
        let shared = {
            let mut connections = self.http2.lock().unwrap_or_else(PoisonError::into_inner);
            let shared = connections.entry(port).or_default();
            if shared.get().is_some_and(http2::SendRequest::is_closed) {
                *shared = Arc::default();
            }
            Arc::clone(shared)
        };
        let mut connection = shared.get_or_try_init(|| dial_http2(port)).await?.clone();
        connection.ready().await?;
        Ok(connection.send_request(request).await?)
    }
}

async fn dial_http1(port: u16) -> anyhow::Result<http1::SendRequest<Incoming>> {
    let (send, connection) = http1::handshake(TokioIo::new(dial(port).await?)).await?;
    tokio::spawn(connection);
    Ok(send)
}

async fn dial_http2(port: u16) -> anyhow::Result<http2::SendRequest<Incoming>> {
    let stream = TokioIo::new(dial(port).await?);
    let (send, connection) = tuning::http2_client().handshake(stream).await?;
    tokio::spawn(connection);
    Ok(send)
}

async fn dial(port: u16) -> anyhow::Result<TcpStream> {
    let stream = TcpStream::connect((Ipv4Addr::LOCALHOST, port)).await?;
    stream.set_nodelay(true)?;
    Ok(stream)
}
