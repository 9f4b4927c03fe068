//! Pods before and after: what is added to whichever pod, and which pods are left alone or refused.

#![allow(clippy::unwrap_used)] // a test says what is wrong by failing

mod common;

use common::{
    apply, assert_known, inject, injected, operations, pod, refused, settings, variable, yaml,
};
use injector::{Outcome, Skip};
use serde_json::{Value, json};

fn names(list: &Value) -> Vec<&str> {
    list.as_array().unwrap().iter().map(|entry| entry["name"].as_str().unwrap()).collect()
}

/// Every way in which metadata and lists may be absent, empty or filled.
#[test]
fn whatever_a_pod_has_it_is_kept_and_ours_is_added() {
    let metadata = [
        "",
        "annotations: null",
        "annotations: {}",
        "annotations: {a~b/c: d}",
        "annotations: {pillion.dev/inject: enabled, pillion.dev/sidecar: disabled}",
        "labels: {pillion.dev/inject: enabled}",
        "name: api",
    ];
    let spec = [
        "",
        "volumes: null, initContainers: null",
        "volumes: [], initContainers: []",
        "volumes: [{name: a, emptyDir: {}}]",
        "initContainers: [{name: a, image: a}, {name: b, image: b, restartPolicy: Always}]",
        "securityContext: {runAsUser: 1000}, os: {name: linux}, hostNetwork: false",
    ];
    for (metadata, spec) in metadata.iter().flat_map(|m| spec.iter().map(move |s| (m, s))) {
        let before = pod(metadata, spec);
        let after = injected(&before);
        assert_known(&after);
        let mut expected = vec!["pillion-init", "pillion-proxy"];
        if before["spec"]["initContainers"].is_array() {
            expected.extend(names(&before["spec"]["initContainers"]));
        }
        assert_eq!(names(&after["spec"]["initContainers"]), expected, "{spec}");
        let mut volumes = vec![];
        if before["spec"]["volumes"].is_array() {
            volumes.extend(names(&before["spec"]["volumes"]));
        }
        volumes.extend(["pillion-token", "pillion-state"]);
        assert_eq!(names(&after["spec"]["volumes"]), volumes, "{spec}");
        let annotations = &after["metadata"]["annotations"];
        assert_eq!(annotations["pillion.dev/injected"], "1.2.3");
        assert_eq!(annotations["pillion.dev/sidecar"], "enabled");
        assert_eq!(annotations["kubectl.kubernetes.io/default-container"], "api");
        for (name, value) in before["metadata"]["annotations"].as_object().into_iter().flatten() {
            assert!(&annotations[name] == value || name == "pillion.dev/sidecar", "{name}");
        }
        assert_eq!(after["spec"]["containers"], before["spec"]["containers"]);
        assert!(operations(&before).iter().all(|operation| operation["op"] == "add"));
    }
}

#[test]
fn a_template_without_metadata_is_injected() {
    let template = json!({"spec": {"containers": [{"name": "a"}]}});
    let after = injected(&template);
    assert_eq!(after["metadata"]["annotations"]["pillion.dev/sidecar"], "enabled");
}

#[test]
fn a_default_container_that_somebody_chose_stays() {
    let after = injected(&pod("annotations: {kubectl.kubernetes.io/default-container: log}", ""));
    assert_eq!(after["metadata"]["annotations"]["kubectl.kubernetes.io/default-container"], "log");
}

#[test]
fn what_was_injected_once_is_left_alone() {
    let mut after = injected(&pod("", "initContainers: [{name: own, image: own}]"));
    assert_eq!(inject(&after), Outcome::Skipped(Skip::Injected));
    // Others may add theirs before the second call, anywhere.
    after["spec"]["initContainers"].as_array_mut().unwrap().insert(0, json!({"name": "scan"}));
    after["spec"]["containers"].as_array_mut().unwrap().push(json!({"name": "agent"}));
    assert_eq!(inject(&after), Outcome::Skipped(Skip::Injected));
}

#[test]
fn the_way_back_leads_to_where_it_began() {
    let annotations = "annotations: {a: b, kubectl.kubernetes.io/default-container: api}";
    let mut missing = pod(annotations, "");
    assert!(!injector::uninject(&mut missing));
    assert_eq!(missing, pod(annotations, ""));
    for spec in ["", "volumes: [{name: a}], initContainers: [{name: b}]"] {
        let before = pod(annotations, spec);
        let mut after = injected(&before);
        assert!(injector::uninject(&mut after));
        assert_eq!(after, before);
    }
    assert!(!injector::uninject(&mut Value::Null));
}

#[test]
fn pods_that_are_skipped() {
    let other = |text: &str| Skip::OtherSidecar(text.into());
    let cases = [
        ("labels: {pillion.dev/inject: disabled}", "", Skip::Disabled),
        ("annotations: {pillion.dev/inject: disabled}", "hostNetwork: true", Skip::Disabled),
        (
            "labels: {pillion.dev/inject: enabled}, annotations: {pillion.dev/inject: disabled}",
            "",
            Skip::Disabled,
        ),
        // What a pod that is left alone says is none of our business.
        ("annotations: {pillion.dev/inject: disabled, pillion.dev/egress: x}", "", Skip::Disabled),
        ("", "hostNetwork: true", Skip::HostNetwork),
        ("", "os: {name: windows}", Skip::OtherSystem("windows".into())),
        ("", "nodeSelector: {kubernetes.io/os: windows}", Skip::OtherSystem("windows".into())),
        ("", "initContainers: [{name: istio-proxy}]", other("container istio-proxy")),
        (
            "annotations: {pillion.dev/sidecar: hbone}",
            "",
            other("metadata.annotations[pillion.dev/sidecar] is hbone"),
        ),
    ];
    for (metadata, spec, skip) in cases {
        assert_eq!(inject(&pod(metadata, spec)), Outcome::Skipped(skip), "{metadata} {spec}");
    }
    injected(&pod("", "nodeSelector: {kubernetes.io/os: linux, disk: fast}"));
    let linkerd = yaml("spec: {containers: [{name: a}, {name: linkerd-proxy}]}");
    assert_eq!(inject(&linkerd), Outcome::Skipped(other("container linkerd-proxy")));
}

#[test]
fn bad_labels_and_annotations_are_refused_and_named() {
    let cases = [
        (
            "labels: {pillion.dev/inject: 'yes'}",
            "metadata.labels[pillion.dev/inject]: \"yes\" is neither enabled nor disabled",
        ),
        (
            "annotations: {pillion.dev/inject: ''}",
            "metadata.annotations[pillion.dev/inject]: \"\" is neither enabled nor disabled",
        ),
        (
            "annotations: {pillion.dev/egress: 'no'}",
            "metadata.annotations[pillion.dev/egress]: \"no\" is neither allow nor deny",
        ),
    ];
    for (metadata, fault) in cases {
        assert_eq!(refused(&pod(metadata, "")), [fault]);
    }
    let both = pod(
        "annotations: {pillion.dev/egress: x, pillion.dev/log-level: '=='}",
        "volumes: [{name: pillion-state}]",
    );
    assert_eq!(refused(&both).len(), 3, "all faults are told at once");
}

#[test]
fn pods_that_are_refused_and_the_field_that_is_named() {
    let cases = [
        (
            "volumes: [{name: a}, {name: pillion-token}]",
            "spec.volumes[1].name: \"pillion-token\" is the name of a volume of the sidecar",
        ),
        (
            "initContainers: [{name: pillion-init}]",
            "spec.initContainers[0].name: \"pillion-init\" is the name of a container that is added",
        ),
        (
            "securityContext: {runAsUser: 1337}",
            "spec.securityContext.runAsUser: 1337 is the user of the sidecar, who is not redirected",
        ),
        (
            "initContainers: [{name: a, securityContext: {runAsUser: 1337}}]",
            "spec.initContainers[0].securityContext.runAsUser: 1337 is the user of the sidecar, who is not redirected",
        ),
        (
            "initContainers: [{name: a, ports: [{containerPort: 80}, {containerPort: 15008}]}]",
            "spec.initContainers[0].ports[1].containerPort: 15008 is a port of the sidecar",
        ),
        (
            "initContainers: [{name: a, livenessProbe: {httpGet: {port: web}}}]",
            "spec.initContainers[0].livenessProbe.httpGet.port: \"web\" is no port of container a",
        ),
        (
            "initContainers: [{name: a, startupProbe: {httpGet: {port: 0}}}]",
            "spec.initContainers[0].startupProbe.httpGet.port: 0 is no port from 1 to 65535",
        ),
        (
            "initContainers: {name: a}",
            "spec.initContainers: invalid type: map, expected a sequence",
        ),
        (
            "initContainers: [{name: 7}]",
            "spec.initContainers[0].name: invalid type: integer `7`, expected a string",
        ),
    ];
    for (spec, fault) in cases {
        assert_eq!(refused(&pod("", spec)), [fault]);
    }
    assert_eq!(refused(&json!({"metadata": {}})), ["spec.containers: there are none"]);
}

#[test]
fn a_port_of_ours_may_be_used_for_udp() {
    injected(&pod(
        "",
        "initContainers: [{name: a, ports: [{containerPort: 15008, protocol: UDP}]}]",
    ));
}

const PROBES: &str = "
metadata: {}
spec:
  initContainers:
  - name: cache
    restartPolicy: Always
    startupProbe: {httpGet: {port: 6060, path: ready}}
  containers:
  - name: api
    ports: [{name: web, containerPort: 8080}, {name: alt, containerPort: 9}]
    livenessProbe: {httpGet: {port: web, path: /live?full=1}}
    readinessProbe: {httpGet: {port: 8080, path: /ready, scheme: HTTP}}
    startupProbe: {httpGet: {port: '8080', path: /ready}}
    lifecycle: {preStop: {httpGet: {port: web, path: /stop}}}
  - name: other
    ports: [{name: web, containerPort: 8081}]
    livenessProbe: {httpGet: {port: web}}
    readinessProbe: {httpGet: {port: 8443, scheme: HTTPS}}
    startupProbe: {httpGet: {port: 1, host: elsewhere}}
  - name: third
    livenessProbe: {tcpSocket: {port: 1}}
    readinessProbe: {grpc: {port: 2}}
    startupProbe: {exec: {command: [a]}}
";

#[test]
fn http_probes_of_all_containers_are_told_with_their_numbers() {
    let after = injected(&yaml(PROBES));
    let probes: Value =
        serde_json::from_str(variable(&after, "PILLION_PROBES").as_str().unwrap()).unwrap();
    assert_eq!(
        probes,
        json!([
            {"port": 6060, "path": "/ready"},
            {"port": 8080, "path": "/live?full=1"},
            {"port": 8080, "path": "/ready"},
            {"port": 8081, "path": "/"},
        ])
    );
    assert!(variable(&injected(&pod("", "")), "PILLION_PROBES").is_null());
}

#[test]
fn probes_that_a_strict_sidecar_refuses_are_warned_of() {
    let mut before = yaml(PROBES);
    let warnings = |pod: &Value| match inject(pod) {
        Outcome::Patched { warnings, .. } => warnings,
        other => panic!("{other:?}"),
    };
    assert_eq!(warnings(&before), Vec::<String>::new());
    before["metadata"]["annotations"]["pillion.dev/inbound-plaintext"] = "deny".into();
    let places: Vec<_> = warnings(&before)
        .iter()
        .map(|warning| warning.split(':').next().unwrap().to_owned())
        .collect();
    assert_eq!(places, ["spec.containers[1].readinessProbe", "spec.containers[2].readinessProbe"]);
}

#[test]
fn annotations_reach_the_containers() {
    let after = injected(&pod(
        "annotations: {pillion.dev/skip-inbound-ports: '22', pillion.dev/egress: deny, \
         pillion.dev/skip-outbound-subnets: 10.0.0.0/8, pillion.dev/drain-timeout: 5s, \
         pillion.dev/proxy-cpu-limit: '2', pillion.dev/proxy-memory-limit: 128Mi}",
        "",
    ));
    let [init, proxy] = [0, 1].map(|n| &after["spec"]["initContainers"][n]);
    let args =
        json!(["install", "--exclude-inbound-ports=22", "--exclude-outbound-subnets=10.0.0.0/8"]);
    assert_eq!(init["args"], args);
    assert_eq!(variable(&after, "PILLION_EGRESS"), "deny");
    assert_eq!(variable(&after, "PILLION_DRAIN_TIMEOUT"), "5s");
    assert!(variable(&after, "PILLION_LOG_LEVEL").is_null());
    let resources = json!({
        "requests": {"cpu": "50m", "memory": "32Mi"}, "limits": {"cpu": "2", "memory": "128Mi"},
    });
    assert_eq!([&init["resources"], &proxy["resources"]], [&resources, &resources]);
    assert_known(&after);
}

#[test]
fn spans_say_which_pod_they_are_of() {
    let after = injected(&pod("annotations: {pillion.dev/otlp-endpoint: 'http://otel:4317'}", ""));
    let attributes = variable(&after, "OTEL_RESOURCE_ATTRIBUTES").as_str().unwrap();
    let env = after["spec"]["initContainers"][1]["env"].as_array().unwrap();
    let place = |name: &str| env.iter().position(|one| one["name"] == name).unwrap();
    for (key, end, path) in [
        ("k8s.pod.name", "POD_NAME", "metadata.name"),
        ("k8s.namespace.name", "NAMESPACE_NAME", "metadata.namespace"),
        ("k8s.node.name", "NODE_NAME", "spec.nodeName"),
    ] {
        let name = format!("OTEL_RESOURCE_ATTRIBUTES_{end}");
        assert!(attributes.split(',').any(|one| one == format!("{key}=$({name})")), "{attributes}");
        assert_eq!(env[place(&name)]["valueFrom"]["fieldRef"]["fieldPath"], path);
        assert!(
            place(&name) < place("OTEL_RESOURCE_ATTRIBUTES"),
            "only what came before is put in"
        );
    }
    assert_known(&after);
    assert!(variable(&injected(&pod("", "")), "OTEL_RESOURCE_ATTRIBUTES").is_null());
}

#[test]
fn spans_are_of_the_application_that_the_pod_runs() {
    let owner = |controller: bool, name: &str| {
        format!(
            "ownerReferences: [{{apiVersion: v1, kind: X, uid: u, controller: {controller}, name: {name}}}]"
        )
    };
    let cases = [
        ("labels: {app.kubernetes.io/name: api, app: other}".to_owned(), Some("api")),
        (format!("labels: {{app: api}}, {}", owner(true, "web")), Some("api")),
        (format!("labels: {{pod-template-hash: 7d9}}, {}", owner(true, "web-7d9")), Some("web")),
        (owner(true, "db"), Some("db")),
        (format!("labels: {{app: ''}}, {}", owner(false, "db")), None),
    ];
    for (metadata, expected) in cases {
        let asked = "annotations: {pillion.dev/otlp-endpoint: 'http://otel:4317'}";
        let after = injected(&pod(&format!("{asked}, {metadata}"), ""));
        assert_eq!(variable(&after, "OTEL_SERVICE_NAME").as_str(), expected, "{metadata}");
        assert!(variable(&injected(&pod(&metadata, "")), "OTEL_SERVICE_NAME").is_null());
    }
}

#[test]
fn workers_are_the_limit_of_cpus_or_what_is_kept() {
    let resource = |annotations: &str| {
        let after = injected(&pod(annotations, ""));
        let env = after["spec"]["initContainers"][1]["env"].as_array().unwrap().clone();
        let workers = env.into_iter().find(|v| v["name"] == "PILLION_WORKERS").unwrap();
        workers["valueFrom"]["resourceFieldRef"]["resource"].clone()
    };
    assert_eq!(resource(""), "requests.cpu");
    assert_eq!(resource("annotations: {pillion.dev/proxy-cpu-limit: '2'}"), "limits.cpu");
}

/// One whole pod, as a ReplicaSet makes it, after the ServiceAccount plug-in.
#[test]
fn a_whole_pod() {
    let before = yaml(include_str!("golden/pod.yaml"));
    let after = injected(&before);
    assert_known(&before);
    assert_known(&after);
    let golden = yaml(include_str!("golden/injected.yaml"));
    if after != golden {
        let text = serde_norway::to_string(&after).unwrap();
        panic!("golden/injected.yaml is not what became of golden/pod.yaml:\n{text}");
    }
    assert_eq!(apply(&before, &[]), before);
    assert_eq!(settings().version, after["metadata"]["annotations"]["pillion.dev/injected"]);
}
