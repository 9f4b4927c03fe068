//! A Kubernetes API server for tests: a real HTTP server on loopback that kube's client and
//! `kubectl` can talk to, as far as a service mesh does.
//!
//! It has discovery, lists with `limit` and `continue`, watches with bookmarks and streaming
//! lists, one resource version for everything, merge and apply patches with an owner for every
//! field, `status` as a subresource, TokenReview, and mutating webhooks. It does not have schemas,
//! defaults, CEL, RBAC or garbage collection: what needs them is shown against a real server.
//! [`Faults`] makes it misbehave as real ones do.

mod admission;
mod apply;
mod failure;
mod faults;
mod read;
mod resource;
mod review;
mod serve;
mod store;
mod write;

use std::collections::HashMap;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard};

use serde_json::{Value, json};
use tokio::net::TcpListener;
use tokio::sync::watch;
use tokio::task::JoinHandle;

pub use failure::Failure;
pub use faults::Faults;
pub use resource::Resource;
pub use review::Token;
use store::{Id, Store};

/// One request, as an audit log has it.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Asked {
    /// `get`, `list`, `watch`, `create`, `update`, `patch` or `delete`.
    pub verb: &'static str,
    /// The group; empty for the core group.
    pub group: String,
    /// The resource, with its subresource behind a `/`.
    pub resource: String,
    /// The namespace, where the path names one.
    pub namespace: Option<String>,
    /// The object's name, where the path names one.
    pub name: Option<String>,
}

/// A running API server. Dropped, it is gone.
#[derive(Debug)]
pub struct ApiServer {
    state: Arc<State>,
    address: SocketAddr,
    serving: Mutex<Option<JoinHandle<()>>>,
}

/// Everything that requests share.
#[derive(Debug)]
struct State {
    store: Mutex<Store>,
    /// Moves with the store's version.
    changed: watch::Sender<u64>,
    resources: Mutex<Vec<Resource>>,
    faults: Faults,
    tokens: Mutex<HashMap<String, Token>>,
    asked: Mutex<Vec<Asked>>,
    /// Where the Services of webhooks are, by `NAMESPACE/NAME`.
    services: Mutex<HashMap<String, SocketAddr>>,
}

impl ApiServer {
    /// Starts one on a free port of loopback, with the namespaces `default` and `kube-system`.
    pub async fn start() -> Self {
        Self::at(SocketAddr::from((Ipv4Addr::LOCALHOST, 0))).await
    }

    /// Starts one at this address, such as that of a bridge of network namespaces.
    ///
    /// # Panics
    /// When the address is taken.
    pub async fn at(address: SocketAddr) -> Self {
        Self::on(std::net::TcpListener::bind(address).expect("a free address"))
    }

    /// Starts one at this listener, which may be one of another network namespace.
    ///
    /// # Panics
    /// When it is no listener.
    pub fn on(listener: std::net::TcpListener) -> Self {
        listener.set_nonblocking(true).expect("a listener");
        let listener = TcpListener::from_std(listener).expect("within a runtime");
        let address = listener.local_addr().unwrap();
        let state = Arc::new(State::new());
        let serving = tokio::spawn(serve::serve(listener, Arc::clone(&state)));
        let server = Self { state, address, serving: Mutex::new(Some(serving)) };
        for name in ["default", "kube-system"] {
            server.namespace(name, &json!({}));
        }
        server
    }

    /// Its address.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Writes a kubeconfig for it into a directory.
    pub fn kubeconfig(&self, dir: &Path) -> PathBuf {
        let file = dir.join("kubeconfig.yaml");
        let config = json!({
            "apiVersion": "v1", "kind": "Config", "current-context": "stub",
            "clusters": [{"name": "stub", "cluster": {"server": format!("http://{}", self.address)}}],
            "users": [{"name": "stub", "user": {}}],
            "contexts": [{"name": "stub", "context": {"cluster": "stub", "user": "stub"}}],
        });
        std::fs::write(&file, config.to_string()).unwrap();
        file
    }

    /// Stops it: connections are reset, new ones refused. What it knows stays.
    pub async fn stop(&self) {
        let serving = self.serving.lock().unwrap().take();
        if let Some(serving) = serving {
            serving.abort();
            let _ = serving.await;
        }
    }

    /// Starts it again where it was.
    ///
    /// # Panics
    /// When somebody took its port meanwhile.
    pub async fn resume(&self) {
        let listener = TcpListener::bind(self.address).await.expect("the port of before");
        let serving = tokio::spawn(serve::serve(listener, Arc::clone(&self.state)));
        *self.serving.lock().unwrap() = Some(serving);
    }

    /// Its ways to misbehave.
    pub fn faults(&self) -> &Faults {
        &self.state.faults
    }

    /// Serves another resource, as a CRD makes a real server do.
    pub fn install(&self, resource: Resource) {
        self.state.resources.lock().unwrap().push(resource);
    }

    /// Serves a resource no more; its objects are gone.
    pub fn uninstall(&self, plural: &str) {
        let mut resources = self.state.resources.lock().unwrap();
        let gone: Vec<Resource> =
            resources.extract_if(.., |resource| resource.plural == plural).collect();
        let mut store = self.state.store();
        for resource in gone {
            let ids: Vec<Id> =
                store.list(&resource, None, None).map(|(id, _)| id.clone()).collect();
            ids.iter().for_each(|id| drop(store.remove(id)));
        }
    }

    /// The Gateway API's routes, as its CRDs define them.
    pub fn install_gateway_api(&self) {
        let version = "gateway.networking.k8s.io/v1";
        self.install(Resource::custom(version, "httproutes", "HTTPRoute"));
        self.install(Resource::custom(version, "grpcroutes", "GRPCRoute"));
    }

    /// The mesh's own kinds, as `deploy/base/crds` defines them.
    pub fn install_own_kinds(&self) {
        self.install(Resource::custom("pillion.dev/v1alpha1", "inboundpolicies", "InboundPolicy"));
    }

    /// Makes a namespace with these labels.
    pub fn namespace(&self, name: &str, labels: &Value) {
        let labels = json!({"kubernetes.io/metadata.name": name}).as_object().map(|own| {
            let given = labels.as_object().cloned().unwrap_or_default();
            own.clone().into_iter().chain(given).collect::<serde_json::Map<_, _>>()
        });
        self.put(&json!({"apiVersion": "v1", "kind": "Namespace",
            "metadata": {"name": name, "labels": labels}}));
    }

    /// Puts an object in place as it is, status and all, and gives it as it is kept.
    ///
    /// # Panics
    /// When no such resource is served.
    pub fn put(&self, object: &Value) -> Value {
        let id = self.state.id_of(object).expect("a resource that is served");
        self.state.write(|store| store.put(id, object.clone()))
    }

    /// Makes an object as a client would: with admission, and without a status.
    ///
    /// # Errors
    /// What a client would be told.
    pub async fn create(&self, object: &Value) -> Result<Value, Failure> {
        let id = self.state.id_of(object).expect("a resource that is served");
        write::create(&self.state, id.resource, id.namespace, object.clone()).await
    }

    /// Takes an object away. Says whether it was there.
    pub fn remove(&self, api_version: &str, kind: &str, namespace: &str, name: &str) -> bool {
        let id = self.id(api_version, kind, namespace, name);
        self.state.write(|store| store.remove(&id)).is_some()
    }

    /// An object, if it is there.
    pub fn get(&self, api_version: &str, kind: &str, namespace: &str, name: &str) -> Option<Value> {
        let id = self.id(api_version, kind, namespace, name);
        self.state.store().get(&id).map(apply::shown)
    }

    /// All objects of a kind.
    pub fn all(&self, api_version: &str, kind: &str) -> Vec<Value> {
        let id = self.id(api_version, kind, "", "");
        let store = self.state.store();
        store.list(&id.resource, None, None).map(|(_, object)| apply::shown(object)).collect()
    }

    /// Makes a token that TokenReview knows, and returns its text.
    pub fn token(&self, token: Token) -> String {
        self.state.new_token(token)
    }

    /// Has TokenReview know a token no more.
    pub fn revoke(&self, token: &str) {
        self.state.tokens.lock().unwrap().remove(token);
    }

    /// Says where the Service of a webhook is reached.
    pub fn service(&self, name: &str, address: SocketAddr) {
        self.state.services.lock().unwrap().insert(name.into(), address);
    }

    /// Every different request so far.
    pub fn asked(&self) -> Vec<Asked> {
        let mut asked = self.state.asked.lock().unwrap().clone();
        asked.sort();
        asked.dedup();
        asked
    }

    /// Forgets all changes until now, and tells every watch so: 410 Gone.
    pub fn compact(&self) {
        self.state.store().compact();
        self.state.faults.expire_watches();
    }

    fn id(&self, api_version: &str, kind: &str, namespace: &str, name: &str) -> Id {
        let object = json!({"apiVersion": api_version, "kind": kind,
            "metadata": {"namespace": namespace, "name": name}});
        self.state.id_of(&object).unwrap_or_else(|| panic!("{api_version} {kind} is not served"))
    }
}

impl Drop for ApiServer {
    fn drop(&mut self) {
        if let Some(serving) = self.serving.lock().unwrap().take() {
            serving.abort();
        }
    }
}

impl State {
    fn new() -> Self {
        let store = Store::new();
        let (changed, _) = watch::channel(store.version());
        Self {
            store: Mutex::new(store),
            changed,
            resources: Mutex::new(Resource::built_in()),
            faults: Faults::default(),
            tokens: Mutex::default(),
            asked: Mutex::default(),
            services: Mutex::default(),
        }
    }

    fn store(&self) -> MutexGuard<'_, Store> {
        self.store.lock().unwrap()
    }

    /// Changes the store, and tells the watches.
    fn write<T>(&self, change: impl FnOnce(&mut Store) -> T) -> T {
        let mut store = self.store();
        let outcome = change(&mut store);
        self.changed.send_replace(store.version());
        outcome
    }

    /// The resource of this version and name in paths.
    fn resource(&self, api_version: &str, plural: &str) -> Option<Resource> {
        let resources = self.resources.lock().unwrap();
        let this = |resource: &&Resource| {
            resource.plural == plural && resource.api_version() == api_version
        };
        resources.iter().find(this).cloned()
    }

    fn id_of(&self, object: &Value) -> Option<Id> {
        let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
        let (api_version, kind) = (text(&object["apiVersion"]), text(&object["kind"]));
        let resources = self.resources.lock().unwrap();
        let this =
            |resource: &&Resource| resource.kind == kind && resource.api_version() == api_version;
        let resource = resources.iter().find(this)?.clone();
        let metadata = &object["metadata"];
        let namespace = match (resource.namespaced, text(&metadata["namespace"])) {
            (false, _) => String::new(),
            (true, namespace) => namespace,
        };
        Some(Id { resource, namespace, name: text(&metadata["name"]) })
    }
}
