//! The objects, every change of them, and the one resource version that counts the changes.

use std::collections::BTreeMap;
use std::ops::Bound;

use serde_json::{Value, json};

use super::failure::Failure;
use super::resource::Resource;

/// What tells one object from all others: resource, namespace (empty for none) and name.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Id {
    pub(super) resource: Resource,
    pub(super) namespace: String,
    pub(super) name: String,
}

/// What happened to an object.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Act {
    Added,
    Modified,
    Deleted,
}

/// One change.
#[derive(Debug, Clone)]
pub(super) struct Change {
    pub(super) version: u64,
    pub(super) act: Act,
    pub(super) id: Id,
    pub(super) object: Value,
}

/// All objects of the server.
#[derive(Debug)]
pub(super) struct Store {
    version: u64,
    /// Changes up to this version are forgotten: who wants them gets 410.
    compacted: u64,
    objects: BTreeMap<Id, Value>,
    history: Vec<Change>,
}

/// Numbers from which uids are made: never 0, never the same.
const FIRST_VERSION: u64 = 1000;

impl Store {
    pub(super) fn new() -> Self {
        let (objects, history) = (BTreeMap::new(), Vec::new());
        Self { version: FIRST_VERSION, compacted: FIRST_VERSION, objects, history }
    }

    /// The newest version.
    pub(super) fn version(&self) -> u64 {
        self.version
    }

    /// Forgets every change until now.
    pub(super) fn compact(&mut self) {
        self.compacted = self.version;
        self.history.clear();
    }

    pub(super) fn get(&self, id: &Id) -> Option<&Value> {
        self.objects.get(id)
    }

    /// The objects of a resource, of one namespace or of all, in order, after the given one.
    pub(super) fn list<'s>(
        &'s self,
        resource: &'s Resource,
        namespace: Option<&'s str>,
        after: Option<&Id>,
    ) -> impl Iterator<Item = (&'s Id, &'s Value)> {
        let first = || Id {
            resource: resource.clone(),
            namespace: namespace.unwrap_or_default().into(),
            name: String::new(),
        };
        let start =
            after.map_or_else(|| Bound::Included(first()), |id| Bound::Excluded(id.clone()));
        self.objects
            .range((start, Bound::Unbounded))
            .take_while(|(id, _)| id.resource == *resource)
            .filter(move |(id, _)| namespace.is_none_or(|namespace| id.namespace == namespace))
    }

    /// The changes after a version.
    ///
    /// # Errors
    /// 410 when some of them are forgotten.
    pub(super) fn since(&self, version: u64) -> Result<&[Change], Failure> {
        if version < self.compacted {
            return Err(Failure::expired(version, self.compacted));
        }
        let first = self.history.partition_point(|change| change.version <= version);
        Ok(&self.history[first..])
    }

    /// Puts an object in place, new or changed, and gives it as it is kept.
    pub(super) fn put(&mut self, id: Id, mut object: Value) -> Value {
        let before = self.objects.get(&id);
        let act = if before.is_some() { Act::Modified } else { Act::Added };
        if before.is_some_and(|before| same(before, &object)) {
            return before.cloned().unwrap_or_default();
        }
        self.version += 1;
        complete(&mut object, &id, before, self.version);
        self.objects.insert(id.clone(), object.clone());
        self.remember(act, id, object.clone());
        object
    }

    /// Takes an object away, and gives it as it was with the version of its end.
    pub(super) fn remove(&mut self, id: &Id) -> Option<Value> {
        let mut object = self.objects.remove(id)?;
        self.version += 1;
        object["metadata"]["resourceVersion"] = json!(self.version.to_string());
        self.remember(Act::Deleted, id.clone(), object.clone());
        Some(object)
    }

    fn remember(&mut self, act: Act, id: Id, object: Value) {
        self.history.push(Change { version: self.version, act, id, object });
    }
}

/// Whether a write changes nothing: then a real server keeps the version too.
fn same(before: &Value, object: &Value) -> bool {
    let bare = |value: &Value| {
        let mut value = value.clone();
        if let Some(metadata) = value["metadata"].as_object_mut() {
            for field in ["resourceVersion", "generation", "uid", "creationTimestamp"] {
                metadata.remove(field);
            }
        }
        value
    };
    bare(before) == bare(object)
}

/// Fills in what the server itself writes. The generation counts changes of anything but metadata
/// and status.
fn complete(object: &mut Value, id: &Id, before: Option<&Value>, version: u64) {
    object["apiVersion"] = json!(id.resource.api_version());
    object["kind"] = json!(id.resource.kind);
    let of_before = |field: &str| before.map(|before| before["metadata"][field].clone());
    let uid = of_before("uid").unwrap_or_else(|| json!(uid(version)));
    let created = object["metadata"]["creationTimestamp"].clone();
    let created = of_before("creationTimestamp").unwrap_or_else(|| match created {
        Value::Null => json!("2026-01-01T00:00:00Z"),
        written => written,
    });
    let generation = of_before("generation").and_then(|value| value.as_u64()).unwrap_or(0);
    let respelled = before.is_none_or(|before| spec(before) != spec(object));
    let metadata = &mut object["metadata"];
    metadata["name"] = json!(id.name);
    if !id.namespace.is_empty() {
        metadata["namespace"] = json!(id.namespace);
    }
    metadata["uid"] = uid;
    metadata["creationTimestamp"] = created;
    metadata["generation"] = json!(generation + u64::from(respelled));
    metadata["resourceVersion"] = json!(version.to_string());
}

fn spec(object: &Value) -> Value {
    let mut object = object.clone();
    if let Some(fields) = object.as_object_mut() {
        fields.remove("metadata");
        fields.remove("status");
        fields.remove("apiVersion");
        fields.remove("kind");
    }
    object
}

fn uid(version: u64) -> String {
    format!("00000000-0000-4000-8000-{version:012}")
}
