//! What whoever installs must be allowed to do, and what the control plane must.

use std::fmt;

use serde_json::{Value, json};

/// Something that somebody must be allowed to do.
#[derive(Debug, Clone, Copy)]
pub(super) struct Right {
    verb: &'static str,
    group: &'static str,
    /// With its subresource, as in a Role.
    resource: &'static str,
    /// The one object that it is needed for, if it is one.
    name: Option<&'static str>,
    place: Place,
}

/// Where it must be allowed. A right that is needed in all namespaces, or of a resource without
/// any, is not asked about in one: there a Role could say yes, which does not help.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Place {
    Everywhere,
    Own,
}

use Place::{Everywhere, Own};

/// To create what `deploy/` holds, and the Secrets of the control plane.
pub(super) const CREATED: [Right; 14] = [
    right("create", "", "namespaces", Everywhere),
    right("create", "", "configmaps", Own),
    right("create", "", "secrets", Own),
    right("create", "", "serviceaccounts", Own),
    right("create", "", "services", Own),
    right("create", "apps", "deployments", Own),
    right("create", "networking.k8s.io", "networkpolicies", Own),
    right("create", "policy", "poddisruptionbudgets", Own),
    right("create", "rbac.authorization.k8s.io", "clusterroles", Everywhere),
    right("create", "rbac.authorization.k8s.io", "clusterrolebindings", Everywhere),
    right("create", "rbac.authorization.k8s.io", "roles", Own),
    right("create", "rbac.authorization.k8s.io", "rolebindings", Own),
    right("create", "apiextensions.k8s.io", "customresourcedefinitions", Everywhere),
    right("create", "admissionregistration.k8s.io", "mutatingwebhookconfigurations", Everywhere),
];

/// Of what the control plane's ClusterRole and Role grant: all of it, where they are as they were
/// installed.
pub(super) const NEEDED: [Right; 12] = [
    right("watch", "", "services", Everywhere),
    right("watch", "", "pods", Everywhere),
    right("watch", "discovery.k8s.io", "endpointslices", Everywhere),
    right("watch", "gateway.networking.k8s.io", "httproutes", Everywhere),
    right("patch", "gateway.networking.k8s.io", "httproutes/status", Everywhere),
    right("watch", "pillion.dev", "inboundpolicies", Everywhere),
    right("create", "authentication.k8s.io", "tokenreviews", Everywhere),
    right("create", "events.k8s.io", "events", Everywhere),
    right("patch", "admissionregistration.k8s.io", "mutatingwebhookconfigurations", Everywhere)
        .of("pillion-injector"),
    right("update", "coordination.k8s.io", "leases", Own).of("pillion-control-plane"),
    right("get", "", "secrets", Own).of("pillion-ca"),
    right("update", "", "secrets", Own).of("pillion-injector-tls"),
];

const fn right(
    verb: &'static str,
    group: &'static str,
    resource: &'static str,
    place: Place,
) -> Right {
    Right { verb, group, resource, name: None, place }
}

impl Right {
    const fn of(self, name: &'static str) -> Self {
        Self { name: Some(name), ..self }
    }

    /// As a review of somebody's access asks about it.
    pub(super) fn attributes(&self, namespace: &str) -> Value {
        let (resource, subresource) = self.resource.split_once('/').unwrap_or((self.resource, ""));
        let mut attributes = json!({"verb": self.verb, "group": self.group, "resource": resource});
        let parts = [
            ("subresource", subresource),
            ("name", self.name.unwrap_or_default()),
            ("namespace", if self.place == Own { namespace } else { "" }),
        ];
        for (field, text) in parts.into_iter().filter(|(_, text)| !text.is_empty()) {
            attributes[field] = text.into();
        }
        attributes
    }
}

impl fmt::Display for Right {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.verb, self.resource)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_right_is_asked_about_where_it_is_needed() {
        let asked = right("create", "apps", "deployments", Own).attributes("mesh");
        assert_eq!(asked["namespace"], "mesh");
        let cluster = "rbac.authorization.k8s.io";
        let asked = right("create", cluster, "clusterroles", Everywhere).attributes("mesh");
        assert_eq!(asked, json!({"verb": "create", "group": cluster, "resource": "clusterroles"}));
        let asked = right("patch", "g", "things/status", Everywhere).of("one").attributes("mesh");
        assert_eq!(
            (&asked["resource"], &asked["subresource"]),
            (&"things".into(), &"status".into())
        );
        assert_eq!(asked["name"], "one");
    }
}
