//! For the same objects, a directory and an API server publish the same bytes.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use control_plane::publish::{Publication, Published};
use control_plane::source::directory::Directory;
use control_plane::source::kubernetes::{self, Contacts};
use control_plane::source::{Batch, Event};
use control_plane::translate::{Settings, Translation, translate};
use control_plane::world::World;
use kube::{Client, Config};
use prost::Message;
use serde::Deserialize;
use serde_json::{Value, json};
use tests::apiserver::ApiServer;
use tokio::sync::mpsc;
use tokio::time::timeout;

/// Longer than reading everything may take on a busy machine.
const PATIENCE: Duration = Duration::from_secs(30);

fn settings() -> Settings {
    Settings {
        trust_domain: "cluster.local".parse().unwrap(),
        service_range: "10.96.0.0/12".parse().unwrap(),
        wait_for_pods: true,
    }
}

/// Every object of these YAML files that the API server serves, put into it.
fn fill(api: &ApiServer, files: &[PathBuf]) {
    api.install_gateway_api();
    api.install_own_kinds();
    for file in files {
        let text = std::fs::read_to_string(file).unwrap();
        for document in serde_norway::Deserializer::from_str(&text) {
            let mut object = Value::deserialize(document).unwrap();
            let kind = object["kind"].as_str().unwrap_or_default();
            if !KINDS.iter().any(|(_, known)| *known == kind) {
                continue;
            }
            let is_namespaced = kind != "Namespace" && object["metadata"]["namespace"].is_null();
            if is_namespaced {
                object["metadata"]["namespace"] = json!("default");
            }
            api.put(&object);
        }
    }
}

const KINDS: [(&str, &str); 8] = [
    ("v1", "Namespace"),
    ("v1", "Service"),
    ("v1", "Pod"),
    ("v1", "ServiceAccount"),
    ("discovery.k8s.io/v1", "EndpointSlice"),
    ("gateway.networking.k8s.io/v1", "HTTPRoute"),
    ("gateway.networking.k8s.io/v1", "GRPCRoute"),
    ("pillion.dev/v1alpha1", "InboundPolicy"),
];

/// What the API server has, as a directory: with uid, generation and all that it wrote.
fn dump(api: &ApiServer, dir: &Path) -> usize {
    let objects: Vec<Value> =
        KINDS.iter().flat_map(|(version, kind)| api.all(version, kind)).collect();
    let list = json!({"apiVersion": "v1", "kind": "List", "items": objects});
    std::fs::write(dir.join("all.json"), list.to_string()).unwrap();
    objects.len()
}

fn of_directory(dir: &Path) -> Translation {
    let batch = Directory::new(dir).scan(Instant::now()).batch.unwrap();
    assert_eq!(batch.problems, [], "the objects are good");
    let mut world = World::default();
    batch.events.into_iter().for_each(|event| world.apply(event));
    translate(&world, &[], &settings())
}

async fn of_api_server(api: &ApiServer) -> Translation {
    let config = Config::new(format!("http://{}", api.address()).parse().unwrap());
    let (batches, mut receiver) = mpsc::channel(16);
    kubernetes::spawn(Client::try_from(config).unwrap(), Arc::<Contacts>::default(), batches);
    let mut world = World::default();
    while !world.is_synced() {
        let Batch { events, problems } = timeout(PATIENCE, receiver.recv()).await.unwrap().unwrap();
        assert_eq!(problems, []);
        events.into_iter().for_each(|event: Event| world.apply(event));
    }
    translate(&world, &[], &settings())
}

/// Everything that is published, as bytes, under its names.
fn bytes(translation: Translation) -> Vec<(String, Vec<u8>)> {
    let services: Vec<_> = translation.services.keys().cloned().collect();
    let inbound: Vec<_> = translation.inbound.keys().copied().collect();
    let owners: Vec<_> = translation.owners.keys().copied().collect();
    let publication = Publication::default().next(translation).unwrap();
    let client = "shop".parse().unwrap();
    let of = |name: String, one: &Published| (name, one.encoded.message().encode_to_vec());
    let mut all = Vec::new();
    for name in &services {
        all.push(of(format!("service {name}"), publication.service(name).unwrap()));
        let routes = publication.routes(name, &client);
        all.extend(routes.map(|routes| of(format!("routes {name}"), routes)));
    }
    all.extend(inbound.iter().map(|at| of(format!("inbound {at}"), &publication.inbound(*at))));
    all.extend(owners.iter().map(|at| of(format!("owner {at}"), publication.owner(*at).unwrap())));
    all
}

async fn assert_same(stream: bool) {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut files = vec![root.join("tests/objects/mesh.yaml")];
    for example in std::fs::read_dir(root.join("../deploy/examples")).unwrap() {
        let entries = std::fs::read_dir(example.unwrap().path()).unwrap();
        let paths = entries.map(|entry| entry.unwrap().path());
        let is_manifest = |path: &PathBuf| {
            path.extension().is_some_and(|e| e == "yaml") && !path.ends_with("kustomization.yaml")
        };
        files.extend(paths.filter(is_manifest));
    }
    assert!(files.len() > 4, "{files:?}");
    let api = ApiServer::start().await;
    fill(&api, &files);
    if !stream {
        api.faults().refuse_streaming_lists();
    }
    let dir = tempfile::tempdir().unwrap();
    assert!(dump(&api, dir.path()) > 20);
    let (mut directory, mut server) = (of_directory(dir.path()), of_api_server(&api).await);
    // Where an object was written is the one thing that differs.
    for problem in directory.problems.iter_mut().chain(&mut server.problems) {
        problem.origin = None;
    }
    assert_eq!(directory, server);
    assert!(directory.routes.len() >= 2 && directory.services.len() >= 5, "{directory:?}");
    assert_eq!(bytes(directory), bytes(server));
}

#[tokio::test]
async fn a_directory_and_an_api_server_publish_the_same_bytes() {
    assert_same(true).await;
    assert_same(false).await;
}
