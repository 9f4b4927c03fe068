//! What the tests' API server does, and a real one: the same functions ask both. A real one is
//! asked when `PILLION_TEST_KUBECONFIG` names its kubeconfig.

use std::io::Write;
use std::path::PathBuf;
use std::pin::pin;

use futures_util::StreamExt;
use k8s_openapi::api::authentication::v1::TokenReview;
use k8s_openapi::api::coordination::v1::Lease;
use k8s_openapi::api::core::v1::{ConfigMap, Namespace, Pod, Secret};
use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
use kube::api::{
    ApiResource, DynamicObject, GroupVersionKind, ListParams, Patch, PatchParams, PostParams,
    WatchEvent, WatchParams,
};
use kube::config::{KubeConfigOptions, Kubeconfig};
use kube::{Api, Client, Config, Error};
use serde_json::json;
use tests::apiserver::ApiServer;
use tests::mesh::{Mesh, Options};
use tests::poll::{self, SOON};

/// The variable with the kubeconfig of a real API server.
const KUBECONFIG: &str = "PILLION_TEST_KUBECONFIG";

/// A namespace on a server, of this test's own.
struct Scene {
    client: Client,
    kubeconfig: PathBuf,
    namespace: String,
}

impl Scene {
    async fn new(kubeconfig: PathBuf, name: &str) -> Self {
        let config = Kubeconfig::read_from(&kubeconfig).unwrap();
        let options = KubeConfigOptions::default();
        let config = Config::from_custom_kubeconfig(config, &options).await.unwrap();
        let client = Client::try_from(config).unwrap();
        let namespace = format!("pillion-test-{name}-{}", std::process::id());
        let object = serde_json::from_value(json!({"metadata": {"name": namespace}})).unwrap();
        let namespaces: Api<Namespace> = Api::all(client.clone());
        namespaces.create(&PostParams::default(), &object).await.unwrap();
        Self { client, kubeconfig, namespace }
    }

    fn maps(&self) -> Api<ConfigMap> {
        Api::namespaced(self.client.clone(), &self.namespace)
    }

    async fn map(&self, name: &str) -> ConfigMap {
        let map = serde_json::from_value(json!({"metadata": {"name": name}, "data": {"a": "1"}}));
        self.maps().create(&PostParams::default(), &map.unwrap()).await.unwrap()
    }

    async fn end(self) {
        let namespaces: Api<Namespace> = Api::all(self.client.clone());
        namespaces.delete(&self.namespace, &kube::api::DeleteParams::default()).await.unwrap();
    }
}

/// Does the same with the stub and, where there is one, with a real server.
async fn on_both(name: &str, check: impl AsyncFn(&Scene)) {
    let stub = ApiServer::start().await;
    stub.install_own_kinds();
    let dir = tempfile::tempdir().unwrap();
    check(&Scene::new(stub.kubeconfig(dir.path()), name).await).await;
    let Some(file) = std::env::var_os(KUBECONFIG) else {
        // Past the test runner, which keeps to itself what a test that passes prints.
        let said = writeln!(
            std::io::stderr(),
            "{name}: {KUBECONFIG} is not set: only the stub was asked, no real API server"
        );
        return said.unwrap();
    };
    let scene = Scene::new(file.into(), name).await;
    check(&scene).await;
    scene.end().await;
}

fn code<T: std::fmt::Debug>(result: kube::Result<T>) -> (u16, String) {
    match result {
        Err(Error::Api(status)) => (status.code, status.reason.clone()),
        other => panic!("a Status is expected: {other:?}"),
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn lists_come_in_pages_of_one_version() {
    on_both("pages", async |scene| {
        for index in 0..5 {
            scene.map(&format!("m{index}")).await;
        }
        let ours = |map: &ConfigMap| !is_of_the_cluster(map);
        let (mut names, mut next) = (Vec::new(), None);
        loop {
            let params = ListParams { limit: Some(2), continue_token: next, ..Default::default() };
            let page = scene.maps().list(&params).await.unwrap();
            assert!(page.items.len() <= 2);
            assert!(page.metadata.resource_version.is_some());
            names.extend(page.items.into_iter().filter(ours).map(|map| map.metadata.name.unwrap()));
            next = page.metadata.continue_.filter(|token| !token.is_empty());
            if next.is_none() {
                break;
            }
        }
        assert_eq!(names, ["m0", "m1", "m2", "m3", "m4"]);
    })
    .await;
}

/// A real cluster puts ConfigMaps of its own into each namespace, when it comes to it.
fn is_of_the_cluster(map: &ConfigMap) -> bool {
    map.metadata.name.as_deref().is_some_and(|name| name.ends_with(".crt"))
}

/// The next event of a map of ours, as `VERB NAME`.
async fn next(
    events: &mut (impl StreamExt<Item = kube::Result<WatchEvent<ConfigMap>>> + Unpin),
) -> String {
    let name = |map: ConfigMap| map.metadata.name.unwrap();
    loop {
        let event = tokio::time::timeout(SOON, events.next()).await.expect("an event");
        return match event.expect("a watch that lasts").unwrap() {
            WatchEvent::Bookmark(_) => continue,
            WatchEvent::Added(map) | WatchEvent::Modified(map) if is_of_the_cluster(&map) => {
                continue;
            }
            WatchEvent::Added(map) => format!("ADDED {}", name(map)),
            WatchEvent::Modified(map) => format!("MODIFIED {}", name(map)),
            WatchEvent::Deleted(map) => format!("DELETED {}", name(map)),
            WatchEvent::Error(status) => format!("ERROR {}", status.code),
        };
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_watch_goes_on_from_its_version_and_one_that_is_too_old_is_gone() {
    on_both("watch", async |scene| {
        let first = scene.map("m").await.metadata.resource_version.unwrap();
        let params = WatchParams::default();
        let events = scene.maps().watch(&params, &first).await.unwrap();
        let mut events = pin!(events);
        scene.map("n").await;
        assert_eq!(next(&mut events).await, "ADDED n");
        let patch = Patch::Merge(json!({"data": {"a": null, "b": "2"}}));
        let patched = scene.maps().patch("m", &PatchParams::default(), &patch).await.unwrap();
        assert_eq!(patched.data.unwrap(), [("b".to_owned(), "2".to_owned())].into());
        assert_eq!(next(&mut events).await, "MODIFIED m");
        scene.maps().delete("m", &kube::api::DeleteParams::default()).await.unwrap();
        assert_eq!(next(&mut events).await, "DELETED m");
        let old = scene.maps().watch(&params, "1").await.unwrap();
        assert_eq!(next(&mut pin!(old)).await, "ERROR 410");
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_streaming_list_says_where_it_ends() {
    on_both("stream", async |scene| {
        for name in ["m", "n"] {
            scene.map(name).await;
        }
        let params =
            WatchParams { send_initial_events: true, bookmarks: true, ..Default::default() };
        let events = scene.maps().watch(&params, "").await.unwrap();
        let (mut events, mut names) = (pin!(events), Vec::new());
        loop {
            match tokio::time::timeout(SOON, events.next()).await.unwrap().unwrap().unwrap() {
                WatchEvent::Added(map) => names.push(map.metadata.name.unwrap()),
                WatchEvent::Bookmark(bookmark) => {
                    let annotations = bookmark.metadata.annotations;
                    if annotations.contains_key("k8s.io/initial-events-end") {
                        break;
                    }
                }
                other => panic!("{other:?}"),
            }
        }
        names.retain(|name| name.len() == 1);
        names.sort_unstable();
        assert_eq!(names, ["m", "n"]);
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn refusals_say_why() {
    on_both("refusals", async |scene| {
        let missing = scene.maps().get("missing").await;
        assert_eq!(code(missing), (404, "NotFound".into()));
        let map = scene.map("m").await;
        let again = scene.maps().create(&PostParams::default(), &fresh(&map)).await;
        assert_eq!(code(again), (409, "AlreadyExists".into()));
        let mut stale = scene.maps().get("m").await.unwrap();
        scene.maps().replace("m", &PostParams::default(), &changed(&map, "2")).await.unwrap();
        stale.data = Some([("a".to_owned(), "3".to_owned())].into());
        let lost = scene.maps().replace("m", &PostParams::default(), &stale).await;
        assert_eq!(code(lost), (409, "Conflict".into()));
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_kind_without_its_crd_is_refused_in_plain_text() {
    on_both("crd", async |scene| {
        let path = "/apis/nothing.pillion.dev/v1/things?watch=true";
        let request = http::Request::get(path).body(kube::client::Body::empty()).unwrap();
        let response = scene.client.send(request).await.unwrap();
        assert_eq!(response.status(), 404);
        let body = response.into_body().collect_bytes().await.unwrap();
        assert_eq!(body, "404 page not found\n");
    })
    .await;
}

fn fresh(map: &ConfigMap) -> ConfigMap {
    let mut map = map.clone();
    map.metadata.resource_version = None;
    map.metadata.uid = None;
    map
}

fn changed(map: &ConfigMap, value: &str) -> ConfigMap {
    let data = Some([("a".to_owned(), value.to_owned())].into());
    ConfigMap { data, ..map.clone() }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_field_that_another_manager_applied_is_a_conflict() {
    on_both("apply", async |scene| {
        let leases: Api<Lease> = Api::namespaced(scene.client.clone(), &scene.namespace);
        let wanted = |holder: &str| {
            Patch::Apply(json!({
                "apiVersion": "coordination.k8s.io/v1", "kind": "Lease",
                "metadata": {"name": "l"}, "spec": {"holderIdentity": holder},
            }))
        };
        let by = PatchParams::apply;
        leases.patch("l", &by("one"), &wanted("a")).await.unwrap();
        leases.patch("l", &by("two"), &wanted("a")).await.unwrap();
        let refused = leases.patch("l", &by("two"), &wanted("b")).await;
        assert_eq!(code(refused), (409, "Conflict".into()));
        let forced = leases.patch("l", &by("two").force(), &wanted("b")).await.unwrap();
        assert_eq!(forced.spec.unwrap().holder_identity.as_deref(), Some("b"));
        let managers = forced.metadata.managed_fields.unwrap_or_default();
        assert!(managers.iter().any(|one| one.manager.as_deref() == Some("two")), "{managers:?}");
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_status_is_a_part_of_its_own() {
    on_both("status", async |scene| {
        let pods: Api<Pod> = Api::namespaced(scene.client.clone(), &scene.namespace);
        let pod = json!({
            "metadata": {"name": "p"},
            "spec": {"automountServiceAccountToken": false, "nodeName": "nowhere",
                     "containers": [{"name": "a", "image": "a"}]},
            "status": {"message": "from its maker"},
        });
        let made = pods.create(&PostParams::default(), &serde_json::from_value(pod).unwrap()).await;
        assert_eq!(made.unwrap().status.unwrap_or_default().message, None);
        let patch = Patch::Merge(json!({"status": {"message": "by its subresource"}}));
        let patched = pods.patch_status("p", &PatchParams::default(), &patch).await.unwrap();
        assert_eq!(patched.status.unwrap().message.as_deref(), Some("by its subresource"));
        let patch =
            Patch::Merge(json!({"metadata": {"labels": {"a": "b"}}, "status": {"message": "x"}}));
        let patched = pods.patch("p", &PatchParams::default(), &patch).await.unwrap();
        assert_eq!(patched.status.unwrap().message.as_deref(), Some("by its subresource"));
        let now = pods.delete("p", &kube::api::DeleteParams::default().grace_period(0)).await;
        now.unwrap();
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_token_that_is_none_is_not_authenticated() {
    on_both("token", async |scene| {
        let review =
            json!({"metadata": {}, "spec": {"token": "none", "audiences": ["pillion.dev"]}});
        let review: TokenReview = serde_json::from_value(review).unwrap();
        let reviews: Api<TokenReview> = Api::all(scene.client.clone());
        let status = reviews.create(&PostParams::default(), &review).await.unwrap().status.unwrap();
        assert_ne!(status.authenticated, Some(true));
        assert!(status.error.is_some_and(|error| error.contains("invalid bearer token")));
        assert_eq!(status.audiences, None);
    })
    .await;
}

/// The API of our own kinds in a namespace, whose CRD is installed where it is not.
async fn policies(scene: &Scene) -> Api<DynamicObject> {
    let text = include_str!("../../deploy/base/crds/inboundpolicies.yaml");
    let crd: CustomResourceDefinition = serde_norway::from_str(text).unwrap();
    let crds: Api<CustomResourceDefinition> = Api::all(scene.client.clone());
    // The stub serves no CRDs, and has the kind.
    let made = crds.create(&PostParams::default(), &crd).await;
    assert!(made.is_ok() || [404, 409].contains(&code(made).0));
    let kind = GroupVersionKind::gvk("pillion.dev", "v1alpha1", "InboundPolicy");
    let resource = ApiResource::from_gvk_with_plural(&kind, "inboundpolicies");
    Api::namespaced_with(scene.client.clone(), &scene.namespace, &resource)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_control_plane_keeps_its_authority_leads_and_writes_statuses() {
    on_both("control-plane", async |scene| {
        let policies = policies(scene).await;
        let (kubeconfig, namespace) = (scene.kubeconfig.clone(), scene.namespace.clone());
        let options = Options {
            kubeconfig: Some(kubeconfig),
            namespace: Some(namespace.clone()),
            ..Options::default()
        };
        let mesh = Mesh::with(options).await;
        let secrets: Api<Secret> = Api::namespaced(scene.client.clone(), &namespace);
        let authority = secrets.get("pillion-ca").await.unwrap().data.unwrap();
        assert_eq!(authority["root.pem"].0, std::fs::read(mesh.bundle()).unwrap());
        let leases: Api<Lease> = Api::namespaced(scene.client.clone(), &namespace);
        poll::until("it leads", SOON, async || {
            let lease = leases.get("pillion-control-plane").await.map_err(|e| e.to_string())?;
            let holder = lease.spec.and_then(|spec| spec.holder_identity);
            holder.ok_or_else(|| "nobody leads".to_owned())
        })
        .await;

        let policy = |plaintext: &str| {
            serde_json::from_value(json!({
                "apiVersion": "pillion.dev/v1alpha1", "kind": "InboundPolicy",
                "metadata": {"name": "all"}, "spec": {"plaintext": plaintext},
            }))
        };
        policies.create(&PostParams::default(), &policy("Deny").unwrap()).await.unwrap();
        until_accepted(&policies, 1).await;
        let change = Patch::Merge(json!({"spec": {"plaintext": "Allow"}}));
        policies.patch("all", &PatchParams::default(), &change).await.unwrap();
        until_accepted(&policies, 2).await;
    })
    .await;
}

/// Waits until the control plane has accepted this generation of the policy.
async fn until_accepted(policies: &Api<DynamicObject>, generation: i64) {
    poll::until(&format!("generation {generation} is accepted"), SOON, async || {
        let policy = policies.get("all").await.unwrap();
        let condition = &policy.data["status"]["conditions"][0];
        let seen = (&condition["type"], &condition["status"], &condition["observedGeneration"]);
        let wanted = (&json!("Accepted"), &json!("True"), &json!(generation));
        if seen == wanted { Ok(()) } else { Err(format!("{:?}", policy.data)) }
    })
    .await;
}
