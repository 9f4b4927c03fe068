//! What the tests of the injector share: settings, pods, and what a patch makes of them.

#![allow(dead_code)] // each test uses a part of it

use injector::variable::Variables;
use injector::{Outcome, Resources, Settings};
use k8s_openapi::api::core::v1::Pod;
use serde_json::Value;

/// Settings of a mesh.
pub(crate) fn settings() -> Settings {
    Settings {
        proxy_image: "registry.example.org/pillion-proxy:1.2.3".into(),
        init_image: "registry.example.org/pillion-init:1.2.3".into(),
        control_plane: "pillion-control-plane.pillion-system.svc:15010".into(),
        trust_bundle: "-----BEGIN CERTIFICATE-----\nAA==\n-----END CERTIFICATE-----\n".into(),
        trust_domain: "example.org".parse().unwrap(),
        cluster_domain: "cluster.local".into(),
        token_audience: "pillion.dev".into(),
        version: "1.2.3".into(),
        resources: Resources::standard(),
        variables: Variables::default(),
    }
}

/// An object that is written as YAML.
pub(crate) fn yaml(text: &str) -> Value {
    serde_norway::from_str(text).unwrap()
}

/// A pod with these further fields of metadata and spec, as YAML in flow style.
pub(crate) fn pod(metadata: &str, spec: &str) -> Value {
    yaml(&format!(
        "{{apiVersion: v1, kind: Pod, metadata: {{generateName: api-7d9f-, {metadata}}}, \
         spec: {{containers: [{{name: api, image: api}}, {{name: log, image: log}}], {spec}}}}}"
    ))
}

/// What becomes of a pod.
pub(crate) fn inject(pod: &Value) -> Outcome {
    injector::inject(pod, &settings())
}

/// The operations that inject a pod.
pub(crate) fn operations(pod: &Value) -> Vec<Value> {
    match inject(pod) {
        Outcome::Patched { operations, .. } => operations,
        other => panic!("{other:?}: {pod}"),
    }
}

/// What a pod is after its injection.
pub(crate) fn injected(pod: &Value) -> Value {
    apply(pod, &operations(pod))
}

/// What an object is after these operations.
pub(crate) fn apply(object: &Value, operations: &[Value]) -> Value {
    let patch: json_patch::Patch = serde_json::from_value(operations.to_vec().into()).unwrap();
    let mut patched = object.clone();
    json_patch::patch(&mut patched, &patch).unwrap();
    patched
}

/// Asserts that every field of a pod is one that pods have, with a value that it can have.
pub(crate) fn assert_known(pod: &Value) {
    let typed: Pod = serde_json::from_value(pod.clone()).unwrap();
    assert_eq!(without_nulls(&serde_json::to_value(typed).unwrap()), without_nulls(pod));
}

/// What a refused pod is told.
pub(crate) fn refused(pod: &Value) -> Vec<String> {
    match inject(pod) {
        Outcome::Refused(faults) => faults.iter().map(ToString::to_string).collect(),
        other => panic!("{other:?}: {pod}"),
    }
}

/// The value of a variable of the sidecar of an injected pod.
pub(crate) fn variable<'a>(pod: &'a Value, name: &str) -> &'a Value {
    let proxies = pod["spec"]["initContainers"].as_array().unwrap();
    let proxy = proxies.iter().find(|container| container["name"] == "pillion-proxy").unwrap();
    let variables = proxy["env"].as_array().unwrap();
    variables.iter().find(|variable| variable["name"] == name).map_or(&Value::Null, |v| &v["value"])
}

fn without_nulls(value: &Value) -> Value {
    match value {
        Value::Object(map) => {
            let kept = map.iter().filter(|(_, value)| !value.is_null());
            kept.map(|(name, value)| (name.clone(), without_nulls(value))).collect()
        }
        Value::Array(items) => items.iter().map(without_nulls).collect(),
        other => other.clone(),
    }
}
