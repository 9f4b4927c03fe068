//! `metadata`: the key of an object, and objects of which nothing else counts.

use k8s_openapi::api::core::v1::{Namespace, ServiceAccount};
use model::name::Label;
use serde_json::Value;

use crate::object::kinds::Known;
use crate::object::{Key, Meant, Object, Outcome, label, strict};
use crate::problem::Fault;

/// The namespace of an object that names none.
const DEFAULT_NAMESPACE: &str = "default";

/// The longest name of an object: a DNS-1123 subdomain.
const LONGEST_NAME: usize = 253;

/// The key of an object, read before anything else so that every other fault can name it.
pub(crate) fn key(value: &Value, known: Known) -> Result<Key, Vec<Fault>> {
    let name = field(value, "name")?
        .ok_or_else(|| vec![Fault::invalid("metadata.name", "missing: every object has a name")])?;
    check_name(name, known).map_err(|fault| vec![fault])?;
    let namespace =
        if known.is_cluster_wide() { None } else { Some(namespace(field(value, "namespace")?)?) };
    Ok(Key { kind: known.as_str(), namespace, name: name.into() })
}

/// What an object may mean whose kind cannot be told.
pub(crate) fn meant(value: &Value) -> Meant {
    let named = || {
        let namespace = namespace(field(value, "namespace").ok()?).ok()?;
        Some(Meant::Named(namespace, field(value, "name").ok()??.into()))
    };
    named().unwrap_or(Meant::Anything)
}

/// One text of the metadata.
fn field<'v>(value: &'v Value, name: &str) -> Result<Option<&'v str>, Vec<Fault>> {
    match value.get("metadata").and_then(|metadata| metadata.get(name)) {
        None | Some(Value::Null) => Ok(None),
        Some(Value::String(text)) => Ok(Some(text.as_str())),
        Some(_) => Err(vec![Fault::invalid(format!("metadata.{name}"), "a text is expected")]),
    }
}

/// Services and Namespaces are labels (they become parts of DNS names), all else subdomains.
fn check_name(name: &str, known: Known) -> Result<(), Fault> {
    let field = || "metadata.name".to_owned();
    if matches!(known, Known::Service | Known::Namespace) {
        return label(name, field).map(drop);
    }
    subdomain(name, field)
}

/// The name of an object that is not part of a DNS name by itself.
pub(crate) fn subdomain(name: &str, field: impl FnOnce() -> String) -> Result<(), Fault> {
    if name.len() <= LONGEST_NAME && name.split('.').all(is_label_of_any_length) {
        return Ok(());
    }
    let message = "not a DNS-1123 subdomain: at most 253 of a-z, 0-9, '-' and '.', each part \
                   beginning and ending with a letter or digit";
    Err(Fault::invalid(field(), message))
}

fn is_label_of_any_length(part: &str) -> bool {
    let outer = |b: Option<u8>| b.is_some_and(|b| b.is_ascii_lowercase() || b.is_ascii_digit());
    outer(part.bytes().next())
        && outer(part.bytes().next_back())
        && part.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-')
}

/// The namespace as it is written, or the default one.
pub(crate) fn namespace(written: Option<&str>) -> Result<Label, Vec<Fault>> {
    let text = written.filter(|text| !text.is_empty()).unwrap_or(DEFAULT_NAMESPACE);
    label(text, || "metadata.namespace".into()).map_err(|fault| vec![fault])
}

/// Checks a Namespace or ServiceAccount for its shape.
pub(crate) fn check_plain(value: &Value, known: Known) -> Outcome<Object> {
    match known {
        Known::Namespace => strict::read::<Namespace>(value, "").map(drop)?,
        _ => strict::read::<ServiceAccount>(value, "").map(drop)?,
    }
    Ok((Object::Plain, Vec::new()))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn the_key_has_the_default_namespace_where_none_is_written() {
        let value = json!({"metadata": {"name": "api"}});
        assert_eq!(key(&value, Known::Service).unwrap().to_string(), "Service default/api");
        assert_eq!(key(&value, Known::Namespace).unwrap().to_string(), "Namespace api");
        let value = json!({"metadata": {"name": "a.b-1", "namespace": "shop"}});
        assert_eq!(key(&value, Known::HttpRoute).unwrap().to_string(), "HTTPRoute shop/a.b-1");
    }

    #[test]
    fn bad_names_are_refused_by_their_field() {
        let cases = [
            (json!({}), "metadata.name"),
            (json!({"metadata": {"name": 7}}), "metadata.name"),
            (json!({"metadata": {"name": "A"}}), "metadata.name"),
            (json!({"metadata": {"name": "a.b"}}), "metadata.name"),
            (json!({"metadata": {"name": "a", "namespace": "b.c"}}), "metadata.namespace"),
        ];
        for (value, field) in cases {
            assert_eq!(key(&value, Known::Service).unwrap_err()[0].field, field, "{value}");
        }
        for name in ["", ".", "a..b", "-a", "a-", "a_b"] {
            let value = json!({"metadata": {"name": name}});
            assert!(key(&value, Known::HttpRoute).is_err(), "{name:?} must be refused");
        }
    }
}
