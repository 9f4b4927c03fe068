//! The signals that end the demo in order.

use std::io;

use tokio::signal::unix::{Signal, SignalKind, signal};

/// A signal that came: its name, and the exit code that tells of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Came {
    /// Its name.
    pub(crate) name: &'static str,
    /// The exit code of a process that it ended.
    pub(crate) code: u8,
}

/// The signals, listened for from the moment this is made. Beside those of a daemon there is
/// SIGHUP: a terminal that is closed must not leave the demo's directory behind.
#[derive(Debug)]
pub(crate) struct Signals {
    interrupt: Signal,
    terminate: Signal,
    hangup: Signal,
}

impl Signals {
    /// Starts to listen.
    pub(crate) fn new() -> io::Result<Self> {
        Ok(Self {
            interrupt: signal(SignalKind::interrupt())?,
            terminate: signal(SignalKind::terminate())?,
            hangup: signal(SignalKind::hangup())?,
        })
    }

    /// The next of them.
    pub(crate) async fn recv(&mut self) -> Came {
        tokio::select! {
            _ = self.interrupt.recv() => Came { name: "SIGINT", code: 130 },
            _ = self.terminate.recv() => Came { name: "SIGTERM", code: 143 },
            _ = self.hangup.recv() => Came { name: "SIGHUP", code: 129 },
        }
    }
}
