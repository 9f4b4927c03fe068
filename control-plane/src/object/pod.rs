//! A Pod: where it is, who it is, and whether a sidecar stands in front of it.

use std::collections::BTreeMap;
use std::net::IpAddr;

use k8s_openapi::api::core::v1::{Pod as Kubernetes, PodSpec, PodStatus};
use model::name::Label;
use model::service::MeshProtocol;
use model::spiffe::SpiffeId;
use serde_json::Value;

use crate::object::{Outcome, meta, strict};
use crate::problem::Fault;

/// The annotation of a pod with a sidecar; its value is `enabled`, or `hbone` where it is one of
/// another mesh with the same trust root.
const SIDECAR: &str = "pillion.dev/sidecar";

/// The annotation with the sidecar's mesh port.
const MESH_PORT: &str = "pillion.dev/mesh-port";

/// The mesh port of a sidecar that says no other.
const DEFAULT_MESH_PORT: u16 = 15008;

/// A Pod as its object says it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Pod {
    /// Its namespace.
    pub namespace: Label,
    /// Its name.
    pub name: String,
    /// What tells it from another pod of its name; empty where the object has none.
    pub uid: String,
    /// Its labels.
    pub labels: BTreeMap<String, String>,
    /// Its service account, `default` where the object names none.
    pub service_account: String,
    /// Its addresses; none before it runs, after it has ended (they may be another pod's by now),
    /// and where it has those of its node.
    pub addresses: Vec<IpAddr>,
    /// Whether it has the addresses of its node.
    pub host_network: bool,
    /// Whether it takes traffic.
    pub ready: bool,
    /// Ports of its containers that have a name.
    pub named_ports: BTreeMap<String, u16>,
    /// The port of its sidecar and what that takes, where it has one.
    pub sidecar: Option<(u16, MeshProtocol)>,
}

impl Pod {
    /// Whether its service account is that of this identity.
    pub fn is(&self, identity: &SpiffeId) -> bool {
        identity.namespace() == Some(self.namespace.as_str())
            && identity.service_account() == Some(&self.service_account)
    }

    /// Whether this is its name there.
    pub fn is_called(&self, namespace: &Label, name: &str) -> bool {
        self.name == name && self.namespace == *namespace
    }
}

/// Parses a Pod.
pub(crate) fn parse(value: &Value) -> Outcome<Pod> {
    let object: Kubernetes = strict::read(value, "")?;
    let metadata = object.metadata;
    let namespace = meta::namespace(metadata.namespace.as_deref())?;
    let spec = object.spec.unwrap_or_default();
    let status = object.status.unwrap_or_default();
    let annotations = metadata.annotations.unwrap_or_default();
    let account = spec.service_account_name.clone().filter(|name| !name.is_empty());
    let service_account = account.unwrap_or_else(|| "default".into());
    meta::subdomain(&service_account, || "spec.serviceAccountName".into())
        .map_err(|fault| vec![fault])?;
    let pod = Pod {
        namespace,
        name: metadata.name.unwrap_or_default(),
        labels: metadata.labels.unwrap_or_default(),
        uid: metadata.uid.unwrap_or_default(),
        addresses: addresses(&spec, &status).map_err(|fault| vec![fault])?,
        host_network: spec.host_network == Some(true),
        ready: metadata.deletion_timestamp.is_none() && is_ready(&status),
        named_ports: named_ports(&spec),
        sidecar: sidecar(&annotations).map_err(|fault| vec![fault])?,
        service_account,
    };
    Ok((pod, Vec::new()))
}

fn addresses(spec: &PodSpec, status: &PodStatus) -> Result<Vec<IpAddr>, Fault> {
    let ended = matches!(status.phase.as_deref(), Some("Succeeded" | "Failed"));
    if ended || spec.host_network == Some(true) {
        return Ok(Vec::new());
    }
    let several = status.pod_ips.iter().flatten().map(|ip| ip.ip.as_str());
    let mut addresses = Vec::new();
    for text in status.pod_ip.as_deref().into_iter().chain(several).filter(|ip| !ip.is_empty()) {
        let address = text
            .parse()
            .map_err(|_| Fault::invalid("status.podIP", format!("{text:?} is no IP address")))?;
        if !addresses.contains(&address) {
            addresses.push(address);
        }
    }
    Ok(addresses)
}

/// Running and not said to be unready. A directory's pods often have no more than an address.
fn is_ready(status: &PodStatus) -> bool {
    let running = matches!(status.phase.as_deref(), None | Some("" | "Running"));
    let unready = |condition: &k8s_openapi::api::core::v1::PodCondition| {
        condition.type_ == "Ready" && condition.status != "True"
    };
    running && !status.conditions.iter().flatten().any(unready)
}

fn named_ports(spec: &PodSpec) -> BTreeMap<String, u16> {
    let sidecars = spec.init_containers.iter().flatten();
    let ports = spec.containers.iter().chain(sidecars).flat_map(|c| c.ports.iter().flatten());
    let named = ports
        .filter_map(|port| Some((port.name.clone()?, u16::try_from(port.container_port).ok()?)));
    named.collect()
}

fn sidecar(annotations: &BTreeMap<String, String>) -> Result<Option<(u16, MeshProtocol)>, Fault> {
    let protocol = match annotations.get(SIDECAR).map(String::as_str) {
        None | Some("disabled") => return Ok(None),
        Some("enabled") => MeshProtocol::Pillion,
        Some("hbone") => MeshProtocol::Hbone,
        Some(other) => {
            let message = format!("{other:?} is neither enabled, disabled nor hbone");
            return Err(Fault::invalid(format!("metadata.annotations[{SIDECAR}]"), message));
        }
    };
    let Some(text) = annotations.get(MESH_PORT) else {
        return Ok(Some((DEFAULT_MESH_PORT, protocol)));
    };
    match text.parse() {
        Ok(port) if port != 0 => Ok(Some((port, protocol))),
        _ => {
            let message = format!("{text:?} is no port (1 to 65535)");
            Err(Fault::invalid(format!("metadata.annotations[{MESH_PORT}]"), message))
        }
    }
}

#[cfg(test)]
mod tests {
    use crate::object::Object;
    use crate::object::tests::{good, refused};

    use super::*;

    fn text(annotations: &str, status: &str) -> String {
        format!(
            "{{apiVersion: v1, kind: Pod, \
             metadata: {{name: api-1, namespace: shop, annotations: {{{annotations}}}}}, \
             spec: {{containers: [{{name: a, ports: [{{name: web, containerPort: 8080}}]}}]}}, \
             status: {{{status}}}}}"
        )
    }

    fn pod(annotations: &str, status: &str) -> Pod {
        match good(&text(annotations, status)).0 {
            Object::Pod(pod) => pod,
            other => panic!("{other:?} is no Pod"),
        }
    }

    #[test]
    fn readiness_is_running_and_not_unready() {
        let cases = [
            ("podIP: 10.0.0.1", true),
            ("phase: Running", true),
            ("phase: Pending", false),
            ("phase: Succeeded", false),
            ("phase: Running, conditions: [{type: Ready, status: 'True'}]", true),
            ("phase: Running, conditions: [{type: Ready, status: 'False'}]", false),
            ("phase: Running, conditions: [{type: ContainersReady, status: 'False'}]", true),
        ];
        for (status, expected) in cases {
            assert_eq!(pod("", status).ready, expected, "{status}");
        }
    }

    #[test]
    fn the_annotation_tells_the_sidecar() {
        let cases = [
            ("", None),
            ("pillion.dev/sidecar: enabled", Some((15008, MeshProtocol::Pillion))),
            ("pillion.dev/sidecar: disabled", None),
            (
                "pillion.dev/sidecar: enabled, pillion.dev/mesh-port: '16008'",
                Some((16008, MeshProtocol::Pillion)),
            ),
            ("pillion.dev/sidecar: hbone", Some((15008, MeshProtocol::Hbone))),
        ];
        for (annotations, expected) in cases {
            assert_eq!(pod(annotations, "").sidecar, expected, "{annotations}");
        }
        let faults = refused(&text("pillion.dev/sidecar: 'yes'", ""));
        assert!(faults[0].starts_with("metadata.annotations[pillion.dev/sidecar]: "), "{faults:?}");
        let faults = refused(&text("pillion.dev/sidecar: enabled, pillion.dev/mesh-port: '0'", ""));
        assert!(faults[0].contains("\"0\" is no port"), "{faults:?}");
    }

    #[test]
    fn addresses_ports_and_account() {
        let pod = pod("", "podIP: 10.0.0.1, podIPs: [{ip: 10.0.0.1}, {ip: 'fd00::1'}]");
        assert_eq!(pod.addresses.len(), 2);
        assert_eq!(pod.named_ports["web"], 8080);
        assert_eq!(pod.service_account, "default");
        assert!(refused(&text("", "podIP: here"))[0].contains("status.podIP"));
    }

    #[test]
    fn a_pod_that_has_ended_has_no_address() {
        for phase in ["Succeeded", "Failed"] {
            let status = format!("phase: {phase}, podIP: 10.0.0.1");
            assert!(pod("", &status).addresses.is_empty(), "{phase}");
        }
    }
}
