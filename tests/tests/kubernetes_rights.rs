//! What the control plane is permitted to do in a cluster is what it does, and nothing else.

use std::collections::BTreeSet;

use serde_json::{Value, json};
use tests::apiserver::Asked;
use tests::cluster::{Cluster, manifest};
use tests::poll::{self, SOON};

use crate::kubernetes_writes::{GATEWAY, LEASE, injecting, pod, route, spoil_the_certificate};

/// Whether a rule of a Role or ClusterRole is for this request.
fn permits(rule: &Value, asked: &Asked) -> bool {
    let has = |field: &str, value: &str| {
        rule[field].as_array().is_some_and(|list| list.iter().any(|one| one == value))
    };
    let named = rule["resourceNames"].is_null()
        || asked.name.as_deref().is_some_and(|name| has("resourceNames", name));
    has("apiGroups", &asked.group)
        && has("resources", &asked.resource)
        && has("verbs", asked.verb)
        && named
}

/// Everything that a control plane asks of an API server in its life is allowed by the manifests,
/// and they allow nothing else.
#[tokio::test(flavor = "multi_thread")]
async fn the_permissions_are_those_that_are_used() {
    let cluster = injecting().await;
    cluster.service("shop/api");
    cluster.api.put(&route("api"));
    cluster.api.put(&json!({"apiVersion": GATEWAY, "kind": "GRPCRoute",
        "metadata": {"name": "g", "namespace": "shop"},
        "spec": {"parentRefs": [{"group": "", "kind": "Service", "name": "api"}],
                 "rules": [{"backendRefs": [{"name": "api", "port": 80}]}]}}));
    cluster.api.put(&json!({"apiVersion": "pillion.dev/v1alpha1", "kind": "InboundPolicy",
        "metadata": {"name": "a", "namespace": "shop"}, "spec": {"plaintext": "Allow"}}));
    let windows = json!({"os": {"name": "windows"}});
    poll::until("an Event", SOON, async || {
        let made = cluster.api.create(&pod(&json!({}), &windows)).await;
        made.map_err(|failure| failure.message)
    })
    .await;
    let server = cluster.server("shop/api-1").await;
    cluster.endpoints("shop/api", &[&server]);
    cluster.api.faults().refuse_streaming_lists();
    cluster.api.compact();
    // The same Event again is a count of the first.
    for _ in 0..2 {
        cluster.api.create(&pod(&json!({}), &windows)).await.unwrap();
    }
    renew_the_authority(&cluster).await;
    spoil_the_certificate(&cluster);
    let rules: Vec<(bool, Value)> = [("cluster-role.yaml", false), ("role.yaml", true)]
        .into_iter()
        .flat_map(|(file, own)| manifest(file).into_iter().map(move |object| (own, object)))
        .flat_map(|(own, object)| {
            let rules = object["rules"].as_array().cloned().unwrap_or_default();
            rules.into_iter().map(move |rule| (own, rule))
        })
        .collect();
    let allowed = |asked: &Asked| {
        rules.iter().any(|(own, rule)| {
            permits(rule, asked) && (!own || asked.namespace.as_deref() == Some("pillion-system"))
        })
    };
    let unused = async || {
        let asked = cluster.api.asked();
        let beyond: Vec<&Asked> = asked.iter().filter(|asked| !allowed(asked)).collect();
        assert!(beyond.is_empty(), "not allowed by deploy/base: {beyond:?}");
        let granted = rules.iter().flat_map(|(_, rule)| single(rule));
        let used = |rule: &Value| asked.iter().any(|asked| permits(rule, asked));
        let unused: BTreeSet<String> =
            granted.filter(|rule| !used(rule)).map(|rule| rule.to_string()).collect();
        if unused.is_empty() { Ok(()) } else { Err(unused) }
    };
    poll::until("every permission is used", LEASE, unused).await;
}

/// A rule taken apart: one resource, one verb.
fn single(rule: &Value) -> Vec<Value> {
    let list = |field: &str| rule[field].as_array().cloned().unwrap_or_default();
    let mut all = Vec::new();
    for resource in list("resources") {
        for verb in list("verbs") {
            let mut one = rule.clone();
            one["resources"] = json!([resource]);
            one["verbs"] = json!([verb]);
            all.push(one);
        }
    }
    all
}

/// Another issuer in the state directory of the leader goes into the Secret: so its renewal does.
async fn renew_the_authority(cluster: &Cluster) {
    let file = cluster.mesh.state_dir().join("issuer.pem");
    let before = std::fs::read_to_string(&file).unwrap();
    std::fs::write(&file, format!("{before}\n")).unwrap();
    poll::until_true("the Secret is renewed", LEASE, async || {
        let secret = cluster.api.get("v1", "Secret", "pillion-system", "pillion-ca").unwrap();
        let asked = cluster.api.asked();
        let patched = |asked: &Asked| asked.verb == "patch" && asked.resource == "secrets";
        secret["data"]["issuer.pem"].is_string() && asked.iter().any(patched)
    })
    .await;
}
