//! An EndpointSlice: addresses behind a Service, with their readiness.

use std::net::IpAddr;

use k8s_openapi::api::discovery::v1::{Endpoint as Kubernetes, EndpointPort, EndpointSlice};
use model::name::ServiceName;
use serde_json::Value;

use crate::object::{Outcome, label, meta, port, strict};
use crate::problem::{Cause, Fault};

/// The label that ties an EndpointSlice to its Service.
const SERVICE_LABEL: &str = "kubernetes.io/service-name";

/// An EndpointSlice as its object says it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Slice {
    /// The Service that it belongs to; `None` without the label, and then it has no effect.
    pub service: Option<ServiceName>,
    /// Its TCP ports: the name of the Service's port, and the application's number.
    pub ports: Vec<SlicePort>,
    /// Its endpoints.
    pub endpoints: Vec<SliceEndpoint>,
}

/// One port of an EndpointSlice.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SlicePort {
    /// The name of the Service's port; empty for one without name.
    pub name: String,
    /// The application's port.
    pub number: u16,
}

/// One endpoint of an EndpointSlice.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SliceEndpoint {
    /// Its address: the first, which stands for all (EndpointSlice API, `addresses`).
    pub address: IpAddr,
    /// The pod behind it, where `targetRef` names one.
    pub pod: Option<String>,
    /// Whether it takes traffic.
    pub state: State,
}

/// What an endpoint's conditions say.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum State {
    /// It takes traffic.
    Ready,
    /// It is leaving but still serves: used only while no endpoint is ready.
    Leaving,
    /// It takes none.
    NotReady,
}

/// Parses an EndpointSlice.
pub(crate) fn parse(value: &Value) -> Outcome<Slice> {
    let object: EndpointSlice = strict::read(value, "")?;
    let namespace = meta::namespace(object.metadata.namespace.as_deref())?;
    let mut warnings = Vec::new();
    let service = match object.metadata.labels.unwrap_or_default().remove(SERVICE_LABEL) {
        Some(name) => {
            let field = || format!("metadata.labels[{SERVICE_LABEL}]");
            let name = label(&name, field).map_err(|fault| vec![fault])?;
            Some(ServiceName::new(namespace, name))
        }
        None => {
            let message = format!("without the label {SERVICE_LABEL} it belongs to no Service");
            warnings.push(Fault::new(Cause::Ignored, "metadata.labels", message));
            None
        }
    };
    let ports = collect(object.ports, parse_port)?.into_iter().flatten().collect();
    let endpoints = match object.address_type.as_str() {
        "IPv4" | "IPv6" => collect(object.endpoints, parse_endpoint)?,
        "FQDN" => {
            let message = "endpoints by DNS name (FQDN) are not used";
            warnings.push(Fault::new(Cause::Unsupported, "addressType", message));
            Vec::new()
        }
        other => {
            let message = format!("{other:?} is none of IPv4, IPv6, FQDN");
            return Err(vec![Fault::invalid("addressType", message)]);
        }
    };
    Ok((Slice { service, ports, endpoints }, warnings))
}

fn collect<T, U>(
    items: Option<Vec<T>>,
    parse: impl Fn(T, usize) -> Result<U, Fault>,
) -> Result<Vec<U>, Vec<Fault>> {
    let items = items.into_iter().flatten().enumerate();
    items.map(|(index, item)| parse(item, index)).collect::<Result<_, _>>().map_err(|f| vec![f])
}

/// `None` for a port that is not TCP, or without number ("all ports", which no Service has).
fn parse_port(written: EndpointPort, index: usize) -> Result<Option<SlicePort>, Fault> {
    if !matches!(written.protocol.as_deref(), None | Some("TCP" | "")) {
        return Ok(None);
    }
    let Some(number) = written.port else { return Ok(None) };
    let number = port(number.into(), || format!("ports[{index}].port"))?;
    Ok(Some(SlicePort { name: written.name.unwrap_or_default(), number }))
}

fn parse_endpoint(written: Kubernetes, index: usize) -> Result<SliceEndpoint, Fault> {
    let field = || format!("endpoints[{index}].addresses");
    let Some(text) = written.addresses.first() else {
        return Err(Fault::invalid(field(), "missing"));
    };
    let address = text.parse().map_err(|_| {
        Fault::invalid(format!("{}[0]", field()), format!("{text:?} is no IP address"))
    })?;
    let conditions = written.conditions.unwrap_or_default();
    // What is not written counts as true, but for `terminating` (EndpointConditions).
    let state = match (conditions.ready, conditions.serving, conditions.terminating) {
        (None | Some(true), ..) => State::Ready,
        (Some(false), None | Some(true), Some(true)) => State::Leaving,
        (Some(false), ..) => State::NotReady,
    };
    let pod = written.target_ref.filter(|target| target.kind.as_deref() == Some("Pod"));
    Ok(SliceEndpoint { address, pod: pod.and_then(|pod| pod.name), state })
}

#[cfg(test)]
mod tests {
    use crate::object::Object;
    use crate::object::tests::{good, refused};

    use super::*;

    fn text(rest: &str) -> String {
        format!(
            "{{apiVersion: discovery.k8s.io/v1, kind: EndpointSlice, addressType: IPv4, \
             metadata: {{name: api-1, namespace: shop, \
             labels: {{kubernetes.io/service-name: api}}}}, {rest}}}"
        )
    }

    fn slice(rest: &str) -> Slice {
        match good(&text(rest)).0 {
            Object::Slice(slice) => slice,
            other => panic!("{other:?} is no EndpointSlice"),
        }
    }

    #[test]
    fn the_label_names_the_service() {
        let slice =
            slice("endpoints: [], ports: [{name: http, port: 8080}, {port: 9, protocol: UDP}]");
        assert_eq!(slice.service.unwrap().to_string(), "shop/api");
        assert_eq!(slice.ports, [SlicePort { name: "http".into(), number: 8080 }]);
        let (_, warnings) = good(
            "{apiVersion: discovery.k8s.io/v1, kind: EndpointSlice, addressType: IPv4, \
             metadata: {name: a}, endpoints: []}",
        );
        assert!(warnings[0].contains("belongs to no Service"), "{warnings:?}");
    }

    #[test]
    fn conditions_say_who_takes_traffic() {
        let cases = [
            ("", State::Ready),
            (", conditions: {}", State::Ready),
            (", conditions: {ready: true}", State::Ready),
            (", conditions: {ready: false}", State::NotReady),
            (", conditions: {ready: false, serving: true, terminating: true}", State::Leaving),
            (", conditions: {ready: false, serving: false, terminating: true}", State::NotReady),
            (", conditions: {ready: false, terminating: true}", State::Leaving),
            // Of a Service that publishes addresses that are not ready.
            (", conditions: {ready: true, serving: false, terminating: true}", State::Ready),
        ];
        for (conditions, expected) in cases {
            let slice = slice(&format!("endpoints: [{{addresses: [10.0.0.1]{conditions}}}]"));
            assert_eq!(slice.endpoints[0].state, expected, "{conditions}");
        }
    }

    #[test]
    fn bad_values_are_refused_by_their_field() {
        let cases = [
            ("endpoints: [{addresses: []}]", "endpoints[0].addresses: missing"),
            ("endpoints: [{addresses: [a]}]", "endpoints[0].addresses[0]: \"a\" is no IP"),
            ("endpoints: [], ports: [{port: 99999}]", "ports[0].port: 99999 is no port"),
        ];
        for (rest, expected) in cases {
            let faults = refused(&text(rest));
            assert!(faults[0].starts_with(expected), "{rest}: {faults:?}, not {expected:?}");
        }
    }
}
