//! What is added, as operations (RFC 6902) that fit what the pod has already.

use serde_json::{Value, json};

use crate::annotation::{INJECTED, SIDECAR};
use crate::pod::Pod;

/// The annotation by which `kubectl logs` and `kubectl exec` know the application.
const DEFAULT_CONTAINER: &str = "kubectl.kubernetes.io/default-container";

/// The operations that put `containers`, in this order, before the pod's own init containers, and
/// add `volumes` and the annotations of an injected pod. `object` is what `pod` was read from.
pub(crate) fn operations(
    pod: &Pod,
    object: &Value,
    containers: [Value; 2],
    volumes: [Value; 2],
    version: &str,
) -> Vec<Value> {
    let mut operations = annotations(pod, object, version);
    operations.extend(match &pod.spec.volumes {
        None => vec![add("/spec/volumes", json!(volumes))],
        Some(_) => volumes.into_iter().map(|volume| add("/spec/volumes/-", volume)).collect(),
    });
    operations.extend(match &pod.spec.init_containers {
        None => vec![add("/spec/initContainers", json!(containers))],
        Some(_) => {
            // Each at the head: the last first.
            let last_first = containers.into_iter().rev();
            last_first.map(|container| add("/spec/initContainers/0", container)).collect()
        }
    });
    operations
}

fn annotations(pod: &Pod, object: &Value, version: &str) -> Vec<Value> {
    let mut added = vec![(INJECTED, version), (SIDECAR, "enabled")];
    if let Some(first) = pod.spec.containers.first()
        && !pod.annotations.contains_key(DEFAULT_CONTAINER)
    {
        added.push((DEFAULT_CONTAINER, &first.name));
    }
    let all = || added.iter().map(|(name, value)| ((*name).to_owned(), json!(value))).collect();
    let metadata = &object["metadata"];
    if metadata.is_null() {
        return vec![add("/metadata", json!({"annotations": Value::Object(all())}))];
    }
    if metadata["annotations"].is_null() {
        return vec![add("/metadata/annotations", Value::Object(all()))];
    }
    let one = |(name, value): &(&str, &str)| {
        add(&format!("/metadata/annotations/{}", escaped(name)), json!(value))
    };
    added.iter().map(one).collect()
}

fn add(path: &str, value: Value) -> Value {
    json!({"op": "add", "path": path, "value": value})
}

/// A key as a step of a JSON pointer (RFC 6901 §3).
fn escaped(key: &str) -> String {
    key.replace('~', "~0").replace('/', "~1")
}
