//! The API server's questions and what it is answered.

#![allow(clippy::unwrap_used)] // a test says what is wrong by failing

mod common;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use common::{apply, assert_known, pod, settings, yaml};
use injector::{Review, Skip, Verdict, review};
use serde_json::{Value, json};

fn question(object: &Value) -> Value {
    json!({
        "kind": "AdmissionReview",
        "apiVersion": "admission.k8s.io/v1",
        "request": {
            "uid": "0df28fbd-5f5f-11e8-bc74-36e6bb280816",
            "kind": {"group": "", "version": "v1", "kind": "Pod"},
            "resource": {"group": "", "version": "v1", "resource": "pods"},
            "requestKind": {"group": "", "version": "v1", "kind": "Pod"},
            "namespace": "shop",
            "operation": "CREATE",
            "userInfo": {"username": "system:serviceaccount:kube-system:replicaset-controller"},
            "object": object,
            "oldObject": null,
            "dryRun": false,
            "options": {"kind": "CreateOptions", "apiVersion": "meta.k8s.io/v1"},
        },
    })
}

fn ask(question: &Value) -> (Review, Value) {
    let review = review(question.to_string().as_bytes(), &settings());
    let answer: Value = serde_json::from_slice(&review.body).unwrap();
    assert_eq!(answer["apiVersion"], "admission.k8s.io/v1");
    assert_eq!(answer["kind"], "AdmissionReview");
    assert_eq!(answer["response"]["uid"], question["request"]["uid"]);
    let response = answer["response"].clone();
    (review, response)
}

fn patch(response: &Value) -> Vec<Value> {
    assert_eq!(response["patchType"], "JSONPatch");
    let patch = STANDARD.decode(response["patch"].as_str().unwrap()).unwrap();
    serde_json::from_slice(&patch).unwrap()
}

#[test]
fn a_pod_is_injected_and_asked_about_twice() {
    let before = pod("", "volumes: [{name: kube-api-access-x, emptyDir: {}}]");
    let (review, response) = ask(&question(&before));
    assert_eq!((review.verdict, review.pod.as_str()), (Verdict::Injected, "shop/api-7d9f-*"));
    assert_eq!(response["allowed"], true);
    assert!(response["warnings"].is_null(), "{response}");
    let after = apply(&before, &patch(&response));
    assert_known(&after);
    assert_eq!(after["metadata"]["annotations"]["pillion.dev/sidecar"], "enabled");
    let (again, response) = ask(&question(&after));
    assert_eq!(again.verdict, Verdict::Skipped(Skip::Injected));
    assert_eq!(response, json!({"uid": response["uid"], "allowed": true}));
}

/// Questions of a Kubernetes 1.36 API server, without their managedFields.
#[test]
fn what_a_real_server_asks_is_answered_with_a_pod_that_it_takes() {
    let recorded = [
        (include_str!("recorded/replica-set.json"), "rec/shop-79f9574f7b-*", 1),
        (include_str!("recorded/stateful-set.json"), "rec/store-0", 1),
        (include_str!("recorded/job.json"), "rec/once-*", 0),
    ];
    for (question, name, volumes) in recorded {
        let mut question: Value = serde_json::from_str(question).unwrap();
        let before = question["request"]["object"].clone();
        let count = |pod: &Value, field: &str| pod["spec"][field].as_array().map_or(0, Vec::len);
        assert_eq!(count(&before, "volumes"), volumes, "{name}");
        let (review, response) = ask(&question);
        assert_eq!((review.verdict, review.pod.as_str()), (Verdict::Injected, name));
        let after = apply(&before, &patch(&response));
        assert_known(&after);
        let own = count(&before, "initContainers");
        assert_eq!(count(&after, "initContainers"), own + 2, "{name}");
        assert_eq!(after["spec"]["initContainers"][1]["restartPolicy"], "Always", "{name}");
        question["request"]["object"] = after;
        assert_eq!(ask(&question).0.verdict, Verdict::Skipped(Skip::Injected), "{name}");
    }
}

#[test]
fn a_warning_is_given_where_there_is_something_to_know() {
    let (review, response) = ask(&question(&pod("name: a", "hostNetwork: true")));
    assert_eq!(review.verdict, Verdict::Skipped(Skip::HostNetwork));
    let warning = "pillion: pod shop/a: no sidecar is injected: it uses the network of its node \
                   (hostNetwork)";
    assert_eq!(response, json!({"uid": response["uid"], "allowed": true, "warnings": [warning]}));
    let (_, response) = ask(&question(&pod("labels: {pillion.dev/inject: disabled}", "")));
    assert!(response["warnings"].is_null(), "{response}");
    let strict = pod(
        "annotations: {pillion.dev/inbound-plaintext: deny}",
        "initContainers: [{name: a, livenessProbe: {grpc: {port: 1}}}]",
    );
    let (_, response) = ask(&question(&strict));
    let warning = response["warnings"][0].as_str().unwrap();
    assert!(warning.contains("spec.initContainers[0].livenessProbe: "), "{warning}");
    assert!(!patch(&response).is_empty());
}

#[test]
fn a_refused_pod_is_told_all_that_is_wrong() {
    let bad = "annotations: {pillion.dev/egress: maybe, pillion.dev/proxy-cpu-limit: fast}";
    let (review, response) = ask(&question(&pod(bad, "")));
    assert!(matches!(review.verdict, Verdict::Refused(faults) if faults.len() == 2));
    assert_eq!(response["allowed"], false);
    assert!(response["patch"].is_null());
    assert_eq!(response["status"]["code"], 422);
    assert_eq!(
        response["status"]["message"],
        "pod shop/api-7d9f-*: metadata.annotations[pillion.dev/egress]: \"maybe\" is neither allow \
         nor deny; metadata.annotations[pillion.dev/proxy-cpu-limit]: \"fast\" is no amount such as \
         100m, 1.5 or 64Mi"
    );
}

#[test]
fn questions_that_are_none_are_answered_with_400() {
    let with = |path: &str, value: Value| {
        let mut question = question(&pod("", ""));
        *question.pointer_mut(path).unwrap() = value;
        question
    };
    let cases = [
        (
            with("/apiVersion", json!("admission.k8s.io/v1beta1")),
            "it is AdmissionReview of admission.k8s.io/v1beta1, not",
        ),
        (with("/kind", json!("Pod")), "it is Pod of admission.k8s.io/v1, not AdmissionReview"),
        (
            with("/request/kind/kind", json!("Deployment")),
            "request.kind: Deployment of /v1 is no Pod",
        ),
        (with("/request/kind", json!(7)), "request.kind: invalid type: integer `7`"),
        (
            with("/request/operation", json!("UPDATE")),
            "request.operation: \"UPDATE\" is not CREATE",
        ),
    ];
    for (question, message) in cases {
        let (review, response) = ask(&question);
        assert!(matches!(review.verdict, Verdict::Malformed(_)), "{review:?}");
        assert_eq!(
            (&response["allowed"], &response["status"]["code"]),
            (&json!(false), &json!(400))
        );
        let told = response["status"]["message"].as_str().unwrap();
        assert!(told.starts_with(&format!("no AdmissionReview of a Pod: {message}")), "{told}");
    }
}

#[test]
fn bytes_that_are_no_question_are_answered_too() {
    for bytes in ["", "{", "[]", "null", "{\"request\": {}}", "\u{fffd}"] {
        let review = review(bytes.as_bytes(), &settings());
        let answer: Value = serde_json::from_slice(&review.body).unwrap();
        assert_eq!(answer["response"]["allowed"], false, "{bytes}");
        assert_eq!(answer["response"]["status"]["code"], 400, "{bytes}");
        assert_eq!(answer["response"]["uid"], "", "{bytes}");
    }
}

#[test]
fn a_question_without_a_pod_is_refused_by_its_field() {
    let mut question = question(&Value::Null);
    let (_, response) = ask(&question);
    assert_eq!(response["allowed"], false);
    question["request"].as_object_mut().unwrap().remove("object");
    let (_, response) = ask(&question);
    assert_eq!(response["allowed"], false);
}

/// With `failurePolicy: Fail` a node's own pods would wait for a control plane that waits for them.
#[test]
fn the_webhook_is_not_asked_about_pods_that_use_the_network_of_their_node() {
    let configuration = yaml(include_str!("../../deploy/base/webhook.yaml"));
    let webhooks = configuration["webhooks"].as_array().unwrap();
    assert_eq!(webhooks.len(), 2);
    for webhook in webhooks {
        let conditions = webhook["matchConditions"].as_array().unwrap();
        let expression = "!(has(object.spec.hostNetwork) && object.spec.hostNetwork)";
        assert_eq!(conditions.len(), 1);
        assert_eq!(conditions[0]["expression"], expression);
    }
}
