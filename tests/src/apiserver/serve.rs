//! Requests of the API, from their path to the answer.

use std::collections::HashMap;
use std::sync::Arc;

use http::header::{CONTENT_TYPE, DATE, RETRY_AFTER};
use http::{Method, Request, Response, StatusCode};
use http_body_util::BodyExt;
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use serde_json::{Value, json};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;

use super::failure::Failure;
use super::resource::{REVIEWS, Resource, Target};
use super::write::Write;
use super::{Asked, State, read, review, write};
use crate::body::{self, AnyBody};

/// A request, taken apart.
#[derive(Debug)]
pub(super) struct Call {
    pub(super) target: Target,
    pub(super) query: HashMap<String, String>,
    /// Whether only metadata is wanted.
    pub(super) partial: bool,
}

/// Serves for ever. Ended, it takes its connections with it.
pub(super) async fn serve(listener: TcpListener, state: Arc<State>) {
    let mut connections = JoinSet::new();
    loop {
        tokio::select! {
            accepted = listener.accept() => {
                let Ok((socket, _)) = accepted else { continue };
                connections.spawn(connection(socket, Arc::clone(&state)));
            }
            Some(_) = connections.join_next() => {}
        }
    }
}

async fn connection(socket: TcpStream, state: Arc<State>) {
    let _ = socket.set_nodelay(true);
    let service = service_fn(move |request| {
        let state = Arc::clone(&state);
        async move { Ok::<_, std::convert::Infallible>(answer(request, state).await) }
    });
    // How a client ends its connection is its own business.
    let _ = http1::Builder::new().serve_connection(TokioIo::new(socket), service).await;
}

async fn answer(request: Request<Incoming>, state: Arc<State>) -> Response<AnyBody> {
    let date = state.faults.date();
    let mut response = dispatch(request, state).await.unwrap_or_else(|failure| refuse(&failure));
    if let Some(date) = date.and_then(|date| httpdate::fmt_http_date(date).parse().ok()) {
        response.headers_mut().insert(DATE, date); // else hyper says the true one
    }
    response
}

fn refuse(failure: &Failure) -> Response<AnyBody> {
    let mut response = match failure.reason {
        "" => send_text(failure.code, &failure.message),
        _ => send(failure.code, &failure.status()),
    };
    if let Some(seconds) = failure.retry_after {
        response.headers_mut().insert(RETRY_AFTER, seconds.into());
    }
    response
}

pub(super) fn send(code: StatusCode, value: &Value) -> Response<AnyBody> {
    let response = Response::builder().status(code).header(CONTENT_TYPE, "application/json");
    response.body(body::full(value.to_string())).unwrap()
}

fn send_text(code: StatusCode, text: &str) -> Response<AnyBody> {
    let response = Response::builder().status(code).header(CONTENT_TYPE, "text/plain");
    response.body(body::full(format!("{text}\n"))).unwrap()
}

async fn dispatch(
    request: Request<Incoming>,
    state: Arc<State>,
) -> Result<Response<AnyBody>, Failure> {
    let path = request.uri().path().to_owned();
    if let Some(document) = discovery(&state, &path) {
        return Ok(send(StatusCode::OK, &document));
    }
    let target = Target::parse(&path).ok_or_else(Failure::no_such_path)?;
    let accept = request.headers().get("accept").and_then(|value| value.to_str().ok());
    let partial = accept.is_some_and(|accept| accept.contains("as=PartialObjectMetadata"));
    let query = parse_query(request.uri().query().unwrap_or_default());
    let call = Call { target, query, partial };
    let method = request.method().clone();
    audit(&state, &call, &method);
    if let Some(failure) = state.faults.of_request(&call.target.plural) {
        return Err(failure);
    }
    if REVIEWS.iter().any(|(version, plural, _)| {
        *version == call.target.api_version && *plural == call.target.plural
    }) {
        let object = read_json(request).await?;
        return Ok(send(StatusCode::CREATED, &review::answer(&state, object)));
    }
    let resource = state
        .resource(&call.target.api_version, &call.target.plural)
        .ok_or_else(Failure::no_such_path)?;
    act(method, request, state, resource, call).await
}

async fn act(
    method: Method,
    request: Request<Incoming>,
    state: Arc<State>,
    resource: Resource,
    call: Call,
) -> Result<Response<AnyBody>, Failure> {
    let named = call.target.name.is_some();
    match method {
        Method::GET if named => read::get(&state, resource, &call),
        Method::GET if call.is_watch() => read::watch(state, resource, &call),
        Method::GET => read::list(&state, resource, &call),
        Method::POST if !named => {
            let object = read_json(request).await?;
            let namespace = call.target.namespace.unwrap_or_default();
            let made = write::create(&state, resource, namespace, object).await?;
            Ok(send(StatusCode::CREATED, &made))
        }
        Method::PUT if named => {
            let object = read_json(request).await?;
            write::change(&state, resource, &call, &Write::Replace(object))
        }
        Method::PATCH if named => {
            let kind = request.headers().get(CONTENT_TYPE).and_then(|value| value.to_str().ok());
            let kind = kind.unwrap_or_default().to_owned();
            let patch = Write::patch(&kind, read_json(request).await?)?;
            write::change(&state, resource, &call, &patch)
        }
        Method::DELETE if named => write::delete(&state, resource, &call),
        _ => Err(Failure::method_not_allowed()),
    }
}

impl Call {
    pub(super) fn query(&self, name: &str) -> Option<&str> {
        self.query.get(name).map(String::as_str).filter(|value| !value.is_empty())
    }

    pub(super) fn is_set(&self, name: &str) -> bool {
        matches!(self.query(name), Some("true" | "1"))
    }

    fn is_watch(&self) -> bool {
        self.is_set("watch")
    }
}

fn audit(state: &State, call: &Call, method: &Method) {
    let target = &call.target;
    let verb = match (method, &target.name) {
        (&Method::GET, Some(_)) => "get",
        (&Method::GET, None) if call.is_watch() => "watch",
        (&Method::GET, None) => "list",
        (&Method::POST, _) => "create",
        (&Method::PUT, _) => "update",
        (&Method::PATCH, _) => "patch",
        _ => "delete",
    };
    let subresource = target.subresource.as_ref().map(|name| format!("/{name}"));
    let group = target.api_version.split_once('/').map_or("", |(group, _)| group);
    state.asked.lock().unwrap().push(Asked {
        verb,
        group: group.into(),
        resource: target.plural.clone() + &subresource.unwrap_or_default(),
        namespace: target.namespace.clone(),
        name: target.name.clone(),
    });
}

/// A document of discovery, where the path is of one.
fn discovery(state: &State, path: &str) -> Option<Value> {
    let parts: Vec<&str> = path.split('/').filter(|part| !part.is_empty()).collect();
    let resources = state.resources.lock().unwrap();
    match parts.as_slice() {
        ["version"] => Some(json!({"major": "1", "minor": "36", "gitVersion": "v1.36.0",
            "gitCommit": "", "gitTreeState": "clean", "buildDate": "2026-01-01T00:00:00Z",
            "goVersion": "go1.26", "compiler": "gc", "platform": "linux/amd64"})),
        ["api"] => Some(json!({"kind": "APIVersions", "versions": ["v1"],
            "serverAddressByClientCIDRs": []})),
        ["apis"] => {
            let mut groups: Vec<(&str, &str)> =
                resources.iter().map(|r| (r.group.as_str(), r.version.as_str())).collect();
            groups.retain(|(group, _)| !group.is_empty());
            groups.sort_unstable();
            groups.dedup();
            let groups: Vec<Value> = groups.into_iter().map(|(g, v)| group(g, v)).collect();
            Some(json!({"kind": "APIGroupList", "apiVersion": "v1", "groups": groups}))
        }
        ["apis", name] => {
            let resource = resources.iter().find(|resource| resource.group == *name)?;
            let mut document = group(name, &resource.version);
            document["kind"] = json!("APIGroup");
            document["apiVersion"] = json!("v1");
            Some(document)
        }
        ["api", version] => resource_list(&resources, "", version),
        ["apis", group, version] => resource_list(&resources, group, version),
        _ => None,
    }
}

fn group(name: &str, version: &str) -> Value {
    let version = json!({"groupVersion": format!("{name}/{version}"), "version": version});
    json!({"name": name, "versions": [version], "preferredVersion": version})
}

fn resource_list(resources: &[Resource], group: &str, version: &str) -> Option<Value> {
    let of_group = |r: &&Resource| r.group == group && r.version == version;
    let listed: Vec<Value> =
        resources.iter().filter(of_group).flat_map(Resource::described).collect();
    let version = resources.iter().find(of_group)?.api_version();
    Some(json!({"kind": "APIResourceList", "apiVersion": "v1", "groupVersion": version,
        "resources": listed}))
}

async fn read_json(request: Request<Incoming>) -> Result<Value, Failure> {
    let bytes = request.into_body().collect().await;
    let bytes = bytes.map_err(|error| Failure::bad_request(error.to_string()))?.to_bytes();
    // JSON is YAML's subset that every client of ours sends, also as apply-patch+yaml.
    serde_json::from_slice(&bytes).map_err(|error| Failure::bad_request(error.to_string()))
}

fn parse_query(query: &str) -> HashMap<String, String> {
    let pairs = query.split('&').filter_map(|pair| pair.split_once('='));
    pairs.map(|(name, value)| (decode(name), decode(value))).collect()
}

/// Percent-decoding; what is no escape stays.
fn decode(text: &str) -> String {
    let (mut bytes, mut out) = (text.bytes(), Vec::new());
    while let Some(byte) = bytes.next() {
        let hex = |rest: &mut std::str::Bytes<'_>| {
            let digit = |byte: Option<u8>| char::from(byte?).to_digit(16);
            Some((digit(rest.next())? * 16 + digit(rest.next())?) as u8)
        };
        match byte {
            b'+' => out.push(b' '),
            b'%' => out.push(hex(&mut bytes).unwrap_or(b'%')),
            byte => out.push(byte),
        }
    }
    String::from_utf8_lossy(&out).into_owned()
}
