//! `pillion check` of a cluster: everything that a new operator gets wrong, each found with a fix.

use serde_json::{Value, json};
use tests::apiserver::Failure;
use tests::bins::bins;
use tests::cluster::{Cluster, manifest};
use tests::poll::{self, SOON};
use tests::process::{Output, run};

const VERSION: &str = env!("CARGO_PKG_VERSION");

/// A cluster in which all is well: what `deploy/` installs, and a pod in the mesh.
async fn well() -> Cluster {
    let cluster = Cluster::start().await;
    cluster.api.namespace("shop", &json!({"pillion.dev/inject": "enabled"}));
    cluster.install_webhook();
    deploy(&cluster, VERSION, 2);
    pod(&cluster, "api-1", &json!({"pillion.dev/injected": VERSION}));
    poll::until("all is well", SOON, async || match check(&cluster, &[]).await {
        Output { code: Some(0), stdout, .. } if !stdout.contains("warning") => Ok(()),
        output => Err(output),
    })
    .await;
    cluster
}

fn deploy(cluster: &Cluster, version: &str, available: u32) {
    cluster.api.put(&json!({
        "apiVersion": "apps/v1", "kind": "Deployment",
        "metadata": {"name": "pillion-control-plane", "namespace": "pillion-system"},
        "spec": {"replicas": 2, "template": {"spec": {"containers": [
            {"name": "control-plane", "image": format!("pillion-control-plane:{version}")}]}}},
        "status": {"availableReplicas": available},
    }));
}

fn pod(cluster: &Cluster, name: &str, annotations: &Value) {
    cluster.api.put(&json!({
        "apiVersion": "v1", "kind": "Pod",
        "metadata": {"name": name, "namespace": "shop", "labels": {"app": "api"},
                     "annotations": annotations},
        "spec": {"containers": [{"name": "app"}]}, "status": {"phase": "Running"},
    }));
}

async fn check(cluster: &Cluster, args: &[&str]) -> Output {
    let kubeconfig = cluster.kubeconfig();
    let environment = [("KUBECONFIG", kubeconfig.to_str().unwrap())];
    let words = ["check"].iter().chain(args);
    run(&bins().pillion, words, &environment, SOON).await
}

/// The check says this, with a fix in the next line, and has this exit code.
async fn assert_found(cluster: &Cluster, args: &[&str], code: i32, expected: &str) {
    let output = check(cluster, args).await;
    assert_eq!(output.code, Some(code), "{expected}: {output:?}");
    let mut lines = output.stdout.lines();
    assert!(lines.any(|line| line.starts_with(expected)), "{expected:?}: {output:?}");
    let fix = lines.next().unwrap_or_default();
    assert!(fix.starts_with("    ") && fix.ends_with('.'), "{expected:?} has a fix: {output:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_mesh_in_which_something_is_wrong_is_told_what_and_what_to_do() {
    let cluster = well().await;
    deploy(&cluster, "0.0.9", 2);
    assert_found(&cluster, &[], 0, "warning: the control plane is of version 0.0.9").await;
    deploy(&cluster, VERSION, 1);
    assert_found(&cluster, &[], 0, "warning: 1 of 2 replicas").await;
    deploy(&cluster, VERSION, 0);
    assert_found(&cluster, &[], 1, "error: 0 of 2 replicas").await;
    deploy(&cluster, VERSION, 2);
    cluster.api.faults().deny("create tokenreviews");
    assert_found(&cluster, &[], 1, "error: the control plane may not create tokenreviews").await;
    cluster.api.faults().clear();
    pod(&cluster, "api-2", &json!({}));
    assert_found(&cluster, &[], 1, "error: 1 pod without the sidecar that is wanted: shop/api-2")
        .await;
    pod(&cluster, "api-2", &json!({"pillion.dev/injected": "0.0.9"}));
    assert_found(&cluster, &[], 0, "warning: 1 pod with a sidecar of another version").await;
    assert!(cluster.api.remove("v1", "Pod", "shop", "api-2"));
    cluster.api.put(&json!({
        "apiVersion": "networking.k8s.io/v1", "kind": "NetworkPolicy",
        "metadata": {"name": "own-ports", "namespace": "shop"},
        "spec": {"podSelector": {"matchLabels": {"app": "api"}},
                 "ingress": [{"ports": [{"port": 8080, "protocol": "TCP"}]}]},
    }));
    assert_found(&cluster, &[], 1, "error: 1 pod out of reach of other sidecars").await;
    assert!(cluster.api.remove("networking.k8s.io/v1", "NetworkPolicy", "shop", "own-ports"));
    cluster.api.uninstall("httproutes");
    assert_found(&cluster, &[], 0, "warning: the CRDs of the Gateway API are not installed").await;
    cluster.api.uninstall("inboundpolicies");
    assert_found(&cluster, &[], 1, "error: the CRD of InboundPolicy").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_authority_that_has_ended_and_a_webhook_that_nobody_believes_are_found() {
    let cluster = well().await;
    // Nobody mends it meanwhile.
    cluster.mesh.control_plane().kill();
    let secret = |text: &str| {
        let file = cluster.mesh.state_dir().join("root.pem");
        let pem = std::fs::read_to_string(file).unwrap();
        let secret = cluster.api.get("v1", "Secret", "pillion-system", "pillion-ca");
        let mut secret = secret.unwrap();
        secret["data"]["issuer.pem"] =
            json!(tests::cluster::base64(if text.is_empty() { &pem } else { text }));
        cluster.api.put(&secret);
    };
    secret("no certificate");
    assert_found(&cluster, &[], 1, "error: the issuer in the Secret pillion-ca cannot be read")
        .await;
    secret(&ended());
    assert_found(&cluster, &[], 1, "error: the issuer has expired").await;
    secret("");
    let kind = "MutatingWebhookConfiguration";
    let mut webhook = cluster.api.all("admissionregistration.k8s.io/v1", kind).remove(0);
    webhook["webhooks"][1]["clientConfig"].as_object_mut().unwrap().remove("caBundle");
    cluster.api.put(&webhook);
    assert_found(&cluster, &[], 1, "error: the webhook pillion-injector has no caBundle").await;
}

/// A certificate whose time was over before it was made.
fn ended() -> String {
    let mut params = rcgen::CertificateParams::default();
    params.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
    params.not_before = rcgen::date_time_ymd(2020, 1, 1);
    params.not_after = rcgen::date_time_ymd(2021, 1, 1);
    params.self_signed(&rcgen::KeyPair::generate().unwrap()).unwrap().pem()
}

#[tokio::test(flavor = "multi_thread")]
async fn before_an_installation_the_cluster_and_the_permissions_are_checked() {
    let cluster = Cluster::start().await;
    // As the overlays label it; and not there yet.
    cluster.api.namespace("pillion-system", &json!({"app.kubernetes.io/part-of": "pillion"}));
    let output = check(&cluster, &["--pre"]).await;
    assert_eq!(output.code, Some(0), "{output:?}");
    assert!(cluster.api.remove("v1", "Namespace", "", "pillion-system"));
    let output = check(&cluster, &["--pre", "--json"]).await;
    let findings: Vec<Value> = serde_json::from_str(&output.stdout).unwrap();
    assert!(findings.iter().all(|finding| finding["level"] == "ok"), "{findings:?}");
    cluster.api.faults().deny("create clusterroles");
    assert_found(&cluster, &["--pre"], 1, "error: you may not create clusterroles").await;
    cluster.api.stop().await;
    let output = check(&cluster, &["--pre"]).await;
    assert_eq!(output.code, Some(1));
    assert!(output.stderr.starts_with("error: "), "{output:?}");
}

/// Everything that is read of the mesh, but what anybody may read.
const READ: [&str; 6] = [
    "deployments",
    "secrets",
    "mutatingwebhookconfigurations",
    "namespaces",
    "pods",
    "networkpolicies",
];

#[tokio::test(flavor = "multi_thread")]
async fn what_may_not_be_read_is_a_note_and_the_rest_is_checked() {
    let cluster = well().await;
    cluster.mesh.control_plane().kill(); // it reads too
    for resource in READ {
        cluster.api.faults().fail(Some(resource), 1, Failure::forbidden(format!("no {resource}")));
        let output = check(&cluster, &[]).await;
        let note = format!("note: not checked, for you may not: no {resource}");
        assert_eq!(output.code, Some(0), "{output:?}");
        assert_eq!(output.stdout.matches("note: ").count(), 1, "{output:?}");
        assert!(output.stdout.contains(&note), "{note:?}: {output:?}");
    }
    // Whoever may not list a kind is told so of kinds that nobody serves, too.
    let routes = Failure::forbidden("no httproutes");
    cluster.api.uninstall("httproutes");
    cluster.api.faults().fail(Some("httproutes"), 1, routes);
    assert_found(&cluster, &[], 0, "warning: the CRDs of the Gateway API are not installed").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_missing_of_the_mesh_is_found() {
    let cluster = well().await;
    cluster.mesh.control_plane().kill(); // nobody mends it meanwhile
    cluster.api.faults().shift_clock(20);
    assert_found(&cluster, &[], 0, "warning: the clocks of the API server").await;
    cluster.api.faults().shift_clock(-90);
    assert_found(&cluster, &[], 1, "error: the clocks of the API server").await;
    cluster.api.faults().clear();
    for denied in ["get secrets in pillion-system", "update leases in pillion-system"] {
        cluster.api.faults().deny(denied);
        let (what, _) = denied.split_once(" in ").unwrap();
        assert_found(&cluster, &[], 1, &format!("error: the control plane may not {what}")).await;
        cluster.api.faults().clear();
    }
    let own = "pillion-control-plane";
    assert!(cluster.api.remove("apps/v1", "Deployment", "pillion-system", own));
    assert_found(&cluster, &[], 1, "error: there is no Deployment pillion-control-plane").await;
    deploy(&cluster, VERSION, 2);
    assert!(cluster.api.remove("v1", "Secret", "pillion-system", "pillion-ca"));
    assert_found(&cluster, &[], 1, "error: there is no Secret pillion-ca").await;
    let group = "admissionregistration.k8s.io/v1";
    let kind = "MutatingWebhookConfiguration";
    assert!(cluster.api.remove(group, kind, "", "pillion-injector"));
    assert_found(&cluster, &[], 1, "error: there is no MutatingWebhookConfiguration").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_an_installation_needs_is_asked_where_it_is_made() {
    let cluster = Cluster::start().await;
    for object in installed() {
        let plural = match object["kind"].as_str().unwrap().to_lowercase() {
            kind if kind.ends_with('y') => kind[..kind.len() - 1].to_owned() + "ies",
            kind => kind + "s",
        };
        let namespace = object["metadata"]["namespace"].as_str().unwrap_or("all namespaces");
        cluster.api.faults().deny(&format!("create {plural} in {namespace}"));
        assert_found(&cluster, &["--pre"], 1, &format!("error: you may not create {plural}")).await;
        cluster.api.faults().clear();
    }
    cluster.api.namespace("pillion-system", &json!({}));
    let foreign = "warning: the namespace pillion-system is there, and not of Pillion";
    assert_found(&cluster, &["--pre"], 0, foreign).await;
    assert_eq!(check(&cluster, &["--pre", "deploy"]).await.code, Some(2));
}

/// What `kubectl apply -k deploy/base` makes.
fn installed() -> Vec<Value> {
    let files = manifest("kustomization.yaml").remove(0)["resources"].take();
    let objects: Vec<Value> = files
        .as_array()
        .unwrap()
        .iter()
        .flat_map(|file| manifest(file.as_str().unwrap()))
        .collect();
    assert!(objects.len() > 10, "{objects:?}");
    objects
}
