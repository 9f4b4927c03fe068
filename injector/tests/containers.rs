//! The containers that are added, held to the programs that run in them: every variable is a flag
//! of the sidecar, and every flag and every value is taken.

#![allow(clippy::unwrap_used)] // a test says what is wrong by failing

mod common;

use clap::{CommandFactory as _, Parser as _};
use common::{injected, pod};
use serde_json::{Value, json};

/// Every annotation at once, with a probe.
fn everything() -> Value {
    injected(&pod(
        "annotations: {pillion.dev/skip-inbound-ports: '22,23', \
         pillion.dev/skip-outbound-ports: '25', pillion.dev/skip-inbound-subnets: 10.0.0.0/8, \
         pillion.dev/skip-outbound-subnets: 'fd00::/8', pillion.dev/log-level: debug, \
         pillion.dev/inbound-plaintext: deny, pillion.dev/egress: deny, \
         pillion.dev/drain-timeout: 45s, pillion.dev/log-format: json, \
         pillion.dev/access-log: all, pillion.dev/trace-sample-ratio: '0.5', \
         pillion.dev/otlp-endpoint: 'http://collector:4317', \
         pillion.dev/proxy-cpu-request: 100m, \
         pillion.dev/proxy-cpu-limit: '2', pillion.dev/proxy-memory-request: 40Mi, \
         pillion.dev/proxy-memory-limit: 1Gi}",
        "initContainers: [{name: own, livenessProbe: {httpGet: {port: 80}}}]",
    ))
}

/// What stands for the values that only a node knows.
fn of_node(source: &Value) -> String {
    match (&source["fieldRef"]["fieldPath"], &source["resourceFieldRef"]["resource"]) {
        (Value::String(path), _) if path == "status.podIPs" => "10.0.0.1,fd00::1".into(),
        (_, Value::String(resource)) if resource == "limits.cpu" => "2".into(),
        _ => panic!("{source}"),
    }
}

#[test]
fn the_sidecar_takes_its_variables() {
    let pod = everything();
    let command = proxy::args::Args::command();
    let mut line = vec!["pillion-proxy".to_owned()];
    for variable in pod["spec"]["initContainers"][1]["env"].as_array().unwrap() {
        let name = variable["name"].as_str().unwrap();
        if name.starts_with("OTEL_") {
            continue; // read by OpenTelemetry's own library
        }
        let flag = command.get_arguments().find(|arg| arg.get_env().is_some_and(|env| env == name));
        let flag = flag.unwrap_or_else(|| panic!("{name} is no flag of the sidecar"));
        let long = flag.get_long().unwrap();
        let value = variable["value"]
            .as_str()
            .map_or_else(|| of_node(&variable["valueFrom"]), ToOwned::to_owned);
        if flag.get_action().takes_values() {
            line.push(format!("--{long}={value}"));
        } else {
            assert_eq!(value, "true", "{name}");
            line.push(format!("--{long}"));
        }
    }
    let args = proxy::args::Args::try_parse_from(line).unwrap();
    assert_eq!((args.redirected, args.workers, args.address.len()), (true, Some(2), 2));
    assert_eq!(
        [args.outbound_port, args.inbound_port, args.mesh_port, args.admin_port],
        [15001, 15006, 15008, 15020],
        "the ports are the standard ones, so that none need be said"
    );
}

#[test]
fn the_redirection_takes_its_flags() {
    let pod = everything();
    let init = &pod["spec"]["initContainers"][0];
    let flags = init["args"].as_array().unwrap().iter().map(|arg| arg.as_str().unwrap());
    let args = redirect::args::Args::try_parse_from(std::iter::once("redirect").chain(flags));
    let redirect::args::Command::Install { rules, dry_run: false } = args.unwrap().command else {
        panic!("{init}")
    };
    let settings = redirect::settings::Settings::try_from(rules).unwrap();
    assert_eq!(settings.inbound.ports, [22, 23]);
    assert_eq!(settings.outbound.ports, [25]);
    assert_eq!([settings.inbound.subnets.len(), settings.outbound.subnets.len()], [1, 1]);
    let proxy = &pod["spec"]["initContainers"][1];
    assert_eq!(proxy["securityContext"]["runAsUser"], settings.proxy_uid);
}

#[test]
fn neither_container_may_do_more_than_it_must() {
    let pod = everything();
    let capabilities = [json!({"drop": ["ALL"], "add": ["NET_ADMIN"]}), json!({"drop": ["ALL"]})];
    for (n, expected) in capabilities.iter().enumerate() {
        let context = &pod["spec"]["initContainers"][n]["securityContext"];
        assert_eq!(context["capabilities"], *expected);
        assert_eq!(context["runAsNonRoot"], true);
        assert_eq!(context["readOnlyRootFilesystem"], true);
        assert_eq!(context["allowPrivilegeEscalation"], false);
        assert_eq!(context["seccompProfile"]["type"], "RuntimeDefault");
    }
}
