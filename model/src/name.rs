//! Names of Kubernetes objects: DNS-1123 labels, and a Service as `namespace/name`.

use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

/// A name that Kubernetes accepts for a namespace or a Service: 1 to 63 of `[a-z0-9-]`,
/// beginning and ending with a letter or digit (RFC 1123 label, lower case).
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Label(Arc<str>);

/// Why a text is no [`Label`].
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "{0:?} is not a DNS-1123 label: 1 to 63 of a-z, 0-9 and '-', beginning and ending with a letter or digit"
)]
pub struct LabelError(String);

impl Label {
    /// The name as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for Label {
    type Err = LabelError;

    fn from_str(text: &str) -> Result<Self, LabelError> {
        let bytes = text.as_bytes();
        let inner = |b: &u8| b.is_ascii_lowercase() || b.is_ascii_digit() || *b == b'-';
        let outer = |b: Option<&u8>| b.is_some_and(|b| *b != b'-');
        let good = (1..=63).contains(&bytes.len())
            && bytes.iter().all(inner)
            && outer(bytes.first())
            && outer(bytes.last());
        if good { Ok(Self(text.into())) } else { Err(LabelError(text.chars().take(80).collect())) }
    }
}

impl TryFrom<String> for Label {
    type Error = LabelError;

    fn try_from(text: String) -> Result<Self, LabelError> {
        text.parse()
    }
}

impl From<Label> for String {
    fn from(label: Label) -> Self {
        label.0.as_ref().into()
    }
}

impl fmt::Display for Label {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for Label {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&self.0, f)
    }
}

/// The name of a Service, written `namespace/name`.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct ServiceName {
    /// The namespace that the Service lives in.
    pub namespace: Label,
    /// Its name there.
    pub name: Label,
}

/// Why a text is no [`ServiceName`].
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ServiceNameError {
    /// There is no `/` between namespace and name.
    #[error("{0:?} is not NAMESPACE/NAME")]
    NoNamespace(String),
    /// One of the two parts is no label.
    #[error(transparent)]
    Label(#[from] LabelError),
}

impl ServiceName {
    /// The name made of its two parts.
    pub const fn new(namespace: Label, name: Label) -> Self {
        Self { namespace, name }
    }
}

impl FromStr for ServiceName {
    type Err = ServiceNameError;

    fn from_str(text: &str) -> Result<Self, ServiceNameError> {
        let (namespace, name) = text
            .split_once('/')
            .ok_or_else(|| ServiceNameError::NoNamespace(text.chars().take(160).collect()))?;
        Ok(Self::new(namespace.parse()?, name.parse()?))
    }
}

impl TryFrom<String> for ServiceName {
    type Error = ServiceNameError;

    fn try_from(text: String) -> Result<Self, ServiceNameError> {
        text.parse()
    }
}

impl From<ServiceName> for String {
    fn from(name: ServiceName) -> Self {
        name.to_string()
    }
}

impl fmt::Display for ServiceName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.namespace, self.name)
    }
}

impl fmt::Debug for ServiceName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn labels_are_dns_1123() {
        for good in ["a", "0", "my-svc", "a1", &"x".repeat(63)] {
            assert_eq!(good.parse::<Label>().unwrap().as_str(), good);
        }
        for bad in ["", "-a", "a-", "A", "a.b", "a_b", "a b", "ä", &"x".repeat(64)] {
            assert!(bad.parse::<Label>().is_err(), "{bad:?} must be refused");
        }
    }

    #[test]
    fn a_service_name_is_namespace_slash_name() {
        let name: ServiceName = "shop/api".parse().unwrap();
        assert_eq!((name.namespace.as_str(), name.name.as_str()), ("shop", "api"));
        assert_eq!(name.to_string(), "shop/api");
        for bad in ["api", "shop/", "/api", "a/b/c", "Shop/api"] {
            assert!(bad.parse::<ServiceName>().is_err(), "{bad:?} must be refused");
        }
    }
}
