//! What is added: the container that redirects, the sidecar, and their volumes.

use serde_json::{Value, json};

use crate::pod::Pod;
use crate::probe::Asked;
use crate::settings::{Resources, Settings};
use crate::variable::OTLP_VARIABLE;
use crate::wishes::Wishes;

/// The name of the container that redirects.
pub(crate) const INIT: &str = "pillion-init";
/// The name of the sidecar.
pub(crate) const PROXY: &str = "pillion-proxy";
/// The name of the volume with the sidecar's token.
pub(crate) const TOKEN_VOLUME: &str = "pillion-token";
/// The name of the volume for what the sidecar writes.
pub(crate) const STATE_VOLUME: &str = "pillion-state";
/// The user of the sidecar, whom the redirection lets pass.
pub(crate) const PROXY_UID: i64 = 1337;
/// The user of the container that redirects.
const INIT_UID: i64 = 65534;
/// The sidecar's port for other sidecars.
const MESH_PORT: u16 = 15008;
/// The sidecar's port for probes and metrics.
const ADMIN_PORT: u16 = 15020;
/// Every port that the sidecar listens on: outbound, inbound, mesh, admin.
pub(crate) const OWN_PORTS: [u16; 4] = [15001, 15006, MESH_PORT, ADMIN_PORT];

const TOKEN_DIRECTORY: &str = "/var/run/secrets/pillion.dev/token";
const STATE_DIRECTORY: &str = "/var/run/pillion";

/// For how long a token is good, in seconds; the kubelet renews it at four fifths of that.
const TOKEN_LIFETIME: u32 = 3600;

/// For how many seconds a pod waits for its sidecar before the sidecar is started again.
const STARTUP: u32 = 120;

/// The container that redirects. It runs to its end before anything else is started.
pub(crate) fn init(wishes: &Wishes, settings: &Settings) -> Value {
    let mut args = vec!["install".to_owned()];
    args.extend(wishes.rules.iter().cloned());
    json!({
        "name": INIT,
        "image": settings.init_image,
        "args": args,
        "resources": resources(&wishes.resources),
        "securityContext": security(INIT_UID, &["NET_ADMIN"]),
        "terminationMessagePolicy": "FallbackToLogsOnError",
    })
}

/// The sidecar: started before the containers of the application and ended after them
/// (`restartPolicy: Always`, Kubernetes 1.29).
pub(crate) fn proxy(pod: &Pod, wishes: &Wishes, probes: &[Asked], settings: &Settings) -> Value {
    let ready = json!({"path": "/ready", "port": ADMIN_PORT});
    json!({
        "name": PROXY,
        "image": settings.proxy_image,
        "restartPolicy": "Always",
        "env": environment(pod, wishes, probes, settings),
        "ports": [
            {"name": "pillion-mesh", "containerPort": MESH_PORT, "protocol": "TCP"},
            {"name": "pillion-admin", "containerPort": ADMIN_PORT, "protocol": "TCP"},
        ],
        "startupProbe": {"httpGet": ready, "periodSeconds": 1, "failureThreshold": STARTUP},
        "readinessProbe": {"httpGet": ready, "periodSeconds": 2, "failureThreshold": 3},
        "resources": resources(&wishes.resources),
        "securityContext": security(PROXY_UID, &[]),
        "terminationMessagePolicy": "FallbackToLogsOnError",
        "volumeMounts": [
            {"name": TOKEN_VOLUME, "mountPath": TOKEN_DIRECTORY, "readOnly": true},
            {"name": STATE_VOLUME, "mountPath": STATE_DIRECTORY},
        ],
    })
}

/// The volumes of the sidecar. The bounds are far above what is ever in them.
pub(crate) fn volumes(settings: &Settings) -> [Value; 2] {
    let token = json!({"serviceAccountToken": {
        "path": "token",
        "audience": settings.token_audience,
        "expirationSeconds": TOKEN_LIFETIME,
    }});
    [
        json!({"name": TOKEN_VOLUME, "projected": {"sources": [token]}}),
        json!({"name": STATE_VOLUME, "emptyDir": {"medium": "Memory", "sizeLimit": "4Mi"}}),
    ]
}

fn environment(pod: &Pod, wishes: &Wishes, probes: &[Asked], settings: &Settings) -> Vec<Value> {
    let plain = |name: &str, value: &str| json!({"name": name, "value": value});
    let token_file = format!("{TOKEN_DIRECTORY}/token");
    let mut variables = vec![
        field("PILLION_ADDRESS", "status.podIPs"),
        plain("PILLION_REDIRECTED", "true"),
        plain("PILLION_CONTROL_PLANE", &settings.control_plane),
        plain("PILLION_TOKEN_FILE", &token_file),
        plain("PILLION_TRUST_BUNDLE", &settings.trust_bundle),
        plain("PILLION_STATE_DIR", STATE_DIRECTORY),
        plain("PILLION_TRUST_DOMAIN", settings.trust_domain.as_str()),
        plain("PILLION_CLUSTER_DOMAIN", &settings.cluster_domain),
        workers(&wishes.resources),
    ];
    variables.extend(wishes.variables.iter().map(|(name, value)| plain(name, value)));
    if wishes.variables.iter().any(|(name, _)| *name == OTLP_VARIABLE) {
        variables.extend(place());
        let name = pod.application();
        variables.extend(name.map(|name| plain("OTEL_SERVICE_NAME", name)));
    }
    if !probes.is_empty() {
        variables.push(plain("PILLION_PROBES", &json!(probes).to_string()));
    }
    variables
}

/// A variable with a field of the pod.
fn field(name: &str, path: &str) -> Value {
    json!({"name": name, "valueFrom": {"fieldRef": {"fieldPath": path}}})
}

/// Which pod it is, for spans: the attributes that OpenTelemetry reads for itself (semantic conventions,
/// Kubernetes).
fn place() -> [Value; 4] {
    let attributes = "k8s.pod.name=$(OTEL_RESOURCE_ATTRIBUTES_POD_NAME),\
                      k8s.namespace.name=$(OTEL_RESOURCE_ATTRIBUTES_NAMESPACE_NAME),\
                      k8s.node.name=$(OTEL_RESOURCE_ATTRIBUTES_NODE_NAME)";
    [
        field("OTEL_RESOURCE_ATTRIBUTES_POD_NAME", "metadata.name"),
        field("OTEL_RESOURCE_ATTRIBUTES_NAMESPACE_NAME", "metadata.namespace"),
        field("OTEL_RESOURCE_ATTRIBUTES_NODE_NAME", "spec.nodeName"),
        json!({"name": "OTEL_RESOURCE_ATTRIBUTES", "value": attributes}),
    ]
}

/// As many workers as the sidecar may use CPUs. Without a limit as many as are kept for it: on a
/// large node a worker for each of its CPUs, in each of its pods, would be very many.
fn workers(resources: &Resources) -> Value {
    let limited = resources.cpu_limit.is_some();
    let resource = if limited { "limits.cpu" } else { "requests.cpu" };
    // Rounded up to whole CPUs.
    let cpus = json!({"containerName": PROXY, "resource": resource, "divisor": "1"});
    json!({"name": "PILLION_WORKERS", "valueFrom": {"resourceFieldRef": cpus}})
}

fn resources(resources: &Resources) -> Value {
    let text = ToString::to_string;
    let mut value = json!({"requests": {
        "cpu": text(&resources.cpu_request),
        "memory": text(&resources.memory_request),
    }});
    let limits = [("cpu", &resources.cpu_limit), ("memory", &resources.memory_limit)];
    for (name, limit) in limits {
        if let Some(limit) = limit {
            value["limits"][name] = text(limit).into();
        }
    }
    value
}

fn security(user: i64, capabilities: &[&str]) -> Value {
    let mut context = json!({
        "runAsUser": user,
        "runAsGroup": user,
        "runAsNonRoot": true,
        "readOnlyRootFilesystem": true,
        "allowPrivilegeEscalation": false,
        "capabilities": {"drop": ["ALL"]},
        "seccompProfile": {"type": "RuntimeDefault"},
    });
    if !capabilities.is_empty() {
        context["capabilities"]["add"] = json!(capabilities);
    }
    context
}
