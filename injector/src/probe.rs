//! The probes of a pod: what the kubelet asks over HTTP, and so without the mesh.

use std::collections::BTreeSet;

use k8s_openapi::api::core::v1::{Container, HTTPGetAction, Probe};
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;
use serde::Serialize;

use crate::outcome::Fault;
use crate::pod::Pod;

/// One request of a probe.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize)]
pub(crate) struct Asked {
    /// The port of the container.
    port: u16,
    /// The path with its query.
    path: String,
}

/// What the kubelet asks of the pod in plain HTTP: liveness, readiness and startup of all its
/// containers, each once. Hooks (`preStop` and the like) are not among it: they do things, and
/// nobody is to do them from outside of the mesh. Neither is what is spoken over TLS or gRPC,
/// where no path can be told.
///
/// # Errors
/// Every probe whose port is none of 1 to 65535, or is named like no port of its container.
pub(crate) fn all(pod: &Pod) -> Result<Vec<Asked>, Vec<Fault>> {
    let (mut found, mut faults) = (BTreeSet::new(), Vec::new());
    for (place, container) in pod.containers() {
        for (name, probe) in of(container) {
            let Some(get) = probe.http_get.as_ref().filter(|get| is_plain(get)) else { continue };
            match asked(container, get) {
                Ok(asked) => _ = found.insert(asked),
                Err(message) => {
                    faults.push(Fault::new(format!("{place}.{name}.httpGet.port"), message));
                }
            }
        }
    }
    if faults.is_empty() { Ok(found.into_iter().collect()) } else { Err(faults) }
}

/// The places of the probes that a sidecar that refuses plaintext would refuse as well.
pub(crate) fn refused(pod: &Pod) -> Vec<String> {
    let cannot_pass = |probe: &Probe| {
        let tls = probe.http_get.as_ref().is_some_and(|get| get.host.is_none() && !is_plain(get));
        tls || probe.grpc.is_some()
    };
    let of_container = |(place, container)| {
        let refused = of(container).filter(|(_, probe)| cannot_pass(probe));
        refused.map(|(name, _)| format!("{place}.{name}")).collect::<Vec<_>>()
    };
    pod.containers().flat_map(of_container).collect()
}

fn of(container: &Container) -> impl Iterator<Item = (&'static str, &Probe)> {
    let probes = [
        ("livenessProbe", &container.liveness_probe),
        ("readinessProbe", &container.readiness_probe),
        ("startupProbe", &container.startup_probe),
    ];
    probes.into_iter().filter_map(|(name, probe)| Some((name, probe.as_ref()?)))
}

/// Whether a probe asks this pod in plain HTTP; one with a host asks somebody else.
fn is_plain(get: &HTTPGetAction) -> bool {
    let this = get.host.as_ref().is_none_or(String::is_empty);
    this && get.scheme.as_deref().is_none_or(|scheme| scheme.is_empty() || scheme == "HTTP")
}

fn asked(container: &Container, get: &HTTPGetAction) -> Result<Asked, String> {
    let path = match get.path.as_deref() {
        None | Some("") => "/".to_owned(),
        Some(path) if path.starts_with('/') => path.to_owned(),
        Some(path) => format!("/{path}"), // as the kubelet asks for it
    };
    Ok(Asked { port: port(container, &get.port)?, path })
}

fn port(container: &Container, port: &IntOrString) -> Result<u16, String> {
    let number = match port {
        IntOrString::Int(number) => *number,
        IntOrString::String(name) => {
            let named =
                |of: &&k8s_openapi::api::core::v1::ContainerPort| of.name.as_ref() == Some(name);
            match container.ports.iter().flatten().find(named) {
                Some(port) => port.container_port,
                // The kubelet takes a number that is written as a text.
                None => name
                    .parse()
                    .map_err(|_| format!("{name:?} is no port of container {}", container.name))?,
            }
        }
    };
    match u16::try_from(number) {
        Ok(number) if number > 0 => Ok(number),
        _ => Err(format!("{number} is no port from 1 to 65535")),
    }
}
