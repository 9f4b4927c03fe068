//! Kubernetes objects as the mesh reads them: parsed once at the edge into small types that hold
//! only what the mesh uses, with every fault named by its field.

pub mod age;
mod appprotocol;
pub mod inbound_policy;
mod kinds;
mod meta;
pub mod pod;
pub mod route;
pub mod service;
pub mod slice;
mod strict;

use std::fmt;

use model::name::Label;
use serde::Serialize;
use serde_json::Value;

use crate::problem::{Cause, Fault, Origin};
pub(crate) use kinds::Known;
use kinds::Standing;

/// What tells one object from all others.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize)]
pub struct Key {
    /// The kind, as objects write it.
    pub kind: &'static str,
    /// The namespace; `None` for what belongs to the whole cluster.
    pub namespace: Option<Label>,
    /// The name.
    pub name: String,
}

/// An object that the mesh reads.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Object {
    /// A Service.
    Service(service::Service),
    /// An EndpointSlice.
    Slice(slice::Slice),
    /// A Pod.
    Pod(pod::Pod),
    /// An HTTPRoute or a GRPCRoute.
    Route(route::Route),
    /// An InboundPolicy.
    Policy(inbound_policy::Policy),
    /// A Namespace or ServiceAccount: checked, and without effect so far.
    Plain,
}

/// What became of one document.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Parsed {
    /// A good object. The faults are warnings and notes.
    Good(Box<Entry>, Vec<Fault>),
    /// An object that is refused for the faults.
    Refused(Meant, Vec<Fault>),
    /// An ordinary Kubernetes object that is none of the mesh's business.
    Ignored,
}

/// Which objects a document that is refused may mean: what they said last stays.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Meant {
    /// This one.
    One(Key),
    /// Any of this name: its kind cannot be told.
    Named(Label, String),
    /// Any: nothing can be told.
    Anything,
    /// None of the mesh's: it is known for something else.
    Nothing,
}

/// An object with its key and where it was written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    /// Its key.
    pub key: Key,
    /// Where it was written.
    pub origin: Origin,
    /// What it says.
    pub object: Object,
}

impl Key {
    /// The key for tests.
    #[cfg(test)]
    pub(crate) fn sample(kind: &'static str, namespace: &str, name: &str) -> Self {
        Self { kind, namespace: namespace.parse().ok(), name: name.into() }
    }
}

impl fmt::Display for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.namespace {
            Some(namespace) => write!(f, "{} {namespace}/{}", self.kind, self.name),
            None => write!(f, "{} {}", self.kind, self.name),
        }
    }
}

impl Meant {
    /// The object, where it is one.
    pub fn key(&self) -> Option<&Key> {
        match self {
            Self::One(key) => Some(key),
            _ => None,
        }
    }

    /// Whether this object may be meant. What belongs to the whole cluster has no namespace.
    pub(crate) fn covers(&self, key: &Key) -> bool {
        match self {
            Self::One(one) => one == key,
            Self::Named(namespace, name) => {
                key.name == *name && key.namespace.as_ref().is_none_or(|own| own == namespace)
            }
            Self::Anything => true,
            Self::Nothing => false,
        }
    }
}

/// Parses one object that was written at `origin`.
pub fn parse(value: &Value, origin: &Origin) -> Parsed {
    parse_without(value, origin, &[])
}

/// The same of an object that these fields, unknown here, have been taken out of.
pub(crate) fn parse_without(value: &Value, origin: &Origin, unread: &[String]) -> Parsed {
    let known = match kinds::classify(value) {
        Ok(Standing::Read(known)) => known,
        Ok(Standing::Foreign) => return Parsed::Ignored,
        Ok(Standing::Unread(fault)) => return Parsed::Refused(Meant::Nothing, vec![fault]),
        Err(fault) => return Parsed::Refused(meta::meant(value), vec![fault]),
    };
    let key = match meta::key(value, known) {
        Ok(key) => key,
        Err(faults) => return Parsed::Refused(Meant::Anything, faults),
    };
    match parse_known(value, known, unread) {
        Ok((object, warnings)) => {
            let entry = Entry { key, origin: origin.clone(), object };
            Parsed::Good(Box::new(entry), warnings)
        }
        Err(faults) => Parsed::Refused(Meant::One(key), faults),
    }
}

/// A good object with its warnings, or the faults that it is refused for.
type Outcome<T> = Result<(T, Vec<Fault>), Vec<Fault>>;

fn parse_known(value: &Value, known: Known, unread: &[String]) -> Outcome<Object> {
    fn as_object<T>(outcome: Outcome<T>, wrap: fn(T) -> Object) -> Outcome<Object> {
        outcome.map(|(object, warnings)| (wrap(object), warnings))
    }
    match known {
        Known::Service => as_object(service::parse(value), Object::Service),
        Known::EndpointSlice => as_object(slice::parse(value), Object::Slice),
        Known::Pod => as_object(pod::parse(value), Object::Pod),
        Known::HttpRoute => as_object(route::parse_http(value, unread), Object::Route),
        Known::GrpcRoute => as_object(route::parse_grpc(value, unread), Object::Route),
        Known::InboundPolicy => as_object(inbound_policy::parse(value), Object::Policy),
        Known::Namespace | Known::ServiceAccount => meta::check_plain(value, known),
    }
}

/// The candidate most like `word`, if any is near enough to be a slip of the pen.
pub(crate) fn nearest<'a>(
    word: &str,
    candidates: impl Iterator<Item = &'a str>,
) -> Option<&'a str> {
    let word = word.to_ascii_lowercase();
    candidates
        .map(|near| (strsim::jaro_winkler(&word, &near.to_ascii_lowercase()), near))
        .filter(|(likeness, _)| *likeness > 0.85)
        .max_by(|a, b| a.0.total_cmp(&b.0))
        .map(|(_, candidate)| candidate)
}

/// A TCP port of an object, 1 to 65535.
fn port(number: i64, field: impl FnOnce() -> String) -> Result<u16, Fault> {
    let port = u16::try_from(number).ok().filter(|port| *port != 0);
    port.ok_or_else(|| Fault::invalid(field(), format!("{number} is no port (1 to 65535)")))
}

/// The name of a namespace or Service.
fn label(text: &str, field: impl FnOnce() -> String) -> Result<Label, Fault> {
    text.parse().map_err(|error| Fault::invalid(field(), format!("{error}")))
}

/// A fault that leaves the object in force without what `field` asks for.
fn unsupported(field: impl Into<String>, message: impl Into<String>) -> Fault {
    Fault::new(Cause::Unsupported, field, message)
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    pub(crate) fn yaml(text: &str) -> Value {
        serde_norway::from_str(text).unwrap()
    }

    pub(crate) fn origin() -> Origin {
        Origin::of_file("test.yaml", 1)
    }

    /// The object of a YAML text that must be good, and its warnings as text.
    pub(crate) fn good(text: &str) -> (Object, Vec<String>) {
        match parse(&yaml(text), &origin()) {
            Parsed::Good(entry, warnings) => (entry.object, texts(warnings)),
            other => panic!("must be good: {other:?}"),
        }
    }

    /// The faults of a YAML text that must be refused, as `field: message`.
    pub(crate) fn refused(text: &str) -> Vec<String> {
        match parse(&yaml(text), &origin()) {
            Parsed::Refused(_, faults) => texts(faults),
            other => panic!("must be refused: {other:?}"),
        }
    }

    fn texts(faults: Vec<Fault>) -> Vec<String> {
        faults.into_iter().map(|fault| format!("{}: {}", fault.field, fault.message)).collect()
    }

    #[test]
    fn a_key_reads_as_people_write_it() {
        assert_eq!(Key::sample("Service", "shop", "api").to_string(), "Service shop/api");
        let key = Key { kind: "Namespace", namespace: None, name: "shop".into() };
        assert_eq!(key.to_string(), "Namespace shop");
    }

    #[test]
    fn plain_objects_are_checked_and_foreign_ones_left_alone() {
        let text = "{apiVersion: v1, kind: ServiceAccount, metadata: {name: api}}";
        assert_eq!(good(text).0, Object::Plain);
        let text = "{apiVersion: v1, kind: ServiceAccount, metadata: {name: api}, secret: x}";
        assert_eq!(refused(text), ["secret: unknown field; did you mean \"secrets\"?"]);
        let text = "{apiVersion: apps/v1, kind: Deployment, metadata: {name: api}, spec: 7}";
        assert_eq!(parse(&yaml(text), &origin()), Parsed::Ignored);
    }
}
