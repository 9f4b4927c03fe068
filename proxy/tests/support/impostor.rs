//! What answers at an endpoint's mesh port in place of its sidecar, and keeps what it was sent.

use std::io::{Read, Write};
use std::net::{IpAddr, SocketAddr, TcpListener, TcpStream};
use std::sync::{Arc, Mutex};

use rustls::client::danger::HandshakeSignatureValid;
use rustls::crypto::CryptoProvider;
use rustls::pki_types::{CertificateDer, UnixTime};
use rustls::server::danger::{ClientCertVerified, ClientCertVerifier};
use rustls::{
    CertificateError, DigitallySignedStruct, DistinguishedName, ServerConfig, ServerConnection,
    SignatureScheme, Stream, SupportedProtocolVersion,
};

use super::PATIENCE;
use super::mint::Leaf;

/// What a server of HTTP/2 says first (RFC 9113 §3.4).
const SETTINGS: &[u8] = &[0, 0, 0, 4, 0, 0, 0, 0, 0];

/// How it answers a connection.
pub(crate) enum Manner {
    /// With TLS and then nothing.
    Tls(Arc<ServerConfig>),
    /// With these bytes.
    Bytes(&'static [u8]),
    /// With nothing, for ever.
    Silence,
    /// With the end.
    Close,
}

/// What was sent to it, below TLS where there was a handshake.
#[derive(Debug, Clone, Default)]
pub(crate) struct Heard {
    pub(crate) bytes: Vec<u8>,
    pub(crate) connections: usize,
}

pub(crate) struct Impostor {
    pub(crate) address: SocketAddr,
    heard: Arc<Mutex<Heard>>,
}

impl Impostor {
    pub(crate) fn start(address: [u8; 4], manner: Manner) -> Self {
        let listener = TcpListener::bind((IpAddr::from(address), 0)).unwrap();
        let impostor = Self { address: listener.local_addr().unwrap(), heard: Arc::default() };
        let (manner, heard) = (Arc::new(manner), Arc::clone(&impostor.heard));
        std::thread::spawn(move || {
            for socket in listener.incoming() {
                heard.lock().unwrap().connections += 1;
                let (manner, heard) = (Arc::clone(&manner), Arc::clone(&heard));
                std::thread::spawn(move || answer(socket.unwrap(), &manner, &heard));
            }
        });
        impostor
    }

    /// What has come so far.
    pub(crate) fn heard(&self) -> Heard {
        self.heard.lock().unwrap().clone()
    }
}

/// A configuration that shows `leaf` and believes every client.
pub(crate) fn config(leaf: &Leaf) -> ServerConfig {
    speaking(leaf, certs::provider(), &[&rustls::version::TLS13])
}

/// One that shows `leaf` and believes nobody.
pub(crate) fn refusing(leaf: &Leaf) -> ServerConfig {
    let clients = Clients { believed: false };
    judging(clients, leaf, certs::provider(), &[&rustls::version::TLS13])
}

/// One of these versions.
pub(crate) fn speaking(
    leaf: &Leaf,
    provider: Arc<CryptoProvider>,
    versions: &[&'static SupportedProtocolVersion],
) -> ServerConfig {
    judging(Clients { believed: true }, leaf, provider, versions)
}

fn judging(
    clients: Clients,
    leaf: &Leaf,
    provider: Arc<CryptoProvider>,
    versions: &[&'static SupportedProtocolVersion],
) -> ServerConfig {
    let mut config = ServerConfig::builder_with_provider(provider)
        .with_protocol_versions(versions)
        .unwrap()
        .with_client_cert_verifier(Arc::new(clients))
        .with_cert_resolver(leaf.resolver());
    config.alpn_protocols = vec![b"h2".to_vec()];
    config
}

fn answer(mut socket: TcpStream, manner: &Manner, heard: &Mutex<Heard>) {
    socket.set_read_timeout(Some(PATIENCE)).unwrap();
    match manner {
        Manner::Tls(config) => {
            let mut server = ServerConnection::new(Arc::clone(config)).unwrap();
            let mut tls = Stream::new(&mut server, &mut socket);
            let _ = tls.write_all(SETTINGS);
            keep(tls, heard);
        }
        Manner::Bytes(bytes) => {
            let _ = socket.write_all(bytes);
            keep(socket, heard);
        }
        Manner::Silence => keep(socket, heard),
        Manner::Close => {}
    }
}

fn keep(mut from: impl Read, heard: &Mutex<Heard>) {
    let mut buffer = [0; 16 * 1024];
    while let Ok(read @ 1..) = from.read(&mut buffer) {
        heard.lock().unwrap().bytes.extend_from_slice(&buffer[..read]);
    }
}

/// Believes every client, or none: it is the client that is tested.
#[derive(Debug)]
struct Clients {
    believed: bool,
}

impl ClientCertVerifier for Clients {
    fn root_hint_subjects(&self) -> &[DistinguishedName] {
        &[]
    }

    fn verify_client_cert(
        &self,
        _: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: UnixTime,
    ) -> Result<ClientCertVerified, rustls::Error> {
        match self.believed {
            true => Ok(ClientCertVerified::assertion()),
            false => Err(CertificateError::UnknownIssuer.into()),
        }
    }

    fn verify_tls12_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        Ok(HandshakeSignatureValid::assertion())
    }

    fn verify_tls13_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        Ok(HandshakeSignatureValid::assertion())
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        certs::provider().signature_verification_algorithms.supported_schemes()
    }
}
