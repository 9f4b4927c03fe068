//! The three ports at which a sidecar speaks HTTP/2 with others.

use std::net::{SocketAddr, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;

use rustls::{ClientConfig, ClientConnection, StreamOwned};

use super::Sidecar;
use super::frames::{Client, Ended, plain};
use crate::control_plane::ControlPlane;

/// Fields of a request.
pub(crate) type Fields = Vec<(Vec<u8>, Vec<u8>)>;

/// One port, and how a client gets through it to the application.
#[derive(Clone)]
pub(crate) struct Door {
    pub(crate) name: &'static str,
    to: SocketAddr,
    tls: Option<Arc<ClientConfig>>,
    /// The application's port.
    port: u16,
}

impl Door {
    /// The outbound, the plaintext inbound and the mesh port of a sidecar in front of this
    /// application.
    pub(crate) fn all(
        control_plane: &ControlPlane,
        sidecar: &Sidecar,
        application: SocketAddr,
    ) -> [Self; 3] {
        let client = control_plane.identity("shop", "client");
        let identity = control_plane.certificate(&client);
        let tls = identity.client_config(control_plane.identity("shop", "test"), &[b"h2"]);
        let door = |name, to, tls| Self { name, to, tls, port: application.port() };
        [
            door("outbound", sidecar.outbound(), None),
            door("inbound", sidecar.inbound(), None),
            door("mesh", sidecar.mesh(), Some(tls)),
        ]
    }

    /// The outbound port of a sidecar.
    pub(crate) fn outbound(sidecar: &Sidecar) -> Self {
        Self { name: "outbound", to: sidecar.outbound(), tls: None, port: 0 }
    }

    pub(crate) fn connect(&self) -> Client {
        self.connect_with(&[])
    }

    /// A client that sends these settings.
    pub(crate) fn connect_with(&self, settings: &[(u16, u32)]) -> Client {
        match &self.tls {
            None => Client::over(plain(self.to), settings),
            Some(_) => Client::over(self.tls(), settings),
        }
    }

    /// A client that has sent nothing yet.
    pub(crate) fn silent(&self) -> Client {
        match &self.tls {
            None => Client::silent(plain(self.to)),
            Some(_) => Client::silent(self.tls()),
        }
    }

    fn tls(&self) -> StreamOwned<ClientConnection, TcpStream> {
        let config = Arc::clone(self.tls.as_ref().unwrap());
        let session = ClientConnection::new(config, certs::server_name()).unwrap();
        StreamOwned::new(session, plain(self.to))
    }

    /// The fields of a request for the application.
    pub(crate) fn request(&self, method: &str, path: &str) -> Fields {
        let port = self.port.to_string();
        let mut fields =
            vec![(":method", method), (":scheme", "http"), (":path", path), (":authority", "api")];
        if self.tls.is_some() {
            fields.extend([("x-pillion-port", port.as_str()), ("x-pillion-protocol", "h2")]);
        }
        let own = |(name, value): (&str, &str)| (name.into(), value.into());
        fields.into_iter().map(own).collect()
    }

    /// Opens a stream with a request, and gives its number.
    pub(crate) fn open(&self, client: &mut Client, method: &str, path: &str, end: bool) -> u32 {
        client.open(&borrowed(&self.request(method, path)), end)
    }
}

/// Fields as clients take them.
pub(crate) fn borrowed(fields: &Fields) -> Vec<(&[u8], &[u8])> {
    fields.iter().map(|(name, value)| (name.as_slice(), value.as_slice())).collect()
}

/// A client that behaves well on a connection of its own, for as long as others do not.
pub(crate) struct Neighbour {
    stop: Arc<AtomicBool>,
    thread: JoinHandle<usize>,
}

impl Neighbour {
    pub(crate) fn start(door: &Door) -> Self {
        let (stop, door) = (Arc::new(AtomicBool::new(false)), door.clone());
        let stopped = Arc::clone(&stop);
        let mut client = door.connect();
        let thread = std::thread::spawn(move || {
            let mut served = 0;
            while !stopped.load(Ordering::SeqCst) {
                let stream = door.open(&mut client, "GET", "/x", true);
                assert_eq!(client.wait(stream), Ended::Answered("whole".into()), "a neighbour");
                served += 1;
            }
            served
        });
        Self { stop, thread }
    }

    /// All its requests were served, and there were some.
    pub(crate) fn is_well(self) {
        std::thread::sleep(std::time::Duration::from_millis(50));
        self.stop.store(true, Ordering::SeqCst);
        assert!(self.thread.join().unwrap() > 0, "the neighbour was served");
    }
}
