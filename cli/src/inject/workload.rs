//! Objects that make pods, and where in them the template of those pods is.

use injector::{Fault, Outcome, Settings, Skip};
use serde_json::Value;

/// What became of one object.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Change {
    /// Its pods get a sidecar; what its maker should know.
    Injected(Vec<String>),
    /// It stays as it is.
    Skipped(Skip),
    /// It asks for what cannot be.
    Refused(Vec<Fault>),
}

/// Puts sidecars into the pods that `value` makes, or that the objects of the list `value` make.
/// Gives each of those objects, KIND NAMESPACE/NAME, with what became of it.
pub(super) fn inject(value: &mut Value, settings: &Settings) -> Vec<(String, Change)> {
    if is_list(value) {
        let items = value["items"].as_array_mut().into_iter().flatten();
        return items.flat_map(|item| inject(item, settings)).collect();
    }
    let Some(path) = template(value) else { return Vec::new() };
    let name = name(value);
    // A workload without its template is not one that could be injected.
    let pointer = pointer(path);
    let change = match injector::inject(value.pointer(&pointer).unwrap_or(&Value::Null), settings) {
        Outcome::Patched { operations, warnings } => match apply(value, &pointer, operations) {
            Ok(()) => Change::Injected(warnings),
            Err(fault) => Change::Refused(vec![fault]),
        },
        Outcome::Skipped(skip) => Change::Skipped(skip),
        Outcome::Refused(faults) => {
            let prefix = path.iter().map(|step| format!("{step}.")).collect::<String>();
            let within =
                |fault: Fault| Fault { field: format!("{prefix}{}", fault.field), ..fault };
            Change::Refused(faults.into_iter().map(within).collect())
        }
    };
    vec![(name, change)]
}

fn text<'a>(value: &'a Value, field: &str) -> &'a str {
    value[field].as_str().unwrap_or_default()
}

fn is_list(value: &Value) -> bool {
    text(value, "kind").ends_with("List") && value["items"].is_array()
}

/// The steps to the template of an object's pods; `None` for what makes no pods.
fn template(value: &Value) -> Option<&'static [&'static str]> {
    match (text(value, "apiVersion"), text(value, "kind")) {
        ("v1", "Pod") => Some(&[]),
        ("apps/v1", "Deployment" | "StatefulSet" | "DaemonSet" | "ReplicaSet")
        | ("v1", "ReplicationController")
        | ("batch/v1", "Job") => Some(&["spec", "template"]),
        ("batch/v1", "CronJob") => Some(&["spec", "jobTemplate", "spec", "template"]),
        _ => None,
    }
}

fn pointer(path: &[&str]) -> String {
    path.iter().map(|step| format!("/{step}")).collect()
}

fn name(value: &Value) -> String {
    let metadata = &value["metadata"];
    let name = match (text(metadata, "name"), text(metadata, "generateName")) {
        ("", prefix) => format!("{prefix}*"),
        (name, _) => name.to_owned(),
    };
    match text(metadata, "namespace") {
        "" => format!("{} {name}", text(value, "kind")),
        namespace => format!("{} {namespace}/{name}", text(value, "kind")),
    }
}

/// Applies operations on the template at `pointer`.
fn apply(value: &mut Value, pointer: &str, operations: Vec<Value>) -> Result<(), Fault> {
    let wrong = |error: &dyn std::fmt::Display| Fault {
        field: pointer.to_owned(),
        message: format!("cannot be patched: {error}"),
    };
    let patch: json_patch::Patch =
        serde_json::from_value(operations.into()).map_err(|error| wrong(&error))?;
    let template = value.pointer_mut(pointer).ok_or_else(|| wrong(&"it is not there"))?;
    json_patch::patch(template, &patch).map_err(|error| wrong(&error))
}

#[cfg(test)]
mod tests {
    use injector::Resources;
    use serde_json::json;

    use super::*;

    fn settings() -> Settings {
        Settings {
            proxy_image: "proxy".into(),
            init_image: "init".into(),
            control_plane: "control:15010".into(),
            trust_bundle: String::new(),
            trust_domain: "example.org".parse().unwrap(),
            cluster_domain: "cluster.local".into(),
            token_audience: "pillion.dev".into(),
            version: "1".into(),
            resources: Resources::standard(),
        }
    }

    fn object(api_version: &str, kind: &str, pointer: &str, pod: &Value) -> Value {
        let mut value = pod.clone();
        for step in pointer.rsplit('/').filter(|step| !step.is_empty()) {
            value = json!({ step: value });
        }
        value["apiVersion"] = api_version.into();
        value["kind"] = kind.into();
        value["metadata"]["name"] = "a".into();
        value
    }

    #[test]
    fn every_kind_that_makes_pods_is_injected_where_its_template_is() {
        let pod = json!({"metadata": {}, "spec": {"containers": [{"name": "a"}]}});
        let cases = [
            ("v1", "Pod", ""),
            ("apps/v1", "Deployment", "/spec/template"),
            ("apps/v1", "StatefulSet", "/spec/template"),
            ("apps/v1", "DaemonSet", "/spec/template"),
            ("apps/v1", "ReplicaSet", "/spec/template"),
            ("v1", "ReplicationController", "/spec/template"),
            ("batch/v1", "Job", "/spec/template"),
            ("batch/v1", "CronJob", "/spec/jobTemplate/spec/template"),
        ];
        for (api_version, kind, pointer) in cases {
            let mut value = object(api_version, kind, pointer, &pod);
            let list = json!({"apiVersion": "v1", "kind": "List", "items": [value.clone(), value]});
            let expected = (format!("{kind} a"), Change::Injected(vec![]));
            assert_eq!(inject(&mut value, &settings()), [expected]);
            let injected = value.pointer(pointer).unwrap();
            assert_eq!(injected["spec"]["initContainers"][0]["name"], "pillion-init", "{kind}");
            assert_eq!(injected["metadata"]["annotations"]["pillion.dev/sidecar"], "enabled");
            let mut list = list;
            assert_eq!(inject(&mut list, &settings()).len(), 2);
            assert_eq!(list["items"][1], value);
        }
    }

    #[test]
    fn what_makes_no_pods_is_no_concern() {
        let pod = json!({"spec": {"containers": [{"name": "a"}]}});
        let others = [
            object("v1", "Service", "", &pod),
            object("example.org/v1", "Deployment", "/spec/template", &pod),
            json!({"kind": "List", "items": {}}),
            json!([1]),
            Value::Null,
        ];
        for mut value in others {
            let before = value.clone();
            assert_eq!(inject(&mut value, &settings()), []);
            assert_eq!(value, before);
        }
    }

    #[test]
    fn a_fault_is_told_by_its_path_from_the_objects_root() {
        let pod = json!({"spec": {"containers": [{"name": 7}]}});
        let mut value = object("batch/v1", "CronJob", "/spec/jobTemplate/spec/template", &pod);
        let [(_, Change::Refused(faults))] = &inject(&mut value, &settings())[..] else { panic!() };
        assert!(faults[0].field.starts_with("spec.jobTemplate.spec.template.spec.containers"));
        let mut nothing = json!({"apiVersion": "apps/v1", "kind": "Deployment"});
        let [(name, Change::Refused(faults))] = &inject(&mut nothing, &settings())[..] else {
            panic!()
        };
        assert_eq!(name, "Deployment *");
        assert!(faults[0].field.starts_with("spec.template."), "{faults:?}");
    }
}
