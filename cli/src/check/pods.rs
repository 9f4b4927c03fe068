//! Pods that want a sidecar: objects in, findings out.

use std::collections::BTreeSet;

use serde_json::Value;

use super::finding::Finding;
use super::judge::text;

/// How many names stand in one finding.
const NAMED: usize = 5;

/// Pods that want a sidecar and have none, or one of another version. The webhook leaves the
/// `unserved` namespaces out.
pub(super) fn sidecars(
    namespaces: &[Value],
    unserved: &BTreeSet<&str>,
    pods: &[Value],
    own: &str,
) -> Vec<Finding> {
    let wanted = |pod: &&Value| is_running(pod) && is_wanted(namespaces, pod);
    let wanted: Vec<&Value> = pods.iter().filter(wanted).collect();
    let (injected, missing): (Vec<&Value>, Vec<&Value>) =
        wanted.into_iter().partition(|pod| injected_version(pod).is_some());
    let is_unserved = |pod: &&Value| unserved.contains(text(&pod["metadata"]["namespace"]));
    let (never, missing): (Vec<&Value>, Vec<&Value>) = missing.into_iter().partition(is_unserved);
    let mut findings = Vec::new();
    if !never.is_empty() {
        let what = format!(
            "{} labelled for a sidecar where the injector never gives one: {}",
            count(never.len()),
            names(&never)
        );
        let fix = "Take the label pillion.dev/inject away, or run them in a namespace that the \
                   webhook pillion-injector does not leave out.";
        findings.push(Finding::warning(what, fix));
    }
    if missing.is_empty() {
        findings.push(Finding::ok(format!(
            "every pod that wants a sidecar has one ({})",
            injected.len()
        )));
    } else {
        let what = format!(
            "{} without the sidecar that is wanted: {}",
            count(missing.len()),
            names(&missing)
        );
        let fix = "They were made before their namespace was labelled, or while there was no \
                   injector: kubectl rollout restart their workloads. Events of the owner say if \
                   an injection was skipped.";
        findings.push(Finding::error(what, fix));
    }
    let other: Vec<&Value> =
        injected.into_iter().filter(|pod| injected_version(pod) != Some(own)).collect();
    if !other.is_empty() {
        let what = format!(
            "{} with a sidecar of another version than {own}: {}",
            count(other.len()),
            names(&other)
        );
        findings.push(Finding::warning(what, "Restart their workloads when it suits."));
    }
    findings
}

pub(super) fn count(pods: usize) -> String {
    if pods == 1 { "1 pod".into() } else { format!("{pods} pods") }
}

pub(super) fn names(pods: &[&Value]) -> String {
    let name = |pod: &&Value| {
        format!("{}/{}", text(&pod["metadata"]["namespace"]), text(&pod["metadata"]["name"]))
    };
    let mut named: BTreeSet<String> = pods.iter().map(name).collect();
    let more = named.len().saturating_sub(NAMED);
    while named.len() > NAMED {
        named.pop_last();
    }
    let named = named.into_iter().collect::<Vec<_>>().join(", ");
    if more == 0 { named } else { format!("{named} and {more} more") }
}

pub(super) fn injected_version(pod: &Value) -> Option<&str> {
    pod["metadata"]["annotations"]["pillion.dev/injected"].as_str()
}

pub(super) fn is_running(pod: &Value) -> bool {
    let phase = text(&pod["status"]["phase"]);
    pod["metadata"]["deletionTimestamp"].is_null() && !matches!(phase, "Succeeded" | "Failed")
}

/// As the webhook's selectors and the injector decide.
fn is_wanted(namespaces: &[Value], pod: &Value) -> bool {
    let inject =
        |object: &Value, of: &str| text(&object["metadata"][of]["pillion.dev/inject"]).to_owned();
    let own = [inject(pod, "labels"), inject(pod, "annotations")];
    if own.iter().any(|value| value == "disabled") || pod["spec"]["hostNetwork"] == true {
        return false;
    }
    let of_pod = |namespace: &&Value| namespace["metadata"]["name"] == pod["metadata"]["namespace"];
    let namespace = namespaces.iter().find(of_pod).map(|namespace| inject(namespace, "labels"));
    own[0] == "enabled" || namespace.as_deref() == Some("enabled")
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::super::finding::Level;
    use super::*;

    #[test]
    fn pods_that_want_a_sidecar_and_have_none_are_named() {
        let namespaces =
            [json!({"metadata": {"name": "shop", "labels": {"pillion.dev/inject": "enabled"}}})];
        let pod = |name: &str, more: Value| {
            let mut pod = json!({"metadata": {"name": name, "namespace": "shop"}, "spec": {}});
            merge(&mut pod, &more);
            pod
        };
        let pods_of = |list: &[Value]| sidecars(&namespaces, &BTreeSet::new(), list, "1");
        let with = json!({"metadata": {"annotations": {"pillion.dev/injected": "1"}}});
        assert_eq!(pods_of(&[pod("a", with.clone())])[0].level, Level::Ok);
        let found = pods_of(&[pod("a", with), pod("b", json!({}))]);
        assert!(
            found[0].what.contains("1 pod without the sidecar that is wanted: shop/b"),
            "{found:?}"
        );
        for out in [
            json!({"spec": {"hostNetwork": true}}),
            json!({"metadata": {"labels": {"pillion.dev/inject": "disabled"}}}),
            json!({"metadata": {"annotations": {"pillion.dev/inject": "disabled"}}}),
            json!({"status": {"phase": "Succeeded"}}),
        ] {
            assert_eq!(pods_of(&[pod("a", out)])[0].level, Level::Ok);
        }
        let old = json!({"metadata": {"annotations": {"pillion.dev/injected": "0"}}});
        assert_eq!(pods_of(&[pod("a", old)])[1].level, Level::Warning);
        let found = sidecars(&namespaces, &BTreeSet::from(["shop"]), &[pod("b", json!({}))], "1");
        assert_eq!([found[0].level, found[1].level], [Level::Warning, Level::Ok]);
    }

    fn merge(into: &mut Value, more: &Value) {
        match (into, more) {
            (Value::Object(into), Value::Object(more)) => {
                for (name, value) in more {
                    merge(into.entry(name.clone()).or_insert(Value::Null), value);
                }
            }
            (into, more) => *into = more.clone(),
        }
    }
}
