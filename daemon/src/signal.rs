//! The signals that ask a process to leave.

use std::io;

use tokio::signal::unix::{SignalKind, signal};

/// The signals, listened for from the moment this is made.
#[derive(Debug)]
pub struct Terminate {
    term: tokio::signal::unix::Signal,
    interrupt: tokio::signal::unix::Signal,
}

impl Terminate {
    /// Starts to listen. Must run inside a tokio runtime.
    ///
    /// # Errors
    /// When the kernel refuses the handler.
    pub fn new() -> io::Result<Self> {
        Ok(Self {
            term: signal(SignalKind::terminate())?,
            interrupt: signal(SignalKind::interrupt())?,
        })
    }

    /// Resolves with the name of the next SIGTERM or SIGINT.
    pub async fn recv(&mut self) -> &'static str {
        tokio::select! {
            _ = self.term.recv() => "SIGTERM",
            _ = self.interrupt.recv() => "SIGINT",
        }
    }
}
