//! An example as an operator applies it, and the pods that the controllers of a cluster make of it.

use serde_json::{Value, json};

use crate::bins::workspace;
use crate::{tools, yaml};

/// The objects of one example.
#[derive(Debug)]
pub(super) struct Manifests(Vec<Value>);

impl Manifests {
    /// What `kubectl kustomize` makes of an example of deploy/.
    ///
    /// # Panics
    /// When it makes nothing of it, or kubectl is missing.
    pub(super) async fn render(example: &str) -> Self {
        let directory = workspace().join("deploy/examples").join(example);
        Self(yaml::documents(&tools::kustomize(&directory).await))
    }

    /// The objects of a kind.
    pub(super) fn all<'a>(&'a self, kind: &'a str) -> impl Iterator<Item = &'a Value> {
        self.0.iter().filter(move |object| object["kind"] == kind)
    }

    /// The files of a ConfigMap.
    ///
    /// # Panics
    /// When there is none of this name.
    pub(super) fn config_map(&self, name: &str) -> Vec<(String, String)> {
        let map = self.all("ConfigMap").find(|map| map["metadata"]["name"] == name);
        let data = map.unwrap_or_else(|| panic!("no ConfigMap {name}"))["data"].as_object();
        let files = data.into_iter().flatten();
        files
            .map(|(file, text)| (file.clone(), text.as_str().expect("a text").to_owned()))
            .collect()
    }

    /// A pod for each replica of each workload, as its controller asks the API server for it: of
    /// the workload `web` they are `web-0`, `web-1` and so on.
    pub(super) fn pods(&self) -> Vec<Value> {
        let kinds = ["Deployment", "StatefulSet", "Job"];
        kinds.iter().flat_map(|kind| self.all(kind)).flat_map(replicas).collect()
    }
}

fn replicas(workload: &Value) -> impl Iterator<Item = Value> {
    let count = workload["spec"]["replicas"].as_u64().unwrap_or(1);
    (0..count).map(|number| {
        let name = format!("{}-{number}", workload["metadata"]["name"].as_str().expect("a name"));
        let mut pod = workload["spec"]["template"].clone();
        pod["apiVersion"] = json!("v1");
        pod["kind"] = json!("Pod");
        pod["metadata"]["name"] = json!(name);
        pod["metadata"]["namespace"] = workload["metadata"]["namespace"].clone();
        // Which pod of a headless Service has which name, is said by these (StatefulSet).
        if let Some(service) = workload["spec"]["serviceName"].as_str() {
            pod["spec"]["hostname"] = json!(name);
            pod["spec"]["subdomain"] = json!(service);
        }
        pod
    })
}
