//! `spec.parentRefs`: the Services that a route is attached to (GEP-1294).

use model::name::{Label, ServiceName};
use serde_json::{Value, json};

use super::Report;
use super::spec::ParentRef;
use crate::object::{label, port, unsupported};
use crate::problem::{Cause, Fault};

/// One Service that a route is attached to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Parent {
    /// The Service.
    pub service: ServiceName,
    /// `port`: only this port of it.
    pub port: Option<u16>,
    /// `sectionName`: only the port of this name.
    pub section: Option<String>,
    /// The path of its field, for problems found when it is resolved.
    pub field: String,
    /// The reference as it is written, for the route's status.
    pub written: Value,
}

/// The parents that are Services. A route without any has no effect in the mesh.
pub(super) fn parse(written: &[ParentRef], own: &Label, report: &mut Report) -> Vec<Parent> {
    let mut parents: Vec<Parent> = Vec::new();
    for (index, one) in written.iter().enumerate() {
        let field = format!("spec.parentRefs[{index}]");
        if !is_service(one.group.as_deref(), one.kind.as_deref()) {
            report.warn(no_service(one, field));
            continue;
        }
        if written[..index].iter().any(|before| before.is_like(one)) {
            let message = "the same parent stands there twice: each such reference must have a \
                           sectionName, or each a port, of its own";
            report.refuse(Fault::invalid(&field, message));
        }
        parents.extend(report.accept(parse_service(one, own, field)));
    }
    if written.is_empty() {
        let message = "missing: a route without parent has no effect";
        report.warn(Fault::new(Cause::Ignored, "spec.parentRefs", message));
    }
    parents
}

impl ParentRef {
    /// Whether the CRDs of both channels refuse two references (CEL): two to the same parent must
    /// differ in a `sectionName`, or else a `port`, that both have. Parents are compared as they are
    /// written: an API server does not know that one without a namespace is of the route's own.
    fn is_like(&self, other: &Self) -> bool {
        let differ = match (self.section(), other.section()) {
            (Some(one), Some(another)) if one != another => true,
            (Some(_), None) | (None, Some(_)) => false,
            _ => matches!((self.port, other.port), (Some(one), Some(another)) if one != another),
        };
        self.parent() == other.parent() && !differ
    }

    fn parent(&self) -> [Option<&str>; 4] {
        let namespace = self.namespace.as_deref().filter(|namespace| !namespace.is_empty());
        [self.group.as_deref(), self.kind.as_deref(), namespace, Some(&self.name)]
    }

    fn section(&self) -> Option<&str> {
        self.section_name.as_deref().filter(|name| !name.is_empty())
    }
}

/// The group of a Service is empty. The default is a Gateway's, so it must be written; `core` is
/// what the standard's own examples write.
pub(crate) fn is_service(group: Option<&str>, kind: Option<&str>) -> bool {
    matches!(group, Some("" | "core")) && kind == Some("Service")
}

fn no_service(one: &ParentRef, field: String) -> Fault {
    let kind = one.kind.as_deref().unwrap_or("Gateway");
    if kind == "Service" {
        let message = "a Service as parent needs `group: \"\"` beside `kind: Service`, for the \
                       default group is that of Gateways; this parent is left out";
        return unsupported(format!("{field}.group"), message);
    }
    let message = format!("a parent of kind {kind} is left out: only Services are served");
    unsupported(format!("{field}.kind"), message)
}

fn parse_service(one: &ParentRef, own: &Label, field: String) -> Result<Parent, Fault> {
    let namespace = match one.namespace.as_deref().filter(|namespace| !namespace.is_empty()) {
        Some(namespace) => label(namespace, || format!("{field}.namespace"))?,
        None => own.clone(),
    };
    let name = label(&one.name, || format!("{field}.name"))?;
    let number = one.port.map(|number| port(number, || format!("{field}.port"))).transpose()?;
    let section = one.section().map(ToOwned::to_owned);
    let service = ServiceName::new(namespace, name);
    Ok(Parent { service, port: number, section, field, written: json!(one) })
}
