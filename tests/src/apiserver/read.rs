//! Reading: one object, a list page by page, and watches.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::header::CONTENT_TYPE;
use http::{Response, StatusCode};
use http_body::Frame;
use http_body_util::{BodyExt, StreamBody};
use serde_json::{Value, json};
use tokio::sync::mpsc;
use tokio::time::Instant;
use tokio_stream::wrappers::ReceiverStream;

use super::failure::Failure;
use super::faults::Interrupt;
use super::resource::Resource;
use super::serve::{Call, send};
use super::store::{Act, Id};
use super::{State, apply};
use crate::body::{AnyBody, Error};

/// How often a watch that wants them gets a bookmark. A real server sends one a minute.
const BOOKMARKS: Duration = Duration::from_secs(1);

/// How long a watch lasts that does not say how long.
const LONGEST: Duration = Duration::from_secs(300);

/// One object.
pub(super) fn get(
    state: &State,
    resource: Resource,
    call: &Call,
) -> Result<Response<AnyBody>, Failure> {
    let id = call.id(resource);
    let object = state.store().get(&id).map(apply::shown);
    let object = object.ok_or_else(|| Failure::not_found(&id.to_string()))?;
    Ok(send(StatusCode::OK, &view(call.partial, object)))
}

/// A list, or a page of it.
pub(super) fn list(
    state: &State,
    resource: Resource,
    call: &Call,
) -> Result<Response<AnyBody>, Failure> {
    let store = state.store();
    let (version, after) = match call.query("continue") {
        Some(token) => {
            let (version, after) = read_continue(token, &resource)?;
            store.since(version)?; // a page of a list that is too old
            (version, Some(after))
        }
        None => (store.version(), None),
    };
    let limit = call.query("limit").and_then(|limit| limit.parse().ok()).unwrap_or(usize::MAX);
    let selection = Selection::of(call);
    let namespace = call.target.namespace.as_deref();
    let mut matching = store
        .list(&resource, namespace, after.as_ref())
        .filter(|(_, object)| selection.takes(object));
    let page: Vec<(&Id, &Value)> = matching.by_ref().take(limit).collect();
    let remaining = matching.count();
    let items: Vec<Value> =
        page.iter().map(|(_, object)| call.item(&resource, apply::shown(object))).collect();
    let mut metadata = json!({"resourceVersion": version.to_string()});
    if let (Some((last, _)), true) = (page.last(), remaining > 0) {
        metadata["continue"] = json!(write_continue(version, last));
        metadata["remainingItemCount"] = json!(remaining);
    }
    let (kind, api_version) = if call.partial {
        ("PartialObjectMetadataList".into(), "meta.k8s.io/v1".into())
    } else {
        (format!("{}List", resource.kind), resource.api_version())
    };
    let list = json!({"kind": kind, "apiVersion": api_version, "metadata": metadata,
        "items": items});
    Ok(send(StatusCode::OK, &list))
}

fn write_continue(version: u64, last: &Id) -> String {
    format!("{version}~{}~{}", last.namespace, last.name)
}

fn read_continue(token: &str, resource: &Resource) -> Result<(u64, Id), Failure> {
    let bad = || Failure::bad_request(format!("continue key is not valid: {token}"));
    let mut parts = token.split('~');
    let version = parts.next().and_then(|text| text.parse().ok()).ok_or_else(bad)?;
    let (namespace, name) = parts.next().zip(parts.next()).ok_or_else(bad)?;
    let id = Id { resource: resource.clone(), namespace: namespace.into(), name: name.into() };
    Ok((version, id))
}

/// Changes as they happen, behind the objects that are there when those are asked for.
pub(super) fn watch(
    state: Arc<State>,
    resource: Resource,
    call: &Call,
) -> Result<Response<AnyBody>, Failure> {
    let version = call.query("resourceVersion").unwrap_or("0");
    let version: u64 = version.parse().map_err(|_| {
        Failure::bad_request(format!("Invalid value: {version:?}: not a resource version"))
    })?;
    let streaming = call.is_set("sendInitialEvents");
    if streaming {
        if call.query("resourceVersionMatch") != Some("NotOlderThan") {
            let message = "sendInitialEvents requires resourceVersionMatch: NotOlderThan";
            return Err(Failure::invalid(message));
        }
        if let Some(failure) = state.faults.of_streaming_list() {
            return Err(failure);
        }
    }
    let seconds = call.query("timeoutSeconds").and_then(|text| text.parse().ok());
    let (events, receiver) = mpsc::channel(64);
    let watch = Watch {
        resource,
        partial: call.partial,
        selection: Selection::of(call),
        namespace: call.target.namespace.clone(),
        bookmarks: call.is_set("allowWatchBookmarks"),
        end: Instant::now() + seconds.map_or(LONGEST, Duration::from_secs),
        events,
    };
    tokio::spawn(watch.run(state, version, streaming));
    let body = StreamBody::new(ReceiverStream::new(receiver));
    let response = Response::builder().header(CONTENT_TYPE, "application/json");
    Ok(response.body(BodyExt::boxed_unsync(body)).unwrap())
}

struct Watch {
    resource: Resource,
    partial: bool,
    selection: Selection,
    namespace: Option<String>,
    bookmarks: bool,
    end: Instant,
    events: mpsc::Sender<Result<Frame<Bytes>, Error>>,
}

/// The watch's client is gone, or it has been told the end.
struct Ended;

impl Watch {
    async fn run(self, state: Arc<State>, version: u64, streaming: bool) {
        // Its end has been told, or nobody is left to tell.
        let _ = self.tell(state, version, streaming).await;
    }

    async fn tell(
        &self,
        state: Arc<State>,
        mut version: u64,
        streaming: bool,
    ) -> Result<(), Ended> {
        let mut interrupts = state.faults.interrupts();
        let mut changed = state.changed.subscribe();
        if streaming || version == 0 {
            version = self.tell_all(&state, streaming).await?;
        }
        loop {
            version = self.tell_since(&state, version).await?;
            tokio::select! {
                _ = changed.changed() => {}
                () = tokio::time::sleep(BOOKMARKS), if self.bookmarks => {
                    self.send("BOOKMARK", self.bookmark(version, false)).await?;
                }
                () = tokio::time::sleep_until(self.end) => return Ok(()),
                Ok(()) = interrupts.changed() => {
                    let (_, interrupt) = *interrupts.borrow_and_update();
                    match interrupt {
                        Interrupt::End => return Ok(()),
                        Interrupt::Break => {
                            let _ = self.events.send(Err("the connection breaks".into())).await;
                            return Err(Ended);
                        }
                        Interrupt::Expire => {
                            let gone = Failure::expired(version, state.store().version());
                            return self.send("ERROR", gone.status()).await;
                        }
                    }
                }
            }
        }
    }

    /// What is there now. Gives its version.
    async fn tell_all(&self, state: &State, streaming: bool) -> Result<u64, Ended> {
        let (version, objects) = {
            let store = state.store();
            let listed = store.list(&self.resource, self.namespace.as_deref(), None);
            let listed = listed.filter(|(_, object)| self.selection.takes(object));
            let objects: Vec<Value> = listed.map(|(_, object)| apply::shown(object)).collect();
            (store.version(), objects)
        };
        for object in objects {
            self.send("ADDED", view(self.partial, object)).await?;
        }
        if streaming {
            self.send("BOOKMARK", self.bookmark(version, true)).await?;
        }
        Ok(version)
    }

    /// What happened after a version. Gives the version that is told of now.
    async fn tell_since(&self, state: &State, version: u64) -> Result<u64, Ended> {
        let (now, changes) = {
            let store = state.store();
            (store.version(), store.since(version).map(<[_]>::to_vec))
        };
        let changes = match changes {
            Ok(changes) => changes,
            Err(gone) => {
                self.send("ERROR", gone.status()).await?;
                return Err(Ended);
            }
        };
        for change in changes {
            let ours = change.id.resource == self.resource
                && self.namespace.as_ref().is_none_or(|name| *name == change.id.namespace)
                && self.selection.takes(&change.object);
            if !ours {
                continue;
            }
            let act = match change.act {
                Act::Added => "ADDED",
                Act::Modified => "MODIFIED",
                Act::Deleted => "DELETED",
            };
            self.send(act, view(self.partial, apply::shown(&change.object))).await?;
        }
        Ok(now)
    }

    fn bookmark(&self, version: u64, initial_end: bool) -> Value {
        let mut bookmark = json!({
            "kind": self.resource.kind, "apiVersion": self.resource.api_version(),
            "metadata": {"resourceVersion": version.to_string()},
        });
        if initial_end {
            bookmark["metadata"]["annotations"] = json!({"k8s.io/initial-events-end": "true"});
        }
        bookmark
    }

    async fn send(&self, act: &str, object: Value) -> Result<(), Ended> {
        let line = json!({"type": act, "object": object}).to_string() + "\n";
        self.events.send(Ok(Frame::data(Bytes::from(line)))).await.map_err(|_| Ended)
    }
}

/// An object, or its metadata alone.
fn view(partial: bool, object: Value) -> Value {
    if !partial {
        return object;
    }
    json!({"kind": "PartialObjectMetadata", "apiVersion": "meta.k8s.io/v1",
        "metadata": object["metadata"]})
}

impl Call {
    pub(super) fn id(&self, resource: Resource) -> Id {
        let namespace = self.target.namespace.clone().unwrap_or_default();
        Id { resource, namespace, name: self.target.name.clone().unwrap_or_default() }
    }

    /// An item of a list: those of built-in kinds do not repeat what they are.
    fn item(&self, resource: &Resource, object: Value) -> Value {
        let mut object = view(self.partial, object);
        let built_in = Resource::built_in().contains(resource);
        if let Some(fields) = object.as_object_mut().filter(|_| built_in && !self.partial) {
            fields.remove("kind");
            fields.remove("apiVersion");
        }
        object
    }
}

/// What `fieldSelector` and `labelSelector` leave: equality only.
#[derive(Debug)]
struct Selection {
    fields: Vec<(String, String)>,
    labels: Vec<(String, String)>,
}

impl Selection {
    fn of(call: &Call) -> Self {
        let pairs = |name: &str| {
            let terms = call.query(name).unwrap_or_default().split(',');
            let pair = |term: &str| {
                let (name, value) = term.split_once('=')?;
                Some((name.to_owned(), value.trim_start_matches('=').to_owned()))
            };
            terms.filter_map(pair).collect()
        };
        Self { fields: pairs("fieldSelector"), labels: pairs("labelSelector") }
    }

    fn takes(&self, object: &Value) -> bool {
        let field = |(path, value): &(String, String)| {
            let found = path.split('.').fold(object, |value, name| &value[name]);
            found.as_str().unwrap_or_default() == value
        };
        let label = |(name, value): &(String, String)| object["metadata"]["labels"][name] == *value;
        self.fields.iter().all(field) && self.labels.iter().all(label)
    }
}
