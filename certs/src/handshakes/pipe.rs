//! Two ends of a TLS connection with nothing but memory between them.

use std::io::{self, Read, Write};
use std::sync::Arc;

use rustls::{ClientConfig, ClientConnection, Connection, ServerConfig, ServerConnection};

use crate::failure::{HandshakeFailure, classify};
use crate::peer::server_name;

/// A connection and how each end saw the handshake end.
pub(super) struct Pipe {
    pub(super) client: Connection,
    pub(super) server: Connection,
    pub(super) client_error: Option<rustls::Error>,
    pub(super) server_error: Option<rustls::Error>,
}

impl Pipe {
    /// Runs a handshake until both ends have nothing more to say. The client has a request ready
    /// from the beginning, so that it goes out at the first chance.
    pub(super) fn run(client: Arc<ClientConfig>, server: Arc<ServerConfig>) -> Self {
        let client = ClientConnection::new(client, server_name()).unwrap();
        let server = ServerConnection::new(server).unwrap();
        let (client, server) = (client.into(), server.into());
        let mut pipe = Self { client, server, client_error: None, server_error: None };
        pipe.client.writer().write_all(b"request").unwrap();
        pipe.settle();
        pipe
    }

    pub(super) fn settle(&mut self) {
        loop {
            let up = carry(&mut self.client, &mut self.server, &mut self.server_error);
            let down = carry(&mut self.server, &mut self.client, &mut self.client_error);
            if up + down == 0 {
                return;
            }
        }
    }

    pub(super) fn established(&self) -> bool {
        let open = !self.client.is_handshaking() && !self.server.is_handshaking();
        open && self.client_error.is_none() && self.server_error.is_none()
    }

    /// What the server's application got of the request.
    pub(super) fn received(&mut self) -> Vec<u8> {
        let mut got = [0; 64];
        let length = self.server.reader().read(&mut got).unwrap_or(0);
        got[..length].to_vec()
    }

    /// What the client makes of its error.
    pub(super) fn client_failure(&self) -> HandshakeFailure {
        failure(self.client_error.as_ref())
    }
}

/// The failure as the proxy sees it: through the io::Error of tokio-rustls.
pub(super) fn failure(error: Option<&rustls::Error>) -> HandshakeFailure {
    let error = error.expect("the handshake must fail").clone();
    classify(&io::Error::new(io::ErrorKind::InvalidData, error))
}

/// Moves what one end has to say to the other, which stops listening after its first error.
fn carry(from: &mut Connection, to: &mut Connection, error: &mut Option<rustls::Error>) -> usize {
    let mut bytes = Vec::new();
    while from.wants_write() {
        from.write_tls(&mut bytes).unwrap();
    }
    let mut unread = bytes.as_slice();
    while !unread.is_empty() && error.is_none() {
        to.read_tls(&mut unread).unwrap();
        *error = to.process_new_packets().err();
    }
    bytes.len()
}
