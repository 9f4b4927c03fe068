//! The load: so many requests of each kind a second, each of which knows its right answer.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use anyhow::ensure;
use http::{Request, Response, StatusCode};
use hyper::body::Incoming;
use tests::body::{self, AnyBody};
use tests::client;
use tests::poll::{self, SOON};
use tokio::task::JoinHandle;
use tokio::time::MissedTickBehavior;

use super::clients::{Http1, Http2};
use super::persist::persist;
use super::record::{Kind, Record};
use super::{grpc, websocket};
use crate::shop::API;

/// How long a stream lasts at least, and how much longer, by its number, at the most. When the
/// client's own sidecar leaves, its client waits for the longest.
const SHORTEST: Duration = Duration::from_secs(1);
const SPREAD_MILLIS: u64 = 1500;

/// A running load; dropped, it ends.
#[derive(Debug)]
pub(super) struct Traffic {
    clients: Arc<Clients>,
    ticking: Vec<JoinHandle<()>>,
}

#[derive(Debug)]
struct Clients {
    proxy: SocketAddr,
    http1: Http1,
    http2: Http2,
    grpc: Arc<Http2>,
    record: Record,
    under_way: AtomicUsize,
    stopped: AtomicBool,
}

impl Traffic {
    /// Starts to send through the sidecar at `proxy`.
    pub(super) fn start(proxy: SocketAddr, record: &Record) -> Self {
        let clients = Arc::new(Clients {
            proxy,
            http1: Http1::new(proxy),
            http2: Http2::new(proxy),
            grpc: Arc::new(Http2::new(proxy)),
            record: record.clone(),
            under_way: AtomicUsize::new(0),
            stopped: AtomicBool::new(false),
        });
        let tick = |(kind, rate)| tokio::spawn(tick(Arc::clone(&clients), kind, rate));
        let ticking = Kind::RATES.into_iter().map(tick).collect();
        Self { clients, ticking }
    }

    /// Sends no more, and waits for what is under way.
    pub(super) async fn stop(self) {
        self.clients.stopped.store(true, Ordering::Relaxed);
        poll::until("the end of the load", SOON, async || {
            match self.clients.under_way.load(Ordering::Relaxed) {
                0 => Ok(()),
                left => Err(format!("{left} requests under way")),
            }
        })
        .await;
    }
}

impl Drop for Traffic {
    fn drop(&mut self) {
        self.ticking.iter().for_each(JoinHandle::abort);
    }
}

async fn tick(clients: Arc<Clients>, kind: Kind, rate: u32) {
    let mut ticks = tokio::time::interval(Duration::from_secs(1) / rate);
    // A machine that was busy for a moment must not answer with a burst.
    ticks.set_missed_tick_behavior(MissedTickBehavior::Skip);
    for number in 0.. {
        ticks.tick().await;
        if clients.stopped.load(Ordering::Relaxed) {
            return;
        }
        clients.under_way.fetch_add(1, Ordering::Relaxed);
        let clients = Arc::clone(&clients);
        tokio::spawn(async move {
            clients.record.run(kind, clients.send(kind, number)).await;
            clients.under_way.fetch_sub(1, Ordering::Relaxed);
        });
    }
}

impl Clients {
    async fn send(&self, kind: Kind, number: u64) -> anyhow::Result<()> {
        let length = SHORTEST + Duration::from_millis(number * 331 % SPREAD_MILLIS);
        match kind {
            Kind::Http1Get => self.http1(&Question::get(number)).await,
            Kind::Http1Post => self.http1(&Question::post(number)).await,
            Kind::Http2 if number.is_multiple_of(3) => self.http2(&Question::post(number)).await,
            Kind::Http2 => self.http2(&Question::get(number)).await,
            Kind::GrpcUnary => grpc::unary(&self.grpc, number).await,
            Kind::GrpcServerStream => grpc::server_stream(&self.grpc, number, length).await,
            Kind::GrpcBothWays => grpc::both_ways(&self.grpc, number, length).await,
            Kind::WebSocket => {
                let socket = persist(|| websocket::open(self.proxy)).await?;
                websocket::talk(socket, number, length).await
            }
        }
    }

    async fn http1(&self, question: &Question) -> anyhow::Result<()> {
        let (response, kept) = persist(|| self.http1.send(question.request())).await?;
        question.check(response).await?;
        kept.give_back();
        Ok(())
    }

    async fn http2(&self, question: &Question) -> anyhow::Result<()> {
        let response = persist(|| self.http2.send(question.request())).await?;
        question.check(response).await
    }
}

/// A request and its right answer.
struct Question {
    path: String,
    body: Option<String>,
}

impl Question {
    fn get(number: u64) -> Self {
        Self { path: format!("/item/{number}"), body: None }
    }

    fn post(number: u64) -> Self {
        Self { path: "/echo".into(), body: Some(format!("order {number}")) }
    }

    fn request(&self) -> Request<AnyBody> {
        let url = format!("{API}{}", self.path);
        match &self.body {
            None => client::request("GET", &url),
            Some(body) => client::with_body("POST", &url, body::full(body.clone())),
        }
    }

    async fn check(&self, response: Response<Incoming>) -> anyhow::Result<()> {
        let answer = client::read(response).await?;
        ensure!(answer.status == StatusCode::OK, "{answer:?}");
        match &self.body {
            None => ensure!(answer.json()["path"] == self.path, "{answer:?} to {}", self.path),
            Some(body) => ensure!(answer.text() == *body, "{answer:?} to {body}"),
        }
        Ok(())
    }
}
