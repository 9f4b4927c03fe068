//! An example of deploy/ in a house: its pods are injected by the webhook, and run as their
//! patched objects say, container by container. Nothing of the patch is repeated here.
//!
//! The API server is the stub of the tests, in the house's hub, which plays the node as well: from
//! there the kubelet's probes come. Controllers, scheduler, kubelet and DNS are this module:
//!
//! ```text
//! let shop = Example::open("shop").await;                // objects are there, pods are planned
//! let data = shop.start("data").await;                   // all pods of a workload, ready
//! let answer = shop.ask(place, "/healthz").await?;       // from the node
//! ```

mod container;
mod kubelet;
mod manifests;
mod network;
mod sandbox;

use std::fs;
use std::net::SocketAddr;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::sync::Mutex;
use std::time::Duration;

use futures_util::future::join_all;
use serde_json::{Value, json};

use super::control_plane::ControlPlane;
use super::door::Door;
use super::plan::{Plan, Stack};
use super::{Addresses, House, Options, Pod, User};
use crate::apiserver::ApiServer;
use crate::bins::{bins, workspace};
use crate::client::{self, Answer};
use crate::cluster;
use crate::poll::{self, SOON};
use crate::{process, tools};

use manifests::Manifests;
use sandbox::text;

/// The file of the house with the names of the cluster.
const HOSTS: &str = "example";

/// The port of the API server.
const API_SERVER: u16 = 6443;

/// An example whose objects are in place. Its pods are started one workload at a time.
#[derive(Debug)]
pub struct Example {
    // Dropped in this order: processes before their house.
    node: Door,
    _control_plane: ControlPlane,
    api: ApiServer,
    manifests: Manifests,
    pods: Vec<Planned>,
    /// The init container's binary with the capability that its image gives it.
    redirect: PathBuf,
    /// Held while endpoints are written, so that older ones never win.
    endpoints: Mutex<()>,
    house: House,
}

/// A pod that has a place on the node.
#[derive(Debug)]
struct Planned {
    name: String,
    addresses: Addresses,
    /// As the API server has it.
    object: Value,
}

impl Example {
    /// Opens the example of this name as it is.
    pub async fn open(name: &str) -> Self {
        Self::open_with(name, Stack::V4, |_| ()).await
    }

    /// Opens an example in a cluster of these IP versions, whose pods are changed by `edit` before
    /// they come to the API server.
    pub async fn open_with(name: &str, stack: Stack, edit: impl Fn(&mut Value)) -> Self {
        let house = House::start(Options { stack, ..Options::default() }).await;
        for part in ["volumes", "roots"] {
            fs::create_dir(house.path(part)).expect("a directory");
        }
        let api = api_server(&house);
        let home = house.home("control-plane", User::Nobody);
        let control_plane = ControlPlane::start(&house, Some(&api.kubeconfig(&home))).await;
        let manifests = Manifests::render(name).await;
        network::put(&house, &api, &manifests).await;
        let mut pods = manifests.pods();
        pods.iter_mut().for_each(edit);
        let pods = admit(&api, &control_plane, pods).await;
        let pods = plan(&house, &api, pods).await;
        network::write_hosts(&house, &api, &pods, control_plane.api().ip());
        let home = house.home("node", User::Nobody);
        let node = Door::open(house.hub.name(), &home, &house.logs(), "node").await;
        let redirect = with_capability(&house.path("pillion-redirect")).await;
        let endpoints = Mutex::default();
        Self {
            node,
            _control_plane: control_plane,
            api,
            manifests,
            pods,
            redirect,
            endpoints,
            house,
        }
    }

    /// Starts all pods of a workload (the label `app`), and waits until they are ready.
    ///
    /// # Panics
    /// When there are none, or one does not become ready.
    pub async fn start(&self, workload: &str) -> Vec<Pod> {
        let is_of = |pod: &&Planned| pod.object["metadata"]["labels"]["app"] == workload;
        let planned: Vec<&Planned> = self.pods.iter().filter(is_of).collect();
        assert!(!planned.is_empty(), "the example has no workload {workload}");
        join_all(planned.into_iter().map(|pod| Box::pin(kubelet::start(self, pod)))).await
    }

    /// Asks a place over HTTP from the node, where there is no mesh.
    ///
    /// # Errors
    /// When there is no response.
    pub async fn ask(&self, place: SocketAddr, path: &str) -> anyhow::Result<Answer> {
        let host = place.to_string();
        client::get_over(self.node.dial(&host).await?, &host, path).await
    }

    /// The pod of this name, as it was injected.
    ///
    /// # Panics
    /// When there is none.
    pub fn object(&self, pod: &str) -> &Value {
        let named = self.pods.iter().find(|planned| planned.name == pod);
        &named.unwrap_or_else(|| panic!("the example has no pod {pod}")).object
    }

    /// The pod takes traffic from now on.
    fn set_ready(&self, planned: &Planned) {
        let _held = self.endpoints.lock().unwrap();
        self.api.put(&kubelet::with_status(planned.object.clone(), planned.addresses, true));
        network::put_endpoints(&self.api);
    }
}

/// An API server in the hub of the house, with what is there before an example.
fn api_server(house: &House) -> ApiServer {
    let hub = Plan::hub(house.options.stack).first;
    let api = ApiServer::on(house.hub.listen(SocketAddr::new(hub, API_SERVER)));
    api.install_gateway_api();
    api.install_own_kinds();
    api.namespace("pillion-system", &json!({}));
    api
}

/// Makes each pod, as its controller does, with what the control plane's webhook adds.
async fn admit(api: &ApiServer, control_plane: &ControlPlane, pods: Vec<Value>) -> Vec<Value> {
    let webhook = control_plane.webhook().await;
    cluster::install_webhook(api, webhook.address);
    cluster::until_webhook_is_believed(api).await;
    let mut made = Vec::new();
    for pod in pods {
        // At first the certificate may be one that the API server does not know yet.
        made.push(poll::until("a pod is made", SOON, async || api.create(&pod).await).await);
    }
    made
}

/// Gives each pod its addresses.
async fn plan(house: &House, api: &ApiServer, pods: Vec<Value>) -> Vec<Planned> {
    let mut planned = Vec::new();
    for pod in pods {
        let addresses = house.change(|residents| residents.plan.next()).await;
        let object = api.put(&kubelet::with_status(pod, addresses, false));
        let name = text(&object["metadata"]["name"]).to_owned();
        planned.push(Planned { name, addresses, object });
    }
    planned
}

/// Copies the init container's binary and gives the copy the capability that deploy/build-images
/// gives the one of the image.
async fn with_capability(copy: &Path) -> PathBuf {
    fs::copy(&bins().redirect, copy).expect("a copy");
    fs::set_permissions(copy, fs::Permissions::from_mode(0o755)).expect("a mode");
    let script = fs::read_to_string(workspace().join("deploy/build-images")).expect("a script");
    let capability = script.lines().find_map(|line| {
        let (capability, file) = line.trim().strip_prefix("setcap ")?.split_once(' ')?;
        file.contains("pillion-redirect").then(|| capability.to_owned())
    });
    let capability = capability.expect("deploy/build-images sets a capability");
    let setcap = tools::find("setcap", "libcap2-bin");
    let args = [capability.as_str(), copy.to_str().expect("a path in UTF-8")];
    let output = process::run(&setcap, args, &[], Duration::from_secs(10)).await;
    assert_eq!(output.code, Some(0), "setcap: {output:?}");
    copy.to_owned()
}
