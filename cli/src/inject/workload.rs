//! Objects that make pods, and where in them the template of those pods is.

use injector::Fault;
use serde_json::Value;

/// What became of the pods of one object.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Change {
    /// They are changed: in a word how, and what their maker should know.
    Done(&'static str, Vec<String>),
    /// They stay as they are, for this.
    Skipped(String),
    /// They ask for what cannot be.
    Refused(Vec<Fault>),
}

/// What changes a Pod, or a template of pods.
pub(super) type Act<'a> = &'a dyn Fn(&mut Value) -> Change;

/// Changes the pods that `value` makes, or that the objects of the list `value` make. Gives each of
/// those objects, KIND NAMESPACE/NAME, with what became of it.
pub(super) fn each(value: &mut Value, act: Act<'_>) -> Vec<(String, Change)> {
    if is_list(value) {
        let items = value["items"].as_array_mut().into_iter().flatten();
        return items.flat_map(|item| each(item, act)).collect();
    }
    let Some(path) = template(value) else { return Vec::new() };
    let name = name(value);
    let pointer: String = path.iter().map(|step| format!("/{step}")).collect();
    let change = match value.pointer_mut(&pointer) {
        Some(template) => act(template),
        None => act(&mut Value::Null),
    };
    let prefix: String = path.iter().map(|step| format!("{step}.")).collect();
    let within = |fault: Fault| Fault { field: format!("{prefix}{}", fault.field), ..fault };
    let change = match change {
        Change::Refused(faults) => Change::Refused(faults.into_iter().map(within).collect()),
        other => other,
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

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn mark(template: &mut Value) -> Change {
        if !template.is_object() {
            return Change::Refused(vec![Fault { field: "spec".into(), message: "oh".into() }]);
        }
        template["mark"] = true.into();
        Change::Done("marked", vec![])
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
    fn the_template_of_every_kind_that_makes_pods_is_found() {
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
            let expected = (format!("{kind} a"), Change::Done("marked", vec![]));
            assert_eq!(each(&mut value, &mark), [expected]);
            assert_eq!(value.pointer(pointer).unwrap()["mark"], true, "{kind}");
            let mut list = list;
            assert_eq!(each(&mut list, &mark).len(), 2);
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
            assert_eq!(each(&mut value, &mark), []);
            assert_eq!(value, before);
        }
    }

    #[test]
    fn a_fault_is_told_by_its_path_from_the_objects_root() {
        let cases = [
            ("apps/v1", "Deployment", "spec.template.spec"),
            ("batch/v1", "CronJob", "spec.jobTemplate.spec.template.spec"),
        ];
        for (api_version, kind, field) in cases {
            let mut value = json!({"apiVersion": api_version, "kind": kind});
            let [(name, Change::Refused(faults))] = &each(&mut value, &mark)[..] else { panic!() };
            assert_eq!((name, faults[0].field.as_str()), (&format!("{kind} *"), field));
        }
    }
}
