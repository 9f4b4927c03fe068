//! InboundPolicy, Pillion's own kind: what a namespace's pods let in without the mesh.

use std::collections::BTreeMap;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, ObjectMeta};
use kube::CustomResource;
use model::inbound::Plaintext;
use model::name::Label;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::object::age::Age;
use crate::object::{Outcome, meta, strict};
use crate::problem::Fault;

/// The most labels of a selector, and the longest key (prefix, slash and name) and value of one.
const MOST_LABELS: usize = 64;
const LONGEST_KEY: usize = 317;
const LONGEST_VALUE: usize = 63;

/// What the selected pods of the namespace let in that does not come from the mesh. Of several
/// policies that select a pod the oldest decides, then the first by name; without any, the
/// sidecar's own setting.
#[derive(Debug, Clone, PartialEq, Eq, CustomResource, Deserialize, Serialize, JsonSchema)]
#[kube(
    group = "pillion.dev",
    version = "v1alpha1",
    kind = "InboundPolicy",
    plural = "inboundpolicies",
    namespaced,
    status = "InboundPolicyStatus",
    doc = "What pods let in that does not come from the mesh.",
    printcolumn = r#"{"name":"Plaintext","type":"string","jsonPath":".spec.plaintext"}"#,
    printcolumn = r#"{"name":"Accepted","type":"string","jsonPath":".status.conditions[?(@.type=='Accepted')].status"}"#,
    printcolumn = r#"{"name":"Age","type":"date","jsonPath":".metadata.creationTimestamp"}"#
)]
#[serde(rename_all = "camelCase")]
pub struct InboundPolicySpec {
    /// Which pods it is for; all of the namespace where it is absent or empty.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub selector: Option<Selector>,
    /// Whether they take plaintext.
    pub plaintext: Taken,
}

/// What has become of a policy; written by the control plane.
#[derive(Debug, Clone, PartialEq, Default, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct InboundPolicyStatus {
    /// `Accepted`: whether the policy decides for all pods that it selects.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(extend("x-kubernetes-list-type" = "map", "x-kubernetes-list-map-keys" = ["type"]))]
    pub conditions: Vec<Condition>,
}

/// Selects pods by their labels.
#[derive(Debug, Clone, PartialEq, Eq, Default, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Selector {
    /// The labels that a pod must have, all of them.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    #[schemars(extend("x-kubernetes-validations" = [{
        "rule": "self.all(key, key.size() >= 1 && key.size() <= 317 && self[key].size() <= 63)",
        "message": "a label has a key of 1 to 317 characters, and a value of at most 63",
    }], "maxProperties" = 64))]
    pub match_labels: BTreeMap<String, String>,
}

/// Whether plaintext is taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
pub enum Taken {
    /// Plaintext is carried.
    Allow,
    /// Plaintext is refused; the kubelet's probes are let in.
    Deny,
}

/// The whole object: the derived type leaves out what it is known by.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Document {
    #[serde(rename = "apiVersion")]
    _api_version: String,
    #[serde(rename = "kind")]
    _kind: String,
    metadata: ObjectMeta,
    spec: InboundPolicySpec,
    #[serde(rename = "status")]
    _status: Option<Value>,
}

/// An InboundPolicy as the mesh uses it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Policy {
    /// Its namespace.
    pub namespace: Label,
    /// Its name.
    pub name: String,
    /// Its place among policies.
    pub age: Age,
    /// The labels of the workloads that it is for; none are all.
    pub labels: BTreeMap<String, String>,
    /// What they do with plaintext.
    pub plaintext: Plaintext,
}

/// Parses an InboundPolicy.
pub(crate) fn parse(value: &Value) -> Outcome<Policy> {
    let object: Document = strict::read(value, "")?;
    let labels = object.spec.selector.unwrap_or_default().match_labels;
    check_labels(&labels).map_err(|fault| vec![fault])?;
    let policy = Policy {
        namespace: meta::namespace(object.metadata.namespace.as_deref())?,
        name: object.metadata.name.unwrap_or_default(),
        age: Age::of(object.metadata.creation_timestamp),
        labels,
        plaintext: match object.spec.plaintext {
            Taken::Allow => Plaintext::Allow,
            Taken::Deny => Plaintext::Deny,
        },
    };
    Ok((policy, Vec::new()))
}

/// The rules of the CRD: no pod has a label beyond them, so such a policy would select none.
fn check_labels(labels: &BTreeMap<String, String>) -> Result<(), Fault> {
    let field = "spec.selector.matchLabels";
    if labels.len() > MOST_LABELS {
        let message = format!("{} labels; at most {MOST_LABELS} are allowed", labels.len());
        return Err(Fault::invalid(field, message));
    }
    let characters = |text: &str| text.chars().count();
    let bad = |(key, value): &(&String, &String)| {
        !(1..=LONGEST_KEY).contains(&characters(key)) || characters(value) > LONGEST_VALUE
    };
    match labels.iter().find(bad) {
        None => Ok(()),
        Some((key, _)) => {
            let message = format!(
                "a label has a key of 1 to {LONGEST_KEY} characters, and a value of at most \
                 {LONGEST_VALUE}"
            );
            Err(Fault::invalid(format!("{field}[{key}]"), message))
        }
    }
}

impl Policy {
    /// Whether it is for a workload of this namespace with these labels.
    pub fn selects(&self, namespace: &str, labels: &BTreeMap<String, String>) -> bool {
        let has = |(label, value): (&String, &String)| labels.get(label) == Some(value);
        self.namespace.as_str() == namespace && self.labels.iter().all(has)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::object::Object;
    use crate::object::tests::{good, refused};

    fn text(spec: &str) -> String {
        format!(
            "{{apiVersion: pillion.dev/v1alpha1, kind: InboundPolicy, \
             metadata: {{name: strict, namespace: shop}}, spec: {{{spec}}}}}"
        )
    }

    fn policy(spec: &str) -> Policy {
        match good(&text(spec)) {
            (Object::Policy(policy), warnings) if warnings.is_empty() => policy,
            other => panic!("{other:?} is no InboundPolicy"),
        }
    }

    #[test]
    fn a_policy_selects_by_namespace_and_all_labels() {
        let labels = |text: &[(&str, &str)]| -> BTreeMap<String, String> {
            text.iter().map(|(label, value)| ((*label).into(), (*value).into())).collect()
        };
        let both = "selector: {matchLabels: {app: api, tier: front}}, plaintext: Deny";
        let pod = labels(&[("app", "api"), ("tier", "front"), ("x", "y")]);
        assert!(policy(both).selects("shop", &pod));
        assert!(!policy(both).selects("other", &pod));
        assert!(!policy(both).selects("shop", &labels(&[("app", "api")])));
        assert!(!policy(both).selects("shop", &labels(&[("app", "api"), ("tier", "back")])));
        for all in ["", "selector: {}, ", "selector: {matchLabels: {}}, "] {
            let policy = policy(&format!("{all}plaintext: Allow"));
            assert!(policy.selects("shop", &BTreeMap::new()), "{all}");
            assert_eq!(policy.plaintext, Plaintext::Allow);
        }
    }

    #[test]
    fn a_bad_policy_is_refused_by_its_field() {
        let cases = [
            ("selector: {}", "spec: missing field `plaintext`"),
            ("plaintext: deny", "spec.plaintext: unknown variant `deny`"),
            ("plaintext: Deny, selecter: {}", "spec.selecter: unknown field; did you mean"),
            (
                "plaintext: Deny, selector: {matchExpressions: []}",
                "spec.selector.matchExpressions: unknown field",
            ),
            (
                "plaintext: Deny, selector: {matchLabels: {'': a}}",
                "spec.selector.matchLabels[]: a label has a key of 1 to 317",
            ),
            ("plaintext: Deny, selector: {matchLabels: {a: 1}}", "spec.selector.matchLabels.a: "),
        ];
        for (spec, expected) in cases {
            let faults = refused(&text(spec));
            assert!(faults[0].starts_with(expected), "{spec}: {faults:?}, not {expected:?}");
        }
    }
}
