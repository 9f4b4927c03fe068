//! Why the demo could not be shown.

use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::time::Duration;

use certs::{ServiceAccountError, TokenError};
use model::name::LabelError;

use super::ports::Holder;

/// Why the demo could not be shown.
#[derive(Debug, thiserror::Error)]
pub(crate) enum DemoError {
    /// A port is taken.
    #[error(
        "{address} is taken{}, and is to be {what}. Stop what listens there, or put the demo on \
         other addresses, such as with --base-address {elsewhere}. Nothing was started",
        holder.as_ref().map(|holder| format!(" by {holder}")).unwrap_or_default()
    )]
    Taken {
        /// The address.
        address: SocketAddr,
        /// What would have listened there.
        what: String,
        /// Who listens there.
        holder: Option<Holder>,
        /// A base address whose ports may be free.
        elsewhere: Ipv4Addr,
    },
    /// A port cannot be listened on for another reason.
    #[error("cannot listen on {address}, which is to be {what}: {source}. Nothing was started")]
    Listen {
        /// The address.
        address: SocketAddr,
        /// What would have listened there.
        what: String,
        /// What the system says.
        source: io::Error,
    },
    /// The system refused something that is nothing about the mesh.
    #[error("cannot {action}: {source}")]
    System {
        /// What was tried.
        action: &'static str,
        /// What the system says.
        source: io::Error,
    },
    /// A part of the demo ended by itself.
    #[error("{name} ended by itself ({how}){}", last_lines(log))]
    Died {
        /// The process.
        name: String,
        /// Its exit status.
        how: String,
        /// The end of its log.
        log: String,
    },
    /// A part of the demo does not answer.
    #[error("{name} is not ready after {} s: {reason}{}", waited.as_secs(), last_lines(log))]
    NotReady {
        /// The process.
        name: String,
        /// How long it had.
        waited: Duration,
        /// What it answered last.
        reason: String,
        /// The end of its log.
        log: String,
    },
    /// No join token could be made.
    #[error("cannot make a join token: {0}")]
    Token(#[from] TokenError),
    /// The demo's namespace has a bad name, which is a defect of the demo.
    #[error(transparent)]
    Namespace(#[from] LabelError),
    /// A service account of the demo has a bad name, which is a defect of the demo.
    #[error(transparent)]
    ServiceAccount(#[from] ServiceAccountError),
    /// Somebody stopped it.
    #[error("stopped by {name}")]
    Stopped {
        /// The signal's name.
        name: &'static str,
        /// The exit code that tells of it.
        code: u8,
    },
}

impl DemoError {
    /// What the system refused while doing `action`.
    pub(crate) fn system(action: &'static str) -> impl FnOnce(io::Error) -> Self {
        move |source| Self::System { action, source }
    }

    /// The exit code of the demo.
    pub(crate) const fn exit_code(&self) -> u8 {
        match self {
            Self::Stopped { code, .. } => *code,
            _ => 1,
        }
    }
}

fn last_lines(log: &str) -> String {
    if log.is_empty() {
        return "; its log is empty".into();
    }
    let lines: String = log.lines().map(|line| format!("\n  | {line}")).collect();
    format!("; the last lines of its log:{lines}")
}
