//! The name of the server that a client asks for in its TLS ClientHello (SNI, RFC 6066 §3), read
//! along while the bytes are carried on untouched.

use std::io::Read;

use rustls::server::Acceptor;

/// The first byte of a TLS handshake record (RFC 8446 §5.1).
const HANDSHAKE: u8 = 22;

/// A ClientHello as far as it has come.
#[derive(Default)]
pub(crate) enum ClientHello {
    /// Nothing was said yet.
    #[default]
    Awaited,
    /// Some of it was said.
    Begun(Box<Acceptor>),
    /// It was said whole, or it is none.
    Over,
}

impl ClientHello {
    /// Takes in what the client says next, and gives the name once it is known.
    pub(crate) fn hear(&mut self, mut bytes: &[u8]) -> Option<Box<str>> {
        if let (Self::Awaited, Some(first)) = (&*self, bytes.first()) {
            *self = match *first {
                HANDSHAKE => Self::Begun(Box::default()),
                _ => Self::Over,
            };
        }
        while let Self::Begun(acceptor) = self
            && !bytes.is_empty()
        {
            let read = acceptor.read_tls(&mut bytes as &mut dyn Read);
            match (read, acceptor.accept()) {
                (Ok(1..), Ok(None)) => {}
                (Ok(_), Ok(Some(accepted))) => {
                    *self = Self::Over;
                    return accepted.client_hello().server_name().map(Into::into);
                }
                _ => *self = Self::Over,
            }
        }
        None
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use rustls::{ClientConfig, ClientConnection, RootCertStore};

    use super::*;

    fn hello(name: &'static str) -> Vec<u8> {
        let config = ClientConfig::builder()
            .with_root_certificates(RootCertStore::empty())
            .with_no_client_auth();
        let mut client = ClientConnection::new(Arc::new(config), name.try_into().unwrap()).unwrap();
        let mut bytes = Vec::new();
        client.write_tls(&mut bytes).unwrap();
        bytes
    }

    #[test]
    fn the_name_is_found_however_the_bytes_come() {
        let bytes = hello("db.example.com");
        assert_eq!(ClientHello::default().hear(&bytes).as_deref(), Some("db.example.com"));
        let mut slowly = ClientHello::default();
        let found: Vec<_> = bytes.iter().filter_map(|byte| slowly.hear(&[*byte])).collect();
        assert_eq!(found, ["db.example.com".into()]);
        assert!(matches!(slowly, ClientHello::Over));
    }

    #[test]
    fn what_is_no_hello_or_names_nobody_gives_no_name() {
        let garbage = [&[HANDSHAKE][..], &[0xff; 40]].concat();
        for bytes in [b"GET / HTTP/1.1".to_vec(), garbage, hello("127.0.0.1")] {
            let mut heard = ClientHello::default();
            assert_eq!(heard.hear(&bytes), None);
            assert!(matches!(heard, ClientHello::Over));
        }
    }
}
