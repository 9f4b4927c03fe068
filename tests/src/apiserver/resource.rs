//! The resources that the stub serves, and what a path of the API names.

use serde_json::{Value, json};

/// A kind of objects, as discovery tells of it.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Resource {
    /// The group; empty for the core group.
    pub group: String,
    /// The version.
    pub version: String,
    /// The name in paths.
    pub plural: String,
    /// The kind in objects.
    pub kind: String,
    /// Whether its objects belong to namespaces.
    pub namespaced: bool,
    /// Whether its status is a subresource.
    pub status: bool,
}

/// What a real server has without any CRD, as far as the mesh touches it.
const BUILT_IN: [(&str, &str, &str, bool, bool); 16] = [
    ("v1", "configmaps", "ConfigMap", true, false),
    ("v1", "events", "Event", true, false),
    ("v1", "namespaces", "Namespace", false, true),
    ("v1", "pods", "Pod", true, true),
    ("v1", "secrets", "Secret", true, false),
    ("v1", "serviceaccounts", "ServiceAccount", true, false),
    ("v1", "services", "Service", true, true),
    (
        "admissionregistration.k8s.io/v1",
        "mutatingwebhookconfigurations",
        "MutatingWebhookConfiguration",
        false,
        false,
    ),
    (
        "apiextensions.k8s.io/v1",
        "customresourcedefinitions",
        "CustomResourceDefinition",
        false,
        true,
    ),
    ("apps/v1", "deployments", "Deployment", true, true),
    ("apps/v1", "replicasets", "ReplicaSet", true, true),
    ("batch/v1", "jobs", "Job", true, true),
    ("coordination.k8s.io/v1", "leases", "Lease", true, false),
    ("discovery.k8s.io/v1", "endpointslices", "EndpointSlice", true, false),
    ("events.k8s.io/v1", "events", "Event", true, false),
    ("networking.k8s.io/v1", "networkpolicies", "NetworkPolicy", true, false),
];

/// Resources that are asked and never kept: those of reviews.
pub(super) const REVIEWS: [(&str, &str, &str); 3] = [
    ("authentication.k8s.io/v1", "tokenreviews", "TokenReview"),
    ("authorization.k8s.io/v1", "selfsubjectaccessreviews", "SelfSubjectAccessReview"),
    ("authorization.k8s.io/v1", "subjectaccessreviews", "SubjectAccessReview"),
];

impl Resource {
    /// A resource whose objects belong to namespaces and have a status, as most CRDs define.
    pub fn custom(api_version: &str, plural: &str, kind: &str) -> Self {
        Self::new(api_version, plural, kind, true, true)
    }

    fn new(api_version: &str, plural: &str, kind: &str, namespaced: bool, status: bool) -> Self {
        let (group, version) = api_version.split_once('/').unwrap_or(("", api_version));
        Self {
            group: group.into(),
            version: version.into(),
            plural: plural.into(),
            kind: kind.into(),
            namespaced,
            status,
        }
    }

    /// All that is there from the start.
    pub(super) fn built_in() -> Vec<Self> {
        let make = |(api_version, plural, kind, namespaced, status)| {
            Self::new(api_version, plural, kind, namespaced, status)
        };
        BUILT_IN.into_iter().map(make).collect()
    }

    /// As objects write it.
    pub fn api_version(&self) -> String {
        if self.group.is_empty() {
            self.version.clone()
        } else {
            format!("{}/{}", self.group, self.version)
        }
    }

    /// As discovery lists it.
    pub(super) fn described(&self) -> Vec<Value> {
        let verbs = json!(["create", "delete", "get", "list", "patch", "update", "watch"]);
        let named = |name: String, verbs: Value| {
            json!({"name": name, "singularName": self.kind.to_lowercase(), "kind": self.kind,
                   "namespaced": self.namespaced, "verbs": verbs})
        };
        let own = named(self.plural.clone(), verbs);
        let status = || named(format!("{}/status", self.plural), json!(["get", "patch", "update"]));
        std::iter::once(own).chain(self.status.then(status)).collect()
    }
}

/// What a path names below its group and version.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Target {
    pub(super) api_version: String,
    pub(super) namespace: Option<String>,
    pub(super) plural: String,
    pub(super) name: Option<String>,
    pub(super) subresource: Option<String>,
}

impl Target {
    /// The target of a path such as `/api/v1/namespaces/shop/pods/api-1/status`; `None` for what
    /// is too short to name a resource.
    pub(super) fn parse(path: &str) -> Option<Self> {
        let parts: Vec<&str> = path.split('/').filter(|part| !part.is_empty()).collect();
        let (api_version, rest) = match parts.as_slice() {
            ["api", version, rest @ ..] => ((*version).to_owned(), rest),
            ["apis", group, version, rest @ ..] => (format!("{group}/{version}"), rest),
            _ => return None,
        };
        // `/namespaces/shop` is the Namespace; with more behind it, what is in it.
        let (namespace, rest) = match rest {
            ["namespaces", name, rest @ ..] if !rest.is_empty() && rest[0] != "status" => {
                (Some((*name).to_owned()), rest)
            }
            rest => (None, rest),
        };
        let plural = (*rest.first()?).to_owned();
        let part = |index: usize| rest.get(index).map(|part| (*part).to_owned());
        Some(Self { api_version, namespace, plural, name: part(1), subresource: part(2) })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_name_collections_objects_and_subresources() {
        let target = |path: &str| {
            let t = Target::parse(path).unwrap();
            [Some(t.api_version), t.namespace, Some(t.plural), t.name, t.subresource]
                .map(Option::unwrap_or_default)
                .join(",")
        };
        assert_eq!(target("/api/v1/pods"), "v1,,pods,,");
        assert_eq!(target("/api/v1/namespaces/shop"), "v1,,namespaces,shop,");
        assert_eq!(target("/api/v1/namespaces/shop/pods/a/status"), "v1,shop,pods,a,status");
        assert_eq!(
            target("/apis/discovery.k8s.io/v1/endpointslices"),
            "discovery.k8s.io/v1,,endpointslices,,"
        );
        assert!(Target::parse("/api/v1").is_none());
    }
}
