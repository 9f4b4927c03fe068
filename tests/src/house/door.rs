//! The way for a test's own client into a pod: the helper `peer dial` opens the connection there,
//! as nobody, so that it is the application's connection in every respect.

use std::net::{Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};

use anyhow::{Context, ensure};
use tokio::io::{AsyncReadExt, AsyncWriteExt, copy_bidirectional};
use tokio::net::{TcpListener, UnixStream};
use tokio::task::JoinSet;

use crate::poll::{self, SOON};
use crate::process::Process;

use super::program::Program;

/// Bytes of the longest answer of the helper.
const LONGEST_ANSWER: usize = 1024;

/// An open door into a namespace.
#[derive(Debug)]
pub(super) struct Door {
    helper: Process,
    socket: PathBuf,
}

impl Door {
    /// Starts the helper in `namespace`; its socket lies in `home`.
    pub(super) async fn open(namespace: &str, home: &Path, logs: &Path, name: &str) -> Self {
        let socket = home.join("door");
        let program = Program::peer(&["dial", socket.to_str().expect("a path in UTF-8")]);
        let command = program.within(namespace, home);
        let log = format!("door-{name}");
        let helper =
            Process::start(&log, logs, &command.program, &command.args, &command.environment());
        let mut door = Self { helper, socket };
        poll::until(&format!("the door into {name}"), SOON, async || {
            if let Some(status) = door.helper.ended() {
                panic!("the door into {name} has ended: {status}");
            }
            UnixStream::connect(&door.socket).await
        })
        .await;
        door
    }

    /// The helper's process id.
    pub(super) fn id(&self) -> u32 {
        self.helper.id()
    }

    /// A TCP connection from inside to `target`.
    pub(super) async fn dial(&self, target: &str) -> anyhow::Result<UnixStream> {
        dial(&self.socket, target).await
    }

    /// A port of this machine's loopback that leads to `target` inside, for one connection at a
    /// time.
    pub(super) async fn relay(&self, target: SocketAddr) -> Relay {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.expect("a free port");
        let address = listener.local_addr().expect("it has one");
        let (socket, mut carrying) = (self.socket.clone(), JoinSet::new());
        carrying.spawn(async move {
            while let Ok((mut outside, _)) = listener.accept().await {
                // Whoever is outside sees its connection end when there is none inside.
                if let Ok(mut inside) = dial(&socket, &target.to_string()).await {
                    let _ = copy_bidirectional(&mut outside, &mut inside).await;
                }
            }
        });
        Relay { address, _carrying: carrying }
    }
}

/// A way in from outside of the house; dropped, it is closed.
#[derive(Debug)]
pub(super) struct Relay {
    /// The port outside.
    pub(super) address: SocketAddr,
    _carrying: JoinSet<()>,
}

/// Has the helper behind a socket connect to `target`.
async fn dial(socket: &Path, target: &str) -> anyhow::Result<UnixStream> {
    let mut stream = UnixStream::connect(socket).await?;
    stream.write_all(format!("{target}\n").as_bytes()).await?;
    let mut answer = Vec::new();
    // Byte by byte: what follows the line is the target's.
    while answer.last() != Some(&b'\n') {
        ensure!(answer.len() < LONGEST_ANSWER, "no end of the helper's answer");
        answer.push(stream.read_u8().await.context("the helper's answer")?);
    }
    ensure!(answer == b"ok\n", "connect to {target}: {}", String::from_utf8_lossy(&answer));
    Ok(stream)
}
