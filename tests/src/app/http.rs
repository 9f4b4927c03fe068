//! The HTTP application. Every response names its pod in [`POD_HEADER`]. Its paths:
//!
//! | path | answer |
//! |---|---|
//! | `/status/CODE` | that status |
//! | `/delay/MS` | 200 after so many milliseconds |
//! | `/flaky/KEY/N` | 503 for the first N requests of this key at this pod, then 200, once the body was read |
//! | `/digest` | size and hash of the request's body, as JSON |
//! | `/download/BYTES` | a body of that size, of unknown length |
//! | `/break/BYTES` | as much of a larger body, then the connection is closed |
//! | `/echo` | the request's body, as it comes |
//! | `/upgrade` | 101 to the protocol asked for, then every byte back |
//! | `/chain/...` | what the next application of the chain answers, if there is one |
//! | anything else | the request as JSON |

use std::future::Future;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use futures_util::{FutureExt, StreamExt, stream};
use http::header::{CONNECTION, CONTENT_TYPE, HOST, UPGRADE};
use http::{HeaderName, HeaderValue, Request, Response, StatusCode, Version};
use http_body_util::{BodyExt, BodyStream, StreamBody};
use hyper::body::Incoming;
use hyper::server::conn::{http1, http2};
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo};
use serde_json::{Value, json};
use tokio::net::TcpStream;

use super::{Seen, State, grpc};
use crate::body::{self, AnyBody};
use crate::client;

/// The response header that names the pod.
pub const POD_HEADER: HeaderName = HeaderName::from_static("x-pod");

/// How HTTP/2 with prior knowledge begins (RFC 9113 §3.4), as far as no HTTP/1.1 request does.
const PREFACE: &[u8] = b"PRI";

/// How long an idle connection of HTTP/1 is kept when the application leaves: on one that is used,
/// the next response says `Connection: close`; one closed unasked could lose a request.
const LINGER: Duration = Duration::from_secs(1);

/// Headers of a trace's context, which a chain hands on.
const CONTEXT: [&str; 2] = ["traceparent", "tracestate"];

/// The application closes the connection instead of answering.
#[derive(Debug)]
struct Reset;

impl std::fmt::Display for Reset {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("the application resets the connection")
    }
}

impl std::error::Error for Reset {}

/// Serves one connection.
pub(super) async fn serve(socket: TcpStream, state: Arc<State>) {
    let _ = socket.set_nodelay(true);
    let mut start = [0; PREFACE.len()];
    tokio::select! {
        () = first_bytes(&socket, &mut start) => {}
        () = idle_at_the_end(&state) => return,
    }
    let service = {
        let state = Arc::clone(&state);
        service_fn(move |request| answer(request, Arc::clone(&state)))
    };
    // How a client ends its connection is its own business.
    if start == PREFACE {
        let builder = http2::Builder::new(TokioExecutor::new());
        let mut connection = pin!(builder.serve_connection(TokioIo::new(socket), service));
        tokio::select! {
            _ = connection.as_mut() => return,
            () = state.leaves() => connection.as_mut().graceful_shutdown(),
        }
        let _ = connection.await;
    } else {
        let connection = http1::Builder::new().serve_connection(TokioIo::new(socket), service);
        let mut connection = pin!(connection.with_upgrades());
        tokio::select! {
            _ = connection.as_mut() => return,
            () = idle_at_the_end(&state) => connection.as_mut().graceful_shutdown(),
        }
        let _ = connection.await;
    }
}

async fn first_bytes(socket: &TcpStream, start: &mut [u8]) {
    while socket.peek(start).await.is_ok_and(|read| 0 < read && read < start.len()) {
        tokio::task::yield_now().await;
    }
}

/// Resolves when a connection that waits for a request waits in vain.
async fn idle_at_the_end(state: &State) {
    state.leaves().await;
    tokio::time::sleep(LINGER).await;
}

/// Boxed, since a chain's answer waits for another application's answer.
fn answer(
    request: Request<Incoming>,
    state: Arc<State>,
) -> Pin<Box<dyn Future<Output = Result<Response<AnyBody>, Reset>> + Send>> {
    async move {
        let number = state.saw(Seen {
            method: request.method().clone(),
            path: request.uri().path_and_query().map_or("/", |path| path.as_str()).to_owned(),
            headers: request.headers().clone(),
        });
        let version = request.version();
        let manners = *state.manners.lock().unwrap();
        tokio::time::sleep(manners.delay).await;
        if manners.resetting {
            return Err(Reset);
        }
        let fails = number * manners.failing / 100 != (number - 1) * manners.failing / 100;
        let mut response = if fails {
            status(StatusCode::SERVICE_UNAVAILABLE)
        } else if grpc::is_grpc(request.headers()) {
            grpc::answer(request, &state.pod).await
        } else {
            route(request, &state).await
        };
        response.headers_mut().insert(POD_HEADER, HeaderValue::from_str(&state.pod).unwrap());
        let http1 = version < Version::HTTP_2;
        if http1 && state.is_leaving() && response.status() != StatusCode::SWITCHING_PROTOCOLS {
            response.headers_mut().insert(CONNECTION, HeaderValue::from_static("close"));
        }
        Ok(response)
    }
    .boxed()
}

async fn route(request: Request<Incoming>, state: &State) -> Response<AnyBody> {
    let path = request.uri().path().to_owned();
    let segments: Vec<&str> = path.trim_start_matches('/').split('/').collect();
    match segments[..] {
        ["status", code] => status(code.parse().expect("a status code")),
        ["delay", millis] => {
            tokio::time::sleep(Duration::from_millis(millis.parse().expect("milliseconds"))).await;
            Response::new(body::full("late\n"))
        }
        ["flaky", key, failures] => {
            let fails = state.tried(key) <= failures.parse().expect("a number");
            if request.into_body().collect().await.is_err() {
                return status(StatusCode::BAD_REQUEST);
            }
            status(if fails { StatusCode::SERVICE_UNAVAILABLE } else { StatusCode::OK })
        }
        ["digest"] => digest(request, state).await,
        ["download", bytes] => Response::new(body::pattern(bytes.parse().expect("bytes"))),
        ["break", bytes] => broken(bytes.parse().expect("bytes")),
        ["echo"] => Response::new(request.into_body().map_err(Into::into).boxed_unsync()),
        ["upgrade"] => upgrade(request, state),
        ["chain", ..] if state.next.is_some() => chain(request, state).await,
        _ => describe(request, state).await,
    }
}

fn status(status: StatusCode) -> Response<AnyBody> {
    let mut response = Response::new(body::full(format!("{status}\n")));
    *response.status_mut() = status;
    response
}

/// A body that breaks off after `bytes`.
fn broken(bytes: u64) -> Response<AnyBody> {
    let end = stream::once(async {
        // Time for all before to be sent.
        tokio::time::sleep(Duration::from_millis(200)).await;
        Err(Reset.into())
    });
    let body = BodyStream::new(body::pattern(bytes)).chain(end);
    Response::new(StreamBody::new(body).boxed_unsync())
}

fn upgrade(request: Request<Incoming>, state: &State) -> Response<AnyBody> {
    let Some(protocol) = request.headers().get(UPGRADE).cloned() else {
        return status(StatusCode::UPGRADE_REQUIRED);
    };
    let upgraded = Arc::clone(&state.upgraded);
    tokio::spawn(async move {
        let _upgraded = upgraded;
        if let Ok(io) = hyper::upgrade::on(request).await {
            let (mut read, mut write) = tokio::io::split(TokioIo::new(io));
            // A client that goes away has what it wanted.
            let _ = tokio::io::copy(&mut read, &mut write).await;
        }
    });
    let mut response = Response::new(body::empty());
    *response.status_mut() = StatusCode::SWITCHING_PROTOCOLS;
    response.headers_mut().insert(UPGRADE, protocol);
    response.headers_mut().insert(CONNECTION, HeaderValue::from_static("upgrade"));
    response
}

async fn digest(request: Request<Incoming>, state: &State) -> Response<AnyBody> {
    match body::digest(request.into_body()).await {
        Ok(digest) => as_json(&json!({"size": digest.size, "hash": digest.hash.to_string()})),
        Err(_) => {
            state.broken.fetch_add(1, Ordering::Relaxed);
            status(StatusCode::BAD_REQUEST)
        }
    }
}

/// Calls the next application with the same path and the context of the trace.
async fn chain(request: Request<Incoming>, state: &State) -> Response<AnyBody> {
    let next = state.next.as_ref().expect("a next application");
    let mut call = Request::get(request.uri().path()).header(HOST, &next.host);
    for name in CONTEXT {
        if let Some(value) = request.headers().get(name) {
            call = call.header(name, value);
        }
    }
    match client::send(next.proxy, call.body(body::empty()).unwrap()).await {
        Ok(answer) => {
            let mut response = Response::new(body::full(answer.body));
            *response.status_mut() = answer.status;
            response
        }
        Err(error) => {
            let mut response = Response::new(body::full(format!("{error:#}\n")));
            *response.status_mut() = StatusCode::BAD_GATEWAY;
            response
        }
    }
}

async fn describe(request: Request<Incoming>, state: &State) -> Response<AnyBody> {
    let (head, body) = request.into_parts();
    let Ok(body) = body.collect().await else { return status(StatusCode::BAD_REQUEST) };
    let host = head.uri.authority().map(ToString::to_string).or_else(|| {
        head.headers.get(HOST).map(|host| String::from_utf8_lossy(host.as_bytes()).into_owned())
    });
    let mut headers = serde_json::Map::new();
    for (name, value) in &head.headers {
        let values = headers.entry(name.as_str()).or_insert_with(|| json!([]));
        let value = String::from_utf8_lossy(value.as_bytes()).into_owned();
        values.as_array_mut().expect("an array").push(value.into());
    }
    as_json(&json!({
        "pod": state.pod,
        "method": head.method.as_str(),
        "path": head.uri.path_and_query().map_or("/", |path| path.as_str()),
        "version": format!("{:?}", head.version),
        "host": host,
        "headers": headers,
        "body": String::from_utf8_lossy(&body.to_bytes()),
    }))
}

fn as_json(value: &Value) -> Response<AnyBody> {
    let mut response = Response::new(body::full(value.to_string()));
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    response
}
