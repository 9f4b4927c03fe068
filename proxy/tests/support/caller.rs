//! A client of the mesh port: another sidecar, honest or not.

use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use bytes::Bytes;
use h2::client::SendRequest;
use http::{HeaderMap, Request, StatusCode};
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::client::{ClientConfig, Resumption};
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::{AlertDescription, DigitallySignedStruct, SignatureScheme};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tokio::runtime::Runtime;
use tokio::time::timeout;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

use super::PATIENCE;
use super::mint::Leaf;

/// A connection to a mesh port.
pub(crate) struct Caller {
    sender: SendRequest<Bytes>,
    pub(crate) runtime: Runtime,
}

/// A response, read whole.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) status: StatusCode,
    pub(crate) body: String,
}

/// What a caller is told who is not served.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Refused {
    /// By TLS.
    Alert(AlertDescription),
    /// The connection ended, for this reason.
    Closed(String),
}

/// A configuration that shows `leaf` and believes every server.
pub(crate) fn config(leaf: Option<&Leaf>) -> ClientConfig {
    let builder = ClientConfig::builder_with_provider(certs::provider())
        .with_protocol_versions(&[&rustls::version::TLS13])
        .unwrap()
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(Credulous));
    let mut config = match leaf {
        Some(leaf) => builder.with_client_cert_resolver(leaf.resolver()),
        None => builder.with_no_client_auth(),
    };
    config.resumption = Resumption::disabled();
    config.alpn_protocols = vec![b"h2".to_vec()];
    config
}

/// A GET for port `port` of the application.
pub(crate) fn get(port: u16) -> Request<()> {
    let request = Request::get("http://api/").header("x-pillion-port", port);
    request.body(()).unwrap()
}

/// What the mesh port says after the handshake to one who waits for its word.
pub(crate) fn verdict(to: SocketAddr, config: ClientConfig) -> Result<(), Refused> {
    let runtime = Runtime::new().unwrap();
    runtime.block_on(async {
        let mut io = handshake(tcp(to).await?, Arc::new(config)).await?;
        let word = timeout(PATIENCE, io.read_u8()).await.expect("a word or the end");
        word.map(drop).map_err(Refused::from)
    })
}

async fn tcp(to: SocketAddr) -> io::Result<TcpStream> {
    let socket = TcpStream::connect(to).await?;
    socket.set_nodelay(true)?;
    Ok(socket)
}

async fn handshake<I>(io: I, config: Arc<ClientConfig>) -> io::Result<TlsStream<I>>
where
    I: AsyncRead + AsyncWrite + Unpin,
{
    TlsConnector::from(config).connect(certs::server_name(), io).await
}

impl Caller {
    pub(crate) fn connect(to: SocketAddr, config: ClientConfig) -> Result<Self, Refused> {
        Self::over(to, config, |socket| socket)
    }

    /// One whose every byte is a segment of its own.
    pub(crate) fn byte_by_byte(to: SocketAddr, config: ClientConfig) -> Result<Self, Refused> {
        Self::over(to, config, ByteByByte)
    }

    fn over<I: AsyncRead + AsyncWrite + Unpin + Send + 'static>(
        to: SocketAddr,
        config: ClientConfig,
        wrap: impl FnOnce(TcpStream) -> I,
    ) -> Result<Self, Refused> {
        let runtime = Runtime::new().unwrap();
        let sender = runtime.block_on(async {
            let io = handshake(wrap(tcp(to).await?), Arc::new(config)).await?;
            let (sender, connection) = h2::client::handshake(io).await?;
            tokio::spawn(connection);
            Ok::<_, Refused>(sender)
        })?;
        Ok(Self { sender, runtime })
    }

    /// Sends a request, and reads the whole answer.
    pub(crate) fn send(&self, request: Request<()>) -> Result<Answer, Refused> {
        self.send_with(request, b"", None)
    }

    /// Sends a request with a body and what comes after it.
    pub(crate) fn send_with(
        &self,
        request: Request<()>,
        body: &'static [u8],
        trailers: Option<HeaderMap>,
    ) -> Result<Answer, Refused> {
        let exchange = exchange(self.sender.clone(), request, body, trailers);
        self.runtime.block_on(async { timeout(PATIENCE, exchange).await.expect("an answer") })
    }

    /// Sends a request and does not wait: the answer comes here.
    pub(crate) fn start(
        &self,
        request: Request<()>,
    ) -> tokio::task::JoinHandle<Result<Answer, Refused>> {
        self.runtime.spawn(exchange(self.sender.clone(), request, b"", None))
    }

    /// Opens a tunnel to `target`; what is read from it until it ends, after `bytes` were sent.
    pub(crate) fn tunnel(&self, target: &str, bytes: &'static [u8]) -> h2::RecvStream {
        let request = Request::connect(target).body(()).unwrap();
        self.runtime.block_on(async {
            let mut sender = self.sender.clone().ready().await.unwrap();
            let (response, mut stream) = sender.send_request(request, false).unwrap();
            let response = response.await.unwrap();
            assert_eq!(response.status(), 200);
            stream.send_data(Bytes::from_static(bytes), false).unwrap();
            // Dropping it would reset the stream.
            std::mem::forget(stream);
            response.into_body()
        })
    }

    /// Whether the other side has said goodbye.
    pub(crate) fn is_over(&self) -> bool {
        let ready = self.sender.clone().ready();
        self.runtime.block_on(async { timeout(PATIENCE, ready).await.unwrap().is_err() })
    }
}

/// Writes one byte at a time.
struct ByteByByte(TcpStream);

impl AsyncRead for ByteByByte {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_read(cx, buf)
    }
}

impl AsyncWrite for ByteByByte {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.0).poll_write(cx, &buf[..buf.len().min(1)])
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_shutdown(cx)
    }
}

async fn exchange(
    sender: SendRequest<Bytes>,
    request: Request<()>,
    body: &'static [u8],
    trailers: Option<HeaderMap>,
) -> Result<Answer, Refused> {
    let mut sender = sender.ready().await?;
    let bodiless = body.is_empty() && trailers.is_none();
    let (response, mut stream) = sender.send_request(request, bodiless)?;
    if !bodiless {
        stream.send_data(Bytes::from_static(body), trailers.is_none())?;
    }
    if let Some(trailers) = trailers {
        stream.send_trailers(trailers)?;
    }
    let (head, mut body) = response.await?.into_parts();
    let mut bytes = Vec::new();
    while let Some(data) = body.data().await {
        bytes.extend_from_slice(&data?);
    }
    Ok(Answer { status: head.status, body: String::from_utf8(bytes).unwrap() })
}

impl From<io::Error> for Refused {
    fn from(error: io::Error) -> Self {
        match error.get_ref().and_then(|inner| inner.downcast_ref()) {
            Some(rustls::Error::AlertReceived(alert)) => Self::Alert(*alert),
            _ => Self::Closed(error.to_string()),
        }
    }
}

impl From<h2::Error> for Refused {
    fn from(error: h2::Error) -> Self {
        if error.is_io() {
            return error.into_io().expect("it is one").into();
        }
        Self::Closed(error.to_string())
    }
}

/// Believes every server: it is the server that is tested.
#[derive(Debug)]
struct Credulous;

impl ServerCertVerifier for Credulous {
    fn verify_server_cert(
        &self,
        _: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        Ok(ServerCertVerified::assertion())
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
