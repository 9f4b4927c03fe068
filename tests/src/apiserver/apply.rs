//! Patches: JSON merge patch (RFC 7396), and server-side apply with an owner for every field.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::{Map, Value, json};

use super::failure::Failure;

/// Where the owners of fields are kept: not as Kubernetes encodes them, which nobody reads here.
const OWNERS: &str = "pillion.test/owners";

/// Lists that are merged by the value of a field; all other lists are one value.
const KEYED: [(&str, &str); 3] =
    [("webhooks", "name"), ("conditions", "type"), ("containers", "name")];

/// A field's path: names, and `[key=value]` for an entry of a keyed list.
type Path = Vec<String>;

/// Merges as RFC 7396 says: null takes a field away, anything but an object replaces.
pub(super) fn merge(target: &mut Value, patch: &Value) {
    let Value::Object(patch) = patch else {
        *target = patch.clone();
        return;
    };
    if !target.is_object() {
        *target = json!({});
    }
    let Value::Object(fields) = target else { return };
    for (name, value) in patch {
        if value.is_null() {
            fields.remove(name);
        } else {
            merge(fields.entry(name.clone()).or_insert(Value::Null), value);
        }
    }
}

/// Applies what `manager` wants to be so: what it wanted before and no longer does goes, and what
/// another manager owns with another value is a conflict, unless it is forced.
///
/// # Errors
/// 409 with every field that somebody else owns.
pub(super) fn apply(
    before: Option<&Value>,
    wanted: &Value,
    manager: &str,
    force: bool,
) -> Result<Value, Failure> {
    let mut object = before.cloned().unwrap_or_else(|| json!({"metadata": {}}));
    let mut owners = read_owners(&object);
    let mut fields = BTreeMap::new();
    leaves(wanted, &mut Vec::new(), &mut fields);
    fields.retain(|path, _| !is_identity(path));
    let conflicts: Vec<String> = fields
        .iter()
        .filter(|(path, value)| find(&object, path).is_some_and(|now| now != **value))
        .filter_map(|(path, _)| {
            let owns =
                |(who, paths): &(&String, &BTreeSet<Path>)| *who != manager && paths.contains(path);
            let (owner, _) = owners.iter().find(owns)?;
            Some(format!("conflict with {owner:?}: .{}", path.join(".")))
        })
        .collect();
    if !conflicts.is_empty() && !force {
        let message =
            format!("Apply failed with {} conflicts: {}", conflicts.len(), conflicts.join(", "));
        return Err(Failure::conflict(message));
    }
    for path in owners.remove(manager).unwrap_or_default() {
        let shared = owners.values().any(|paths| paths.contains(&path));
        if !fields.contains_key(&path) && !shared {
            remove(&mut object, &path);
        }
    }
    for paths in owners.values_mut() {
        paths.retain(|path| {
            fields.get(path).is_none_or(|value| find(&object, path) == Some(*value))
        });
    }
    for (path, value) in &fields {
        set(&mut object, path, (*value).clone());
    }
    owners.insert(manager.into(), fields.into_keys().collect());
    object["metadata"]["annotations"][OWNERS] = json!(serde_json::to_string(&owners).unwrap());
    Ok(object)
}

/// The object as clients see it: the owners become managedFields with their managers' names.
pub(super) fn shown(object: &Value) -> Value {
    let mut shown = object.clone();
    let managers: Vec<Value> = read_owners(object)
        .into_keys()
        .map(|manager| json!({"manager": manager, "operation": "Apply"}))
        .collect();
    if let Some(annotations) =
        shown["metadata"].get_mut("annotations").and_then(Value::as_object_mut)
    {
        annotations.remove(OWNERS);
        if annotations.is_empty() {
            shown["metadata"].as_object_mut().unwrap().remove("annotations");
        }
    }
    if !managers.is_empty() {
        shown["metadata"]["managedFields"] = json!(managers);
    }
    shown
}

fn read_owners(object: &Value) -> BTreeMap<String, BTreeSet<Path>> {
    let text = object["metadata"]["annotations"][OWNERS].as_str();
    text.map(|text| serde_json::from_str(text).unwrap()).unwrap_or_default()
}

/// What names the object is nobody's field.
fn is_identity(path: &[String]) -> bool {
    match path.first().map(String::as_str) {
        Some("apiVersion" | "kind") => true,
        Some("metadata") => {
            matches!(
                path.get(1).map(String::as_str),
                Some("name" | "namespace" | "uid" | "resourceVersion")
            )
        }
        _ => false,
    }
}

fn leaves<'v>(value: &'v Value, at: &mut Path, into: &mut BTreeMap<Path, &'v Value>) {
    let keyed = keyed_by(at);
    match value {
        Value::Object(fields) if !fields.is_empty() => {
            for (name, value) in fields {
                at.push(name.clone());
                leaves(value, at, into);
                at.pop();
            }
        }
        Value::Array(items) if keyed.is_some() && !items.is_empty() => {
            let key = keyed.unwrap_or_default();
            for item in items {
                at.push(format!("[{key}={}]", item[key].as_str().unwrap_or_default()));
                leaves(item, at, into);
                at.pop();
            }
        }
        leaf => {
            into.insert(at.clone(), leaf);
        }
    }
}

fn keyed_by(path: &[String]) -> Option<&'static str> {
    let last = path.last()?;
    KEYED.iter().find(|(list, _)| list == last).map(|(_, key)| *key)
}

/// The key and the value of a step `[key=value]`.
fn entry(step: &str) -> Option<(&str, &str)> {
    step.strip_prefix('[')?.strip_suffix(']')?.split_once('=')
}

fn find<'v>(object: &'v Value, path: &[String]) -> Option<&'v Value> {
    path.iter().try_fold(object, |value, step| match entry(step) {
        Some((key, name)) => value.as_array()?.iter().find(|item| item[key] == name),
        None => value.get(step),
    })
}

fn set(object: &mut Value, path: &[String], value: Value) {
    let Some((step, rest)) = path.split_first() else {
        *object = value;
        return;
    };
    match entry(step) {
        Some((key, name)) => {
            if !object.is_array() {
                *object = json!([]);
            }
            let items = object.as_array_mut().unwrap();
            let at = items.iter().position(|item| item[key] == name).unwrap_or_else(|| {
                items.push(json!({key: name}));
                items.len() - 1
            });
            set(&mut items[at], rest, value);
        }
        None => {
            if !object.is_object() {
                *object = Value::Object(Map::new());
            }
            set(&mut object[step.as_str()], rest, value);
        }
    }
}

fn remove(object: &mut Value, path: &[String]) {
    let Some((last, parents)) = path.split_last() else { return };
    let parent = parents.iter().try_fold(object, |value, step| match entry(step) {
        Some((key, name)) => value.as_array_mut()?.iter_mut().find(|item| item[key] == name),
        None => value.get_mut(step),
    });
    if let Some(fields) = parent.and_then(Value::as_object_mut) {
        fields.remove(last);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_merge_patch_takes_away_what_is_null() {
        let mut object = json!({"a": {"b": 1, "c": 2}, "d": [1, 2]});
        merge(&mut object, &json!({"a": {"b": null, "e": 3}, "d": [3]}));
        assert_eq!(object, json!({"a": {"c": 2, "e": 3}, "d": [3]}));
    }

    #[test]
    fn what_another_manager_owns_is_a_conflict_unless_it_is_forced() {
        let first = apply(None, &json!({"spec": {"holder": "a", "x": 1}}), "a", false).unwrap();
        let wanted = json!({"spec": {"holder": "b"}});
        let refused = apply(Some(&first), &wanted, "b", false).unwrap_err();
        assert!(refused.message.contains("conflict with \"a\": .spec.holder"), "{refused:?}");
        let forced = apply(Some(&first), &wanted, "b", true).unwrap();
        assert_eq!(forced["spec"], json!({"holder": "b", "x": 1}));
        // The loser's next word, without force, is the conflict now.
        assert!(apply(Some(&forced), &json!({"spec": {"holder": "a"}}), "a", false).is_err());
    }

    #[test]
    fn what_a_manager_no_longer_wants_goes() {
        let first = apply(None, &json!({"spec": {"x": 1, "y": 2}}), "a", false).unwrap();
        let second = apply(Some(&first), &json!({"spec": {"x": 1}}), "a", false).unwrap();
        assert_eq!(second["spec"], json!({"x": 1}));
    }

    #[test]
    fn entries_of_keyed_lists_are_owned_one_by_one() {
        let by = |name: &str, bundle: &str| json!({"webhooks": [{"name": name, "clientConfig": {"caBundle": bundle}}]});
        let first = apply(None, &by("one", "x"), "a", false).unwrap();
        let second = apply(Some(&first), &by("two", "y"), "b", false).unwrap();
        assert_eq!(second["webhooks"].as_array().unwrap().len(), 2);
        assert_eq!(second["webhooks"][0]["clientConfig"]["caBundle"], "x");
        assert_eq!(shown(&second)["metadata"]["managedFields"][1]["manager"], "b");
    }
}
