//! Test applications: what stands behind a sidecar, in the test's own process.
//!
//! One kind speaks HTTP/1.1, HTTP/2 and gRPC on one port ([`http`] has its paths), one TCP, and
//! speaks first. Both count what they see and can be told to misbehave. What the third kind does
//! is up to its test.

mod grpc;
mod http;
mod scripted;
mod tcp;

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use ::http::{HeaderMap, Method, Request};
use bytes::Bytes;
use h2::RecvStream;
use h2::server::SendResponse;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::{JoinHandle, JoinSet};

pub use self::http::POD_HEADER;
use self::scripted::Script;
pub use self::tcp::BANNER;
use crate::poll::{self, SOON};

/// What an application speaks.
#[derive(Debug, Clone)]
enum Kind {
    Http,
    Tcp,
    Scripted(Script),
}

/// An application before it is started.
#[derive(Debug)]
pub struct App {
    kind: Kind,
    manners: Manners,
    next: Option<Next>,
}

/// How an application misbehaves.
#[derive(Debug, Clone, Copy, Default)]
pub struct Manners {
    /// Time before each answer.
    pub delay: Duration,
    /// Of 100 requests, how many are answered with 503; evenly spread.
    pub failing: u64,
    /// Close the connection in place of every answer.
    pub resetting: bool,
}

/// The next application of a chain.
#[derive(Debug, Clone)]
pub(crate) struct Next {
    proxy: SocketAddr,
    host: String,
}

/// A request as an application saw it.
#[derive(Debug, Clone)]
pub struct Seen {
    /// The method.
    pub method: Method,
    /// Path and query.
    pub path: String,
    /// All headers.
    pub headers: HeaderMap,
}

/// What an application knows and counts, for its tests.
#[derive(Debug)]
pub struct State {
    pod: String,
    manners: Mutex<Manners>,
    next: Option<Next>,
    connections: AtomicU64,
    broken: AtomicU64,
    seen: Mutex<Vec<Seen>>,
    tries: Mutex<HashMap<String, u64>>,
    leaving: watch::Sender<bool>,
    /// Held by each connection that has left HTTP: those are no longer their acceptor's.
    upgraded: Arc<()>,
}

/// A running application; dropped, it is gone at once with all its connections.
#[derive(Debug)]
pub struct Running {
    address: SocketAddr,
    state: Arc<State>,
    accepting: JoinHandle<()>,
}

impl App {
    /// HTTP/1.1, HTTP/2 with prior knowledge, and gRPC.
    pub fn http() -> Self {
        Self { kind: Kind::Http, manners: Manners::default(), next: None }
    }

    /// TCP: greets each client, sends back what it gets, and says goodbye at the end.
    pub fn tcp() -> Self {
        Self { kind: Kind::Tcp, manners: Manners::default(), next: None }
    }

    /// Whatever `serve` does with each connection.
    pub fn scripted<F>(serve: impl Fn(TcpStream) -> F + Send + Sync + 'static) -> Self
    where
        F: Future<Output = ()> + Send + 'static,
    {
        let kind = Kind::Scripted(Script::new(serve));
        Self { kind, manners: Manners::default(), next: None }
    }

    /// HTTP/2 with prior knowledge, and whatever `answer` does with each stream.
    pub fn streams<F>(
        answer: impl Fn(Request<RecvStream>, SendResponse<Bytes>) -> F + Send + Sync + 'static,
    ) -> Self
    where
        F: Future<Output = ()> + Send + 'static,
    {
        let kind = Kind::Scripted(Script::streams(answer));
        Self { kind, manners: Manners::default(), next: None }
    }

    /// How it behaves from the start.
    pub fn manners(mut self, manners: Manners) -> Self {
        self.manners = manners;
        self
    }

    /// Paths below `/chain` call `host` through the sidecar's outbound port `proxy`.
    pub fn calling(mut self, proxy: SocketAddr, host: &str) -> Self {
        self.next = Some(Next { proxy, host: host.to_owned() });
        self
    }

    /// Starts it as `pod`.
    ///
    /// # Panics
    /// When the address is taken.
    pub async fn start(self, pod: &str, address: SocketAddr) -> Running {
        let listener = TcpListener::bind(address)
            .await
            .unwrap_or_else(|error| panic!("the application {pod} at {address}: {error}"));
        let address = listener.local_addr().unwrap();
        let state = Arc::new(State {
            pod: pod.to_owned(),
            manners: Mutex::new(self.manners),
            next: self.next,
            connections: AtomicU64::new(0),
            broken: AtomicU64::new(0),
            seen: Mutex::default(),
            tries: Mutex::default(),
            leaving: watch::Sender::new(false),
            upgraded: Arc::default(),
        });
        let accepting = tokio::spawn(accept(listener, self.kind, Arc::clone(&state)));
        Running { address, state, accepting }
    }
}

async fn accept(listener: TcpListener, kind: Kind, state: Arc<State>) {
    // Dropped with this task, so that no connection outlives the application.
    let mut connections = JoinSet::new();
    loop {
        tokio::select! {
            accepted = listener.accept() => {
                let (socket, _) = accepted.expect("a connection");
                serve(&mut connections, socket, &kind, &state);
            }
            () = state.leaves() => break,
        }
        while connections.try_join_next().is_some() {}
    }
    // What the kernel has taken already would be reset with the listener.
    let listener = listener.into_std().expect("a listener");
    while let Ok((socket, _)) = listener.accept() {
        socket.set_nonblocking(true).expect("a socket");
        serve(&mut connections, TcpStream::from_std(socket).expect("a socket"), &kind, &state);
    }
    drop(listener);
    while connections.join_next().await.is_some() {}
}

fn serve(connections: &mut JoinSet<()>, socket: TcpStream, kind: &Kind, state: &Arc<State>) {
    state.connections.fetch_add(1, Ordering::Relaxed);
    match kind {
        Kind::Http => connections.spawn(http::serve(socket, Arc::clone(state))),
        Kind::Tcp => connections.spawn(tcp::serve(socket)),
        Kind::Scripted(script) => connections.spawn(script.clone().serve(socket)),
    };
}

impl State {
    fn saw(&self, seen: Seen) -> u64 {
        let mut all = self.seen.lock().unwrap();
        all.push(seen);
        all.len() as u64
    }

    /// Whether the application accepts nothing new.
    fn is_leaving(&self) -> bool {
        *self.leaving.borrow()
    }

    /// Resolves when the application begins to leave.
    async fn leaves(&self) {
        let mut leaving = self.leaving.subscribe();
        // The sender lives in `self`.
        let _ = leaving.wait_for(|leaving| *leaving).await;
    }

    /// How often `key` was tried, this time included.
    fn tried(&self, key: &str) -> u64 {
        let mut tries = self.tries.lock().unwrap();
        let count = tries.entry(key.to_owned()).or_default();
        *count += 1;
        *count
    }
}

impl Running {
    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Changes its behaviour from now on.
    pub fn behave(&self, manners: Manners) {
        *self.state.manners.lock().unwrap() = manners;
    }

    /// Connections accepted so far.
    pub fn connections(&self) -> u64 {
        self.state.connections.load(Ordering::Relaxed)
    }

    /// Requests to `/digest` whose body broke off.
    pub fn broken(&self) -> u64 {
        self.state.broken.load(Ordering::Relaxed)
    }

    /// Every request so far, in order of arrival.
    pub fn seen(&self) -> Vec<Seen> {
        self.state.seen.lock().unwrap().clone()
    }

    /// The number of requests so far.
    pub fn requests(&self) -> usize {
        self.state.seen.lock().unwrap().len()
    }
}

impl Running {
    /// Ends as a well-behaved server does: it accepts no more, says `Connection: close` and GOAWAY,
    /// and is gone when what runs has finished.
    ///
    /// # Panics
    /// When that does not come to an end.
    pub async fn leave(mut self) {
        self.state.leaving.send_replace(true);
        let pod = &self.state.pod;
        let ended = tokio::time::timeout(SOON, &mut self.accepting).await;
        ended.unwrap_or_else(|_| panic!("{pod}: connections stay open")).expect("no panic");
        poll::until(&format!("{pod} leaves"), SOON, async || {
            match Arc::strong_count(&self.state.upgraded) {
                1 => Ok(()),
                more => Err(format!("{} connections that were upgraded", more - 1)),
            }
        })
        .await;
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        self.accepting.abort();
    }
}
