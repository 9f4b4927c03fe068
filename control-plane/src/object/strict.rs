//! Reading a JSON value into a typed object, strictly: a value that does not fit is named by its
//! field's path, and a field that the type does not have is reported with the nearest that it has.
//!
//! serde tells a deserializer the fields of each struct it reads (also those that k8s-openapi
//! generated), and that is all it takes: one walk over the value that knows where it is.

use std::cell::RefCell;
use std::fmt;

use serde::de::value::StrDeserializer;
use serde::de::{
    Deserialize, DeserializeSeed, Deserializer, IntoDeserializer, MapAccess, SeqAccess, Visitor,
};
use serde::forward_to_deserialize_any;
use serde_json::{Map, Value};

use crate::object::nearest;
use crate::problem::{Cause, Fault};

/// Reads `value`, whose own path is `at` (empty for a whole object).
///
/// # Errors
/// Every field that the type does not have, and the first value that does not fit.
pub(crate) fn read<'de, T: Deserialize<'de>>(value: &'de Value, at: &str) -> Result<T, Vec<Fault>> {
    let unknown = RefCell::new(Vec::new());
    let root = Path::Root(at);
    let result = T::deserialize(Node { value, path: &root, unknown: &unknown });
    let mut faults = unknown.into_inner();
    match result {
        Ok(object) if faults.is_empty() => Ok(object),
        Ok(_) => Err(faults),
        Err(error) => {
            faults.push(Fault::invalid(error.field.unwrap_or_default(), error.message));
            Err(faults)
        }
    }
}

/// Where the walk is. Lives on the stack, one link a level, and becomes text only for a fault.
enum Path<'p> {
    Root(&'p str),
    Field(&'p Self, &'p str),
    Index(&'p Self, usize),
}

impl fmt::Display for Path<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Root(at) => f.write_str(at),
            Self::Field(Path::Root(""), name) => f.write_str(name),
            Self::Field(parent, name) => write!(f, "{parent}.{name}"),
            Self::Index(parent, index) => write!(f, "{parent}[{index}]"),
        }
    }
}

#[derive(Debug)]
struct Error {
    field: Option<String>,
    message: String,
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

impl std::error::Error for Error {}

impl serde::de::Error for Error {
    fn custom<T: fmt::Display>(message: T) -> Self {
        Self { field: None, message: message.to_string() }
    }
}

/// One value on the walk.
struct Node<'de, 'w> {
    value: &'de Value,
    path: &'w Path<'w>,
    unknown: &'w RefCell<Vec<Fault>>,
}

impl<'de> Node<'de, '_> {
    /// Puts the path into an error that has none yet: the innermost value is where it happened.
    fn located<T>(&self, result: Result<T, Error>) -> Result<T, Error> {
        result.map_err(|error| Error {
            field: error.field.or_else(|| Some(self.path.to_string())),
            message: error.message,
        })
    }

    fn visit<V: Visitor<'de>>(
        &self,
        known: Option<&'static [&'static str]>,
        visitor: V,
    ) -> Result<V::Value, Error> {
        match self.value {
            Value::Null => visitor.visit_unit(),
            Value::Bool(value) => visitor.visit_bool(*value),
            Value::Number(number) => match (number.as_u64(), number.as_i64()) {
                (Some(number), _) => visitor.visit_u64(number),
                (None, Some(number)) => visitor.visit_i64(number),
                (None, None) => visitor.visit_f64(number.as_f64().unwrap_or(f64::NAN)),
            },
            Value::String(text) => visitor.visit_borrowed_str(text),
            Value::Array(items) => visitor.visit_seq(Items { items, next: 0, parent: self }),
            Value::Object(map) => visitor.visit_map(Fields::new(map, known, self)),
        }
    }
}

impl<'de> Deserializer<'de> for Node<'de, '_> {
    type Error = Error;

    fn deserialize_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        self.located(self.visit(None, visitor))
    }

    fn deserialize_struct<V: Visitor<'de>>(
        self,
        _name: &'static str,
        fields: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Error> {
        self.located(self.visit(Some(fields), visitor))
    }

    fn deserialize_option<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        match self.value {
            Value::Null => visitor.visit_none(),
            _ => visitor.visit_some(self),
        }
    }

    fn deserialize_newtype_struct<V: Visitor<'de>>(
        self,
        _name: &'static str,
        visitor: V,
    ) -> Result<V::Value, Error> {
        visitor.visit_newtype_struct(self)
    }

    /// Enums are words in Kubernetes objects.
    fn deserialize_enum<V: Visitor<'de>>(
        self,
        _name: &'static str,
        _variants: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Error> {
        match self.value {
            Value::String(text) => {
                let word: StrDeserializer<'_, Error> = text.as_str().into_deserializer();
                self.located(visitor.visit_enum(word))
            }
            _ => self.deserialize_any(visitor),
        }
    }

    fn deserialize_ignored_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        visitor.visit_unit()
    }

    forward_to_deserialize_any! {
        bool i8 i16 i32 i64 i128 u8 u16 u32 u64 u128 f32 f64 char str string bytes byte_buf
        unit unit_struct seq tuple tuple_struct map identifier
    }
}

struct Items<'de, 'w> {
    items: &'de [Value],
    next: usize,
    parent: &'w Node<'de, 'w>,
}

impl<'de> SeqAccess<'de> for Items<'de, '_> {
    type Error = Error;

    fn next_element_seed<T: DeserializeSeed<'de>>(
        &mut self,
        seed: T,
    ) -> Result<Option<T::Value>, Error> {
        let Some(value) = self.items.get(self.next) else { return Ok(None) };
        let path = Path::Index(self.parent.path, self.next);
        self.next += 1;
        seed.deserialize(Node { value, path: &path, unknown: self.parent.unknown }).map(Some)
    }
}

struct Fields<'de, 'w> {
    entries: serde_json::map::Iter<'de>,
    /// The entry whose key was given out last.
    current: Option<(&'de str, &'de Value)>,
    known: Option<&'static [&'static str]>,
    parent: &'w Node<'de, 'w>,
}

impl<'de, 'w> Fields<'de, 'w> {
    fn new(
        map: &'de Map<String, Value>,
        known: Option<&'static [&'static str]>,
        parent: &'w Node<'de, 'w>,
    ) -> Self {
        Self { entries: map.iter(), current: None, known, parent }
    }

    fn report(&self, key: &str, known: &[&str]) {
        let field = Path::Field(self.parent.path, key).to_string();
        let hint = nearest(key, known.iter().copied())
            .map_or_else(String::new, |near| format!("; did you mean {near:?}?"));
        let fault = Fault::new(Cause::UnknownField, field, format!("unknown field{hint}"));
        self.parent.unknown.borrow_mut().push(fault);
    }
}

impl<'de> MapAccess<'de> for Fields<'de, '_> {
    type Error = Error;

    fn next_key_seed<K: DeserializeSeed<'de>>(
        &mut self,
        seed: K,
    ) -> Result<Option<K::Value>, Error> {
        while let Some((key, value)) = self.entries.next() {
            match self.known {
                Some(known) if !known.contains(&key.as_str()) => self.report(key, known),
                _ => {
                    self.current = Some((key, value));
                    let key: StrDeserializer<'_, Error> = key.as_str().into_deserializer();
                    return seed.deserialize(key).map(Some);
                }
            }
        }
        Ok(None)
    }

    fn next_value_seed<V: DeserializeSeed<'de>>(&mut self, seed: V) -> Result<V::Value, Error> {
        let Some((key, value)) = self.current.take() else {
            return Err(serde::de::Error::custom("a value was asked for before its key"));
        };
        let path = Path::Field(self.parent.path, key);
        seed.deserialize(Node { value, path: &path, unknown: self.parent.unknown })
    }
}

#[cfg(test)]
mod tests {
    use k8s_openapi::api::core::v1::Service;
    use serde_json::json;

    use super::*;

    fn faults(value: &Value) -> Vec<String> {
        let faults = read::<Service>(value, "").unwrap_err();
        faults.into_iter().map(|fault| format!("{}: {}", fault.field, fault.message)).collect()
    }

    fn service(spec: Value) -> Value {
        json!({"apiVersion": "v1", "kind": "Service", "metadata": {"name": "a"}, "spec": spec})
    }

    #[test]
    fn a_good_object_is_read() {
        let value = service(json!({"ports": [{"port": 80, "targetPort": "http"}]}));
        let read: Service = read(&value, "").unwrap();
        assert_eq!(read.spec.unwrap().ports.unwrap()[0].port, 80);
    }

    #[test]
    fn an_unknown_field_is_named_with_its_neighbour() {
        let value = service(json!({"ports": [{"port": 80, "targetport": 8080}]}));
        assert_eq!(
            faults(&value),
            ["spec.ports[0].targetport: unknown field; did you mean \"targetPort\"?"]
        );
        let value = service(json!({"zzz": 1}));
        assert_eq!(faults(&value), ["spec.zzz: unknown field"]);
    }

    #[test]
    fn all_unknown_fields_are_reported_together() {
        let value = service(json!({"selctor": {}, "ports": [{"prot": 80, "port": 80}]}));
        assert_eq!(faults(&value).len(), 2);
    }

    #[test]
    fn a_value_of_another_type_is_named_by_its_path() {
        let value = service(json!({"ports": [{"port": 80}, {"port": "http"}]}));
        let faults = faults(&value);
        assert!(faults[0].starts_with("spec.ports[1].port: invalid type: string"), "{faults:?}");
    }

    #[test]
    fn labels_are_free() {
        let value = json!({
            "apiVersion": "v1", "kind": "Service",
            "metadata": {"name": "a", "labels": {"anything": "goes"}}
        });
        assert!(read::<Service>(&value, "").is_ok());
    }
}
