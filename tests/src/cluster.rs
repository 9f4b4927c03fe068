//! A mesh whose objects come from an API server, and whose sidecars prove themselves by their
//! pods' tokens.

use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Value, json};

use crate::apiserver::{ApiServer, Token};
use crate::app::App;
use crate::bins::workspace;
use crate::kept::Kept;
use crate::mesh::{Mesh, Options};
use crate::pod::{APP_PORT, Pod, PodBuilder};
use crate::poll::{self, SOON};
use crate::yaml;

/// The audience of tokens for the control plane.
pub const AUDIENCE: &str = "pillion.dev";

/// An API server with a mesh on it.
#[derive(Debug)]
pub struct Cluster {
    /// The control plane, and addresses for pods.
    pub mesh: Mesh,
    /// The API server.
    pub api: ApiServer,
    dir: Kept,
}

impl Cluster {
    /// Starts both, and waits until the control plane is ready.
    pub async fn start() -> Self {
        Self::on(ApiServer::start().await).await
    }

    /// Starts a control plane on an API server that has the Gateway API's CRDs.
    pub async fn on(api: ApiServer) -> Self {
        Self::with(api, Options::default()).await
    }

    /// The same with these options.
    pub async fn with(api: ApiServer, options: Options) -> Self {
        api.install_gateway_api();
        api.install_own_kinds();
        for namespace in ["pillion-system", "shop"] {
            api.namespace(namespace, &json!({}));
        }
        let dir = Kept::new("pillion-cluster-");
        let kubeconfig = Some(api.kubeconfig(dir.path()));
        let mesh = Mesh::with(Options { kubeconfig, ..options }).await;
        Self { mesh, api, dir }
    }

    /// A second replica of the control plane, at addresses of its own.
    pub async fn replica(&self) -> Mesh {
        let kubeconfig = Some(self.api.kubeconfig(self.dir.path()));
        Mesh::with(Options { kubeconfig, ..Options::default() }).await
    }

    /// Has the API server ask the control plane about new pods, as `deploy/base` says.
    pub fn install_webhook(&self) {
        install_webhook(&self.api, self.mesh.webhook());
    }

    /// A kubeconfig for it.
    pub fn kubeconfig(&self) -> PathBuf {
        self.api.kubeconfig(self.dir.path())
    }

    /// Puts a Service `NAMESPACE/NAME` with port 80 in place, without endpoints.
    pub fn service(&self, name: &str) {
        let (namespace, name) = name.split_once('/').expect("NAMESPACE/NAME");
        self.api.put(&json!({
            "apiVersion": "v1", "kind": "Service",
            "metadata": {"name": name, "namespace": namespace},
            "spec": {"ports": [{"name": "main", "port": 80, "targetPort": APP_PORT}],
                     "selector": {"app": name}},
        }));
    }

    /// Puts the EndpointSlice of a Service in place, with these pods.
    pub fn endpoints(&self, service: &str, pods: &[&Pod]) {
        let (namespace, name) = service.split_once('/').expect("NAMESPACE/NAME");
        let endpoint = |pod: &&Pod| {
            json!({"addresses": [pod.address()], "conditions": {"ready": true},
                   "targetRef": {"kind": "Pod", "name": pod.name(), "namespace": namespace}})
        };
        let endpoints: Vec<Value> = pods.iter().map(endpoint).collect();
        self.api.put(&json!({
            "apiVersion": "discovery.k8s.io/v1", "kind": "EndpointSlice",
            "metadata": {"name": format!("{name}-1"), "namespace": namespace,
                         "labels": {"kubernetes.io/service-name": name}},
            "addressType": "IPv4",
            "ports": [{"name": "main", "port": APP_PORT, "protocol": "TCP"}],
            "endpoints": endpoints,
        }));
    }

    /// The object of a running pod `NAMESPACE/NAME` that has a sidecar. Gives its uid.
    pub fn pod_object(&self, name: &str, address: IpAddr) -> String {
        let (namespace, name) = name.split_once('/').expect("NAMESPACE/NAME");
        let account = name.split('-').next().unwrap();
        let pod = self.api.put(&json!({
            "apiVersion": "v1", "kind": "Pod",
            "metadata": {"name": name, "namespace": namespace, "labels": {"app": account},
                         "annotations": {"pillion.dev/sidecar": "enabled"}},
            "spec": {"serviceAccountName": account, "containers": [{"name": "app"}]},
            "status": {"phase": "Running", "podIP": address, "podIPs": [{"ip": address}],
                       "conditions": [{"type": "Ready", "status": "True"}]},
        }));
        pod["metadata"]["uid"].as_str().unwrap().to_owned()
    }

    /// The file of a token.
    pub fn token_file(&self, name: &str, token: Token) -> PathBuf {
        let file = self.dir.path().join(format!("{name}.token"));
        std::fs::write(&file, self.api.token(token)).unwrap();
        file
    }

    /// A pod `NAMESPACE/NAME-SUFFIX` of service account NAME, with its object and its token; to be
    /// described further and started.
    pub fn pod(&self, name: &str) -> PodBuilder<'_> {
        let address = self.mesh.free_address();
        let uid = self.pod_object(name, address);
        let (namespace, pod) = name.split_once('/').expect("NAMESPACE/NAME");
        let account = pod.split('-').next().unwrap();
        let token = Token::new(namespace, account, AUDIENCE).bound_to(pod, &uid);
        let token = self.token_file(pod, token);
        self.mesh.pod(name).address(address).unregistered().without_token().flags([
            "--token-file",
            token.to_str().unwrap(),
            "--trust-bundle-file",
            self.mesh.bundle().to_str().unwrap(),
        ])
    }

    /// A running pod with an application.
    pub async fn server(&self, name: &str) -> Pod {
        self.pod(name).app(App::http()).start().await
    }
}

/// A text as it stands in a Secret.
pub fn base64(text: &str) -> String {
    STANDARD.encode(text)
}

/// The objects of a file in `deploy/base`.
pub fn manifest(file: &str) -> Vec<Value> {
    let path = workspace().join("deploy/base").join(file);
    let text = std::fs::read_to_string(&path).unwrap();
    yaml::documents(&text)
}

/// Has an API server ask the webhook at this address about new pods, as `deploy/base` says.
pub fn install_webhook(api: &ApiServer, address: SocketAddr) {
    for object in manifest("webhook.yaml") {
        api.put(&object);
    }
    api.service("pillion-system/pillion-injector", address);
}

/// Waits until the API server has what the webhook's certificate chains to. From then on a webhook
/// that fails shows: it does not let pods pass. And it is asked twice about each.
pub async fn until_webhook_is_believed(api: &ApiServer) {
    let group = "admissionregistration.k8s.io/v1";
    poll::until_true("the webhook is believed", SOON, async || {
        let webhook = &api.all(group, "MutatingWebhookConfiguration")[0];
        let all = webhook["webhooks"].as_array().unwrap();
        all.iter().all(|one| one["clientConfig"]["caBundle"].is_string())
    })
    .await;
    for mut object in api.all(group, "MutatingWebhookConfiguration") {
        for webhook in object["webhooks"].as_array_mut().unwrap() {
            webhook["failurePolicy"] = json!("Fail");
            webhook["reinvocationPolicy"] = json!("IfNeeded");
        }
        api.put(&object);
    }
}
