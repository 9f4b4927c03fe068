//! What the control plane writes into its cluster: sidecars into new pods, statuses, Events, and
//! who of several replicas does it.

use std::time::Duration;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Value, json};
use tests::apiserver::Failure;
use tests::cluster::{Cluster, until_webhook_is_believed};
use tests::load::Load;
use tests::poll::{self, SOON};

pub(crate) const GATEWAY: &str = "gateway.networking.k8s.io/v1";
const API: &str = "http://api.shop";

/// A Lease that nobody renews may be taken after half a minute.
pub(crate) const LEASE: Duration = Duration::from_secs(90);

pub(crate) fn pod(annotations: &Value, spec: &Value) -> Value {
    let mut pod = json!({
        "apiVersion": "v1", "kind": "Pod",
        "metadata": {
            "generateName": "api-7d9f-", "namespace": "shop", "labels": {"app": "api"},
            "annotations": annotations,
            "ownerReferences": [{"apiVersion": "apps/v1", "kind": "ReplicaSet", "name": "api-7d9f",
                                 "uid": "owner-1", "controller": true}],
        },
        "spec": {"serviceAccountName": "api", "containers": [{"name": "app", "image": "app:1"}]},
    });
    for (field, value) in spec.as_object().unwrap() {
        pod["spec"][field] = value.clone();
    }
    pod
}

/// A cluster whose namespace `shop` wants sidecars, and whose webhook is believed.
pub(crate) async fn injecting() -> Cluster {
    let cluster = Cluster::start().await;
    cluster.api.namespace("shop", &json!({"pillion.dev/inject": "enabled"}));
    cluster.install_webhook();
    until_webhook_is_believed(&cluster.api).await;
    cluster
}

fn names(list: &Value) -> Vec<&str> {
    list.as_array().into_iter().flatten().filter_map(|one| one["name"].as_str()).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_pod_of_a_labelled_namespace_gets_one_sidecar_though_it_is_asked_about_twice() {
    let cluster = injecting().await;
    let made = poll::until("a pod is made", SOON, async || {
        cluster.api.create(&pod(&json!({}), &json!({}))).await
    })
    .await;
    let spec = &made["spec"];
    assert_eq!(names(&spec["initContainers"]), ["pillion-init", "pillion-proxy"]);
    assert_eq!(names(&spec["containers"]), ["app"]);
    let mut volumes = names(&spec["volumes"]);
    volumes.sort_unstable();
    assert_eq!(volumes, ["kube-api-access-stub1", "pillion-state", "pillion-token"]);
    assert_eq!(made["metadata"]["annotations"]["pillion.dev/sidecar"], "enabled");
    let env = spec["initContainers"][1]["env"].as_array().unwrap();
    let value = |name: &str| env.iter().find(|one| one["name"] == name).unwrap()["value"].clone();
    let bundle = std::fs::read_to_string(cluster.mesh.bundle()).unwrap();
    assert_eq!(value("PILLION_TRUST_BUNDLE"), bundle, "the roots of this mesh");
    assert_eq!(value("PILLION_CONTROL_PLANE"), "pillion-control-plane.pillion-system.svc:15010");
    let metrics = cluster.mesh.metrics().await;
    assert_eq!(metrics.sum("pillion_injections_total", &[("outcome", "injected")]), 1.0);
    assert_eq!(metrics.sum("pillion_injections_total", &[("outcome", "skipped")]), 1.0);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_not_injected_is_told_by_an_event_on_the_owner() {
    let cluster = injecting().await;
    let created = async |pod: &Value| {
        poll::until("the webhook answers", SOON, async || match cluster.api.create(pod).await {
            Err(Failure { message, .. }) if message.contains("failed calling") => Err(message),
            answer => Ok(answer),
        })
        .await
    };
    let windows = json!({"nodeSelector": {"kubernetes.io/os": "windows"}});
    let windows = created(&pod(&json!({}), &windows)).await.unwrap();
    assert_eq!(names(&windows["spec"]["initContainers"]), [""; 0]);
    let wrong = pod(&json!({"pillion.dev/skip-inbound-ports": "80,x"}), &json!({}));
    let refused = created(&wrong).await.unwrap_err();
    assert!(refused.message.contains("pillion.dev/skip-inbound-ports"), "{refused:?}");
    let out = created(&pod(&json!({"pillion.dev/inject": "disabled"}), &json!({}))).await.unwrap();
    assert_eq!(names(&out["spec"]["initContainers"]), [""; 0]);
    let events = poll::until("two Events", SOON, async || {
        let events = cluster.api.all("events.k8s.io/v1", "Event");
        if events.len() >= 2 { Ok(events) } else { Err(events) }
    })
    .await;
    assert_eq!(events.len(), 2, "who says no itself wants no Event: {events:?}");
    for (reason, note) in
        [("InjectionSkipped", "windows"), ("InjectionRefused", "skip-inbound-ports")]
    {
        let event = events.iter().find(|event| event["reason"] == reason).unwrap();
        assert!(event["note"].as_str().unwrap().contains(note), "{event}");
        assert_eq!(event["regarding"]["kind"], "ReplicaSet");
        assert_eq!(event["regarding"]["uid"], "owner-1");
    }
}

/// The conditions of a route's status for our controller, as `type=status/reason`.
fn conditions(route: &Value) -> Vec<String> {
    let parents = route["status"]["parents"].as_array().map(Vec::as_slice).unwrap_or_default();
    let ours = parents.iter().filter(|one| one["controllerName"] == "pillion.dev/control-plane");
    let all = ours.flat_map(|one| one["conditions"].as_array().unwrap());
    let text = |value: &Value| value.as_str().unwrap().to_owned();
    all.map(|one| {
        format!("{}={}/{}", text(&one["type"]), text(&one["status"]), text(&one["reason"]))
    })
    .collect()
}

pub(crate) fn route(backend: &str) -> Value {
    json!({
        "apiVersion": GATEWAY, "kind": "HTTPRoute", "metadata": {"name": "r", "namespace": "shop"},
        "spec": {"parentRefs": [{"group": "", "kind": "Service", "name": "api"}],
                 "rules": [{"backendRefs": [{"name": backend, "port": 80}]}]},
    })
}

async fn until_conditions(cluster: &Cluster, expected: [&str; 2], limit: Duration) -> Value {
    poll::until(&format!("the route is {expected:?}"), limit, async || {
        let route = cluster.api.get(GATEWAY, "HTTPRoute", "shop", "r").unwrap();
        if conditions(&route) == expected { Ok(route) } else { Err(route["status"].clone()) }
    })
    .await
}

const GOOD: [&str; 2] = ["Accepted=True/Accepted", "ResolvedRefs=True/ResolvedRefs"];
const GONE: [&str; 2] = ["Accepted=True/Accepted", "ResolvedRefs=False/BackendNotFound"];

#[tokio::test(flavor = "multi_thread")]
async fn routes_and_policies_say_in_their_status_what_became_of_them() {
    let cluster = Cluster::start().await;
    cluster.service("shop/api");
    let mut first = route("api");
    // What another controller says of its own parent.
    let other = json!({"parentRef": {"name": "gateway"}, "controllerName": "example.com/c", "conditions": []});
    first["status"] = json!({"parents": [other]});
    cluster.api.put(&first);
    let good = until_conditions(&cluster, GOOD, SOON).await;
    assert_eq!(good["status"]["parents"][0], other);
    let ours = &good["status"]["parents"][1];
    assert_eq!(ours["parentRef"], json!({"group": "", "kind": "Service", "name": "api"}));
    assert_eq!(ours["conditions"][0]["observedGeneration"], good["metadata"]["generation"]);
    let mut second = good.clone();
    second["spec"] = route("gone")["spec"].clone();
    let second = cluster.api.put(&second);
    assert_eq!(second["metadata"]["generation"], 2);
    let gone = until_conditions(&cluster, GONE, SOON).await;
    let conditions = &gone["status"]["parents"][1]["conditions"];
    assert_eq!(conditions[1]["observedGeneration"], 2);
    let time = |route: &Value| {
        route["status"]["parents"][1]["conditions"][0]["lastTransitionTime"].clone()
    };
    assert_eq!(time(&gone), time(&good), "Accepted has not changed");
    let policy = |name: &str, plaintext: &str| {
        cluster.api.put(&json!({
            "apiVersion": "pillion.dev/v1alpha1", "kind": "InboundPolicy",
            "metadata": {"name": name, "namespace": "shop"}, "spec": {"plaintext": plaintext},
        }));
    };
    cluster.pod_object("shop/api-1", cluster.mesh.free_address());
    policy("a", "Deny");
    policy("b", "Allow");
    poll::until("the policies have their statuses", SOON, async || {
        let status = |name: &str| {
            let policy = cluster.api.get("pillion.dev/v1alpha1", "InboundPolicy", "shop", name);
            policy.unwrap()["status"]["conditions"][0].clone()
        };
        let (a, b) = (status("a"), status("b"));
        let seen = [&a["status"], &a["reason"], &b["status"], &b["reason"]].map(Clone::clone);
        if seen == ["True", "Accepted", "False", "Conflicted"] { Ok(()) } else { Err(seen) }
    })
    .await;
    // An object that cannot be in force is told of.
    policy("c", "Perhaps");
    poll::until("an Event says so", SOON, async || {
        let events = cluster.api.all("events.k8s.io/v1", "Event");
        let refused =
            |event: &&Value| event["regarding"]["name"] == "c" && event["reason"] == "Refused";
        if events.iter().any(|event| refused(&event)) { Ok(()) } else { Err(events) }
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_refused_from_the_start_says_so_in_its_status() {
    let cluster = Cluster::start().await;
    let mut route = route("api");
    route["spec"]["rules"][0]["backendRefs"][0]["port"] = json!(70_000);
    let gateway = json!({"name": "a-gateway"});
    route["spec"]["parentRefs"].as_array_mut().unwrap().push(gateway);
    cluster.api.put(&route);
    cluster.api.put(&json!({
        "apiVersion": "pillion.dev/v1alpha1", "kind": "InboundPolicy",
        "metadata": {"name": "p", "namespace": "shop"}, "spec": {"plaintext": "Perhaps"},
    }));
    let route = poll::until("the route says so", SOON, async || {
        let route = cluster.api.get(GATEWAY, "HTTPRoute", "shop", "r").unwrap();
        let said = conditions(&route) == ["Accepted=False/UnsupportedValue"];
        if said { Ok(route) } else { Err(route["status"].clone()) }
    })
    .await;
    let message = &route["status"]["parents"][0]["conditions"][0]["message"];
    assert!(message.as_str().unwrap().contains("backendRefs[0].port"), "{message}");
    poll::until("the policy says so", SOON, async || {
        let policy = cluster.api.get("pillion.dev/v1alpha1", "InboundPolicy", "shop", "p").unwrap();
        let condition = policy["status"]["conditions"][0].clone();
        let said = condition["status"] == "False" && condition["reason"] == "UnsupportedValue";
        if said { Ok(()) } else { Err(policy["status"].clone()) }
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn any_replica_may_be_killed_under_load() {
    let cluster = Cluster::start().await;
    let second = cluster.replica().await;
    cluster.service("shop/api");
    let api = cluster.server("shop/api-1").await;
    cluster.endpoints("shop/api", &[&api]);
    let web = cluster.pod("shop/web-1").start().await;
    web.until_answered_by(API, 1).await;
    // The authority is one, whoever made it.
    let bundles = [cluster.mesh.bundle(), second.bundle()].map(|file| std::fs::read(file).unwrap());
    assert_eq!(bundles[0], bundles[1]);
    cluster.api.put(&route("api"));
    until_conditions(&cluster, GOOD, SOON).await;
    let load = Load::get(web.proxy(), API, 100);
    cluster.mesh.control_plane().kill();
    load.run_for(200).await;
    // The other one serves, signs, and in time leads.
    let address = second.free_address();
    let uid = cluster.pod_object("shop/web-2", address);
    let token = tests::apiserver::Token::new("shop", "web", tests::cluster::AUDIENCE);
    let token = cluster.token_file("web-2", token.bound_to("web-2", &uid));
    let files = [token, second.bundle()].map(|file| file.to_str().unwrap().to_owned());
    let other = second.pod("shop/web-2").address(address).without_token();
    let other = other.flags(["--token-file", &files[0], "--trust-bundle-file", &files[1]]);
    let other = other.start().await;
    other.until_answered_by(API, 1).await;
    cluster.api.put(&route("gone"));
    until_conditions(&cluster, GONE, LEASE).await;
    cluster.api.put(&route("api"));
    until_conditions(&cluster, GOOD, SOON).await;
    cluster.mesh.restart_control_plane().await;
    second.control_plane().kill();
    load.run_for(200).await;
    let report = load.stop().await;
    // While the route led nowhere a sidecar of the killed replica knew nothing of it.
    report.assert_clean(400);
}

/// Puts a certificate into the Secret that nobody can read: it must be replaced at once.
pub(crate) fn spoil_the_certificate(cluster: &Cluster) {
    let secret = cluster.api.get("v1", "Secret", "pillion-system", "pillion-injector-tls");
    let mut secret = secret.unwrap();
    secret["data"]["tls.crt"] = json!("eA==");
    cluster.api.put(&secret);
}

/// How many authorities each webhook believes.
fn believed(cluster: &Cluster) -> Vec<usize> {
    let configurations =
        cluster.api.all("admissionregistration.k8s.io/v1", "MutatingWebhookConfiguration");
    let webhooks = configurations[0]["webhooks"].as_array().unwrap();
    let count = |webhook: &Value| {
        let bundle = webhook["clientConfig"]["caBundle"].as_str().unwrap();
        let bundle = STANDARD.decode(bundle).unwrap();
        String::from_utf8(bundle).unwrap().matches("BEGIN CERTIFICATE").count()
    };
    webhooks.iter().map(count).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn an_authority_whose_secret_is_taken_away_is_put_back_and_stays_the_same() {
    let cluster = Cluster::start().await;
    let secret = || cluster.api.get("v1", "Secret", "pillion-system", "pillion-ca");
    let before = secret().unwrap()["data"].clone();
    let take_away = || assert!(cluster.api.remove("v1", "Secret", "pillion-system", "pillion-ca"));
    take_away();
    poll::until_true("the Secret is back", LEASE, async || secret().is_some()).await;
    assert_eq!(secret().unwrap()["data"], before);
    // Also by a control plane that finds none when it starts.
    take_away();
    cluster.mesh.restart_control_plane().await;
    assert_eq!(secret().unwrap()["data"], before);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_certificate_that_must_go_is_replaced_and_no_pod_misses_its_sidecar() {
    let cluster = injecting().await;
    poll::until("a pod is made", SOON, async || {
        cluster.api.create(&pod(&json!({}), &json!({}))).await
    })
    .await;
    let secret =
        || cluster.api.get("v1", "Secret", "pillion-system", "pillion-injector-tls").unwrap();
    let first = secret()["data"]["ca.crt"].clone();
    spoil_the_certificate(&cluster);
    poll::until("another certificate is in use", LEASE, async || {
        let made = cluster.api.create(&pod(&json!({}), &json!({}))).await.unwrap();
        assert_eq!(names(&made["spec"]["initContainers"]), ["pillion-init", "pillion-proxy"]);
        let now = secret();
        if now["data"]["ca.crt"] == first { Err(now["data"].clone()) } else { Ok(()) }
    })
    .await;
    assert_eq!(believed(&cluster), [2, 2], "a replica may still serve with the old one");
    cluster.api.create(&pod(&json!({}), &json!({}))).await.unwrap();
}
