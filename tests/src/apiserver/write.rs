//! Writing: create, replace, patch and delete, and the status as a part of its own.

use http::{Response, StatusCode};
use serde_json::{Value, json};

use super::failure::Failure;
use super::resource::Resource;
use super::serve::{Call, send};
use super::store::Id;
use super::{State, admission, apply};
use crate::body::AnyBody;

/// A change of an object that has a name.
#[derive(Debug)]
pub(super) enum Write {
    Replace(Value),
    Merge(Value),
    Apply(Value),
}

impl Write {
    /// A patch of this media type. Strategic merges of what the mesh patches are merges.
    pub(super) fn patch(media_type: &str, patch: Value) -> Result<Self, Failure> {
        match media_type {
            "application/merge-patch+json" | "application/strategic-merge-patch+json" => {
                Ok(Self::Merge(patch))
            }
            "application/apply-patch+yaml" => Ok(Self::Apply(patch)),
            other => Err(Failure {
                code: StatusCode::UNSUPPORTED_MEDIA_TYPE,
                reason: "UnsupportedMediaType",
                message: format!("the body of the request was in an unknown format: {other}"),
                retry_after: None,
            }),
        }
    }
}

/// Makes an object. Pods go through admission.
pub(super) async fn create(
    state: &State,
    resource: Resource,
    namespace: String,
    mut object: Value,
) -> Result<Value, Failure> {
    check_namespace(state, &namespace)?;
    if resource.namespaced {
        object["metadata"]["namespace"] = json!(namespace);
    }
    if resource.status
        && let Some(fields) = object.as_object_mut()
    {
        fields.remove("status");
    }
    if resource.plural == "pods" {
        object = admission::admit(state, &namespace, object).await?;
    }
    let id = Id { resource, namespace, name: name_of(state, &object)? };
    object["metadata"]["name"] = json!(id.name);
    let made = state.write(|store| match store.get(&id) {
        Some(_) => Err(Failure::already_exists(&id.to_string())),
        None => Ok(store.put(id, object)),
    })?;
    Ok(apply::shown(&made))
}

fn check_namespace(state: &State, namespace: &str) -> Result<(), Failure> {
    if namespace.is_empty() {
        return Ok(());
    }
    let resource = state.resource("v1", "namespaces").expect("namespaces are served");
    let id = Id { resource, namespace: String::new(), name: namespace.into() };
    match state.store().get(&id) {
        Some(_) => Ok(()),
        None => Err(Failure::not_found(&id.to_string())),
    }
}

/// The name, made of `generateName` where there is none.
fn name_of(state: &State, object: &Value) -> Result<String, Failure> {
    let metadata = &object["metadata"];
    match (metadata["name"].as_str(), metadata["generateName"].as_str()) {
        (Some(name), _) => Ok(name.into()),
        (None, Some(prefix)) => Ok(format!("{prefix}{:05}", state.store().version())),
        (None, None) => Err(Failure::invalid("name or generateName is required")),
    }
}

/// Changes an object, or its status alone.
pub(super) fn change(
    state: &State,
    resource: Resource,
    call: &Call,
    write: &Write,
) -> Result<Response<AnyBody>, Failure> {
    let of_status = call.target.subresource.as_deref() == Some("status");
    if call.target.subresource.is_some() && !(of_status && resource.status) {
        return Err(Failure::not_found("the server could not find the requested resource:"));
    }
    let split = resource.status;
    let id = call.id(resource);
    let (code, object) = state.write(|store| {
        let before = store.get(&id).cloned();
        let code = if before.is_some() { StatusCode::OK } else { StatusCode::CREATED };
        let after = written(before.as_ref(), write, call, &id, of_status)?;
        let object = match (&before, split) {
            (Some(before), true) => parted(before, after, of_status),
            _ => after,
        };
        Ok((code, store.put(id.clone(), object)))
    })?;
    Ok(send(code, &apply::shown(&object)))
}

fn written(
    before: Option<&Value>,
    write: &Write,
    call: &Call,
    id: &Id,
    of_status: bool,
) -> Result<Value, Failure> {
    let wanted = match write {
        Write::Replace(object) | Write::Merge(object) | Write::Apply(object) => object,
    };
    check_version(before, wanted)?;
    let missing = || Failure::not_found(&id.to_string());
    match write {
        Write::Replace(object) => before.map(|_| object.clone()).ok_or_else(missing),
        Write::Merge(patch) => {
            let mut object = before.cloned().ok_or_else(missing)?;
            apply::merge(&mut object, patch);
            Ok(object)
        }
        Write::Apply(wanted) => {
            if before.is_none() && of_status {
                return Err(missing());
            }
            let manager = call.query("fieldManager").ok_or_else(|| {
                Failure::invalid("fieldManager: Required value: is required for apply patch")
            })?;
            apply::apply(before, wanted, manager, call.is_set("force"))
        }
    }
}

/// Whoever names a version means that one.
fn check_version(before: Option<&Value>, wanted: &Value) -> Result<(), Failure> {
    let named = wanted["metadata"]["resourceVersion"].as_str().filter(|text| !text.is_empty());
    let now = before.and_then(|before| before["metadata"]["resourceVersion"].as_str());
    match named {
        Some(named) if Some(named) != now => Err(Failure::conflict(
            "the object has been modified; please apply your changes to the latest version and \
             try again",
        )),
        _ => Ok(()),
    }
}

/// Of a change by way of the status, the status (and who owns it); of any other, all else.
fn parted(before: &Value, after: Value, of_status: bool) -> Value {
    let (mut object, status) = if of_status {
        let mut object = before.clone();
        object["metadata"]["annotations"] = after["metadata"]["annotations"].clone();
        (object, after["status"].clone())
    } else {
        (after, before["status"].clone())
    };
    let fields = object.as_object_mut().expect("an object");
    fields.remove("status");
    if !status.is_null() {
        fields.insert("status".into(), status);
    }
    object
}

/// Takes an object away.
pub(super) fn delete(
    state: &State,
    resource: Resource,
    call: &Call,
) -> Result<Response<AnyBody>, Failure> {
    let id = call.id(resource);
    let gone = state.write(|store| store.remove(&id));
    let gone = gone.ok_or_else(|| Failure::not_found(&id.to_string()))?;
    Ok(send(StatusCode::OK, &apply::shown(&gone)))
}

impl std::fmt::Display for Id {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} {:?}", self.resource.plural, self.name)
    }
}
