//! Real clients and servers that nobody changed for a mesh: one file for each protocol.
//!
//! A peer is data: how its server starts, what its client does and must be answered. So the same
//! pair runs directly and through the mesh ([`Peer::open`]), its broker is restarted under it
//! ([`restart`]), and the table of the documentation is made of it ([`compare`]).

mod amqp;
pub mod compare;
mod grpc;
mod http;
mod mariadb;
mod nats;
mod postgres;
mod redis;
pub mod restart;
mod smtp;

use std::path::{Path, PathBuf};

use tokio::sync::OnceCell;

use super::{House, Options, Pod, Program, User};
use crate::tools;

/// What all Python peers need, from PyPI.
const PACKAGES: [&str; 4] = ["grpcio", "nats-py", "pika", "aiosmtpd"];
const MODULES: &str = "grpc, nats, pika, aiosmtpd";

static PYTHON: OnceCell<PathBuf> = OnceCell::const_new();

/// A protocol, with a server and a client that speak it.
#[derive(Debug)]
pub struct Peer {
    /// The protocol.
    pub protocol: &'static str,
    /// The server program.
    pub server: &'static str,
    /// The client program.
    pub client: &'static str,
    /// The name of the Service, and of the pod.
    pub name: &'static str,
    /// The Service's port, and the application's own.
    pub ports: (u16, u16),
    /// How the first byte of a new connection is timed.
    first_byte: FirstByte,
    serve: fn(&Kit<'_>) -> Server,
    talk: fn(&Kit<'_>) -> Vec<Exchange>,
    /// A client that lives through a restart of the server, and the lines that it prints.
    lives: Option<Life>,
}

/// How the first byte of a new connection is timed.
#[derive(Debug, Clone, Copy)]
enum FirstByte {
    /// The helper says this and waits for a byte; if it says nothing, the server speaks first.
    After(&'static [u8]),
    /// A client of its own prints the microseconds: for HTTP/2, where the first byte would be the
    /// sidecar's.
    By(fn(&Kit<'_>) -> Program),
}

/// A server of a peer.
#[derive(Debug)]
struct Server {
    setup: Vec<Program>,
    app: Program,
    probe: Option<Program>,
}

/// One thing that the client does, and what it must print.
#[derive(Debug)]
struct Exchange {
    client: Program,
    prints: &'static str,
}

/// A client that lives through a restart.
#[derive(Debug)]
struct Life {
    client: fn(&Kit<'_>) -> Program,
    /// The first words of its lines, in order.
    lines: &'static [&'static str],
}

/// What peers are made of: a directory of the pod's own, and a Python with their libraries.
#[derive(Debug)]
struct Kit<'a> {
    home: &'a Path,
    python: &'a Path,
}

/// A peer's two pods in a house of their own.
#[derive(Debug)]
pub struct Pair {
    peer: &'static Peer,
    server: Pod,
    client: Pod,
    python: PathBuf,
    // Dropped after its pods.
    _house: House,
}

/// All peers.
pub static PEERS: [&Peer; 8] = [
    &http::PEER,
    &grpc::PEER,
    &postgres::PEER,
    &redis::PEER,
    &nats::PEER,
    &amqp::PEER,
    &mariadb::PEER,
    &smtp::PEER,
];

/// The peer of this name.
///
/// # Panics
/// When there is none.
pub fn peer(name: &str) -> &'static Peer {
    PEERS.iter().find(|peer| peer.name == name).unwrap_or_else(|| panic!("no peer {name}"))
}

impl Peer {
    /// Starts the server in one pod, and another pod for the client.
    pub async fn open(&'static self, options: Options) -> Pair {
        let python = PYTHON.get_or_init(python).await.clone();
        let house = House::start(options).await;
        let home = house.home(self.name, User::Nobody);
        let Server { setup, app, probe } = (self.serve)(&Kit { home: &home, python: &python });
        let (number, target) = self.ports;
        let builder = house.pod(&format!("shop/{}", self.name)).port(number, target);
        let mut builder = builder.setup(setup).app(app);
        if let Some(probe) = probe {
            builder = builder.ready_when(probe);
        }
        let client = house.pod("shop/client").start();
        // Boxed: everybody who opens a pair would carry both in a future of their own.
        let (server, client) = tokio::join!(Box::pin(builder.start()), Box::pin(client));
        Pair { peer: self, server, client, python, _house: house }
    }
}

impl Pair {
    /// Has the client say all that it can.
    ///
    /// # Errors
    /// With the first answer that is another than it should be.
    pub async fn talk(&self) -> Result<(), String> {
        for Exchange { client, prints } in (self.peer.talk)(&self.kit()) {
            let output = self.client.run(&client).await;
            if output.code != Some(0) || output.stdout.trim_end() != prints {
                return Err(format!("{client:?} should print {prints:?}: {output:?}"));
            }
        }
        Ok(())
    }

    /// The server's pod.
    pub fn server(&self) -> &Pod {
        &self.server
    }

    /// The client's pod.
    pub fn client(&self) -> &Pod {
        &self.client
    }

    /// HOST:PORT of the Service.
    fn target(&self) -> String {
        format!("{}:{}", self.peer.name, self.peer.ports.0)
    }

    fn kit(&self) -> Kit<'_> {
        Kit { home: self.client.home(), python: &self.python }
    }
}

impl Kit<'_> {
    /// Writes a file into the home and returns its path.
    fn file(&self, name: &str, text: &str) -> String {
        let path = self.path(name);
        std::fs::write(&path, text).expect("a file in a home");
        path
    }

    /// The path of something in the home.
    fn path(&self, name: &str) -> String {
        self.home.join(name).to_str().expect("a path in UTF-8").to_owned()
    }

    /// A script for the Python that has the peers' libraries.
    fn python(&self, name: &str, script: &str, args: &[&str]) -> Program {
        Program::at(self.python).args([self.file(name, script)]).args(args)
    }

    /// A script for the shell, in the home.
    fn shell(&self, name: &str, script: &str, args: &[&str]) -> Program {
        let script = format!("cd '{}'\n{script}", self.path(""));
        Program::at("/bin/sh").args([self.file(name, &script)]).args(args)
    }
}

/// The system's Python and none that a user installed for itself: nobody must be able to run it.
async fn python() -> PathBuf {
    let system = Path::new("/usr/bin/python3");
    assert!(system.is_file(), "this test needs {}: apt-get install python3", system.display());
    tools::python_with("peers", system, &PACKAGES, MODULES).await
}
