//! TCP through two sidecars, to its end: half-closes, resets, the smallest writes, silence, and
//! the name that a TLS client asks for.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use bytes::Bytes;
use h2::{Reason, RecvStream, SendStream};
use http::{Method, Request};
use tests::app::App;
use tests::client;
use tests::mesh::Mesh;
use tests::pod::{APP_PORT, Pod};
use tests::poll::{self, SOON};
use tests::process::{Process, run};
use tests::streams::{Streams, next, read, send};
use tests::{tools, yaml};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::sync::mpsc::{UnboundedReceiver, unbounded_channel};
use tokio::time::{sleep, timeout};

use crate::shop::Shop;

const TARGET: &str = "api.shop:80";

/// Bytes that are sent after the other side has said its last word.
const AFTER: usize = 100_000;

/// A tunnel on a stream of HTTP/2.
async fn stream(web: &Pod) -> (SendStream<Bytes>, RecvStream) {
    let streams = Streams::connect(web.proxy()).await;
    let request = Request::builder().method(Method::CONNECT).uri(TARGET).body(()).unwrap();
    let (answer, send) = streams.open(request).await;
    let answer = timeout(SOON, answer).await.expect("an answer").unwrap();
    assert_eq!(answer.status(), 200, "{answer:?}");
    (send, answer.into_body())
}

/// What the other side says, up to its last word.
async fn rest(socket: &mut TcpStream) -> std::io::Result<Vec<u8>> {
    let mut rest = Vec::new();
    timeout(SOON, socket.read_to_end(&mut rest)).await.expect("an end")?;
    Ok(rest)
}

/// How much an application has read of a client who said anything, and how that ended.
type Heard = UnboundedReceiver<(usize, std::io::Result<()>)>;

/// An application that begins with its last word, and then listens to the end.
fn listening() -> (App, Heard) {
    let (tell, told) = unbounded_channel();
    let app = App::scripted(move |mut socket| {
        let tell = tell.clone();
        async move {
            socket.write_all(b"all I had to say").await.unwrap();
            let _ = socket.shutdown().await;
            let mut heard = Vec::new();
            let end = socket.read_to_end(&mut heard).await;
            // One that says nothing only looks whether anybody is there.
            if !heard.is_empty() {
                tell.send((heard.len(), end.map(drop))).unwrap();
            }
        }
    });
    (app, told)
}

async fn heard(told: &mut Heard) -> (usize, std::io::Result<()>) {
    timeout(SOON, told.recv()).await.expect("an end at the application").unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_may_go_on_after_the_servers_last_word() {
    let (app, mut told) = listening();
    let shop = Shop::with("", app).await;
    let mut tunnel = client::connect(shop.web.proxy(), TARGET).await.unwrap();
    assert_eq!(rest(&mut tunnel).await.unwrap(), b"all I had to say");
    sleep(Duration::from_millis(300)).await;
    tunnel.write_all(&[b'a'; AFTER]).await.unwrap();
    tunnel.shutdown().await.unwrap();
    let (bytes, end) = heard(&mut told).await;
    assert!(bytes == AFTER && end.is_ok(), "HTTP/1.1: {bytes} bytes, {end:?}");

    let (mut sending, mut receiving) = stream(&shop.web).await;
    let (said, _) = read(&mut receiving).await.expect("END_STREAM");
    assert_eq!(said, b"all I had to say");
    for _ in 0..AFTER / 10_000 {
        send(&mut sending, Bytes::from_static(&[b'a'; 10_000]), false).await.unwrap();
    }
    sending.send_data(Bytes::new(), true).unwrap();
    let (bytes, end) = heard(&mut told).await;
    assert!(bytes == AFTER && end.is_ok(), "HTTP/2: {bytes} bytes, {end:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_may_go_on_after_the_clients_last_word() {
    let app = App::scripted(|mut socket| async move {
        let mut asked = Vec::new();
        if socket.read_to_end(&mut asked).await.is_ok() {
            sleep(Duration::from_millis(300)).await;
            let _ = socket.write_all(&vec![b'a'; AFTER]).await;
        }
    });
    let shop = Shop::with("", app).await;
    let (mut sending, mut receiving) = stream(&shop.web).await;
    sending.send_data(Bytes::from_static(b"a question"), true).unwrap();
    let (answer, _) = read(&mut receiving).await.unwrap();
    assert_eq!(answer.len(), AFTER, "HTTP/2");
    let mut tunnel = client::connect(shop.web.proxy(), TARGET).await.unwrap();
    tunnel.write_all(b"a question").await.unwrap();
    tunnel.shutdown().await.unwrap();
    assert_eq!(rest(&mut tunnel).await.unwrap().len(), AFTER, "HTTP/1.1");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_servers_reset_is_the_clients_reset_and_no_end() {
    let app = App::scripted(|mut socket| async move {
        let mut question = [0; 5];
        if socket.read_exact(&mut question).await.is_ok() {
            let _ = socket.write_all(b"an ans").await;
            // Time for it to arrive: a reset overtakes what is on its way.
            sleep(Duration::from_millis(300)).await;
            socket.set_zero_linger().unwrap();
        }
    });
    let shop = Shop::with("", app).await;
    let (mut sending, mut receiving) = stream(&shop.web).await;
    sending.send_data(Bytes::from_static(b"tell "), false).unwrap();
    assert_eq!(next(&mut receiving).await.unwrap().unwrap(), "an ans");
    let error = next(&mut receiving).await.expect_err("a clean end");
    assert!(error.is_reset() && error.is_remote(), "{error:?}");
    assert_eq!(error.reason(), Some(Reason::CONNECT_ERROR), "RFC 9113 §8.5");

    let mut tunnel = client::connect(shop.web.proxy(), TARGET).await.unwrap();
    tunnel.write_all(b"tell ").await.unwrap();
    let mut begun = [0; 6];
    timeout(SOON, tunnel.read_exact(&mut begun)).await.expect("a beginning").unwrap();
    let error = rest(&mut tunnel).await.expect_err("a clean end");
    assert_eq!(error.kind(), std::io::ErrorKind::ConnectionReset);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_clients_reset_is_the_servers_reset_and_no_end() {
    let (app, mut told) = listening();
    let shop = Shop::with("", app).await;
    for reason in [Reason::CANCEL, Reason::CONNECT_ERROR] {
        let (mut sending, mut receiving) = stream(&shop.web).await;
        assert_eq!(next(&mut receiving).await.unwrap().unwrap(), "all I had to say");
        sending.send_data(Bytes::from_static(b"half of a ques"), false).unwrap();
        sleep(Duration::from_millis(300)).await;
        sending.send_reset(reason);
        let error = heard(&mut told).await.1.expect_err("a clean end");
        assert_eq!(error.kind(), std::io::ErrorKind::ConnectionReset, "{reason:?}");
    }
}

/// Each write is a packet of its own, and none waits for another.
#[tokio::test(flavor = "multi_thread")]
async fn two_hundred_thousand_writes_of_one_byte_come_back_in_order() {
    const WRITES: usize = 200_000;
    let app = App::scripted(|mut socket| async move {
        socket.set_nodelay(true).unwrap();
        let (mut read, mut write) = socket.split();
        let _ = tokio::io::copy(&mut read, &mut write).await;
        let _ = write.shutdown().await;
    });
    let shop = Shop::with("", app).await;
    let tunnel = client::connect(shop.web.proxy(), TARGET).await.unwrap();
    let (mut read, mut write) = tunnel.into_split();
    let sending = tokio::spawn(async move {
        for number in 0..WRITES {
            write.write_all(&[number.to_le_bytes()[0]]).await.unwrap();
        }
        write.shutdown().await.unwrap();
    });
    let mut echoed = Vec::new();
    timeout(4 * SOON, read.read_to_end(&mut echoed)).await.expect("an end").unwrap();
    sending.await.unwrap();
    assert_eq!(echoed.len(), WRITES);
    assert!(echoed.iter().enumerate().all(|(number, byte)| number.to_le_bytes()[0] == *byte));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_connection_on_which_nobody_speaks_for_fifteen_seconds_stays() {
    let shop = Shop::with("", App::tcp()).await;
    let mut tunnel = client::connect(shop.web.proxy(), TARGET).await.unwrap();
    let mut banner = vec![0; tests::app::BANNER.len()];
    timeout(SOON, tunnel.read_exact(&mut banner)).await.expect("a greeting").unwrap();
    let (mut sending, mut receiving) = stream(&shop.web).await;
    assert!(next(&mut receiving).await.unwrap().is_some());
    sleep(Duration::from_secs(15)).await;
    tunnel.write_all(b"still there?").await.unwrap();
    let mut back = [0; 12];
    timeout(SOON, tunnel.read_exact(&mut back)).await.expect("the echo").unwrap();
    assert_eq!(&back, b"still there?");
    send(&mut sending, Bytes::from_static(b"and you?"), false).await.unwrap();
    assert_eq!(next(&mut receiving).await.unwrap().unwrap(), "and you?");
}

/// The name that clients of the next test ask for.
const NAME: &str = "orders.example.com";

/// An application that is no test's: OpenSSL's server, which sends back each line reversed.
async fn tls_server(mesh: &Mesh, address: SocketAddr) -> Process {
    let openssl = tools::find("openssl", "openssl");
    let file = |name: &str| -> PathBuf { Path::new(&mesh.logs()).join(name) };
    let (certificate, key) = (file("tls.pem"), file("tls.key"));
    let (certificate, key) = (certificate.to_str().unwrap(), key.to_str().unwrap());
    let subject = format!("/CN={NAME}");
    let args = ["req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes"];
    let files = ["-days", "1", "-subj", &subject, "-out", certificate, "-keyout", key];
    let made = run(&openssl, args.into_iter().chain(files), &[], SOON).await;
    assert_eq!(made.code, Some(0), "{}", made.stderr);
    let address = address.to_string();
    let args = ["s_server", "-rev", "-accept", &address, "-cert", certificate, "-key", key];
    Process::start("tls-server", &mesh.logs(), &openssl, args, &[])
}

#[tokio::test(flavor = "multi_thread")]
async fn the_name_that_a_tls_client_asks_for_is_logged_and_counted() {
    let mesh = Mesh::with_objects(yaml::service("shop/api", 80, APP_PORT)).await;
    let address = mesh.free_address();
    let _server = tls_server(&mesh, SocketAddr::new(address, APP_PORT)).await;
    let flags = ["--app-port", "8080", "--service", "shop/api", "--access-log", "all"];
    let api = mesh.pod("shop/api").address(address).flags(flags).start().await;
    let web = mesh.pod("shop/web").flags(["--access-log", "all"]).start().await;
    web.until_known(TARGET).await;

    let (proxy, openssl) = (web.proxy().to_string(), tools::find("openssl", "openssl"));
    let args = ["s_client", "-proxy", &proxy, "-connect", TARGET, "-servername", NAME, "-brief"];
    let client = run(&openssl, args, &[], SOON).await;
    assert!(client.stderr.contains("Protocol version: TLSv1.3"), "{client:?}");
    assert!(client.stderr.contains(NAME), "the server's certificate: {client:?}");

    for (pod, direction) in [(&web, "outbound"), (&api, "inbound")] {
        let labels = [("direction", direction), ("service", "shop/api"), ("sni", NAME)];
        poll::until(&format!("{NAME} is counted {direction}"), SOON, async || {
            let metrics = pod.metrics().await;
            let counted = metrics.sum("pillion_tcp_tls_connections_total", &labels);
            let shown = metrics.show("pillion_tcp_tls_connections_total");
            if counted == 1.0 { Ok(()) } else { Err(shown) }
        })
        .await;
        poll::until(&format!("{NAME} is in the log {direction}"), SOON, async || {
            let log = pod.sidecar().log();
            let line = log.lines().find(|line| line.contains(&format!("\"sni\":\"{NAME}\"")));
            let line: Option<serde_json::Value> = line.and_then(|l| serde_json::from_str(l).ok());
            line.filter(|line| line["direction"] == direction && line["protocol"] == "tcp")
                .ok_or(log)
        })
        .await;
    }
}
