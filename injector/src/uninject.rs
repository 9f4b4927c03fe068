//! The way back, for objects in files.

use serde_json::Value;

use crate::annotation::{INJECTED, SIDECAR};
use crate::container::{INIT, PROXY, STATE_VOLUME, TOKEN_VOLUME};

/// Takes from `object`, a Pod or a template of pods, what [`inject`](crate::inject) has added, and
/// says whether there was anything. The annotation of the default container stays: nobody can tell
/// who wrote it.
pub fn uninject(object: &mut Value) -> bool {
    let Some(spec) = object.get_mut("spec") else { return false };
    if !take(spec, "initContainers", &[INIT, PROXY]) {
        return false;
    }
    take(spec, "volumes", &[TOKEN_VOLUME, STATE_VOLUME]);
    let annotations = object.pointer_mut("/metadata/annotations");
    if let Some(annotations) = annotations.and_then(Value::as_object_mut) {
        annotations.retain(|name, _| name != INJECTED && name != SIDECAR);
    }
    true
}

/// Takes the entries with these names from a list, and the list if it is empty then.
fn take(spec: &mut Value, list: &str, names: &[&str]) -> bool {
    let Some(entries) = spec.get_mut(list).and_then(Value::as_array_mut) else { return false };
    let before = entries.len();
    entries.retain(|entry| !names.iter().any(|name| entry["name"] == *name));
    let (after, is_empty) = (entries.len(), entries.is_empty());
    if let Some(spec) = spec.as_object_mut().filter(|_| is_empty) {
        spec.remove(list);
    }
    after < before
}
