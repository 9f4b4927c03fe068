//! One object as an API server gives it.

use serde_json::Value;

use crate::object::{self, Known, Parsed};
use crate::problem::{Cause, Fault, Instance, Origin};

/// What tells an object of a kind from the others: its namespace (empty for none) and its name.
pub(super) type Id = (String, String);

/// An object that was read.
#[derive(Debug)]
pub(super) struct Read {
    pub(super) id: Id,
    pub(super) origin: Origin,
    pub(super) parsed: Parsed,
}

/// Where objects of an API server are written, in problems.
pub(super) fn origin() -> Origin {
    Origin::of_file("kubernetes", 0)
}

/// The same of one object.
fn origin_of(value: &Value) -> Origin {
    let metadata = &value["metadata"];
    let instance = metadata["uid"].as_str().map(|uid| Instance {
        uid: uid.into(),
        generation: metadata["generation"].as_i64().unwrap_or(0),
    });
    Origin { instance, ..origin() }
}

/// The object's namespace and name.
pub(super) fn id(value: &Value) -> Id {
    let text = |field: &str| value["metadata"][field].as_str().unwrap_or_default().to_owned();
    (text("namespace"), text("name"))
}

/// Reads an object of this kind. A field that is unknown here is no reason to refuse it: the
/// server, which checked it, may be newer. It is left out, with the match of a route that it stands
/// in: without it that would match more than is meant.
pub(super) fn read(mut value: Value, kind: Known) -> Read {
    let (id, origin) = (id(&value), origin_of(&value));
    complete(&mut value, kind);
    let mut unread = Vec::new();
    loop {
        let parsed = object::parse_without(&value, &origin, &unread);
        let Parsed::Refused(_, faults) = &parsed else {
            return Read { id, origin, parsed: with(parsed, unread, kind) };
        };
        let unknown: Vec<&Fault> =
            faults.iter().filter(|fault| fault.cause == Cause::UnknownField).collect();
        let removed = unknown.iter().filter(|fault| remove(&mut value, &fault.field)).count();
        if unknown.is_empty() || removed < unknown.len() {
            return Read { id, origin, parsed };
        }
        unread.extend(unknown.into_iter().map(|fault| fault.field.clone()));
    }
}

/// Items of lists do not say what they are, and metadata alone says that it is only that. Who
/// wrote which field is of no interest, and long.
fn complete(value: &mut Value, kind: Known) {
    let Some(fields) = value.as_object_mut() else { return };
    let partial = fields.get("kind").and_then(Value::as_str) == Some("PartialObjectMetadata");
    if partial || !fields.contains_key("kind") {
        fields.insert("kind".into(), kind.as_str().into());
        fields.insert("apiVersion".into(), kind.api_versions()[0].into());
    }
    if let Some(metadata) = fields.get_mut("metadata").and_then(Value::as_object_mut) {
        metadata.remove("managedFields");
    }
}

/// Says of a route that parts of it are not read; of Kubernetes' own kinds nobody wants to know.
fn with(parsed: Parsed, unread: Vec<String>, kind: Known) -> Parsed {
    match parsed {
        Parsed::Good(entry, mut warnings) if kind.is_optional() => {
            let fault = |field: String| {
                let is_of_match = field.contains("].matches[");
                let so = if is_of_match { ": the match it stands in is left out" } else { "" };
                let message = format!("this version of Pillion does not read it{so}");
                Fault::new(Cause::Unsupported, field, message)
            };
            warnings.extend(unread.into_iter().map(fault));
            Parsed::Good(entry, warnings)
        }
        other => other,
    }
}

/// Takes the field of a path such as `spec.rules[0].matches[1].path` out of an object.
fn remove(value: &mut Value, path: &str) -> bool {
    let (parents, last) = path.rsplit_once('.').unwrap_or(("", path));
    let mut parent = value;
    for step in parents.split('.').filter(|step| !step.is_empty()) {
        let (name, indices) = step.split_once('[').unwrap_or((step, ""));
        let Some(mut next) = parent.get_mut(name) else { return false };
        for index in indices.split('[').filter(|index| !index.is_empty()) {
            let index = index.trim_end_matches(']').parse::<usize>();
            let Some(item) = index.ok().and_then(|index| next.get_mut(index)) else { return false };
            next = item;
        }
        parent = next;
    }
    parent.as_object_mut().is_some_and(|fields| fields.remove(last).is_some())
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::object::{Meant, Object};

    fn good(value: Value, kind: Known) -> (Object, Vec<String>) {
        match read(value, kind).parsed {
            Parsed::Good(entry, warnings) => {
                (entry.object, warnings.into_iter().map(|fault| fault.field).collect())
            }
            other => panic!("must be good: {other:?}"),
        }
    }

    #[test]
    fn fields_of_a_newer_server_are_left_out() {
        let ports = json!([{"port": 80, "name": "a"}, {"port": 81, "name": "b", "news": {}}]);
        let service = json!({"metadata": {"name": "a", "namespace": "shop", "managedFields": [{}]},
            "spec": {"news": 1, "ports": ports}});
        let (object, warnings) = good(service, Known::Service);
        let Object::Service(service) = object else { panic!("{object:?}") };
        assert_eq!(service.ports.len(), 2);
        assert_eq!(warnings, [""; 0]);
    }

    #[test]
    fn what_is_not_read_of_a_route_is_said() {
        let route = json!({"apiVersion": "gateway.networking.k8s.io/v1", "kind": "HTTPRoute",
            "metadata": {"name": "r", "namespace": "shop"},
            "spec": {"parentRefs": [{"group": "", "kind": "Service", "name": "a"}],
                     "rules": [{"news": 1, "backendRefs": [{"name": "a", "port": 80}]}]}});
        let (_, warnings) = good(route, Known::HttpRoute);
        assert_eq!(warnings, ["spec.rules[0].news"]);
    }

    #[test]
    fn a_match_that_is_not_read_in_full_is_left_out_with_its_rule_if_that_has_no_other() {
        let matches = |matches: Value| json!({"matches": matches});
        let rules = [
            matches(json!([{"news": 1}, {"method": "GET"}])),
            matches(json!([{"path": {"value": "/a", "news": 1}}])),
            matches(json!([{"headers": [{"name": "a", "value": "b", "news": 1}]}, {"news": 1}])),
            matches(json!([{}])),
        ];
        let route = json!({"apiVersion": "gateway.networking.k8s.io/v1", "kind": "HTTPRoute",
            "metadata": {"name": "r", "namespace": "shop"},
            "spec": {"parentRefs": [{"group": "", "kind": "Service", "name": "a"}],
                     "rules": rules}});
        let (object, warnings) = good(route, Known::HttpRoute);
        let Object::Route(route) = object else { panic!("{object:?}") };
        let left = route.rules.iter().map(|rule| (rule.field.as_str(), rule.matches.len()));
        assert_eq!(Vec::from_iter(left), [("spec.rules[0]", 1), ("spec.rules[3]", 1)]);
        assert_eq!(warnings.len(), 4, "{warnings:?}");
    }

    #[test]
    fn metadata_alone_is_an_object_of_its_kind() {
        let account = json!({"apiVersion": "meta.k8s.io/v1", "kind": "PartialObjectMetadata",
            "metadata": {"name": "api", "namespace": "shop"}});
        assert_eq!(good(account, Known::ServiceAccount).0, Object::Plain);
    }

    #[test]
    fn a_bad_value_is_refused_all_the_same() {
        let service =
            json!({"metadata": {"name": "a"}, "spec": {"news": 1, "ports": [{"port": 0}]}});
        assert!(matches!(read(service, Known::Service).parsed, Parsed::Refused(Meant::One(_), _)));
    }
}
