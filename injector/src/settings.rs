//! What all injected pods have in common.

use model::spiffe::TrustDomain;

use crate::quantity::Quantity;
use crate::variable::Variables;

/// What all injected pods have in common.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Settings {
    /// The reference of the sidecar's image.
    pub proxy_image: String,
    /// The reference of the image of the init container, which redirects.
    pub init_image: String,
    /// The control plane's API, HOST:PORT.
    pub control_plane: String,
    /// The roots that the control plane's certificate chains to, as PEM.
    pub trust_bundle: String,
    /// The mesh's SPIFFE trust domain.
    pub trust_domain: TrustDomain,
    /// The DNS domain of Services.
    pub cluster_domain: String,
    /// Whom the sidecar's token is made for.
    pub token_audience: String,
    /// The version that is written into the annotation `pillion.dev/injected`.
    pub version: String,
    /// What a sidecar gets whose pod says no other.
    pub resources: Resources,
    /// What a sidecar is told whose pod says no other.
    pub variables: Variables,
}

/// What a sidecar asks of its node, and what it may use at most.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Resources {
    /// CPUs that are kept for it.
    pub cpu_request: Quantity,
    /// CPUs that it may use; it has as many workers. Without a limit, as many as are kept for it.
    pub cpu_limit: Option<Quantity>,
    /// Bytes that are kept for it.
    pub memory_request: Quantity,
    /// Bytes beyond which it is killed.
    pub memory_limit: Option<Quantity>,
}

impl Resources {
    /// 50m CPU and 32Mi are kept; there is no limit.
    pub fn standard() -> Self {
        Self {
            cpu_request: Quantity::milli(50),
            cpu_limit: None,
            memory_request: Quantity::mebibytes(32),
            memory_limit: None,
        }
    }
}
