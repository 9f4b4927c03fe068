//! The threads that carry traffic: one single-threaded runtime each, with a pool of its own.
//! The first accepts, and hands each connection to the least busy of all.

use std::io;
use std::net::TcpListener as StdListener;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use futures_util::future::BoxFuture;
use socket2::{SockFilter, SockRef};
use tokio::net::{TcpListener, TcpStream};
use tokio::runtime::Builder;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc};

use crate::drain::Running;
use crate::mesh::Mesh;
use crate::placed::{Placed, Socket};
use crate::upstream::Pool;
use crate::worker::Worker;
use crate::{allocator, descriptors, inbound, outbound};

/// How long the accept loop rests when the process is out of descriptors.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);

/// How long the kernel may take over a connection that is half open when its listener closes.
const HALF_OPEN: Duration = Duration::from_millis(20);

/// A packet filter that drops what opens a connection, SYN without ACK (RFC 9293 §3.1), and lets
/// everything else through.
const NOBODY_NEW: [SockFilter; 5] = {
    const BYTE_AT: u16 = 0x30;
    const AND: u16 = 0x54;
    const IS_EQUAL: u16 = 0x15;
    const RETURN: u16 = 0x06;
    const FLAGS: u32 = 13;
    const SYN: u32 = 0x02;
    const ACK: u32 = 0x10;
    [
        SockFilter::new(BYTE_AT, 0, 0, FLAGS),
        SockFilter::new(AND, 0, 0, SYN | ACK),
        SockFilter::new(IS_EQUAL, 0, 1, SYN),
        SockFilter::new(RETURN, 0, 0, 0),
        SockFilter::new(RETURN, 0, 0, u32::MAX),
    ]
};

/// One of the sidecar's ports for traffic.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Port {
    /// What the application sends.
    Outbound,
    /// What comes without the mesh.
    Inbound,
    /// Other sidecars.
    Mesh,
}

impl Port {
    const fn as_str(self) -> &'static str {
        match self {
            Self::Outbound => "outbound",
            Self::Inbound => "inbound",
            Self::Mesh => "mesh",
        }
    }
}

/// An accepted connection on its way to a worker.
struct Accepted {
    port: Port,
    socket: Arrived,
    permit: OwnedSemaphorePermit,
    running: Running,
}

/// A socket, which has to be known to the runtime that serves it.
enum Arrived {
    /// It is, for the worker that accepted it serves it too.
    Here(TcpStream),
    /// It is not yet.
    There(std::net::TcpStream),
}

/// One worker as the acceptor sees it. The first of all is the acceptor itself.
#[derive(Clone)]
struct Desk {
    inbox: mpsc::UnboundedSender<Accepted>,
    connections: Arc<AtomicUsize>,
}

/// Starts the workers and accepts on `listeners`. The threads end with the process.
///
/// # Errors
/// When a thread or its runtime cannot be made.
pub fn start(mesh: &Arc<Mesh>, listeners: Vec<(Port, StdListener)>) -> io::Result<()> {
    let mut desks = Vec::new();
    let mut inboxes = Vec::new();
    for _ in 0..mesh.config.workers {
        let (inbox, accepted) = mpsc::unbounded_channel();
        let desk = Desk { inbox, connections: Arc::default() };
        inboxes.push((accepted, Arc::clone(&desk.connections)));
        desks.push(desk);
    }
    let mut acceptor = Some((listeners, desks));
    for (number, (inbox, connections)) in inboxes.into_iter().enumerate() {
        let runtime = Builder::new_current_thread().enable_all().build()?;
        let (mesh, acceptor) = (Arc::clone(mesh), acceptor.take());
        std::thread::Builder::new().name(format!("worker-{number}")).spawn(move || {
            runtime.block_on(async move {
                if let Some((listeners, desks)) = acceptor {
                    accept_on(&mesh, listeners, &desks);
                }
                work(mesh, inbox, connections).await;
            });
        })?;
    }
    Ok(())
}

fn accept_on(mesh: &Arc<Mesh>, listeners: Vec<(Port, StdListener)>, desks: &[Desk]) {
    let room = Arc::new(Semaphore::new(descriptors::for_connections(mesh.config.max_connections)));
    for (port, listener) in listeners {
        let (mesh, desks, room) = (Arc::clone(mesh), desks.to_vec(), Arc::clone(&room));
        tokio::spawn(async move {
            match TcpListener::from_std(listener) {
                Ok(listener) => listen(&mesh, port, listener, &desks, &room).await,
                Err(error) => tracing::error!(%error, port = port.as_str(), "cannot listen"),
            }
        });
    }
}

/// Accepts until the drain wants no more.
async fn listen(
    mesh: &Mesh,
    port: Port,
    listener: TcpListener,
    desks: &[Desk],
    room: &Arc<Semaphore>,
) {
    let _listening = mesh.drain.listen();
    tokio::select! {
        () = accept(mesh, port, &listener, desks, room) => {}
        () = mesh.drain.closing() => accept_last(mesh, port, listener, desks, room).await,
    }
}

/// Accepts for ever. At the bound one connection waits here, the others in the kernel, as all do
/// without descriptors or memory; those there are notice nothing.
async fn accept(
    mesh: &Mesh,
    port: Port,
    listener: &TcpListener,
    desks: &[Desk],
    room: &Arc<Semaphore>,
) {
    loop {
        mesh.memory.has_room().await;
        match listener.accept().await {
            Ok((socket, _)) => {
                // Only now: a port where nobody comes must not keep a place from the others. The
                // semaphore is never closed; a permit always comes.
                let Ok(permit) = Arc::clone(room).acquire_owned().await else { return };
                let (socket, running) = (Arrived::Here(socket), mesh.drain.run());
                hand_over(desks, Accepted { port, socket, permit, running });
            }
            Err(error) => {
                mesh.metrics.process.accept_errors.inc();
                tracing::warn!(%error, port = port.as_str(), "cannot accept a connection");
                tokio::time::sleep(ACCEPT_PAUSE).await;
            }
        }
    }
}

/// Accepts what the kernel has taken already: with its listener it would be reset, and a client
/// could not know that nothing was sent. One that is late is refused when it asks again.
async fn accept_last(
    mesh: &Mesh,
    port: Port,
    listener: TcpListener,
    desks: &[Desk],
    room: &Arc<Semaphore>,
) {
    if let Err(error) = SockRef::from(&listener).attach_filter(&NOBODY_NEW) {
        tracing::debug!(%error, port = port.as_str(), "new connections cannot be kept out");
    }
    tokio::time::sleep(HALF_OPEN).await;
    let Ok(listener) = listener.into_std() else { return };
    while let Ok(permit) = Arc::clone(room).try_acquire_owned()
        && let Ok((socket, _)) = listener.accept()
    {
        if socket.set_nonblocking(true).is_ok() {
            let (socket, running) = (Arrived::There(socket), mesh.drain.run());
            hand_over(desks, Accepted { port, socket, permit, running });
        }
    }
}

fn hand_over(desks: &[Desk], mut accepted: Accepted) {
    let busy = |(_, desk): &(usize, &Desk)| desk.connections.load(Ordering::Relaxed);
    let Some((number, desk)) = desks.iter().enumerate().min_by_key(busy) else { return };
    if number > 0
        && let Arrived::Here(socket) = accepted.socket
    {
        match socket.into_std() {
            Ok(socket) => accepted.socket = Arrived::There(socket),
            Err(error) => return lost(&error),
        }
    }
    desk.connections.fetch_add(1, Ordering::Relaxed);
    // A worker lives as long as the process.
    let _ = desk.inbox.send(accepted);
}

fn lost(error: &io::Error) {
    tracing::debug!(%error, "connection lost before it was served");
}

/// Serves what is handed over, each connection in a task of its own.
async fn work(
    mesh: Arc<Mesh>,
    mut inbox: mpsc::UnboundedReceiver<Accepted>,
    connections: Arc<AtomicUsize>,
) {
    tokio::spawn(allocator::give_back_regularly());
    let pool = Pool::start(Arc::clone(&mesh));
    let worker = Worker { mesh, pool };
    while let Some(accepted) = inbox.recv().await {
        let Accepted { port, socket, permit, running } = accepted;
        let open = Open::new(&worker, port, Arc::clone(&connections), permit, running);
        let socket = match socket {
            Arrived::Here(socket) => Ok(socket),
            Arrived::There(socket) => TcpStream::from_std(socket),
        };
        match socket {
            Ok(socket) => {
                tokio::spawn(serve(worker.clone(), port, Placed::new(socket, open)));
            }
            Err(error) => lost(&error),
        }
    }
    // The listeners are closed: what runs here goes on until the process ends.
    std::future::pending::<()>().await;
}

/// Serves one connection. Boxed, so that none has room for what the others need.
fn serve(worker: Worker, port: Port, socket: Socket) -> BoxFuture<'static, ()> {
    match port {
        Port::Outbound => Box::pin(outbound::serve(worker, socket)),
        Port::Inbound => Box::pin(inbound::plaintext::serve(worker, socket)),
        Port::Mesh => Box::pin(inbound::serve(worker, socket)),
    }
}

/// The place of a connection that is open; counted for as long as it is.
#[derive(Debug)]
pub struct Open {
    gauge: prometheus::IntGauge,
    connections: Arc<AtomicUsize>,
    _running: Running,
    _permit: OwnedSemaphorePermit,
}

impl Open {
    fn new(
        worker: &Worker,
        port: Port,
        connections: Arc<AtomicUsize>,
        permit: OwnedSemaphorePermit,
        running: Running,
    ) -> Self {
        let gauge =
            worker.mesh.metrics.process.connections_open.with_label_values(&[port.as_str()]);
        gauge.inc();
        Self { gauge, connections, _running: running, _permit: permit }
    }
}

impl Drop for Open {
    fn drop(&mut self) {
        self.gauge.dec();
        self.connections.fetch_sub(1, Ordering::Relaxed);
    }
}
