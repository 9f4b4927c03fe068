//! Both sides beside rustls's own, and one that breaks the rules, sealed as it must be.

use std::future::poll_fn;
use std::sync::Arc;
use std::time::Duration;

use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};
use rustls::crypto::CryptoProvider;
use rustls::pki_types::{PrivatePkcs8KeyDer, ServerName};
use rustls::{ClientConfig, ContentType, RootCertStore, ServerConfig, SupportedCipherSuite};
use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream, duplex};
use tokio::net::{TcpListener, TcpStream};
use tokio::time::timeout;
use tokio_rustls::{TlsAcceptor, TlsConnector, client, server};

use super::reading::MAX_IDLE;
use super::record::MAX_CONTENT;
use super::*;

type Ours = TlsStream<DuplexStream>;

/// The two sides' configurations, which speak `suite` only.
fn configs(suite: SupportedCipherSuite) -> (Arc<ClientConfig>, Arc<ServerConfig>) {
    let provider = CryptoProvider { cipher_suites: vec![suite], ..(*certs::provider()).clone() };
    let provider = Arc::new(provider);
    let versions = &[&rustls::version::TLS13];
    let rcgen::CertifiedKey { cert, signing_key } =
        rcgen::generate_simple_self_signed(["server".into()]).unwrap();
    let mut roots = RootCertStore::empty();
    roots.add(cert.der().clone()).unwrap();
    let mut client = ClientConfig::builder_with_provider(Arc::clone(&provider))
        .with_protocol_versions(versions)
        .unwrap()
        .with_root_certificates(roots)
        .with_no_client_auth();
    let key = PrivatePkcs8KeyDer::from(signing_key.serialize_der());
    let mut server = ServerConfig::builder_with_provider(provider)
        .with_protocol_versions(versions)
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(vec![cert.der().clone()], key.into())
        .unwrap();
    client.enable_secret_extraction = true;
    server.enable_secret_extraction = true;
    (Arc::new(client), Arc::new(server))
}

fn suites() -> Vec<SupportedCipherSuite> {
    certs::provider().cipher_suites.clone()
}

fn name() -> ServerName<'static> {
    "server".try_into().unwrap()
}

/// A client and a server, both ours, on a pipe with so much room.
async fn ours(suite: SupportedCipherSuite, room: usize) -> (Ours, Ours) {
    let (near, far) = duplex(room);
    let (client, server) = configs(suite);
    let (client, server) = tokio::join!(connect(near, client, name()), accept(far, server));
    (client.unwrap().io, server.unwrap().io)
}

/// A client of ours and a server of rustls's.
async fn client_of_ours(suite: SupportedCipherSuite) -> (Ours, server::TlsStream<DuplexStream>) {
    let (near, far) = duplex(1 << 20);
    let (client, server) = configs(suite);
    let server = TlsAcceptor::from(server).accept(far);
    let (client, server) = tokio::join!(connect(near, client, name()), server);
    (client.unwrap().io, server.unwrap())
}

/// A client of rustls's and a server of ours.
async fn server_of_ours(suite: SupportedCipherSuite) -> (client::TlsStream<DuplexStream>, Ours) {
    let (near, far) = duplex(1 << 20);
    let (client, server) = configs(suite);
    let client = TlsConnector::from(client).connect(name(), near);
    let (client, server) = tokio::join!(client, accept(far, server));
    (client.unwrap(), server.unwrap().io)
}

/// Sends bytes in pieces of all kinds of lengths, and an orderly end after them.
async fn carries(mut from: impl AsyncWrite + Unpin, mut to: impl AsyncRead + Unpin) {
    let lengths = [1, 0, MAX_CONTENT - 1, MAX_CONTENT, MAX_CONTENT + 1, 200_000, 3];
    let mut all = Vec::new();
    for (number, length) in lengths.into_iter().enumerate() {
        all.extend((0..length).map(|at| (at * 31 + number) as u8));
    }
    let sending = async {
        let mut rest = &all[..];
        for length in lengths {
            let (piece, after) = rest.split_at(length);
            from.write_all(piece).await.unwrap();
            rest = after;
        }
        from.shutdown().await.unwrap();
    };
    let mut came = Vec::new();
    let (_, read) = tokio::join!(sending, to.read_to_end(&mut came));
    read.unwrap();
    assert!(came == all, "{} of {} bytes", came.len(), all.len());
}

#[tokio::test]
async fn what_one_side_says_the_other_hears_to_its_end() {
    for suite in suites() {
        let (client, server) = ours(suite, 1000).await;
        let ((from_client, to_client), (from_server, to_server)) =
            (tokio::io::split(client), tokio::io::split(server));
        tokio::join!(carries(to_client, from_server), carries(to_server, from_client));
        let (client, server) = client_of_ours(suite).await;
        let ((from_client, to_client), (from_server, to_server)) =
            (tokio::io::split(client), tokio::io::split(server));
        tokio::join!(carries(to_client, from_server), carries(to_server, from_client));
        let (client, server) = server_of_ours(suite).await;
        let ((from_client, to_client), (from_server, to_server)) =
            (tokio::io::split(client), tokio::io::split(server));
        tokio::join!(carries(to_client, from_server), carries(to_server, from_client));
    }
}

#[tokio::test]
async fn pieces_are_written_together() {
    let (mut near, mut far) = ours(suites()[0], 1 << 20).await;
    let pieces = [vec![1; 5], vec![], vec![2; 20_000], vec![3; 1], vec![4; 40_000]];
    let all = pieces.concat();
    let slices = pieces.each_ref().map(|piece| IoSlice::new(piece));
    let written = poll_fn(|cx| Pin::new(&mut near).poll_write_vectored(cx, &slices)).await.unwrap();
    assert_eq!(written, all.len());
    let mut came = vec![0; all.len()];
    far.read_exact(&mut came).await.unwrap();
    assert!(came == all);
}

#[tokio::test]
async fn one_that_rests_has_no_room_for_anything() {
    let (mut client, mut server) = ours(suites()[0], 1 << 20).await;
    for length in [10, 200_000] {
        client.writing.renew = true;
        client.write_all(&vec![7; length]).await.unwrap();
        server.read_exact(&mut vec![0; length]).await.unwrap();
        let nothing = poll_fn(|cx| {
            let mut room = [0; 1];
            Poll::Ready(Pin::new(&mut server).poll_read(cx, &mut ReadBuf::new(&mut room)))
        });
        assert!(nothing.await.is_pending());
        let held = [&server.reading.read, &server.reading.message, &client.writing.out];
        assert_eq!(held.map(|held| held.capacity()), [0; 3]);
    }
}

#[tokio::test]
async fn what_comes_with_the_end_of_the_handshake_is_not_lost() {
    let heard = timeout(Duration::from_secs(10), heard_with_the_handshake()).await;
    assert_eq!(heard.expect("all of it is there"), "early");
}

/// What a server hears of a client whose first words come in one piece with its Finished.
async fn heard_with_the_handshake() -> String {
    let (near, mut far) = duplex(1 << 20);
    let (client, server) = configs(suites()[0]);
    let (between, end) = duplex(1 << 20);
    let client = tokio::spawn(async move {
        let mut client = connect(near, client, name()).await.unwrap().io;
        client.write_all(b"early").await.unwrap();
        client.shutdown().await.unwrap();
        client
    });
    let server = tokio::spawn(accept(end, server));
    let (mut read, mut write) = tokio::io::split(between);
    // The first flight each way, and the rest of the client's in one piece.
    let mut bytes = vec![0; 1 << 16];
    let length = far.read(&mut bytes).await.unwrap();
    write.write_all(&bytes[..length]).await.unwrap();
    let length = read.read(&mut bytes).await.unwrap();
    far.write_all(&bytes[..length]).await.unwrap();
    let _client = client.await.unwrap();
    let length = far.read(&mut bytes).await.unwrap();
    write.write_all(&bytes[..length]).await.unwrap();
    let mut heard = String::new();
    server.await.unwrap().unwrap().io.read_to_string(&mut heard).await.unwrap();
    heard
}

#[tokio::test]
async fn one_that_is_cut_off_has_not_ended() {
    let (client, mut server) = ours(suites()[0], 1 << 20).await;
    drop(client);
    let error = server.read(&mut [0; 10]).await.unwrap_err();
    assert_eq!(error.kind(), io::ErrorKind::UnexpectedEof);
}

#[tokio::test]
async fn keys_are_renewed_when_the_other_side_asks() {
    for suite in suites() {
        let (mut client, mut server) = server_of_ours(suite).await;
        for _ in 0..3 {
            client.get_mut().1.refresh_traffic_keys().unwrap();
            client.write_all(b"new").await.unwrap();
            server.read_exact(&mut [0; 3]).await.unwrap();
            assert!(server.writing.renew, "asked to");
            server.write_all(b"as new").await.unwrap();
            assert!(!server.writing.renew, "done");
            client.read_exact(&mut [0; 6]).await.unwrap();
        }
        let (mut client, mut server) = client_of_ours(suite).await;
        server.get_mut().1.refresh_traffic_keys().unwrap();
        server.write_all(b"new").await.unwrap();
        client.read_exact(&mut [0; 3]).await.unwrap();
        carries(client, server).await;
    }
}

#[tokio::test]
async fn keys_are_renewed_before_they_have_sealed_too_much() {
    let (mut client, server) = client_of_ours(suites()[0]).await;
    client.writing.sealer.limit = 4;
    carries(&mut client, server).await;
    client.writing.sealer.limit = 6;
    assert!(!client.writing.sealer.is_spent(), "all of it was sealed with one key");
}

/// What a server does with records that a client seals and does not mean well: what it reads, and what
/// the client hears of that.
async fn told(records: impl Fn(&mut Sealer, &mut BytesMut)) -> (io::Result<String>, io::Error) {
    let (mut client, mut server) = ours(suites()[0], 1 << 20).await;
    let mut bytes = BytesMut::new();
    records(&mut client.writing.sealer, &mut bytes);
    client.io.write_all(&bytes).await.unwrap();
    let mut heard = String::new();
    let ends = async {
        let read = server.read_to_string(&mut heard).await.map(|_| heard);
        if read.is_err() {
            let more = server.write_all(b"more").await.unwrap_err();
            assert_eq!(more.kind(), io::ErrorKind::BrokenPipe, "the alert was the last word");
        }
        drop(server);
        (read, client.read(&mut [0; 1]).await.unwrap_err())
    };
    timeout(Duration::from_secs(10), ends).await.expect("what is wrong ends the connection")
}

fn reason(error: &io::Error) -> Option<&Error> {
    error.get_ref()?.downcast_ref()
}

/// Seals `content` as what `kind` says.
fn seal(sealer: &mut Sealer, out: &mut BytesMut, kind: ContentType, content: &[u8]) {
    sealer.seal(out, kind, |out| out.extend_from_slice(content)).unwrap();
}

/// What is wrong, the alert that says so, and how it is sealed.
type Wrong = (&'static str, AlertDescription, fn(&mut Sealer, &mut BytesMut));

/// Each of them ends the connection with its alert.
async fn all_are_told(cases: &[Wrong]) {
    for (what, alert, records) in cases {
        let (read, heard) = told(records).await;
        assert!(read.is_err_and(|error| reason(&error).is_some()), "{what}");
        assert_eq!(reason(&heard), Some(&Error::AlertReceived(*alert)), "{what}");
    }
}

#[tokio::test]
async fn whose_records_break_the_rules_is_told_which() {
    use AlertDescription as A;
    use ContentType::{ApplicationData, ChangeCipherSpec};
    all_are_told(&[
        ("changed on the way", A::BadRecordMac, |sealer, out| {
            seal(sealer, out, ApplicationData, b"data");
            out[7] ^= 1;
        }),
        ("sealed twice under one number", A::BadRecordMac, |sealer, out| {
            seal(sealer, out, ApplicationData, b"data");
            out.extend_from_within(..);
        }),
        ("no room for a tag", A::BadRecordMac, |_, out| {
            out.extend_from_slice(&[23, 3, 3, 0, 1, 0]);
        }),
        ("a record that is too long", A::RecordOverflow, |_, out| {
            out.extend_from_slice(&[23, 3, 3, 0x41, 1]);
        }),
        ("content that is too long", A::RecordOverflow, |sealer, out| {
            seal(sealer, out, ApplicationData, &[b'a'; MAX_CONTENT + 1]);
        }),
        ("not sealed", A::UnexpectedMessage, |_, out| {
            out.extend_from_slice(&[22, 3, 3, 0, 1, 0]);
        }),
        ("an alert that is not sealed", A::UnexpectedMessage, |_, out| {
            out.extend_from_slice(&[21, 3, 3, 0, 2, 1, 0]);
        }),
        ("a change of ciphers", A::UnexpectedMessage, |_, out| {
            out.extend_from_slice(&[20, 3, 3, 0, 1, 1]);
        }),
        ("a sealed change of ciphers", A::UnexpectedMessage, |sealer, out| {
            seal(sealer, out, ChangeCipherSpec, &[1]);
        }),
        ("of no kind", A::UnexpectedMessage, |sealer, out| {
            seal(sealer, out, ContentType::Unknown(0), &[0; 20]);
        }),
        ("nothing without end", A::UnexpectedMessage, |sealer, out| {
            for _ in 0..=MAX_IDLE {
                seal(sealer, out, ApplicationData, b"");
            }
        }),
    ])
    .await;
}

#[tokio::test]
async fn whose_messages_break_the_rules_is_told_which() {
    use AlertDescription as A;
    use ContentType::{Alert, ApplicationData, Handshake};
    all_are_told(&[
        ("half an alert", A::DecodeError, |sealer, out| seal(sealer, out, Alert, &[1])),
        ("an empty message", A::UnexpectedMessage, |sealer, out| seal(sealer, out, Handshake, b"")),
        ("a message without end", A::DecodeError, |sealer, out| {
            seal(sealer, out, Handshake, &[4, 1, 0, 1]);
        }),
        ("data within a message", A::UnexpectedMessage, |sealer, out| {
            seal(sealer, out, Handshake, &[24, 0]);
            seal(sealer, out, ApplicationData, b"data");
        }),
        ("another Finished", A::UnexpectedMessage, |sealer, out| {
            seal(sealer, out, Handshake, &[20, 0, 0, 1, 0]);
        }),
        ("a client's ticket", A::UnexpectedMessage, |sealer, out| {
            seal(sealer, out, Handshake, &[4, 0, 0, 1, 0]);
        }),
        ("an update of a third kind", A::IllegalParameter, |sealer, out| {
            seal(sealer, out, Handshake, &[24, 0, 0, 1, 2]);
        }),
        ("a long update", A::IllegalParameter, |sealer, out| {
            seal(sealer, out, Handshake, &[24, 0, 0, 2, 0, 0]);
        }),
        ("a message after an update", A::UnexpectedMessage, |sealer, out| {
            seal(sealer, out, Handshake, &[24, 0, 0, 1, 0, 24]);
        }),
    ])
    .await;
}

#[tokio::test]
async fn what_is_strange_and_allowed_is_taken() {
    let (read, heard) = told(|sealer, out| {
        for _ in 0..MAX_IDLE - 1 {
            seal(sealer, out, ContentType::ApplicationData, b"");
        }
        seal(sealer, out, ContentType::Alert, &[WARNING, AlertDescription::UserCanceled.into()]);
        // Zeros after the kind of the content: as long as a record may be.
        let padded = [b"data".as_slice(), &[23], &[0; MAX_CONTENT - 5]].concat();
        seal(sealer, out, ContentType::Unknown(0), &padded);
        seal(sealer, out, ContentType::Alert, &[FATAL, AlertDescription::CloseNotify.into()]);
        out.extend_from_slice(b"and what comes after it");
    })
    .await;
    assert_eq!(read.unwrap(), "data");
    assert_eq!(heard.kind(), io::ErrorKind::UnexpectedEof, "nothing was wrong");
}

#[tokio::test]
async fn what_came_before_a_fault_is_read_first_and_the_fault_stays() {
    let (mut client, mut server) = ours(suites()[0], 1 << 20).await;
    let Writing { sealer, out, .. } = &mut client.writing;
    seal(sealer, out, ContentType::ApplicationData, b"data");
    seal(sealer, out, ContentType::Alert, &[FATAL, AlertDescription::AccessDenied.into()]);
    client.flush().await.unwrap();
    let mut heard = [0; 10];
    assert_eq!(server.read(&mut heard).await.unwrap(), 4);
    for _ in 0..2 {
        let error = server.read(&mut heard).await.unwrap_err();
        let alert = Error::AlertReceived(AlertDescription::AccessDenied);
        assert_eq!(reason(&error), Some(&alert));
    }
    server.write_all(b"who is told may still be answered").await.unwrap();
    client.read_exact(&mut heard).await.unwrap();
}

#[tokio::test]
async fn nothing_is_sent_after_the_end() {
    let (mut client, mut server) = ours(suites()[0], 1 << 20).await;
    client.shutdown().await.unwrap();
    client.shutdown().await.unwrap();
    let error = client.write_all(b"more").await.unwrap_err();
    assert_eq!(error.kind(), io::ErrorKind::BrokenPipe);
    assert_eq!(server.read(&mut [0; 1]).await.unwrap(), 0);
    assert_eq!(server.read(&mut [0; 1]).await.unwrap(), 0, "once more");
    server.write_all(b"late").await.unwrap();
    client.read_exact(&mut [0; 4]).await.unwrap();
}

#[tokio::test]
async fn who_speaks_no_tls_hears_why() {
    for bytes in [b"GET / HTTP/1.1\r\n\r\n".as_slice(), &[22, 3, 1, 0xff, 0xff]] {
        let (mut client, server) = duplex(1 << 20);
        client.write_all(bytes).await.unwrap();
        let error = accept(server, configs(suites()[0]).1).await.err().unwrap();
        assert!(matches!(reason(&error), Some(Error::InvalidMessage(_))), "{error}");
        let mut alert = [0; 5];
        client.read_exact(&mut alert).await.unwrap();
        assert_eq!(ContentType::from(alert[0]), ContentType::Alert);
    }
    let (client, server) = duplex(1 << 20);
    drop(client);
    let error = accept(server, configs(suites()[0]).1).await.err().unwrap();
    assert_eq!(error.kind(), io::ErrorKind::UnexpectedEof);
}

#[tokio::test]
async fn who_is_not_believed_hears_why() {
    let (near, far) = duplex(1 << 20);
    let ((client, _), (_, server)) = (configs(suites()[0]), configs(suites()[0]));
    let (client, server) = tokio::join!(connect(near, client, name()), accept(far, server));
    let (client, server) = (client.err().unwrap(), server.err().unwrap());
    assert!(matches!(reason(&client), Some(Error::InvalidCertificate(_))), "{client}");
    // The root has the name of the one that it was given, and another key.
    let alert = Error::AlertReceived(AlertDescription::DecryptError);
    assert_eq!(reason(&server), Some(&alert), "{server}");
}

#[tokio::test]
async fn who_wants_another_protocol_hears_so() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let near = TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
    let (far, _) = listener.accept().await.unwrap();
    let (mut client, mut server) = configs(suites()[0]);
    Arc::get_mut(&mut client).unwrap().alpn_protocols = vec![b"http/1.1".to_vec()];
    Arc::get_mut(&mut server).unwrap().alpn_protocols = vec![b"h2".to_vec()];
    let (client, server) = tokio::join!(connect(near, client, name()), accept(far, server));
    assert_eq!(reason(&server.err().unwrap()), Some(&Error::NoApplicationProtocol));
    let alert = Error::AlertReceived(AlertDescription::NoApplicationProtocol);
    assert_eq!(reason(&client.err().unwrap()), Some(&alert));
}

#[tokio::test]
async fn a_handshake_that_is_changed_on_the_way_ends_on_both_sides() {
    let (mut random, mut believed) = (StdRng::seed_from_u64(1), 0);
    for _ in 0..300 {
        let (near, client_end) = duplex(1 << 20);
        let (server_end, far) = duplex(1 << 20);
        let (client, server) = configs(suites()[0]);
        let between = async {
            let (mut left, mut right) = (client_end, server_end);
            let mut at = random.random_range(0..3_000_usize);
            loop {
                let mut bytes = BytesMut::with_capacity(1 << 15);
                let mut more = BytesMut::with_capacity(1 << 15);
                let to_server = tokio::select! {
                    _ = left.read_buf(&mut bytes) => true,
                    _ = right.read_buf(&mut more) => false,
                };
                bytes.unsplit(more);
                let length = bytes.len();
                if length == 0 {
                    return;
                }
                // One byte is changed, in one flight or the other.
                if at < length {
                    bytes[at] ^= 1 << random.random_range(0..8);
                }
                at = at.wrapping_sub(length);
                let to = if to_server { &mut right } else { &mut left };
                let _ = to.write_all(&bytes).await;
            }
        };
        let client = async { connect(near, client, name()).await.is_ok() };
        let server = async { accept(far, server).await.is_ok() };
        let ends = async { tokio::join!(client, server, between) };
        let (client, server, ()) = timeout(Duration::from_secs(60), ends).await.unwrap();
        believed += u32::from(client && server);
    }
    // Some bytes mean nothing, such as the version before a record.
    assert!(believed < 10, "{believed} were believed");
}
