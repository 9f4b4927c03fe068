//! What is right and wrong with a cluster: objects in, findings out.

use std::collections::BTreeSet;
use std::time::{Duration, SystemTime};

use model::name::Label;
use serde_json::Value;

use super::finding::Finding;

/// The first version with native sidecars (`restartPolicy: Always` of an init container).
const OLDEST: (u32, u32) = (1, 29);

/// How far clocks may be apart: certificates begin five minutes before they are signed, and
/// tokens are taken for some seconds after their end.
const SKEW: (Duration, Duration) = (Duration::from_secs(5), Duration::from_secs(60));

/// How long before its end an authority is worth a word.
const NEAR: Duration = Duration::from_secs(30 * 24 * 3600);

const DAY: u64 = 24 * 3600;

/// Whether the API server is new enough, by its `/version`.
pub(super) fn version(version: &Value) -> Finding {
    let number = |field: &str| {
        let digits: String =
            text(&version[field]).chars().take_while(char::is_ascii_digit).collect();
        digits.parse::<u32>().ok()
    };
    let Some(found) = number("major").zip(number("minor")) else {
        return Finding::note(format!("the API server does not say its version: {version}"));
    };
    let shown = format!("the API server is Kubernetes {}.{}", found.0, found.1);
    if found >= OLDEST {
        Finding::ok(shown)
    } else {
        let fix = "Pillion needs native sidecars: upgrade the cluster to Kubernetes 1.29 or newer.";
        Finding::error(shown, fix)
    }
}

/// Whether the clocks of the API server and of this machine agree. The API server said its time,
/// cut to the second, after it was asked and before the answer was here.
pub(super) fn clock(server: SystemTime, asked: SystemTime, answered: SystemTime) -> Finding {
    let ahead = server.duration_since(answered).unwrap_or_default();
    let behind = asked.duration_since(server + Duration::from_secs(1)).unwrap_or_default();
    let apart = ahead.max(behind);
    let what =
        format!("the clocks of the API server and of this machine are {} s apart", apart.as_secs());
    let fix = "Have NTP set the clocks of all nodes and of this machine: certificates and tokens \
               are believed by the time.";
    let (warn, fail) = SKEW;
    match apart {
        apart if apart >= fail => Finding::error(what, fix),
        apart if apart >= warn => Finding::warning(what, fix),
        _ => Finding::ok("the clocks of the API server and of this machine agree"),
    }
}

/// Whether the CRDs of the Gateway API are there, by what the API server lists of their version:
/// this anybody may read, and a missing kind cannot be told from one that may not be.
pub(super) fn gateway_api(resources: Option<&Value>) -> Finding {
    let missing: Vec<&str> =
        ["httproutes", "grpcroutes"].into_iter().filter(|name| !lists(resources, name)).collect();
    if missing.is_empty() {
        return Finding::ok("the CRDs of the Gateway API are installed");
    }
    let what = format!("the CRDs of the Gateway API are not installed: no {}", missing.join(", "));
    let fix = "Install the Gateway API's standard channel if you want HTTPRoutes or GRPCRoutes; \
               the mesh works without, and notices them later.";
    Finding::warning(what, fix)
}

/// Whether the CRD of InboundPolicy is there.
pub(super) fn own_crds(resources: Option<&Value>) -> Finding {
    if lists(resources, "inboundpolicies") {
        return Finding::ok("the CRD of InboundPolicy is installed");
    }
    let fix = "Apply the overlay again, or run `pillion crds | kubectl apply -f -`.";
    Finding::error("the CRD of InboundPolicy (pillion.dev/v1alpha1) is not installed", fix)
}

fn lists(resources: Option<&Value>, name: &str) -> bool {
    let all = resources.map(|resources| list(&resources["resources"])).unwrap_or_default();
    all.iter().any(|resource| resource["name"] == name)
}

/// Whether the control plane's namespace is free for it, or its own as the overlays label it.
pub(super) fn namespace(namespace: Option<&Value>) -> Finding {
    let Some(namespace) = namespace else {
        return Finding::ok("the namespace of the control plane is not there yet");
    };
    let name = text(&namespace["metadata"]["name"]);
    if namespace["metadata"]["labels"]["app.kubernetes.io/part-of"] == "pillion" {
        return Finding::ok(format!("the namespace {name} is there, and of Pillion"));
    }
    let fix = "Make sure that nothing else lives there: the overlays label it, and hold it to the \
               Pod Security standard `restricted`.";
    Finding::warning(format!("the namespace {name} is there, and not of Pillion"), fix)
}

/// What whoever installs must be allowed to do, of which this is denied.
pub(super) fn permissions(denied: &[String]) -> Finding {
    if denied.is_empty() {
        return Finding::ok("you may create what an installation needs");
    }
    let what = format!("you may not {}", denied.join(", "));
    Finding::error(what, "Install as somebody who may, such as a cluster administrator.")
}

/// What the control plane must be allowed to do, of which this is denied.
pub(super) fn rights(denied: &[String]) -> Finding {
    if denied.is_empty() {
        return Finding::ok("the control plane may do what it must");
    }
    let what = format!("the control plane may not {}", denied.join(", "));
    Finding::error(
        what,
        "Apply the overlay again: it holds the ClusterRole, the Role and their bindings.",
    )
}

/// Whether the control plane runs, and in this version.
pub(super) fn deployment(deployment: Option<&Value>, namespace: &Label, own: &str) -> Vec<Finding> {
    let Some(deployment) = deployment else {
        let fix = "Install it: kubectl apply -k deploy/overlays/dev, or say its --namespace.";
        return vec![Finding::error("there is no Deployment pillion-control-plane", fix)];
    };
    let wanted = deployment["spec"]["replicas"].as_u64().unwrap_or(1);
    let available = deployment["status"]["availableReplicas"].as_u64().unwrap_or(0);
    let what = format!("{available} of {wanted} replicas of the control plane are available");
    let fix = format!(
        "kubectl -n {namespace} describe deployment pillion-control-plane says why; so do /ready \
         and /problems of the admin port 15014."
    );
    let running = match available {
        0 => Finding::error(what, fix),
        some if some < wanted => Finding::warning(what, fix),
        _ => Finding::ok(what),
    };
    let containers = &deployment["spec"]["template"]["spec"]["containers"];
    let image = text(&containers[0]["image"]);
    vec![running, skew("the control plane", tag(image).unwrap_or_default(), own)]
}

/// Whether something is of our own version.
fn skew(what: &str, version: &str, own: &str) -> Finding {
    if version == own {
        return Finding::ok(format!("{what} has the version of this command, {own}"));
    }
    if version.is_empty() {
        return Finding::note(format!("the image of {what} has no tag that tells its version"));
    }
    let fix = "Upgrade the control plane first, then restart the workloads; use the `pillion` of \
               the same version.";
    Finding::warning(format!("{what} is of version {version}, this command of {own}"), fix)
}

fn tag(image: &str) -> Option<&str> {
    let name = image.split('@').next().unwrap_or_default();
    // A colon before the last slash is of the registry's port.
    name.rsplit('/').next()?.split_once(':').map(|(_, tag)| tag)
}

/// Whether an authority is good for a while. `what` names it.
pub(super) fn authority(what: &str, ends: Option<SystemTime>, now: SystemTime) -> Finding {
    let renew = "The control plane renews an issuer that has a third of its life left if root.key \
                 is in the Secret pillion-ca; a root is replaced as docs/OPERATING.md says.";
    let Some(ends) = ends else {
        let what = format!("{what} in the Secret pillion-ca cannot be read");
        return Finding::error(what, "Put the Secret back from a backup.");
    };
    match ends.duration_since(now) {
        Err(_) => {
            Finding::error(format!("{what} has expired: no certificate can be signed"), renew)
        }
        Ok(left) if left < NEAR => {
            Finding::warning(format!("{what} ends in {} days", left.as_secs() / DAY), renew)
        }
        Ok(left) => Finding::ok(format!("{what} is good for {} days", left.as_secs() / DAY)),
    }
}

/// Whether the API server can call the webhook.
pub(super) fn webhook(configuration: Option<&Value>) -> Finding {
    let Some(configuration) = configuration else {
        let fix =
            "Apply the overlay again; until then no pod gets a sidecar, but by `pillion inject`.";
        return Finding::error("there is no MutatingWebhookConfiguration pillion-injector", fix);
    };
    let without = |webhook: &&Value| text(&webhook["clientConfig"]["caBundle"]).is_empty();
    match list(&configuration["webhooks"]).iter().find(without) {
        None => Finding::ok("the webhook has its caBundle"),
        Some(_) => {
            let fix = "The control plane writes it within seconds; if it does not, its log says why \
                       (most often a missing permission, or no replica that leads).";
            Finding::error("the webhook pillion-injector has no caBundle: no pod is injected", fix)
        }
    }
}

/// The namespaces that the webhooks leave out by name, all of them the same.
pub(super) fn unserved(configuration: Option<&Value>) -> BTreeSet<&str> {
    let by_name =
        |rule: &&Value| rule["key"] == "kubernetes.io/metadata.name" && rule["operator"] == "NotIn";
    let webhook = configuration.and_then(|configuration| configuration["webhooks"].get(0));
    let rules = webhook.map(|webhook| list(&webhook["namespaceSelector"]["matchExpressions"]));
    let rules = rules.unwrap_or_default().iter().filter(by_name);
    rules.flat_map(|rule| list(&rule["values"])).map(text).collect()
}

pub(super) fn text(value: &Value) -> &str {
    value.as_str().unwrap_or_default()
}

pub(super) fn list(value: &Value) -> &[Value] {
    value.as_array().map(Vec::as_slice).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::super::finding::Level;
    use super::*;

    #[test]
    fn native_sidecars_need_a_version() {
        let level = |minor: &str| version(&json!({"major": "1", "minor": minor})).level;
        assert_eq!([level("28"), level("29"), level("36+")], [Level::Error, Level::Ok, Level::Ok]);
        assert_eq!(version(&json!({})).level, Level::Note);
    }

    #[test]
    fn clocks_and_authorities_are_judged_by_the_time_that_is_left() {
        let now = SystemTime::now();
        let after = |seconds| now + Duration::from_secs(seconds);
        assert_eq!(clock(now, now, now).level, Level::Ok);
        assert_eq!(clock(now, after(20), after(20)).level, Level::Warning);
        assert_eq!(clock(after(61), now, now).level, Level::Error);
        assert_eq!(clock(now, after(62), after(62)).level, Level::Error);
        // A slow answer is no wrong clock.
        assert_eq!(clock(after(1), now, after(14)).level, Level::Ok);
        let level = |ends| authority("the issuer", ends, now).level;
        assert_eq!(level(None), Level::Error);
        assert_eq!(level(Some(now - Duration::from_secs(1))), Level::Error);
        assert_eq!(level(Some(after(29 * DAY))), Level::Warning);
        assert_eq!(level(Some(after(31 * DAY))), Level::Ok);
    }

    #[test]
    fn versions_are_told_by_the_tag() {
        let of = |image: &str| {
            let deployment = json!({"spec": {"replicas": 2, "template": {"spec": {"containers": [{"image": image}]}}},
                "status": {"availableReplicas": 2}});
            deployment_levels(&deployment)
        };
        assert_eq!(of("registry:5000/pillion-control-plane:1.0.0"), [Level::Ok, Level::Ok]);
        assert_eq!(of("pillion-control-plane:0.9.0@sha256:ab"), [Level::Ok, Level::Warning]);
        assert_eq!(of("registry:5000/pillion-control-plane@sha256:ab"), [Level::Ok, Level::Note]);
    }

    fn deployment_levels(object: &Value) -> Vec<Level> {
        let namespace = "pillion-system".parse().unwrap();
        deployment(Some(object), &namespace, "1.0.0")
            .into_iter()
            .map(|finding| finding.level)
            .collect()
    }

    #[test]
    fn namespaces_that_the_webhook_leaves_out_are_read_from_it() {
        let rule = |key: &str, operator: &str| json!({"key": key, "operator": operator, "values": [format!("of-{key}-{operator}")]});
        let name = "kubernetes.io/metadata.name";
        let rules =
            json!([rule(name, "NotIn"), rule(name, "In"), rule("pillion.dev/inject", "NotIn")]);
        let selector = json!({"matchExpressions": rules});
        let webhook = json!({"webhooks": [{"namespaceSelector": selector}]});
        let found: Vec<&str> = unserved(Some(&webhook)).into_iter().collect();
        assert_eq!(found, ["of-kubernetes.io/metadata.name-NotIn"]);
        assert!(unserved(None).is_empty() && unserved(Some(&json!({}))).is_empty());
    }

    #[test]
    fn crds_are_there_if_they_are_listed() {
        let of = |names: &[&str]| {
            let all: Vec<Value> = names.iter().map(|name| json!({"name": name})).collect();
            json!({"resources": all})
        };
        assert_eq!(gateway_api(Some(&of(&["httproutes", "grpcroutes"]))).level, Level::Ok);
        let found = gateway_api(Some(&of(&["gateways", "httproutes", "httproutes/status"])));
        assert!(found.level == Level::Warning && found.what.ends_with(": no grpcroutes"));
        assert!(gateway_api(None).what.ends_with(": no httproutes, grpcroutes"));
        assert_eq!(own_crds(Some(&of(&["inboundpolicies"]))).level, Level::Ok);
        assert_eq!(own_crds(Some(&of(&[]))).level, Level::Error);
        assert_eq!(own_crds(None).level, Level::Error);
    }

    #[test]
    fn a_namespace_is_free_or_labelled_by_an_overlay() {
        let of = |labels: Value| namespace(Some(&json!({"metadata": {"labels": labels}}))).level;
        assert_eq!(namespace(None).level, Level::Ok);
        assert_eq!(of(json!({"app.kubernetes.io/part-of": "pillion"})), Level::Ok);
        assert_eq!(of(json!({"app.kubernetes.io/part-of": "shop"})), Level::Warning);
        assert_eq!(of(Value::Null), Level::Warning);
    }
}
