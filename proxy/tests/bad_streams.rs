//! Messages in HTTP/2 that are malformed: rows of the catalogue of bad inputs. Each costs its own
//! stream and nothing else, and the application hears of none of them.

#![allow(clippy::unwrap_used, clippy::expect_used)] // a test says what is wrong by failing

mod control_plane;
mod support;

use std::future::poll_fn;
use std::net::{IpAddr, SocketAddr};
use std::pin::Pin;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use control_plane::ControlPlane;
use http::{Request, Response};
use http_body::Body as _;
use hyper::body::Incoming;
use hyper::server::conn::http2;
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo};
use support::frames::{Client, Ended};
use support::origin::Origin;
use support::{Sidecar, eventually};
use tokio::runtime::Runtime;

type Fields = Vec<(&'static [u8], &'static [u8])>;

const METHOD: (&[u8], &[u8]) = (b":method", b"GET");
const SCHEME: (&[u8], &[u8]) = (b":scheme", b"http");
const PATH: (&[u8], &[u8]) = (b":path", b"/x");
const AUTHORITY: (&[u8], &[u8]) = (b":authority", b"api");

/// A GET with a pseudo-header in place of its own.
fn with(pseudo: (&'static [u8], &'static [u8])) -> Fields {
    [METHOD, SCHEME, PATH, AUTHORITY]
        .map(|own| if own.0 == pseudo.0 { pseudo } else { own })
        .to_vec()
}

/// A GET with one more field.
fn plus(name: &'static [u8], value: &'static [u8]) -> Fields {
    vec![METHOD, SCHEME, PATH, AUTHORITY, (name, value)]
}

fn malformed() -> Vec<(u8, Fields)> {
    vec![
        (34, vec![SCHEME, PATH, AUTHORITY]),
        (34, vec![METHOD, PATH, AUTHORITY]),
        (34, vec![METHOD, SCHEME, AUTHORITY]),
        (34, vec![METHOD, SCHEME, PATH]),
        (34, vec![METHOD, METHOD, SCHEME, PATH, AUTHORITY]),
        (34, vec![METHOD, SCHEME, PATH, PATH, AUTHORITY]),
        (34, vec![METHOD, SCHEME, PATH, AUTHORITY, AUTHORITY]),
        (34, vec![METHOD, SCHEME, PATH, (b"a", b"b"), AUTHORITY]),
        (34, plus(b":status", b"200")),
        (34, plus(b"connection", b"close")),
        (34, plus(b"keep-alive", b"x")),
        (34, plus(b"proxy-connection", b"x")),
        (34, plus(b"transfer-encoding", b"chunked")),
        (34, plus(b"upgrade", b"websocket")),
        (34, plus(b"te", b"gzip")),
        (34, with((b":path", b""))),
        (34, with((b":path", b"x"))),
        (34, with((b":path", b"*"))),
        (34, with((b":scheme", b""))),
        (34, with((b":scheme", b"ht tp"))),
        (35, with((b":path", b"/x HTTP/1.1\r\na: b\r\n"))),
        (35, with((b":path", b"/x y"))),
        (35, with((b":path", b"/x\0"))),
        (35, with((b":authority", b"api\r\na: b"))),
        (35, with((b":authority", b"a b"))),
        (35, with((b":authority", b"u@api"))),
        (35, with((b":authority", b"api\0"))),
        (37, vec![METHOD, SCHEME, PATH, (b"host", b"api"), (b"host", b"other")]),
        (37, vec![METHOD, SCHEME, PATH, AUTHORITY, (b"host", b"api"), (b"host", b"api")]),
        (39, vec![(b":method", b"CONNECT"), PATH, AUTHORITY]),
        (39, vec![(b":method", b"CONNECT"), (b":protocol", b"smtp"), SCHEME, PATH, AUTHORITY]),
        (39, plus(b":protocol", b"websocket")),
        (36, [plus(b"content-length", b"5")].concat()),
        (36, [plus(b"content-length", b"x")].concat()),
    ]
}

/// What no field can hold.
fn unspeakable() -> Vec<(u8, Fields)> {
    let mut cases: Vec<(u8, Fields)> = vec![
        (34, plus(b":unknown", b"x")),
        (34, plus(b"Upper", b"x")),
        (35, with((b":method", b"GET /y HTTP/1.1\r\n"))),
        (35, with((b":method", b"GE T"))),
        (35, with((b":method", b""))),
    ];
    for bad in [b"b\rc".as_slice(), b"b\nc", b"b\r\nc: d", b"b\0c"] {
        cases.push((35, plus(b"a", bad)));
    }
    for bad in [b"a\r".as_slice(), b"a\n", b"a\0", b"a b", b"a:", b""] {
        cases.push((35, plus(bad, b"b")));
    }
    cases
}

#[test]
fn a_malformed_message_costs_its_stream_only() {
    let mut control_plane = ControlPlane::start();
    let origin = Origin::friendly([127, 10, 21, 2]);
    let (sidecar, _stream) =
        Sidecar::in_front_of(&mut control_plane, [127, 10, 21, 2], origin.address, "http2");
    for (row, fields) in malformed().into_iter().chain(unspeakable()) {
        for port in [sidecar.outbound(), sidecar.inbound()] {
            let mut client = Client::connect(port);
            let stream = client.open(&fields, true);
            let what = format!("row {row}, {port}, {}", text(&fields));
            match client.wait(stream) {
                Ended::Reset(1) => {}
                Ended::Answered(body) => {
                    let refused = [
                        "pillion: bad_request",
                        "The request is malformed",
                        "pillion: method_not_allowed",
                        "The method is not one that this port serves",
                    ];
                    assert!(refused.iter().any(|text| body.starts_with(text)), "{what}: {body}");
                }
                ended => panic!("{what}: {ended:?}"),
            }
            assert_eq!(origin.take_text(), "", "{what}");
            // The connection goes on.
            let stream = client.open(&with((b":authority", b"a,b")), true);
            assert!(matches!(client.wait(stream), Ended::Answered(_)), "{what}");
        }
    }
}

fn text(fields: &Fields) -> String {
    let field = |(name, value): &(&[u8], &[u8])| {
        format!("{}: {}", name.escape_ascii(), value.escape_ascii())
    };
    fields.iter().map(field).collect::<Vec<_>>().join(", ")
}

/// An application that speaks HTTP/2, and keeps the requests whose bodies came whole.
struct Application {
    address: SocketAddr,
    seen: Arc<Mutex<Vec<Request<()>>>>,
    /// Requests that are being read.
    open: Arc<AtomicUsize>,
    _runtime: Runtime,
}

impl Application {
    fn start(address: [u8; 4]) -> Self {
        let runtime = Runtime::new().unwrap();
        let listener = tokio::net::TcpListener::bind((IpAddr::from(address), 0));
        let listener = runtime.block_on(listener).unwrap();
        let address = listener.local_addr().unwrap();
        let (seen, open) = (Arc::default(), Arc::default());
        let application =
            Self { address, seen: Arc::clone(&seen), open: Arc::clone(&open), _runtime: runtime };
        application._runtime.spawn(async move {
            loop {
                let (socket, _) = listener.accept().await.unwrap();
                let (seen, open) = (Arc::clone(&seen), Arc::clone(&open));
                let service = service_fn(move |request| {
                    answer(request, Arc::clone(&seen), Arc::clone(&open))
                });
                tokio::spawn(
                    http2::Builder::new(TokioExecutor::new())
                        .serve_connection(TokioIo::new(socket), service),
                );
            }
        });
        application
    }

    /// The only request since the last time.
    fn take(&self) -> Request<()> {
        let mut seen = self.seen.lock().unwrap();
        assert_eq!(seen.len(), 1, "{seen:?}");
        seen.remove(0)
    }
}

/// Counts a request for as long as its stream is there.
struct Open(Arc<AtomicUsize>);

impl Drop for Open {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::SeqCst);
    }
}

async fn answer(
    request: Request<Incoming>,
    seen: Arc<Mutex<Vec<Request<()>>>>,
    open: Arc<AtomicUsize>,
) -> Result<Response<String>, hyper::Error> {
    open.fetch_add(1, Ordering::SeqCst);
    let _open = Open(open);
    let (parts, mut body) = request.into_parts();
    while let Some(frame) = poll_fn(|cx| Pin::new(&mut body).poll_frame(cx)).await {
        frame?;
    }
    seen.lock().unwrap().push(Request::from_parts(parts, ()));
    Ok(Response::new("whole".into()))
}

#[test]
fn a_body_of_another_length_is_never_complete() {
    let mut control_plane = ControlPlane::start();
    let application = Application::start([127, 10, 22, 2]);
    let (sidecar, _stream) =
        Sidecar::in_front_of(&mut control_plane, [127, 10, 22, 2], application.address, "http2");
    let mut fields = with((b":method", b"POST"));
    fields.push((b"content-length", b"5"));
    for rest in [b"".as_slice(), b"d", b"defgh"] {
        for port in [sidecar.outbound(), sidecar.inbound()] {
            let mut client = Client::connect(port);
            let stream = client.open(&fields, false);
            client.data(stream, b"abc", false);
            let open = || application.open.load(Ordering::SeqCst);
            eventually("the application reads the body", || open() == 1);
            client.data(stream, rest, true);
            assert_eq!(client.wait(stream), Ended::Reset(1), "row 36, {port}, {rest:?}");
            eventually("the application's stream is gone", || open() == 0);
            assert!(application.seen.lock().unwrap().is_empty(), "row 36, {port}, {rest:?}");
        }
    }
}

#[test]
fn what_is_served_reaches_the_application_cleaned() {
    let mut control_plane = ControlPlane::start();
    let application = Application::start([127, 10, 23, 2]);
    let (sidecar, _stream) =
        Sidecar::in_front_of(&mut control_plane, [127, 10, 23, 2], application.address, "http2");
    for port in [sidecar.outbound(), sidecar.inbound()] {
        let mut client = Client::connect(port);
        let mut serve = |fields: &[(&[u8], &[u8])]| {
            let stream = client.open(fields, true);
            assert_eq!(client.wait(stream), Ended::Answered("whole".into()), "{fields:?}");
            application.take()
        };

        let seen = serve(&plus(b"host", b"other"));
        assert_eq!(seen.uri().authority().unwrap(), "api", "row 37");
        assert!(!seen.headers().contains_key("host"), "row 37");
        let seen = serve(&[METHOD, SCHEME, PATH, (b"host", b"api")]);
        assert_eq!(seen.uri().authority().unwrap(), "api", "row 37: no :authority");

        let crumbs = [METHOD, SCHEME, PATH, AUTHORITY, (b"cookie", b"a=1"), (b"cookie", b"b=2")];
        let seen = serve(&crumbs);
        let cookies: Vec<_> = seen.headers().get_all("cookie").iter().collect();
        assert_eq!(cookies, ["a=1", "b=2"], "row 38: HTTP/2 keeps the crumbs");

        let names: [&[u8]; 4] =
            [b"x-pillion-peer", b"x_pillion_peer", b"x-forwarded-client-cert", b"l5d-client-id"];
        for name in names {
            let fields = [METHOD, SCHEME, PATH, AUTHORITY, (name, b"evil"), (name, b"evil")];
            let seen = serve(&fields);
            assert!(!format!("{:?}", seen.headers()).contains("evil"), "row 73: {seen:?}");
        }
    }
}

#[test]
fn more_fields_than_the_limit_are_refused() {
    let mut control_plane = ControlPlane::start();
    let application = Application::start([127, 10, 24, 2]);
    let (sidecar, _stream) =
        Sidecar::in_front_of(&mut control_plane, [127, 10, 24, 2], application.address, "http2");
    let mut fields = vec![METHOD, SCHEME, PATH, AUTHORITY];
    fields.extend([(b"cookie".as_slice(), b"a=1".as_slice()); 257]);
    let mut client = Client::connect(sidecar.outbound());
    let stream = client.open(&fields, true);
    let Ended::Answered(body) = client.wait(stream) else { panic!("row 38: no answer") };
    assert!(body.contains("head_too_large"), "row 38: {body}");
    assert!(application.seen.lock().unwrap().is_empty());
}
