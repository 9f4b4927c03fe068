//! What becomes of a pod.

use std::fmt;

use serde_json::Value;

/// What becomes of a pod.
#[derive(Debug, Clone, PartialEq)]
pub enum Outcome {
    /// It gets a sidecar.
    Patched {
        /// How: operations of RFC 6902, in this order; each is an `add`.
        operations: Vec<Value>,
        /// What its maker should know.
        warnings: Vec<String>,
    },
    /// It stays as it is.
    Skipped(Skip),
    /// It asks for what cannot be; everything that is wrong with it.
    Refused(Vec<Fault>),
}

/// Why a pod stays as it is.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Skip {
    /// It says so itself, by a label or an annotation.
    #[error("{} is disabled", crate::annotation::INJECT)]
    Disabled,
    /// It has our sidecar.
    #[error("it has a sidecar already")]
    Injected,
    /// It has a container by which another mesh, or somebody's own sidecar, is told.
    #[error("it has another sidecar already: {0}")]
    OtherSidecar(String),
    /// Its network is the node's: the redirection would be of all that the node sends.
    #[error("it uses the network of its node (hostNetwork)")]
    HostNetwork,
    /// Its node runs another system than Linux.
    #[error("it is for {0}, not for linux")]
    OtherSystem(String),
}

impl Skip {
    /// Whether whoever made the pod may be surprised to learn it: nothing in the pod asks for it.
    pub const fn is_surprising(&self) -> bool {
        !matches!(self, Self::Disabled | Self::Injected)
    }
}

/// What is wrong with a field of a pod.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Fault {
    /// The field's path, as in `spec.containers[0].ports[1].containerPort`.
    pub field: String,
    /// What is wrong, with the value.
    pub message: String,
}

impl Fault {
    pub(crate) fn new(field: impl Into<String>, message: impl Into<String>) -> Self {
        Self { field: field.into(), message: message.into() }
    }
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.field, self.message)
    }
}
