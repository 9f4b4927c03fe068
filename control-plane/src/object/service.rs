//! A Service: its addresses, its ports, and whom it selects.

use std::collections::BTreeMap;
use std::net::IpAddr;

use k8s_openapi::api::core::v1::{Service as Kubernetes, ServicePort, ServiceSpec};
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;
use model::name::ServiceName;
use model::service::Protocol;
use serde_json::Value;

use crate::object::{Outcome, appprotocol, label, meta, port, strict, unsupported};
use crate::problem::{Cause, Fault};

/// Annotations that ask for endpoints nearby.
const TOPOLOGY_HINTS: [&str; 2] =
    ["service.kubernetes.io/topology-mode", "service.kubernetes.io/topology-aware-hints"];

/// A Service as its object says it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Service {
    /// Its name.
    pub name: ServiceName,
    /// Its address.
    pub addresses: Addresses,
    /// Its TCP ports, in the order of the object.
    pub ports: Vec<Port>,
    /// The labels of the pods behind it; `None` where its EndpointSlices are made by hand.
    pub selector: Option<BTreeMap<String, String>>,
    /// Whether pods take its traffic before they are ready (`publishNotReadyAddresses`).
    pub takes_unready: bool,
}

/// The addresses that clients find a Service by.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Addresses {
    /// ClusterIPs written in the object.
    Written(Vec<IpAddr>),
    /// None written: one is made, as an API server would.
    Synthesised,
    /// `clusterIP: None`: clients find the pods.
    Headless,
    /// `type: ExternalName`: a DNS alias, without endpoints.
    External,
}

/// One TCP port of a Service.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Port {
    /// The number that clients use.
    pub number: u16,
    /// Its name.
    pub name: Option<String>,
    /// The application's port.
    pub target: TargetPort,
    /// What is spoken on it.
    pub protocol: Protocol,
    /// The `appProtocol` of an application that does TLS of its own.
    pub own_tls: Option<String>,
}

/// `targetPort` of a Service's port.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum TargetPort {
    /// A number, which is the port's own where the object has none.
    Number(u16),
    /// The name of a port of the pod's containers.
    Name(String),
}

/// Parses a Service.
pub(crate) fn parse(value: &Value) -> Outcome<Service> {
    let object: Kubernetes = strict::read(value, "")?;
    let namespace = meta::namespace(object.metadata.namespace.as_deref())?;
    let name =
        label(object.metadata.name.as_deref().unwrap_or_default(), || "metadata.name".into())
            .map_err(|fault| vec![fault])?;
    let spec = object.spec.unwrap_or_default();
    let mut warnings = unserved(&spec, object.metadata.annotations.as_ref());
    let addresses = addresses(&spec, &mut warnings).map_err(|fault| vec![fault])?;
    let ports = ports(spec.ports.unwrap_or_default())?;
    let service = Service {
        name: ServiceName::new(namespace, name),
        addresses,
        ports,
        selector: spec.selector.filter(|selector| !selector.is_empty()),
        takes_unready: spec.publish_not_ready_addresses == Some(true),
    };
    Ok((service, warnings))
}

/// What asks for some of the endpoints, or for the same one again: any that is ready takes traffic.
fn unserved(spec: &ServiceSpec, annotations: Option<&BTreeMap<String, String>>) -> Vec<Fault> {
    let of_spec = [
        ("internalTrafficPolicy", spec.internal_traffic_policy.as_deref(), "Cluster"),
        ("sessionAffinity", spec.session_affinity.as_deref(), "None"),
        ("trafficDistribution", spec.traffic_distribution.as_deref(), ""),
    ];
    let of_spec = of_spec.map(|(field, asked, plain)| (format!("spec.{field}"), asked, plain));
    let of_hints = TOPOLOGY_HINTS.map(|name| {
        let asked = annotations.and_then(|annotations| annotations.get(name));
        (format!("metadata.annotations[{name}]"), asked.map(String::as_str), "Disabled")
    });
    let written = of_spec.into_iter().chain(of_hints).filter_map(|(field, asked, plain)| {
        let asked =
            asked.filter(|asked| !asked.is_empty() && !asked.eq_ignore_ascii_case(plain))?;
        let message = format!("{asked} is not served: any ready endpoint takes traffic");
        Some(unsupported(field, message))
    });
    written.collect()
}

fn addresses(spec: &ServiceSpec, warnings: &mut Vec<Fault>) -> Result<Addresses, Fault> {
    if spec.type_.as_deref() == Some("ExternalName") {
        let message = "an ExternalName Service is a DNS alias: the mesh has no endpoints for it";
        warnings.push(Fault::new(Cause::Ignored, "spec.type", message));
        return Ok(Addresses::External);
    }
    let several = spec.cluster_ips.iter().flatten().map(String::as_str);
    let mut written: Vec<&str> =
        spec.cluster_ip.as_deref().into_iter().chain(several).filter(|ip| !ip.is_empty()).collect();
    written.dedup(); // clusterIPs repeats clusterIP as its first
    match written.as_slice() {
        [] => Ok(Addresses::Synthesised),
        ["None"] => Ok(Addresses::Headless),
        texts => {
            let parse = |text: &&str| {
                text.parse().map_err(|_| {
                    Fault::invalid("spec.clusterIP", format!("{text:?} is no IP address"))
                })
            };
            Ok(Addresses::Written(texts.iter().map(parse).collect::<Result<_, _>>()?))
        }
    }
}

/// The TCP ports; the mesh leaves UDP and SCTP alone.
fn ports(written: Vec<ServicePort>) -> Result<Vec<Port>, Vec<Fault>> {
    let (mut ports, mut faults): (Vec<Port>, Vec<Fault>) = Default::default();
    let several = written.len() > 1;
    for (index, one) in written.into_iter().enumerate() {
        if !matches!(one.protocol.as_deref(), None | Some("TCP" | "")) {
            continue;
        }
        match parse_port(one, several, &ports, &format!("spec.ports[{index}]")) {
            Ok(port) => ports.push(port),
            Err(fault) => faults.push(fault),
        }
    }
    if faults.is_empty() { Ok(ports) } else { Err(faults) }
}

fn parse_port(one: ServicePort, several: bool, before: &[Port], at: &str) -> Result<Port, Fault> {
    let number = port(one.port.into(), || format!("{at}.port"))?;
    let name = one.name.filter(|name| !name.is_empty());
    if several && name.is_none() {
        let message = "missing: with several ports each must have a name";
        return Err(Fault::invalid(format!("{at}.name"), message));
    }
    if before.iter().any(|port| port.name == name) {
        return Err(Fault::invalid(format!("{at}.name"), "another port has the same name"));
    }
    if before.iter().any(|port| port.number == number) {
        return Err(Fault::invalid(format!("{at}.port"), "another port has the same number"));
    }
    let target = match one.target_port {
        None | Some(IntOrString::Int(0)) => TargetPort::Number(number),
        Some(IntOrString::Int(target)) => {
            TargetPort::Number(port(target.into(), || format!("{at}.targetPort"))?)
        }
        Some(IntOrString::String(name)) => TargetPort::Name(name),
    };
    let protocol = appprotocol::protocol(one.app_protocol.as_deref(), name.as_deref());
    let own_tls = one.app_protocol.filter(|said| appprotocol::is_tls(said));
    Ok(Port { number, name, target, protocol, own_tls })
}

#[cfg(test)]
mod tests {
    use crate::object::Object;
    use crate::object::tests::{good, refused};

    use super::*;

    fn text(spec: &str) -> String {
        format!("{{apiVersion: v1, kind: Service, metadata: {{name: api}}, spec: {spec}}}")
    }

    fn service(spec: &str) -> Service {
        match good(&text(spec)).0 {
            Object::Service(service) => service,
            other => panic!("{other:?} is no Service"),
        }
    }

    #[test]
    fn addresses_are_written_made_or_none() {
        let ip = |text: &str| text.parse().unwrap();
        let cases = [
            ("{}", Addresses::Synthesised),
            ("{clusterIP: ''}", Addresses::Synthesised),
            ("{clusterIP: None}", Addresses::Headless),
            ("{clusterIP: None, clusterIPs: [None]}", Addresses::Headless),
            ("{clusterIP: 10.0.0.1}", Addresses::Written(vec![ip("10.0.0.1")])),
            (
                "{clusterIP: 10.0.0.1, clusterIPs: [10.0.0.1, 'fd00::1']}",
                Addresses::Written(vec![ip("10.0.0.1"), ip("fd00::1")]),
            ),
            ("{type: ExternalName, externalName: example.com}", Addresses::External),
        ];
        for (spec, expected) in cases {
            assert_eq!(service(spec).addresses, expected, "{spec}");
        }
    }

    #[test]
    fn ports_have_targets_and_protocols() {
        let service = service(
            "{ports: [{port: 80, name: http}, {port: 90, name: b, targetPort: 9090}, \
             {port: 53, name: dns, protocol: UDP}, {port: 70, name: c, targetPort: web}]}",
        );
        let seen: Vec<_> = service.ports.iter().map(|p| (p.number, p.target.clone())).collect();
        assert_eq!(
            seen,
            [
                (80, TargetPort::Number(80)),
                (90, TargetPort::Number(9090)),
                (70, TargetPort::Name("web".into())),
            ]
        );
        assert_eq!(service.ports[0].protocol, Protocol::Http1);
    }

    #[test]
    fn bad_values_are_refused_by_their_field() {
        let cases = [
            ("{clusterIP: here}", "spec.clusterIP: \"here\" is no IP address"),
            ("{ports: [{port: 0}]}", "spec.ports[0].port: 0 is no port"),
            ("{ports: [{port: 70000}]}", "spec.ports[0].port: 70000 is no port"),
            ("{ports: [{port: 80, targetPort: -1}]}", "spec.ports[0].targetPort: -1 is no port"),
            ("{ports: [{port: 80, name: a}, {port: 81}]}", "spec.ports[1].name: missing"),
            (
                "{ports: [{port: 80, name: a}, {port: 81, name: a}]}",
                "spec.ports[1].name: another port has the same name",
            ),
            (
                "{ports: [{port: 80, name: a}, {port: 80, name: b}]}",
                "spec.ports[1].port: another port has the same number",
            ),
            ("{ports: [{prot: 80}]}", "spec.ports[0].prot: unknown field; did you mean \"port\"?"),
            ("{ports: {port: 80}}", "spec.ports: invalid type: map"),
        ];
        for (spec, expected) in cases {
            let faults = refused(&text(spec));
            assert!(faults[0].starts_with(expected), "{spec}: {faults:?}, not {expected:?}");
        }
    }

    #[test]
    fn what_is_asked_for_and_not_served_is_said() {
        let (mode, hints) = (TOPOLOGY_HINTS[0], TOPOLOGY_HINTS[1]);
        let annotated = |name: &str, value: &str| {
            format!("metadata: {{name: api, annotations: {{{name}: {value}}}}}")
        };
        let cases = [
            (
                text("{internalTrafficPolicy: Local}"),
                Some("spec.internalTrafficPolicy: Local is not"),
            ),
            (text("{sessionAffinity: ClientIP}"), Some("spec.sessionAffinity: ClientIP is not")),
            (text("{trafficDistribution: PreferClose}"), Some("spec.trafficDistribution: Prefer")),
            (
                text("{}").replace("metadata: {name: api}", &annotated(mode, "Auto")),
                Some("metadata.annotations[service.kubernetes.io/topology-mode]: Auto is not"),
            ),
            (text("{}").replace("metadata: {name: api}", &annotated(hints, "disabled")), None),
            (text("{internalTrafficPolicy: Cluster, sessionAffinity: None}"), None),
        ];
        for (text, expected) in cases {
            let warnings = good(&text).1;
            assert_eq!(warnings.len(), usize::from(expected.is_some()), "{text}: {warnings:?}");
            assert!(expected.is_none_or(|begins| warnings[0].starts_with(begins)), "{warnings:?}");
        }
    }

    #[test]
    fn an_empty_selector_selects_nothing() {
        assert_eq!(service("{selector: {}}").selector, None);
        assert_eq!(service("{selector: {app: api}}").selector.unwrap()["app"], "api");
    }
}
