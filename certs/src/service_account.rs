//! A Kubernetes service account, which is what an identity is given to.

use std::fmt;
use std::str::FromStr;

use model::name::Label;
use model::spiffe::{SpiffeId, SpiffeIdError, TrustDomain};

/// What stands before namespace and name in a token's subject.
const SUBJECT: &str = "system:serviceaccount:";

/// A service account, written `system:serviceaccount:NAMESPACE:NAME` as Kubernetes writes the
/// user that a service account's token stands for, and as join tokens write their subject.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ServiceAccount {
    namespace: Label,
    name: String,
}

/// Why a text or a name is no [`ServiceAccount`].
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ServiceAccountError {
    /// It does not begin with `system:serviceaccount:`, or has no namespace.
    #[error("{0:?} is not system:serviceaccount:NAMESPACE:NAME")]
    Form(String),
    /// The name is none that Kubernetes takes for a service account.
    #[error("{0:?} is no name of a service account: a DNS-1123 subdomain of at most 253 bytes")]
    Name(String),
}

impl ServiceAccount {
    /// The service account of this name, which must be a DNS-1123 subdomain.
    pub fn new(namespace: Label, name: &str) -> Result<Self, ServiceAccountError> {
        let good = |label: &str| label.parse::<Label>().is_ok();
        if name.len() <= 253 && name.split('.').all(good) {
            Ok(Self { namespace, name: name.to_owned() })
        } else {
            Err(ServiceAccountError::Name(short(name)))
        }
    }

    /// The namespace that it lives in.
    pub fn namespace(&self) -> &Label {
        &self.namespace
    }

    /// Its name there.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The identity that it has in a trust domain.
    pub fn spiffe_id(&self, trust_domain: &TrustDomain) -> Result<SpiffeId, SpiffeIdError> {
        SpiffeId::workload(trust_domain, &self.namespace, &self.name)
    }
}

impl FromStr for ServiceAccount {
    type Err = ServiceAccountError;

    fn from_str(text: &str) -> Result<Self, ServiceAccountError> {
        let form = || ServiceAccountError::Form(short(text));
        let rest = text.strip_prefix(SUBJECT).ok_or_else(form)?;
        let (namespace, name) = rest.split_once(':').ok_or_else(form)?;
        Self::new(namespace.parse().map_err(|_| form())?, name)
    }
}

fn short(text: &str) -> String {
    text.chars().take(80).collect()
}

impl fmt::Display for ServiceAccount {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{SUBJECT}{}:{}", self.namespace, self.name)
    }
}

impl fmt::Debug for ServiceAccount {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_service_account_is_read_as_it_is_written() {
        let text = "system:serviceaccount:shop:api.v1";
        let account: ServiceAccount = text.parse().unwrap();
        assert_eq!((account.namespace().as_str(), account.name()), ("shop", "api.v1"));
        assert_eq!(account.to_string(), text);
        let id = account.spiffe_id(&"example.org".parse().unwrap()).unwrap();
        assert_eq!(id.as_str(), "spiffe://example.org/ns/shop/sa/api.v1");
    }

    #[test]
    fn other_texts_are_refused() {
        let long = format!("system:serviceaccount:shop:{}", "a.".repeat(127));
        for bad in [
            "",
            "shop:api",
            "system:serviceaccount:shop",
            "system:serviceaccount::api",
            "system:serviceaccount:shop:",
            "system:serviceaccount:shop:api:more",
            "system:serviceaccount:shop:../sa/admin",
            "system:serviceaccount:Shop:api",
            "system:serviceaccount:shop:API",
            "system:node:shop:api",
            &long,
        ] {
            assert!(bad.parse::<ServiceAccount>().is_err(), "{bad:?} must be refused");
        }
    }
}
