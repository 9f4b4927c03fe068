//! Pods that want a sidecar: objects in, findings out.

use std::collections::{BTreeMap, BTreeSet};

use injector::Skip;
use serde_json::Value;

use super::finding::Finding;
use super::judge::text;

/// How many names stand in one finding.
const NAMED: usize = 5;

/// Pods that want a sidecar and have none, or one of another version. The webhook leaves the
/// `unserved` namespaces out, and the injector pods of some kinds.
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
    let (skipped, missing): (Vec<&Value>, Vec<&Value>) =
        missing.into_iter().partition(|pod| skip(pod).is_some());
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
    findings.extend(left_out(&skipped));
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

/// Notes of pods that the injector leaves as they are and that do not ask for it themselves.
fn left_out(skipped: &[&Value]) -> Vec<Finding> {
    let mut reasons: BTreeMap<String, Vec<&Value>> = BTreeMap::new();
    for pod in skipped {
        if let Some(skip) = skip(pod).filter(Skip::is_surprising) {
            reasons.entry(skip.to_string()).or_default().push(pod);
        }
    }
    let note = |(reason, pods): (String, Vec<&Value>)| {
        Finding::note(format!("{} never injected, {reason}: {}", count(pods.len()), names(&pods)))
    };
    reasons.into_iter().map(note).collect()
}

/// Why the injector would leave a pod as it is, if so.
fn skip(pod: &Value) -> Option<Skip> {
    injector::skip(pod).ok().flatten()
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

/// As the webhook's selectors decide.
fn is_wanted(namespaces: &[Value], pod: &Value) -> bool {
    let says = |object: &Value| object["metadata"]["labels"]["pillion.dev/inject"] == "enabled";
    let of_pod = |namespace: &&Value| namespace["metadata"]["name"] == pod["metadata"]["namespace"];
    says(pod) || namespaces.iter().find(of_pod).is_some_and(says)
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
            let spec = json!({"containers": [{"name": "app"}]});
            let mut pod = json!({"metadata": {"name": name, "namespace": "shop"}, "spec": spec});
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
            json!({"metadata": {"labels": {"pillion.dev/inject": "disabled"}}}),
            json!({"metadata": {"annotations": {"pillion.dev/inject": "disabled"}}}),
            json!({"status": {"phase": "Succeeded"}}),
        ] {
            let found = pods_of(&[pod("a", out)]);
            assert_eq!((found.len(), found[0].level), (1, Level::Ok), "{found:?}");
        }
        for (out, reason) in [
            (
                json!({"spec": {"hostNetwork": true}}),
                "it uses the network of its node (hostNetwork)",
            ),
            (json!({"spec": {"os": {"name": "windows"}}}), "it is for windows, not for linux"),
            (
                json!({"spec": {"initContainers": [{"name": "istio-proxy"}]}}),
                "it has another sidecar already: container istio-proxy",
            ),
            (
                json!({"metadata": {"annotations": {"pillion.dev/sidecar": "hbone"}}}),
                "it has another sidecar already: metadata.annotations[pillion.dev/sidecar] is hbone",
            ),
        ] {
            let found = pods_of(&[pod("a", out.clone()), pod("b", out)]);
            assert_eq!([found[0].level, found[1].level], [Level::Ok, Level::Note]);
            assert_eq!(found[1].what, format!("2 pods never injected, {reason}: shop/a, shop/b"));
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
