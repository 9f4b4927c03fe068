//! An endpoint that speaks HTTP/2 in frames as they are.

use std::io::Read;
use std::net::{IpAddr, SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use rustls::{ServerConfig, ServerConnection, StreamOwned};

use super::PATIENCE;
use super::frames::*;

/// What is done about a request: the connection, its stream, and how many there were before.
type Script = dyn Fn(&mut Client, u32, usize) + Send + Sync;

/// The endpoint.
pub(crate) struct Upstream {
    pub(crate) address: SocketAddr,
    requests: Arc<AtomicUsize>,
    /// The SETTINGS, GOAWAYs and HEADERS that came.
    told: Arc<Mutex<Vec<Came>>>,
}

impl Upstream {
    /// One that runs `script` at the end of each request's head, behind TLS where there is some.
    pub(crate) fn start(
        address: SocketAddr,
        tls: Option<Arc<ServerConfig>>,
        script: impl Fn(&mut Client, u32, usize) + Send + Sync + 'static,
    ) -> Self {
        let listener = TcpListener::bind(address).unwrap();
        let address = listener.local_addr().unwrap();
        let upstream = Self { address, requests: Arc::default(), told: Arc::default() };
        let (requests, told) = (Arc::clone(&upstream.requests), Arc::clone(&upstream.told));
        let script: Arc<Script> = Arc::new(script);
        std::thread::spawn(move || {
            for socket in listener.incoming() {
                let (script, tls) = (Arc::clone(&script), tls.clone());
                let (requests, told) = (Arc::clone(&requests), Arc::clone(&told));
                std::thread::spawn(move || {
                    serve(accept(socket.unwrap(), tls), &*script, &requests, &told);
                });
            }
        });
        upstream
    }

    /// At any port of this address, without TLS.
    pub(crate) fn plain(
        address: [u8; 4],
        script: impl Fn(&mut Client, u32, usize) + Send + Sync + 'static,
    ) -> Self {
        Self::start(SocketAddr::new(IpAddr::from(address), 0), None, script)
    }

    /// Requests that came.
    pub(crate) fn requests(&self) -> usize {
        self.requests.load(Ordering::SeqCst)
    }

    /// The codes of the GOAWAYs that came.
    pub(crate) fn goaways(&self) -> Vec<u32> {
        self.told(GOAWAY).iter().map(|came| came.number(4)).collect()
    }

    /// Whether this setting came with this value.
    pub(crate) fn has_setting(&self, name: u16, value: u32) -> bool {
        let wanted = [name.to_be_bytes().as_slice(), &value.to_be_bytes()].concat();
        self.told(SETTINGS).iter().any(|came| came.payload.chunks(6).any(|one| one == wanted))
    }

    /// The frames of this kind that came.
    pub(crate) fn told(&self, kind: u8) -> Vec<Came> {
        let told = self.told.lock().unwrap();
        told.iter().filter(|came| came.kind == kind).cloned().collect()
    }
}

/// Answers 200 and `ok`.
pub(crate) fn ok(client: &mut Client, stream: u32) {
    client.headers(stream, &[(b":status", b"200")], false);
    client.data(stream, b"ok", true);
}

fn accept(socket: TcpStream, tls: Option<Arc<ServerConfig>>) -> Box<dyn Wire> {
    socket.set_read_timeout(Some(PATIENCE)).unwrap();
    match tls {
        None => Box::new(socket),
        Some(tls) => Box::new(StreamOwned::new(ServerConnection::new(tls).unwrap(), socket)),
    }
}

fn serve(
    mut wire: Box<dyn Wire>,
    script: &Script,
    requests: &AtomicUsize,
    told: &Mutex<Vec<Came>>,
) {
    let mut preface = [0; PREFACE.len()];
    let greeted = wire.write_all(&[0, 0, 0, SETTINGS, 0, 0, 0, 0, 0]);
    if greeted.and_then(|()| wire.read_exact(&mut preface)).is_err() {
        return;
    }
    let mut client = Client::silent(wire);
    while let Ok(came) = client.read() {
        told.lock()
            .unwrap()
            .extend(matches!(came.kind, SETTINGS | GOAWAY | HEADERS).then(|| came.clone()));
        match came.kind {
            SETTINGS if came.flags == 0 => {
                client.frame(SETTINGS, 1, 0, &[]);
            }
            PING if came.flags == 0 => {
                client.frame(PING, 1, 0, &came.payload);
            }
            HEADERS => script(&mut client, came.stream, requests.fetch_add(1, Ordering::SeqCst)),
            _ => {}
        }
    }
}
