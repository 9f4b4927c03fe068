//! A pod's volumes and variables as the kubelet fills them, and its containers made of both.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use serde_json::Value;

use super::container::{Container, Mount, Security, Volume};
use super::{Example, HOSTS};
use crate::apiserver::Token;
use crate::bins::bins;
use crate::house::Program;
use crate::tools;

/// What the containers of one pod share.
#[derive(Debug)]
pub(super) struct Sandbox<'a> {
    pod: &'a Value,
    volumes: BTreeMap<String, Volume>,
}

impl<'a> Sandbox<'a> {
    /// Fills the volumes of a pod, below `dir` where they are files.
    pub(super) fn prepare(example: &Example, pod: &'a Value, dir: &Path) -> Self {
        let filled = list(&pod["spec"]["volumes"]).map(|volume| {
            let name = text(&volume["name"]);
            (name.to_owned(), fill(example, pod, volume, &dir.join(name)))
        });
        Self { pod, volumes: filled.collect() }
    }

    /// One of its containers.
    pub(super) fn container(&self, example: &Example, container: &Value) -> Container {
        let (mut image, entrypoint) = image(example, container);
        image.push((example.house.path("hosts").join(HOSTS), "/etc/hosts".into()));
        image.push((example.house.path("nsswitch.conf"), "/etc/nsswitch.conf".into()));
        let strings = |value| list(value).map(|word| text(word).to_owned());
        let command: Vec<String> = strings(&container["command"]).collect();
        let command = if command.is_empty() { entrypoint } else { command };
        let variables = list(&container["env"]);
        Container {
            words: command.into_iter().chain(strings(&container["args"])).collect(),
            environment: variables.map(|variable| self.variable(variable)).collect(),
            security: Security::read(self.pod, container),
            image,
            mounts: list(&container["volumeMounts"]).map(|mount| self.mount(mount)).collect(),
        }
    }

    fn mount(&self, mount: &Value) -> Mount {
        let at = text(&mount["mountPath"]).to_owned();
        let volume = self.volumes[text(&mount["name"])].clone();
        Mount { at, volume, read_only: mount["readOnly"] == true }
    }

    fn variable(&self, variable: &Value) -> (String, String) {
        let source = &variable["valueFrom"];
        let value = if let Some(path) = source["fieldRef"]["fieldPath"].as_str() {
            self.field(path)
        } else if source["resourceFieldRef"].is_object() {
            self.cpus(&source["resourceFieldRef"]).to_string()
        } else {
            text(&variable["value"]).to_owned()
        };
        (text(&variable["name"]).to_owned(), value)
    }

    /// A field of the pod, as the downward API writes it.
    fn field(&self, path: &str) -> String {
        match path {
            "status.podIPs" => {
                let ips = list(&self.pod["status"]["podIPs"]).map(|ip| text(&ip["ip"]));
                ips.collect::<Vec<_>>().join(",")
            }
            "metadata.name" => text(&self.pod["metadata"]["name"]).to_owned(),
            "metadata.namespace" => text(&self.pod["metadata"]["namespace"]).to_owned(),
            "spec.nodeName" => "house".to_owned(),
            other => panic!("no sidecar has asked for {other} so far"),
        }
    }

    /// CPUs that a container may use or that are kept for it, in whole ones, rounded up.
    fn cpus(&self, reference: &Value) -> u64 {
        assert_eq!(reference["divisor"], "1", "{reference}");
        let containers = list(&self.pod["spec"]["initContainers"]);
        let mut named = containers.filter(|one| one["name"] == reference["containerName"]);
        let resources = &named.next().expect("a container of the pod")["resources"];
        let (of, resource) = text(&reference["resource"]).split_once('.').expect("limits.cpu");
        let amount = text(&resources[of][resource]);
        match amount.strip_suffix('m') {
            Some(thousandths) => thousandths.parse::<u64>().expect("an amount").div_ceil(1000),
            None => amount.parse().expect("whole CPUs"),
        }
    }
}

fn fill(example: &Example, pod: &Value, volume: &Value, dir: &Path) -> Volume {
    if volume["emptyDir"]["medium"] == "Memory" {
        let mebibytes = text(&volume["emptyDir"]["sizeLimit"]).strip_suffix("Mi");
        return Volume::Memory(mebibytes.expect("MiB").parse::<u64>().expect("a number") << 20);
    }
    fs::create_dir_all(dir).expect("a directory");
    let files = if let Some(name) = volume["configMap"]["name"].as_str() {
        example.manifests.config_map(name)
    } else {
        list(&volume["projected"]["sources"]).map(|source| token(example, pod, source)).collect()
    };
    assert!(!files.is_empty(), "a volume of a kind that is not known here: {volume}");
    for (name, text) in files {
        fs::write(dir.join(name), text).expect("a file of a volume");
    }
    Volume::Directory(dir.to_owned())
}

/// A token of the pod's service account, bound to the pod, as a source of a volume wants it.
fn token(example: &Example, pod: &Value, source: &Value) -> (String, String) {
    let (wanted, metadata) = (&source["serviceAccountToken"], &pod["metadata"]);
    let account = text(&pod["spec"]["serviceAccountName"]);
    let token = Token::new(text(&metadata["namespace"]), account, text(&wanted["audience"]))
        .bound_to(text(&metadata["name"]), text(&metadata["uid"]));
    (text(&wanted["path"]).to_owned(), example.api.token(token))
}

/// The files that a container's image has beside the system, and what it runs by itself. The
/// images of the examples are not at hand: this machine's programs of the same names play them.
fn image(example: &Example, container: &Value) -> (Vec<(PathBuf, String)>, Vec<String>) {
    let one = |file: PathBuf, name: &str| (vec![(file, name.to_owned())], vec![name.to_owned()]);
    match text(&container["image"]).split(':').next().unwrap_or_default() {
        "pillion-init" => one(example.redirect.clone(), "/pillion-redirect"),
        "pillion-proxy" => one(bins().proxy.clone(), "/pillion-proxy"),
        "nats" => one(tools::find("nats-server", "nats-server"), "/nats-server"),
        "peer" => one(Program::peer(&[]).path().to_owned(), "/peer"),
        "python" => {
            assert!(Path::new("/usr/bin/python3").is_file(), "apt-get install python3");
            (Vec::new(), Vec::new())
        }
        other => panic!("nothing plays the image {other}"),
    }
}

/// The items of a list; none where it is not there.
pub(super) fn list(value: &Value) -> impl Iterator<Item = &Value> {
    value.as_array().into_iter().flatten()
}

/// A text that must be there.
pub(super) fn text(value: &Value) -> &str {
    value.as_str().unwrap_or_else(|| panic!("{value} is no text"))
}
