//! A pod as the injector finds it, and what stands against a sidecar.

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::{Container, PodSpec, PodTemplateSpec};
use serde::Deserialize as _;
use serde_json::Value;

use crate::annotation::{self, INJECT, SIDECAR};
use crate::container::{INIT, OWN_PORTS, PROXY, PROXY_UID, STATE_VOLUME, TOKEN_VOLUME};
use crate::outcome::{Fault, Skip};

/// The sidecars of the meshes that redirect as well: two redirections fight each other.
const OTHER_SIDECARS: [&str; 2] = ["istio-proxy", "linkerd-proxy"];

/// The label of a node by which its system is told.
const NODE_SYSTEM: &str = "kubernetes.io/os";

/// The labels that name the application of a pod.
const APPLICATION: [&str; 2] = ["app.kubernetes.io/name", "app"];

/// The label with the end of its ReplicaSet's name, of a pod of a Deployment.
const TEMPLATE_HASH: &str = "pod-template-hash";

/// A pod, or the template of pods.
#[derive(Debug)]
pub(crate) struct Pod {
    /// Its labels.
    pub(crate) labels: BTreeMap<String, String>,
    /// Its annotations.
    pub(crate) annotations: BTreeMap<String, String>,
    /// What made it, such as a ReplicaSet, by name.
    owner: Option<String>,
    /// What it runs.
    pub(crate) spec: PodSpec,
}

impl Pod {
    /// Reads a pod.
    ///
    /// # Errors
    /// The first field that is not as pods have it.
    pub(crate) fn read(pod: &Value) -> Result<Self, Fault> {
        let none = || Fault::new("spec.containers", "there are none");
        if !pod.is_object() {
            return Err(none());
        }
        // A Pod's metadata and spec are those of a template; kind and status are left unread.
        let mut track = serde_path_to_error::Track::new();
        let tracked = serde_path_to_error::Deserializer::new(pod, &mut track);
        let template = PodTemplateSpec::deserialize(tracked)
            .map_err(|error| Fault::new(track.path().to_string(), error.to_string()))?;
        let metadata = template.metadata.unwrap_or_default();
        let spec = template.spec.unwrap_or_default();
        if spec.containers.is_empty() {
            return Err(none());
        }
        Ok(Self {
            labels: metadata.labels.unwrap_or_default(),
            annotations: metadata.annotations.unwrap_or_default(),
            owner: metadata
                .owner_references
                .into_iter()
                .flatten()
                .find(|owner| owner.controller == Some(true))
                .map(|owner| owner.name),
            spec,
        })
    }

    /// What its spans are said to be of: what its labels name, else what made it, where a Deployment
    /// stands behind its ReplicaSet.
    pub(crate) fn application(&self) -> Option<&str> {
        let named = APPLICATION.iter().find_map(|label| self.labels.get(*label));
        let owner = || {
            let owner = self.owner.as_deref()?;
            let hash = self.labels.get(TEMPLATE_HASH);
            let deployment = hash.and_then(|hash| owner.strip_suffix(hash)?.strip_suffix('-'));
            Some(deployment.unwrap_or(owner))
        };
        named.map(String::as_str).filter(|name| !name.is_empty()).or_else(owner)
    }

    /// Each container with its place: those that are there from the start, then those of the
    /// application.
    pub(crate) fn containers(&self) -> impl Iterator<Item = (String, &Container)> {
        let init = self.spec.init_containers.iter().flatten();
        let init = init.enumerate().map(|(n, c)| (format!("spec.initContainers[{n}]"), c));
        let rest = self.spec.containers.iter().enumerate();
        init.chain(rest.map(|(n, c)| (format!("spec.containers[{n}]"), c)))
    }

    /// Why it is to stay as it is, if there is a reason.
    ///
    /// # Errors
    /// When its label or annotation is neither `enabled` nor `disabled`.
    pub(crate) fn skip(&self) -> Result<Option<Skip>, Vec<Fault>> {
        if self.is_disabled()? {
            return Ok(Some(Skip::Disabled));
        }
        if self.containers().any(|(_, container)| container.name == PROXY) {
            return Ok(Some(Skip::Injected));
        }
        if self.spec.host_network == Some(true) {
            return Ok(Some(Skip::HostNetwork));
        }
        if let Some(other) = self.system().filter(|name| *name != "linux") {
            return Ok(Some(Skip::OtherSystem(other.to_owned())));
        }
        Ok(self.other_sidecar().map(Skip::OtherSidecar))
    }

    /// The system that its nodes run, if it says so: either field will do.
    fn system(&self) -> Option<&str> {
        let selected = || self.spec.node_selector.as_ref()?.get(NODE_SYSTEM).map(String::as_str);
        self.spec.os.as_ref().map(|os| os.name.as_str()).or_else(selected)
    }

    /// Either of the two says it: whoever wants no sidecar need not know which to write.
    fn is_disabled(&self) -> Result<bool, Vec<Fault>> {
        let places = [
            (format!("metadata.labels[{INJECT}]"), self.labels.get(INJECT)),
            (annotation::field(INJECT), self.annotations.get(INJECT)),
        ];
        let (mut disabled, mut faults) = (false, Vec::new());
        for (field, value) in places {
            match value.map(String::as_str) {
                None | Some("enabled") => {}
                Some("disabled") => disabled = true,
                Some(other) => {
                    let message = format!("{other:?} is neither enabled nor disabled");
                    faults.push(Fault::new(field, message));
                }
            }
        }
        if faults.is_empty() { Ok(disabled) } else { Err(faults) }
    }

    fn other_sidecar(&self) -> Option<String> {
        let foreign = |name: &str| OTHER_SIDECARS.contains(&name);
        let container = self.containers().find(|(_, container)| foreign(&container.name));
        let said = || self.annotations.get(SIDECAR).filter(|value| *value != "disabled");
        container
            .map(|(_, container)| format!("container {}", container.name))
            .or_else(|| Some(format!("{} is {}", annotation::field(SIDECAR), said()?)))
    }

    /// What in it would not go together with a sidecar.
    pub(crate) fn conflicts(&self) -> Vec<Fault> {
        let mut faults: Vec<_> = self
            .containers()
            .flat_map(|(place, container)| conflicts_of(&place, container))
            .collect();
        let own = |name: &str| [TOKEN_VOLUME, STATE_VOLUME].contains(&name);
        for (n, volume) in self.spec.volumes.iter().flatten().enumerate() {
            if own(&volume.name) {
                let message = format!("{:?} is the name of a volume of the sidecar", volume.name);
                faults.push(Fault::new(format!("spec.volumes[{n}].name"), message));
            }
        }
        let context = self.spec.security_context.as_ref();
        faults.extend(own_user("spec", context.and_then(|context| context.run_as_user)));
        faults
    }
}

fn conflicts_of(place: &str, container: &Container) -> Vec<Fault> {
    let mut faults = Vec::new();
    if container.name == INIT {
        let message = format!("{INIT:?} is the name of a container that is added");
        faults.push(Fault::new(format!("{place}.name"), message));
    }
    let context = container.security_context.as_ref();
    faults.extend(own_user(place, context.and_then(|context| context.run_as_user)));
    for (n, port) in container.ports.iter().flatten().enumerate() {
        let is_tcp = matches!(port.protocol.as_deref(), None | Some("" | "TCP"));
        if is_tcp && OWN_PORTS.iter().any(|own| i32::from(*own) == port.container_port) {
            let message = format!("{} is a port of the sidecar", port.container_port);
            faults.push(Fault::new(format!("{place}.ports[{n}].containerPort"), message));
        }
    }
    faults
}

/// What runs as the sidecar's user is not redirected: it would be outside of the mesh unnoticed.
fn own_user(place: &str, user: Option<i64>) -> Option<Fault> {
    let field = format!("{place}.securityContext.runAsUser");
    let message = format!("{PROXY_UID} is the user of the sidecar, who is not redirected");
    user.filter(|user| *user == PROXY_UID).map(|_| Fault::new(field, message))
}
