//! Admission of pods: what the ServiceAccount plug-in adds, then the mutating webhooks.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, bail, ensure};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use http::{Request, header};
use http_body_util::BodyExt;
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{ClientConfig, RootCertStore};
use serde_json::{Value, json};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;

use super::State;
use super::failure::Failure;
use crate::body;

/// Where the service account's token and the cluster's roots are, in every pod that wants them.
const TOKEN_PATH: &str = "/var/run/secrets/kubernetes.io/serviceaccount";

/// The pod as it is after admission.
pub(super) async fn admit(state: &State, namespace: &str, pod: Value) -> Result<Value, Failure> {
    let mut pod = with_account(pod);
    let labels = namespace_labels(state, namespace);
    let webhooks = webhooks(state);
    // A plug-in may change the pod after the webhooks: those that want to see that are called again.
    let again = webhooks.iter().filter(|webhook| webhook["reinvocationPolicy"] == "IfNeeded");
    let calls: Vec<&Value> = webhooks.iter().chain(again).collect();
    for webhook in calls {
        if is_for(webhook, &labels, &pod) {
            pod = call(state, webhook, namespace, pod).await?;
        }
    }
    Ok(pod)
}

/// The webhooks of every configuration.
fn webhooks(state: &State) -> Vec<Value> {
    let resource = state
        .resource("admissionregistration.k8s.io/v1", "mutatingwebhookconfigurations")
        .expect("webhooks are served");
    let store = state.store();
    let all = store.list(&resource, None, None);
    all.flat_map(|(_, object)| object["webhooks"].as_array().cloned()).flatten().collect()
}

/// What the ServiceAccount plug-in does: the account's name, and its token in every container.
fn with_account(mut pod: Value) -> Value {
    let spec = &mut pod["spec"];
    if spec["serviceAccountName"].is_null() {
        spec["serviceAccountName"] = json!("default");
    }
    if spec["automountServiceAccountToken"] == false {
        return pod;
    }
    let name = "kube-api-access-stub1";
    let mount = json!({"name": name, "readOnly": true, "mountPath": TOKEN_PATH});
    for list in ["initContainers", "containers"] {
        for container in spec[list].as_array_mut().into_iter().flatten() {
            push(container, "volumeMounts", mount.clone());
        }
    }
    let sources = json!([{"serviceAccountToken": {"expirationSeconds": 3607, "path": "token"}}]);
    push(spec, "volumes", json!({"name": name, "projected": {"sources": sources}}));
    pod
}

fn push(object: &mut Value, list: &str, item: Value) {
    match object[list].as_array_mut() {
        Some(items) => items.push(item),
        None => object[list] = json!([item]),
    }
}

fn namespace_labels(state: &State, namespace: &str) -> Value {
    let resource = state.resource("v1", "namespaces").expect("namespaces are served");
    let id = super::Id { resource, namespace: String::new(), name: namespace.into() };
    state.store().get(&id).map(|object| object["metadata"]["labels"].clone()).unwrap_or_default()
}

/// Whether a webhook is asked about this pod: rules for pods, and both selectors.
fn is_for(webhook: &Value, namespace: &Value, pod: &Value) -> bool {
    let has = |rule: &Value, field: &str, value: &str| {
        let list = rule[field].as_array();
        list.is_some_and(|list| list.iter().any(|item| item == value || item == "*"))
    };
    let rules = webhook["rules"].as_array().map(Vec::as_slice).unwrap_or_default();
    rules.iter().any(|rule| has(rule, "resources", "pods") && has(rule, "operations", "CREATE"))
        && selects(&webhook["namespaceSelector"], namespace)
        && selects(&webhook["objectSelector"], &pod["metadata"]["labels"])
}

/// Whether a label selector takes these labels; one without terms takes all.
fn selects(selector: &Value, labels: &Value) -> bool {
    let equal = selector["matchLabels"].as_object().into_iter().flatten();
    let terms = selector["matchExpressions"].as_array().into_iter().flatten();
    equal.into_iter().all(|(name, value)| labels[name] == *value)
        && terms.into_iter().all(|term| {
            let value = &labels[term["key"].as_str().unwrap_or_default()];
            let among = term["values"].as_array().is_some_and(|list| list.contains(value));
            match term["operator"].as_str() {
                Some("In") => among,
                Some("NotIn") => !among,
                Some("Exists") => !value.is_null(),
                _ => value.is_null(),
            }
        })
}

/// Asks a webhook, and gives the pod with its patch.
async fn call(
    state: &State,
    webhook: &Value,
    namespace: &str,
    pod: Value,
) -> Result<Value, Failure> {
    let seconds = webhook["timeoutSeconds"].as_u64().unwrap_or(10);
    let asked = ask(state, webhook, namespace, &pod);
    let answer = tokio::time::timeout(Duration::from_secs(seconds), asked).await;
    let answer = answer.unwrap_or_else(|_| Err(anyhow::anyhow!("context deadline exceeded")));
    match answer {
        Ok(Ok(patched)) => Ok(patched),
        Ok(Err(denied)) => Err(denied),
        Err(_) if webhook["failurePolicy"] == "Ignore" => Ok(pod),
        Err(error) => {
            let name = webhook["name"].as_str().unwrap_or_default();
            Err(Failure::internal(format!("failed calling webhook {name:?}: {error:#}")))
        }
    }
}

/// The outer error is the webhook's failure, the inner one its word.
async fn ask(
    state: &State,
    webhook: &Value,
    namespace: &str,
    pod: &Value,
) -> anyhow::Result<Result<Value, Failure>> {
    let uid = format!("review-{}", state.store().version());
    let review = json!({
        "apiVersion": "admission.k8s.io/v1", "kind": "AdmissionReview",
        "request": {
            "uid": uid, "operation": "CREATE", "namespace": namespace, "dryRun": false,
            "kind": {"group": "", "version": "v1", "kind": "Pod"},
            "resource": {"group": "", "version": "v1", "resource": "pods"},
            "requestKind": {"group": "", "version": "v1", "kind": "Pod"},
            "requestResource": {"group": "", "version": "v1", "resource": "pods"},
            "userInfo": {"username": "system:serviceaccount:kube-system:replicaset-controller"},
            "object": pod, "oldObject": null, "options": {},
        },
    });
    let answer = post(state, &webhook["clientConfig"], &review).await?;
    let response = &answer["response"];
    ensure!(response["uid"] == uid, "expected response.uid={uid:?}, got {}", response["uid"]);
    if response["allowed"] != true {
        let message = response["status"]["message"].as_str().unwrap_or("without explanation");
        let text = format!("admission webhook {} denied the request: {message}", webhook["name"]);
        return Ok(Err(Failure::forbidden(text)));
    }
    let Some(patch) = response["patch"].as_str() else { return Ok(Ok(pod.clone())) };
    ensure!(response["patchType"] == "JSONPatch", "the patch is no JSONPatch");
    let patch: json_patch::Patch = serde_json::from_slice(&STANDARD.decode(patch)?)?;
    let mut patched = pod.clone();
    json_patch::patch(&mut patched, &patch)?;
    Ok(Ok(patched))
}

/// POSTs a review over TLS, to the Service that the webhook names, believing its caBundle only.
async fn post(state: &State, config: &Value, review: &Value) -> anyhow::Result<Value> {
    let service = &config["service"];
    let text = |name: &str| service[name].as_str().unwrap_or_default();
    let name = format!("{}/{}", text("namespace"), text("name"));
    let address: Option<SocketAddr> = state.services.lock().unwrap().get(&name).copied();
    let address = address.with_context(|| format!("no endpoints for {name}"))?;
    let mut roots = RootCertStore::empty();
    let bundle = STANDARD.decode(config["caBundle"].as_str().unwrap_or_default())?;
    for certificate in CertificateDer::pem_slice_iter(&bundle) {
        roots.add(certificate?)?;
    }
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let tls = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()?
        .with_root_certificates(roots)
        .with_no_client_auth();
    let host = format!("{}.{}.svc", text("name"), text("namespace"));
    let socket = TcpStream::connect(address).await?;
    let socket = TlsConnector::from(Arc::new(tls))
        .connect(ServerName::try_from(host.clone())?, socket)
        .await?;
    let (mut sender, connection) = http1::handshake(TokioIo::new(socket)).await?;
    let connection = tokio::spawn(connection);
    let request = Request::post(text("path"))
        .header(header::HOST, host)
        .header(header::CONTENT_TYPE, "application/json")
        .body(body::full(review.to_string()))?;
    let response = sender.send_request(request).await?;
    let status = response.status();
    let bytes = response.into_body().collect().await?.to_bytes();
    connection.abort();
    if !status.is_success() {
        bail!("{status}: {}", String::from_utf8_lossy(&bytes));
    }
    Ok(serde_json::from_slice(&bytes)?)
}
