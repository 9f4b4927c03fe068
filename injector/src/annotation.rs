//! The names of annotations and labels with Pillion's prefix.

/// The label and annotation of a pod, and the label of a namespace: `enabled` or `disabled`.
pub const INJECT: &str = "pillion.dev/inject";
/// Ports of the pod that are reached without the sidecar, such as `22,9100`.
pub const SKIP_INBOUND_PORTS: &str = "pillion.dev/skip-inbound-ports";
/// Ports to which the pod connects without the sidecar.
pub const SKIP_OUTBOUND_PORTS: &str = "pillion.dev/skip-outbound-ports";
/// Addresses that reach the pod without the sidecar, such as `10.0.0.0/8,fd00::7`.
pub const SKIP_INBOUND_SUBNETS: &str = "pillion.dev/skip-inbound-subnets";
/// Addresses to which the pod connects without the sidecar.
pub const SKIP_OUTBOUND_SUBNETS: &str = "pillion.dev/skip-outbound-subnets";
/// What the sidecar logs: a level, or a list of TARGET=LEVEL.
pub const LOG_LEVEL: &str = "pillion.dev/log-level";
/// How a line of the sidecar's log is written: `text` or `json`.
pub const LOG_FORMAT: &str = "pillion.dev/log-format";
/// What the sidecar writes to its access log: `off`, `errors` or `all`.
pub const ACCESS_LOG: &str = "pillion.dev/access-log";
/// Where the sidecar sends spans, such as `http://otel-collector.telemetry:4317`.
pub const OTLP_ENDPOINT: &str = "pillion.dev/otlp-endpoint";
/// The share of new traces that are recorded, 0 to 1.
pub const TRACE_SAMPLE_RATIO: &str = "pillion.dev/trace-sample-ratio";
/// Whether what comes without the mesh is let in: `allow` or `deny`.
pub const INBOUND_PLAINTEXT: &str = "pillion.dev/inbound-plaintext";
/// Whether the pod may connect to what is not in the mesh: `allow` or `deny`.
pub const EGRESS: &str = "pillion.dev/egress";
/// The longest time for what is under way when the sidecar is told to end, such as `1m30s`.
pub const DRAIN_TIMEOUT: &str = "pillion.dev/drain-timeout";
/// CPUs that are kept for the sidecar.
pub const CPU_REQUEST: &str = "pillion.dev/proxy-cpu-request";
/// CPUs that the sidecar may use at most.
pub const CPU_LIMIT: &str = "pillion.dev/proxy-cpu-limit";
/// Bytes that are kept for the sidecar.
pub const MEMORY_REQUEST: &str = "pillion.dev/proxy-memory-request";
/// Bytes beyond which the sidecar is killed.
pub const MEMORY_LIMIT: &str = "pillion.dev/proxy-memory-limit";
/// Written by the injector: the version that injected.
pub const INJECTED: &str = "pillion.dev/injected";
/// Written by the injector: `enabled`. The control plane tells by it that a pod has a sidecar.
pub const SIDECAR: &str = "pillion.dev/sidecar";

/// What all of them begin with.
pub(crate) const PREFIX: &str = "pillion.dev/";

/// The annotations that a pod may have before it is injected.
pub(crate) const KNOWN: [&str; 19] = [
    INJECT,
    SKIP_INBOUND_PORTS,
    SKIP_OUTBOUND_PORTS,
    SKIP_INBOUND_SUBNETS,
    SKIP_OUTBOUND_SUBNETS,
    LOG_LEVEL,
    LOG_FORMAT,
    ACCESS_LOG,
    OTLP_ENDPOINT,
    TRACE_SAMPLE_RATIO,
    INBOUND_PLAINTEXT,
    EGRESS,
    DRAIN_TIMEOUT,
    CPU_REQUEST,
    CPU_LIMIT,
    MEMORY_REQUEST,
    MEMORY_LIMIT,
    INJECTED,
    SIDECAR,
];

/// The place of an annotation in a pod.
pub(crate) fn field(name: &str) -> String {
    format!("metadata.annotations[{name}]")
}
