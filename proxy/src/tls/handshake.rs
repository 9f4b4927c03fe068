//! The handshake of TLS 1.3, which is rustls's, up to the keys of the record layer.

use std::io;
use std::sync::Arc;

use bytes::{Buf, BytesMut};
use rustls::client::{ClientConnectionData, UnbufferedClientConnection};
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::server::{ServerConnectionData, UnbufferedServerConnection};
use rustls::unbuffered::{
    ConnectionState, EncodeError, EncodeTlsData, UnbufferedConnectionCommon as Common,
    UnbufferedStatus,
};
use rustls::{ClientConfig, Error, ExtractedSecrets, PeerMisbehaved, ServerConfig};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};

use super::keys::Keys;
use super::{TlsStream, failure, record};

/// Room for what is read of a handshake at once.
const ROOM: usize = 4 * 1024;

/// What a handshake has come to.
pub(crate) struct Established<I> {
    /// The connection.
    pub(crate) io: TlsStream<I>,
    /// The protocol that was agreed on by ALPN.
    pub(crate) protocol: Option<Vec<u8>>,
    /// What the other side has shown, leaf first.
    pub(crate) certificates: Vec<CertificateDer<'static>>,
}

/// The side of a client, who asks for `name`.
///
/// # Errors
/// rustls's of the handshake, within, or those of `io`.
pub(crate) async fn connect<I>(
    io: I,
    config: Arc<ClientConfig>,
    name: ServerName<'static>,
) -> io::Result<Established<I>>
where
    I: AsyncRead + AsyncWrite + Unpin,
{
    let mut client = UnbufferedClientConnection::new(config, name).map_err(failure)?;
    let mut handshake = Handshake::new(io);
    handshake.run(&mut client, Common::<ClientConnectionData>::process_tls_records).await?;
    let (protocol, certificates) = shown(&client);
    let (secrets, kernel) = client.dangerous_into_kernel_connection().map_err(failure)?;
    let io = handshake.into_stream(secrets, Keys::Client(Box::new(kernel)))?;
    Ok(Established { io, protocol, certificates })
}

/// The side of a server.
///
/// # Errors
/// As [`connect`].
pub(crate) async fn accept<I>(io: I, config: Arc<ServerConfig>) -> io::Result<Established<I>>
where
    I: AsyncRead + AsyncWrite + Unpin,
{
    let mut server = UnbufferedServerConnection::new(config).map_err(failure)?;
    let mut handshake = Handshake::new(io);
    handshake.run(&mut server, Common::<ServerConnectionData>::process_tls_records).await?;
    let (protocol, certificates) = shown(&server);
    let (secrets, kernel) = server.dangerous_into_kernel_connection().map_err(failure)?;
    let io = handshake.into_stream(secrets, Keys::Server(Box::new(kernel)))?;
    Ok(Established { io, protocol, certificates })
}

fn shown<D>(connection: &Common<D>) -> (Option<Vec<u8>>, Vec<CertificateDer<'static>>) {
    let protocol = connection.alpn_protocol().map(<[u8]>::to_vec);
    let certificates = connection.peer_certificates().unwrap_or_default().to_vec();
    (protocol, certificates)
}

/// How rustls takes what was read, of either side.
type Process<D> = for<'c, 'i> fn(&'c mut Common<D>, &'i mut [u8]) -> UnbufferedStatus<'c, 'i, D>;

/// A handshake that is under way.
struct Handshake<I> {
    io: I,
    /// What was read. No more than the handshake's records are given to rustls: what comes after
    /// them is for the record layer.
    read: BytesMut,
    /// How much of it rustls has seen.
    given: usize,
    out: Vec<u8>,
}

/// What a handshake waits for.
enum Next {
    Record,
    Sent,
    Nothing,
}

impl<I: AsyncRead + AsyncWrite + Unpin> Handshake<I> {
    fn new(io: I) -> Self {
        Self { io, read: BytesMut::new(), given: 0, out: Vec::new() }
    }

    async fn run<D>(&mut self, connection: &mut Common<D>, process: Process<D>) -> io::Result<()> {
        loop {
            match self.step(connection, process) {
                Ok(Next::Record) => self.record().await?,
                Ok(Next::Sent) => self.send().await?,
                Ok(Next::Nothing) => return Ok(()),
                Err(error) => {
                    self.tell(connection, process);
                    // One who cannot be told is gone.
                    let _ = self.send().await;
                    return Err(failure(error));
                }
            }
        }
    }

    /// Goes on until something has to be waited for.
    fn step<D>(&mut self, connection: &mut Common<D>, process: Process<D>) -> Result<Next, Error> {
        loop {
            let UnbufferedStatus { discard, state, .. } =
                process(connection, &mut self.read[..self.given]);
            let next = match state {
                Ok(ConnectionState::EncodeTlsData(message)) => {
                    encode(message, &mut self.out);
                    None
                }
                Ok(ConnectionState::TransmitTlsData(sending)) => {
                    sending.done();
                    Some(Ok(Next::Sent))
                }
                Ok(ConnectionState::BlockedHandshake) => Some(Ok(Next::Record)),
                Ok(ConnectionState::WriteTraffic(_)) => Some(Ok(Next::Nothing)),
                Ok(_) => Some(Err(Error::HandshakeNotComplete)),
                Err(error) => Some(Err(error)),
            };
            // Also after an error: what rustls keeps it finds by its place.
            self.read.advance(discard);
            self.given -= discard;
            if let Some(next) = next {
                return next;
            }
        }
    }

    /// Takes up what is to be sent before the end: the alert is the last of it, and rustls does not
    /// expect to be asked after that.
    fn tell<D>(&mut self, connection: &mut Common<D>, process: Process<D>) {
        loop {
            let state = process(connection, &mut self.read[..self.given]).state;
            let Ok(ConnectionState::EncodeTlsData(message)) = state else { return };
            let start = self.out.len();
            encode(message, &mut self.out);
            if record::is_alert(&self.out[start..]) {
                return;
            }
        }
    }

    /// Waits for one more record.
    async fn record(&mut self) -> io::Result<()> {
        loop {
            if let Some(length) = record::whole(&self.read[self.given..]) {
                self.given += length;
                return Ok(());
            }
            self.read.reserve(ROOM);
            if self.io.read_buf(&mut self.read).await? == 0 {
                let text = "the connection ended within the TLS handshake";
                return Err(io::Error::new(io::ErrorKind::UnexpectedEof, text));
            }
        }
    }

    async fn send(&mut self) -> io::Result<()> {
        self.io.write_all(&self.out).await?;
        self.out.clear();
        self.io.flush().await
    }

    fn into_stream(self, secrets: ExtractedSecrets, keys: Keys) -> io::Result<TlsStream<I>> {
        let Self { io, read, given, .. } = self;
        if given > 0 {
            // Half of a message with which the handshake would go on after its end.
            return Err(failure(PeerMisbehaved::KeyEpochWithPendingFragment.into()));
        }
        TlsStream::new(io, read, secrets, keys).map_err(failure)
    }
}

fn encode<D>(mut message: EncodeTlsData<'_, D>, out: &mut Vec<u8>) {
    if let Err(EncodeError::InsufficientSize(size)) = message.encode(&mut []) {
        let start = out.len();
        out.resize(start + size.required_size, 0);
        // There is as much room as it wants.
        let _ = message.encode(&mut out[start..]);
    }
}
