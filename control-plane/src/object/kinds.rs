//! Which kinds of objects the mesh reads, which it leaves alone, and which nobody knows.

use kube::core::{ApiResource, GroupVersionKind};
use serde_json::Value;

use crate::object::nearest;
use crate::problem::{Cause, Fault};

/// A kind that the mesh reads.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Known {
    Service,
    EndpointSlice,
    Pod,
    ServiceAccount,
    Namespace,
    HttpRoute,
    GrpcRoute,
    InboundPolicy,
}

/// What a document's apiVersion and kind say about it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Standing {
    /// The mesh reads it.
    Read(Known),
    /// An ordinary Kubernetes object that people keep in the same files.
    Foreign,
    /// Something else that the mesh does not read, which is said.
    Unread(Fault),
}

const GATEWAY: &str = "gateway.networking.k8s.io";

/// Kinds of the core group that are none of the mesh's business.
const CORE_FOREIGN: [&str; 16] = [
    "Binding",
    "ComponentStatus",
    "ConfigMap",
    "Endpoints",
    "Event",
    "LimitRange",
    "Node",
    "PersistentVolume",
    "PersistentVolumeClaim",
    "PodTemplate",
    "ReplicationController",
    "ResourceQuota",
    "Secret",
    "Status",
    "Scale",
    "PodList",
];

/// Kinds of the Gateway API that this version does not read yet.
const GATEWAY_LATER: [&str; 8] = [
    "BackendTLSPolicy",
    "Gateway",
    "GatewayClass",
    "ListenerSet",
    "ReferenceGrant",
    "TCPRoute",
    "TLSRoute",
    "UDPRoute",
];

/// Groups of Kubernetes itself, beside those that end with `.k8s.io`.
const FOREIGN_GROUPS: [&str; 5] = ["apps", "autoscaling", "batch", "extensions", "policy"];

impl Known {
    pub(crate) const ALL: [Self; 8] = [
        Self::Service,
        Self::EndpointSlice,
        Self::Pod,
        Self::ServiceAccount,
        Self::Namespace,
        Self::HttpRoute,
        Self::GrpcRoute,
        Self::InboundPolicy,
    ];

    /// The kind that objects write like this.
    pub(crate) fn of(kind: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|known| known.as_str() == kind)
    }

    /// The kind as objects write it.
    pub(crate) const fn as_str(self) -> &'static str {
        match self {
            Self::Service => "Service",
            Self::EndpointSlice => "EndpointSlice",
            Self::Pod => "Pod",
            Self::ServiceAccount => "ServiceAccount",
            Self::Namespace => "Namespace",
            Self::HttpRoute => "HTTPRoute",
            Self::GrpcRoute => "GRPCRoute",
            Self::InboundPolicy => "InboundPolicy",
        }
    }

    /// The apiVersions that it is read in; all of them have the same shape.
    pub(crate) const fn api_versions(self) -> &'static [&'static str] {
        match self {
            Self::EndpointSlice => &["discovery.k8s.io/v1"],
            Self::HttpRoute => {
                &["gateway.networking.k8s.io/v1", "gateway.networking.k8s.io/v1beta1"]
            }
            Self::GrpcRoute => &["gateway.networking.k8s.io/v1"],
            Self::InboundPolicy => &["pillion.dev/v1alpha1"],
            _ => &["v1"],
        }
    }

    /// The path of all its objects at an API server, in one of its versions.
    pub(crate) fn collection(self, version: usize) -> String {
        let version = self.api_versions()[version];
        let root = if group(version).is_empty() { "api" } else { "apis" };
        format!("/{root}/{version}/{}", self.plural())
    }

    /// Its resource at an API server.
    pub(crate) fn resource(self) -> ApiResource {
        let version = self.api_versions()[0];
        let (group, version) = version.split_once('/').unwrap_or(("", version));
        let kind = GroupVersionKind::gvk(group, version, self.as_str());
        ApiResource::from_gvk_with_plural(&kind, self.plural())
    }

    const fn plural(self) -> &'static str {
        match self {
            Self::Service => "services",
            Self::EndpointSlice => "endpointslices",
            Self::Pod => "pods",
            Self::ServiceAccount => "serviceaccounts",
            Self::Namespace => "namespaces",
            Self::HttpRoute => "httproutes",
            Self::GrpcRoute => "grpcroutes",
            Self::InboundPolicy => "inboundpolicies",
        }
    }

    /// Whether an API server has the kind only when its CRD is installed.
    pub(crate) const fn is_optional(self) -> bool {
        matches!(self, Self::HttpRoute | Self::GrpcRoute | Self::InboundPolicy)
    }

    /// Whether nothing but the metadata of its objects is of interest.
    pub(crate) const fn is_metadata_only(self) -> bool {
        matches!(self, Self::ServiceAccount)
    }

    /// Whether objects of the kind belong to the cluster, not to a namespace.
    pub(crate) const fn is_cluster_wide(self) -> bool {
        matches!(self, Self::Namespace)
    }
}

/// Tells what a document is by its apiVersion and kind.
///
/// # Errors
/// A fault that says which of the two is missing, wrong or unknown.
pub(crate) fn classify(value: &Value) -> Result<Standing, Fault> {
    if !value.is_object() {
        return Err(Fault::invalid(
            "",
            "a Kubernetes object is expected, with apiVersion and kind",
        ));
    }
    let api_version = text(value, "apiVersion")?;
    let kind = text(value, "kind")?;
    if let Some(known) = Known::of(kind) {
        if known.api_versions().contains(&api_version) {
            return Ok(Standing::Read(known));
        }
        // The same kind in a foreign group (Knative's Service) is another thing altogether.
        if !is_foreign(group(api_version)) && !api_version.contains('.') {
            let expected = known.api_versions()[0];
            let message = format!("{kind} is read as {expected}, not {api_version}");
            return Err(Fault::new(Cause::UnknownKind, "apiVersion", message));
        }
    }
    classify_other(api_version, kind)
}

fn classify_other(api_version: &str, kind: &str) -> Result<Standing, Fault> {
    match group(api_version) {
        "" if CORE_FOREIGN.contains(&kind) => Ok(Standing::Foreign),
        GATEWAY if GATEWAY_LATER.contains(&kind) => {
            let message = format!("{kind} is not read by this version of Pillion");
            Ok(Standing::Unread(Fault::new(Cause::Unsupported, "kind", message)))
        }
        group if is_foreign(group) => Ok(Standing::Foreign),
        // A slip of the pen in the one or the other.
        group if is_ours(group) || Known::of(kind).is_some() => Err(unknown(api_version, kind)),
        _ => Ok(Standing::Unread(unknown(api_version, kind))),
    }
}

fn is_ours(other: &str) -> bool {
    Known::ALL.iter().flat_map(|known| known.api_versions()).any(|own| group(own) == other)
}

fn is_foreign(group: &str) -> bool {
    let of_kubernetes = group.ends_with(".k8s.io") || FOREIGN_GROUPS.contains(&group);
    of_kubernetes && group != GATEWAY && group != "discovery.k8s.io"
}

fn unknown(api_version: &str, kind: &str) -> Fault {
    let names = Known::ALL.map(Known::as_str);
    let hint = nearest(kind, names.into_iter())
        .map_or_else(String::new, |near| format!("did you mean {near}? "));
    let message =
        format!("unknown kind {kind:?} of {api_version}: {hint}Pillion reads {}", names.join(", "));
    Fault::new(Cause::UnknownKind, "kind", message)
}

fn text<'v>(value: &'v Value, field: &str) -> Result<&'v str, Fault> {
    match value.get(field) {
        Some(Value::String(text)) if !text.is_empty() => Ok(text),
        Some(Value::Null | Value::String(_)) | None => Err(Fault::invalid(field, "missing")),
        Some(_) => Err(Fault::invalid(field, "a text is expected")),
    }
}

/// The group of an apiVersion; empty for the core group.
fn group(api_version: &str) -> &str {
    api_version.split_once('/').map_or("", |(group, _)| group)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn standing(api_version: &str, kind: &str) -> Result<Standing, Fault> {
        classify(&json!({"apiVersion": api_version, "kind": kind}))
    }

    #[test]
    fn kinds_and_what_becomes_of_them() {
        for known in Known::ALL {
            for version in known.api_versions() {
                assert_eq!(standing(version, known.as_str()), Ok(Standing::Read(known)));
            }
        }
        for (api_version, kind) in [
            ("apps/v1", "Deployment"),
            ("v1", "ConfigMap"),
            ("rbac.authorization.k8s.io/v1", "Role"),
            ("networking.k8s.io/v1", "NetworkPolicy"),
            ("batch/v1", "CronJob"),
        ] {
            assert_eq!(standing(api_version, kind), Ok(Standing::Foreign), "{kind}");
        }
    }

    #[test]
    fn what_nobody_knows_is_named_with_the_kinds_that_are_read() {
        let slips = [
            ("v1", "Servce", "unknown kind \"Servce\" of v1: did you mean Service? Pillion reads"),
            ("gateway.networking.k8s.io/v1", "HttpRoute", "did you mean HTTPRoute?"),
            ("gateway.networking.k8s.io/v2", "HTTPRoute", "did you mean HTTPRoute?"),
            ("pillion.dev/v1alpha1", "InboundPolcy", "did you mean InboundPolicy?"),
            ("v1beta1", "Service", "Service is read as v1, not v1beta1"),
            ("serving.knative.dev/v1", "Service", "unknown kind \"Service\" of serving"),
        ];
        for (api_version, kind, expected) in slips {
            let message = standing(api_version, kind).unwrap_err().message;
            assert!(message.contains(expected), "{message:?} must contain {expected:?}");
        }
        let others = [
            ("gateway.networking.k8s.io/v1", "TCPRoute", "not read by this version"),
            ("monitoring.coreos.com/v1", "ServiceMonitor", "Pillion reads Service, EndpointSlice,"),
        ];
        for (api_version, kind, expected) in others {
            let Ok(Standing::Unread(fault)) = standing(api_version, kind) else { panic!("{kind}") };
            assert!(fault.message.contains(expected), "{fault:?} must contain {expected:?}");
        }
    }

    #[test]
    fn what_is_no_object_says_so() {
        let fault = classify(&json!(["a"])).unwrap_err();
        assert!(fault.message.contains("a Kubernetes object is expected"));
        let fault = classify(&json!({"kind": "Service"})).unwrap_err();
        assert_eq!((fault.field.as_str(), fault.message.as_str()), ("apiVersion", "missing"));
        let fault = classify(&json!({"apiVersion": "v1", "kind": 7})).unwrap_err();
        assert_eq!(fault.field, "kind");
    }
}
