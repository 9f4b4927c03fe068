//! What GRPCRoutes say of a port of which nobody else says what it speaks: HTTP/2 (Gateway API,
//! GRPCRoute: "no appProtocol is needed").

use std::collections::BTreeMap;

use model::name::ServiceName;
use model::service::{Protocol, Service};

use super::routes::attachments;
use crate::object::route::{Action, Kind, Reference, Route};
use crate::world::World;

/// Notes HTTP/2 at the ports that GRPCRoutes name, as parent or as backend. Only of their own
/// namespace: nobody can change what a Service of another namespace speaks to all its clients.
pub(super) fn note_ports(world: &World, services: &mut BTreeMap<ServiceName, Service>) {
    let counts = |route: &Route| route.kind == Kind::Grpc && !route.left_out;
    for (_, _, route) in world.routes().filter(|(_, _, route)| counts(route)) {
        let attached: Vec<(ServiceName, Vec<u16>)> = attachments(route, services, &mut Vec::new())
            .into_iter()
            .map(|(service, ports)| (service.clone(), ports))
            .collect();
        let named = attached.into_iter().chain(backends(route));
        for (name, ports) in named.filter(|(name, _)| name.namespace == route.namespace) {
            if let Some(service) = services.get_mut(&name) {
                note(service, &ports);
            }
        }
    }
}

fn note(service: &mut Service, ports: &[u16]) {
    let named = |port: u16| ports.is_empty() || ports.contains(&port);
    for port in service.ports.iter_mut().filter(|port| named(port.port)) {
        if port.protocol == Protocol::Detect {
            port.protocol = Protocol::Http2;
        }
    }
}

/// The Services and ports that the route forwards to.
fn backends(route: &Route) -> impl Iterator<Item = (ServiceName, Vec<u16>)> {
    let actions = route.rules.iter().map(|rule| &rule.action);
    let backends = actions.flat_map(|action| match action {
        Action::Forward(backends) => backends.as_slice(),
        Action::Unsupported(_) => &[],
    });
    backends.filter_map(|backend| match &backend.target {
        Reference::Service { namespace, name, port } => {
            Some((ServiceName::new(namespace.clone(), name.clone()), vec![*port]))
        }
        Reference::Invalid(_) => None,
    })
}
