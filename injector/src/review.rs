//! The API server's question about a pod that is to be made, and our answer: AdmissionReview of
//! `admission.k8s.io/v1` (Kubernetes, "Dynamic Admission Control").

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde::Deserialize;
use serde_json::{Value, json};

use crate::inject::inject;
use crate::outcome::{Fault, Outcome, Skip};
use crate::settings::Settings;

const API_VERSION: &str = "admission.k8s.io/v1";

/// The answer to a question, and what to write of it into log and metric.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Review {
    /// The AdmissionReview to send back, as JSON; with the HTTP status 200, whatever it says.
    pub body: Vec<u8>,
    /// What was decided.
    pub verdict: Verdict,
    /// The pod, NAMESPACE/NAME; `NAMESPACE/PREFIX*` for one that has no name yet. Empty for a
    /// request that cannot be read.
    pub pod: String,
}

/// What was decided.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Verdict {
    /// The pod gets a sidecar.
    Injected,
    /// The pod is made as it is.
    Skipped(Skip),
    /// The pod is not made, for all of this.
    Refused(Vec<Fault>),
    /// The request is none that can be answered, for this.
    Malformed(String),
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Question {
    api_version: String,
    kind: String,
    request: Request,
}

#[derive(Deserialize)]
struct Request {
    uid: String,
    kind: Kind,
    #[serde(default)]
    namespace: String,
    operation: String,
    #[serde(default)]
    object: Value,
}

#[derive(Deserialize)]
struct Kind {
    group: String,
    version: String,
    kind: String,
}

/// Answers the body of a request of the API server.
pub fn review(request: &[u8], settings: &Settings) -> Review {
    let value: Value = match serde_json::from_slice(request) {
        Ok(value) => value,
        Err(error) => return malformed("", format!("the body is no JSON: {error}")),
    };
    match read(&value) {
        Ok(request) => answer(&request, settings),
        Err(message) => malformed(value["request"]["uid"].as_str().unwrap_or_default(), message),
    }
}

fn read(value: &Value) -> Result<Request, String> {
    let mut track = serde_path_to_error::Track::new();
    let question = Question::deserialize(serde_path_to_error::Deserializer::new(value, &mut track))
        .map_err(|error| format!("{}: {error}", track.path()))?;
    if (question.api_version.as_str(), question.kind.as_str()) != (API_VERSION, "AdmissionReview") {
        return Err(format!(
            "it is {} of {}, not AdmissionReview of {API_VERSION}",
            question.kind, question.api_version
        ));
    }
    let request = question.request;
    let Kind { group, version, kind } = &request.kind;
    match (group.as_str(), version.as_str(), kind.as_str(), request.operation.as_str()) {
        ("", "v1", "Pod", "CREATE") => Ok(request),
        ("", "v1", "Pod", other) => Err(format!("request.operation: {other:?} is not CREATE")),
        _ => Err(format!("request.kind: {kind} of {group}/{version} is no Pod of v1")),
    }
}

fn answer(request: &Request, settings: &Settings) -> Review {
    let pod = name(request);
    let (verdict, response) = match inject(&request.object, settings) {
        Outcome::Patched { operations, warnings } => {
            let patch = STANDARD.encode(json!(operations).to_string());
            let mut response = json!({"allowed": true, "patchType": "JSONPatch", "patch": patch});
            warn(&mut response, &pod, &warnings);
            (Verdict::Injected, response)
        }
        Outcome::Skipped(skip) => {
            let mut response = json!({"allowed": true});
            if skip.is_surprising() {
                warn(&mut response, &pod, &[format!("no sidecar is injected: {skip}")]);
            }
            (Verdict::Skipped(skip), response)
        }
        Outcome::Refused(faults) => {
            let all: Vec<_> = faults.iter().map(ToString::to_string).collect();
            let message = format!("pod {pod}: {}", all.join("; "));
            (Verdict::Refused(faults), refusal(&message, 422, "Invalid"))
        }
    };
    Review { body: body(&request.uid, response), verdict, pod }
}

/// What `kubectl` shows to whoever made the pod.
fn warn(response: &mut Value, pod: &str, warnings: &[String]) {
    if !warnings.is_empty() {
        let lines = warnings.iter().map(|warning| format!("pillion: pod {pod}: {warning}"));
        response["warnings"] = lines.collect();
    }
}

/// A pod of a ReplicaSet has no name yet, and its namespace stands in the request only.
fn name(request: &Request) -> String {
    let metadata = &request.object["metadata"];
    let text = |field: &str| metadata[field].as_str().filter(|name| !name.is_empty());
    let name = text("name").map(ToOwned::to_owned);
    let name = name.or_else(|| Some(format!("{}*", text("generateName")?)));
    format!("{}/{}", request.namespace, name.unwrap_or_default())
}

fn malformed(uid: &str, message: String) -> Review {
    let response = refusal(&format!("no AdmissionReview of a Pod: {message}"), 400, "BadRequest");
    Review { body: body(uid, response), verdict: Verdict::Malformed(message), pod: String::new() }
}

fn refusal(message: &str, code: u16, reason: &str) -> Value {
    let status = json!({"status": "Failure", "message": message, "reason": reason, "code": code});
    json!({"allowed": false, "status": status})
}

fn body(uid: &str, mut response: Value) -> Vec<u8> {
    response["uid"] = uid.into();
    let review =
        json!({"apiVersion": API_VERSION, "kind": "AdmissionReview", "response": response});
    review.to_string().into_bytes()
}
