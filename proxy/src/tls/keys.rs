//! The keys after a handshake, which rustls keeps: the next ones are made of them.

use rustls::client::ClientConnectionData;
use rustls::kernel::KernelConnection;
use rustls::server::ServerConnectionData;
use rustls::{Error, HandshakeType, SupportedCipherSuite};

use super::record::Secrets;

/// What rustls keeps of a connection, by our side of it.
pub(super) enum Keys {
    Client(Box<KernelConnection<ClientConnectionData>>),
    Server(Box<KernelConnection<ServerConnectionData>>),
}

impl Keys {
    /// The next key to seal with.
    pub(super) fn next_sent(&mut self) -> Result<Secrets, Error> {
        match self {
            Self::Client(kernel) => kernel.update_tx_secret(),
            Self::Server(kernel) => kernel.update_tx_secret(),
        }
    }

    /// The next key to open with.
    pub(super) fn next_received(&mut self) -> Result<Secrets, Error> {
        match self {
            Self::Client(kernel) => kernel.update_rx_secret(),
            Self::Server(kernel) => kernel.update_rx_secret(),
        }
    }

    /// Takes a ticket for another session, which only a server gives (RFC 8446 §4.6.1).
    pub(super) fn ticket(&mut self, ticket: &[u8]) -> Result<(), Error> {
        match self {
            Self::Client(kernel) => kernel.handle_new_session_ticket(ticket),
            Self::Server(_) => Err(unexpected(HandshakeType::NewSessionTicket)),
        }
    }

    /// Most records for one key (§5.5).
    pub(super) fn limit(&self) -> u64 {
        let suite = match self {
            Self::Client(kernel) => kernel.negotiated_cipher_suite(),
            Self::Server(kernel) => kernel.negotiated_cipher_suite(),
        };
        match suite {
            SupportedCipherSuite::Tls13(suite) => suite.common.confidentiality_limit,
            // None is spoken.
            _ => 0,
        }
    }
}

/// What is no message for after a handshake.
pub(super) fn unexpected(got_type: HandshakeType) -> Error {
    let expect_types = vec![HandshakeType::KeyUpdate, HandshakeType::NewSessionTicket];
    Error::InappropriateHandshakeMessage { expect_types, got_type }
}
