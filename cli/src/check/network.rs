//! NetworkPolicies that cut injected pods off from the mesh (Kubernetes, "Network Policies").

use serde_json::Value;

use super::finding::Finding;
use super::judge::{list, text};
use super::pods::{count, injected_version, is_running, names};

/// The port of sidecars for each other.
const MESH_PORT: u64 = 15008;

/// Whether policies let other sidecars reach the injected pods.
pub(super) fn policies(policies: &[Value], pods: &[Value]) -> Finding {
    let injected = pods.iter().filter(|pod| is_running(pod) && injected_version(pod).is_some());
    let (mut cut, mut by) = (Vec::new(), Vec::new());
    for pod in injected {
        let cutting = cut_off_by(policies, pod);
        if !cutting.is_empty() {
            cut.push(pod);
            by.extend(cutting);
        }
    }
    if cut.is_empty() {
        return Finding::ok("no NetworkPolicy keeps sidecars from each other");
    }
    let what = format!(
        "{} out of reach of other sidecars, for NetworkPolicies let in other ports only, and not \
         15008: {}",
        count(cut.len()),
        names(&cut)
    );
    let fix = format!(
        "Add port 15008 (TCP) to the ingress of the NetworkPolicies that select them ({}), from \
         wherever the application's own ports may be reached.",
        names(&by)
    );
    Finding::error(what, fix)
}

/// The policies that cut a pod off, together. Policies add up: one that lets the port in is
/// enough, and without any all is let in.
fn cut_off_by<'p>(policies: &'p [Value], pod: &Value) -> Vec<&'p Value> {
    let of_pod: Vec<&Value> = policies.iter().filter(|policy| is_for(policy, pod)).collect();
    if of_pod.iter().any(|policy| lets_in(policy)) { Vec::new() } else { of_pod }
}

fn is_for(policy: &Value, pod: &Value) -> bool {
    let spec = &policy["spec"];
    let types = list(&spec["policyTypes"]);
    let of_ingress = types.is_empty() || types.iter().any(|kind| kind == "Ingress");
    of_ingress
        && policy["metadata"]["namespace"] == pod["metadata"]["namespace"]
        && selects(&spec["podSelector"], &pod["metadata"]["labels"])
}

/// Whether a label selector takes these labels; one without terms takes all.
fn selects(selector: &Value, labels: &Value) -> bool {
    let mut equal = selector["matchLabels"].as_object().into_iter().flatten();
    equal.all(|(name, value)| labels[name] == *value)
        && list(&selector["matchExpressions"]).iter().all(|term| {
            let value = &labels[text(&term["key"])];
            let among = list(&term["values"]).contains(value);
            match text(&term["operator"]) {
                "In" => among,
                "NotIn" => !among,
                "Exists" => !value.is_null(),
                _ => value.is_null(),
            }
        })
}

/// Whether some rule has the port, from wherever: a rule without ports has all.
fn lets_in(policy: &Value) -> bool {
    list(&policy["spec"]["ingress"]).iter().any(|rule| {
        let ports = list(&rule["ports"]);
        ports.is_empty() || ports.iter().any(is_mesh_port)
    })
}

fn is_mesh_port(port: &Value) -> bool {
    if !matches!(text(&port["protocol"]), "" | "TCP") {
        return false;
    }
    match (&port["port"], port["endPort"].as_u64()) {
        (Value::Null, _) => true,
        // The name that the injector gives it.
        (Value::String(name), _) => name == "pillion-mesh",
        (number, None) => *number == MESH_PORT,
        (number, Some(end)) => {
            number.as_u64().is_some_and(|first| (first..=end).contains(&MESH_PORT))
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::super::finding::Level;
    use super::*;

    fn judged(spec: Value) -> Finding {
        let pod = json!({"metadata": {"name": "a", "namespace": "shop", "labels": {"app": "api"},
            "annotations": {"pillion.dev/injected": "1"}}});
        let policy = json!({"metadata": {"name": "p", "namespace": "shop"}, "spec": spec});
        policies(&[policy], &[pod])
    }

    #[test]
    fn a_policy_cuts_off_what_it_selects_and_does_not_let_in() {
        let api = json!({"matchLabels": {"app": "api"}});
        let ports = |ports: Value| json!({"podSelector": api, "ingress": [{"ports": ports}]});
        let cases = [
            (ports(json!([{"port": 8080}])), Level::Error),
            (ports(json!([{"port": 8080}, {"port": 15008}])), Level::Ok),
            (ports(json!([{"port": 15008, "protocol": "UDP"}])), Level::Error),
            (ports(json!([{"port": 15000, "endPort": 15010}])), Level::Ok),
            (ports(json!([{"port": "pillion-mesh"}])), Level::Ok),
            (ports(json!([])), Level::Ok),
            (json!({"podSelector": {}}), Level::Error),
            (json!({"podSelector": {}, "policyTypes": ["Egress"]}), Level::Ok),
            (json!({"podSelector": {"matchLabels": {"app": "web"}}}), Level::Ok),
            (
                json!({"podSelector": {"matchExpressions": [
                    {"key": "app", "operator": "NotIn", "values": ["api"]}]}}),
                Level::Ok,
            ),
        ];
        for (spec, expected) in cases {
            let found = judged(spec.clone());
            assert_eq!(found.level, expected, "{spec}");
            let named = found.fix.is_some_and(|fix| fix.contains("(shop/p)"));
            assert_eq!(named, expected == Level::Error, "the policy is named: {spec}");
        }
    }

    #[test]
    fn policies_add_up() {
        let pod = json!({"metadata": {"name": "a", "namespace": "shop",
            "annotations": {"pillion.dev/injected": "1"}}});
        let policy = |ingress: Value| json!({"metadata": {"namespace": "shop"}, "spec": {"podSelector": {}, "ingress": ingress}});
        let both = [policy(json!([])), policy(json!([{"ports": [{"port": 15008}]}]))];
        assert_eq!(policies(&both, std::slice::from_ref(&pod)).level, Level::Ok);
        assert_eq!(policies(&both[..1], std::slice::from_ref(&pod)).level, Level::Error);
        let mut ended = pod;
        ended["status"] = json!({"phase": "Succeeded"});
        assert_eq!(policies(&both[..1], &[ended]).level, Level::Ok, "nobody calls it");
    }
}
