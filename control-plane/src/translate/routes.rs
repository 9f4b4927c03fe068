//! HTTPRoutes and GRPCRoutes: attached to their parent Services, with their references resolved (GEP-1294).

use std::collections::BTreeMap;

use model::name::{Label, ServiceName};
use model::route::{Action, Backend, BackendTarget, Route, Rule, ServiceRoutes};
use model::service::Service;

use super::ScopedRoutes;
use crate::object::Key;
use crate::object::age::Age;
use crate::object::route::{
    Action as WrittenAction, BackendRef, Kind, Parent, Reference, Route as Written,
};
use crate::object::service::Addresses;
use crate::problem::{Cause, Fault, Origin, Problem};
use crate::world::World;

type Services = BTreeMap<ServiceName, Service>;

/// The routes of all Services, and what could not be resolved.
pub(super) fn translate(
    world: &World,
    services: &Services,
) -> (BTreeMap<ServiceName, ScopedRoutes>, Vec<Problem>) {
    let in_force = world.routes().filter(|(_, _, route)| !route.left_out);
    let mut routes: Vec<(&Key, &Origin, &Written)> = in_force.collect();
    // Between routes, the older one comes first, then the one first by namespace and name.
    routes.sort_by_key(|(_, _, route)| precedence(route));
    let mut attached: BTreeMap<ServiceName, ScopedRoutes> = BTreeMap::new();
    let mut taken = Taken::default();
    let mut problems = Vec::new();
    for (key, origin, route) in routes {
        let mut faults = Vec::new();
        let parents = route.parents.iter();
        faults.extend(parents.filter_map(|parent| no_frontend(parent, world, services)));
        let rules = resolve_rules(route, world, services, &mut faults);
        for (service, ports) in attachments(route, services, &mut faults) {
            let Some(ports) = taken.give(route, service, ports, services, &mut faults) else {
                continue;
            };
            let part = Route {
                namespace: route.namespace.clone(),
                name: route.name.clone(),
                ports,
                rules: rules.clone(),
            };
            attached.entry(service.clone()).or_default().push(service, part);
        }
        problems.extend(faults.into_iter().map(|f| f.of(Some(key.clone()), origin.clone())));
    }
    for (service, scoped) in &mut attached {
        scoped.complete(&all_ports(service, services));
    }
    (attached, problems)
}

/// GRPCRoutes come first: where both kinds name a port, it is theirs.
fn precedence(route: &Written) -> (bool, Age, &Label, &str) {
    (route.kind != Kind::Grpc, route.age, &route.namespace, &route.name)
}

/// The ports that GRPCRoutes have taken, by the Service and the namespace of the routes; no ports
/// are all. Routes of different namespaces never meet: at a port a client sees those of one (GEP-1294).
#[derive(Default)]
struct Taken<'w>(BTreeMap<(&'w ServiceName, &'w Label), Vec<Vec<u16>>>);

impl<'w> Taken<'w> {
    /// The ports of a Service that a route gets of those that it names: of several kinds of route
    /// for one port only one counts, GRPCRoute before HTTPRoute (GEP-1294). `None` for no port.
    fn give(
        &mut self,
        route: &'w Written,
        service: &'w ServiceName,
        ports: Vec<u16>,
        services: &Services,
        faults: &mut Vec<Fault>,
    ) -> Option<Vec<u16>> {
        let of_service = (service, &route.namespace);
        if route.kind == Kind::Grpc {
            self.0.entry(of_service).or_default().push(ports.clone());
            return Some(ports);
        }
        let Some(taken) = self.0.get(&of_service) else { return Some(ports) };
        let is_taken = |port: &u16| taken.iter().any(|of| of.is_empty() || of.contains(port));
        let wanted = if ports.is_empty() { all_ports(service, services) } else { ports.clone() };
        let (lost, left): (Vec<u16>, Vec<u16>) = wanted.into_iter().partition(is_taken);
        let all = taken.iter().any(Vec::is_empty);
        if lost.is_empty() && !all {
            return Some(ports);
        }
        for parent in route.parents.iter().filter(|parent| parent.service == *service) {
            // A parent is accepted if any part of it is (Gateway API, ParentReference.sectionName).
            let cause = match parent_port(parent, services) {
                Ok(None) if !left.is_empty() => Cause::Ignored,
                Ok(Some(port)) if !all && !lost.contains(&port) => continue,
                Ok(_) => Cause::Conflicted,
                Err(_) => continue,
            };
            let message = format!(
                "Conflicted: a GRPCRoute is attached to Service {service} too, and takes the \
                 ports {lost:?}: there the HTTPRoute has no effect"
            );
            faults.push(Fault::new(cause, &parent.field, message));
        }
        (!left.is_empty()).then_some(left)
    }
}

fn all_ports(service: &ServiceName, services: &Services) -> Vec<u16> {
    let ports = services.get(service).map(|service| service.ports.as_slice());
    ports.unwrap_or_default().iter().map(|port| port.port).collect()
}

impl ScopedRoutes {
    fn push(&mut self, service: &ServiceName, route: Route) {
        let empty = || ServiceRoutes { service: service.clone(), routes: Vec::new() };
        let of_scope = if route.namespace == service.namespace {
            self.producer.get_or_insert_with(empty)
        } else {
            self.consumers.entry(route.namespace.clone()).or_insert_with(empty)
        };
        of_scope.routes.push(route);
    }

    /// Consumer routes replace the producer's at the ports that they name: at the others of `all` the
    /// clients of their namespace see the producer's too.
    fn complete(&mut self, all: &[u16]) {
        let Some(producer) = &self.producer else { return };
        for consumer in self.consumers.values_mut() {
            let named = |port: &u16| consumer.routes.iter().any(|route| route.is_for(*port));
            let left = |route: &Route| {
                let ports = all.iter().copied().filter(|port| route.is_for(*port) && !named(port));
                let ports: Vec<u16> = ports.collect();
                (!ports.is_empty()).then(|| Route { ports, ..route.clone() })
            };
            let left: Vec<Route> = producer.routes.iter().filter_map(left).collect();
            consumer.routes.extend(left);
        }
    }
}

/// The Services that a route is attached to, each with the ports it is for; no ports are all.
pub(super) fn attachments<'r>(
    route: &'r Written,
    services: &Services,
    faults: &mut Vec<Fault>,
) -> BTreeMap<&'r ServiceName, Vec<u16>> {
    let mut attached: BTreeMap<&ServiceName, Option<Vec<u16>>> = BTreeMap::new();
    for parent in &route.parents {
        match parent_port(parent, services) {
            Ok(None) => {
                attached.insert(&parent.service, None);
            }
            Ok(Some(port)) => {
                let ports = attached.entry(&parent.service).or_insert_with(|| Some(Vec::new()));
                // The same parent may be written in two ways.
                if let Some(ports) = ports.as_mut().filter(|ports| !ports.contains(&port)) {
                    ports.push(port);
                }
            }
            Err(fault) if services.contains_key(&parent.service) => faults.push(fault),
            Err(_) => {} // of a Service that is not there, only that is said
        }
    }
    attached.into_iter().map(|(service, ports)| (service, ports.unwrap_or_default())).collect()
}

/// What is wrong with a parent that no connection leads to, for it has no address of its own
/// (GEP-1294). The route is attached all the same: a Service may come later, also by registration.
fn no_frontend(parent: &Parent, world: &World, services: &Services) -> Option<Fault> {
    let service = &parent.service;
    let message = match world.service(service).map(|object| &object.addresses) {
        Some(Addresses::External) => {
            format!("Service {service} is an ExternalName: no connection leads to it")
        }
        Some(Addresses::Headless) => {
            format!("Service {service} is headless: connections to its pods pass by all routes")
        }
        None if !services.contains_key(service) => format!("there is no Service {service}"),
        _ => return None,
    };
    Some(Fault::new(Cause::Unresolved, format!("{}.name", parent.field), message))
}

/// The one port that a parent reference is for; `None` for all.
fn parent_port(parent: &Parent, services: &Services) -> Result<Option<u16>, Fault> {
    let unresolved = |field: &str, message: String| {
        Err(Fault::new(Cause::Unresolved, format!("{}.{field}", parent.field), message))
    };
    let ports = services.get(&parent.service).map(|service| service.ports.as_slice());
    let Some(section) = &parent.section else {
        return match (parent.port, ports) {
            (Some(number), Some(ports)) if !ports.iter().any(|port| port.port == number) => {
                unresolved("port", format!("Service {} has no port {number}", parent.service))
            }
            (port, _) => Ok(port),
        };
    };
    let named = |port: &&model::service::ServicePort| port.name.as_ref() == Some(section);
    match ports.unwrap_or_default().iter().find(named).map(|port| port.port) {
        None => unresolved(
            "sectionName",
            format!("Service {} has no port of the name {section:?}", parent.service),
        ),
        Some(number) if parent.port.is_some_and(|port| port != number) => unresolved(
            "port",
            format!("the port {section:?} of Service {} is {number}", parent.service),
        ),
        Some(number) => Ok(Some(number)),
    }
}

fn resolve_rules(
    route: &Written,
    world: &World,
    services: &Services,
    faults: &mut Vec<Fault>,
) -> Vec<Rule> {
    let mut rules = Vec::new();
    for rule in &route.rules {
        let action = match &rule.action {
            WrittenAction::Unsupported(reason) => Action::Unsupported(reason.clone()),
            WrittenAction::Forward(backends) => {
                let resolve = |backend| resolve_backend(backend, world, services, faults);
                Action::Forward(backends.iter().map(resolve).collect())
            }
        };
        rules.push(Rule {
            name: rule.name.clone(),
            matches: rule.matches.clone(),
            action,
            timeouts: rule.timeouts,
            retry: rule.retry.clone(),
        });
    }
    rules
}

fn resolve_backend(
    written: &BackendRef,
    world: &World,
    services: &Services,
    faults: &mut Vec<Fault>,
) -> Backend {
    let target = match &written.target {
        Reference::Invalid(reason) => BackendTarget::Invalid(reason.clone()),
        Reference::Service { namespace, name, port } => {
            let name = ServiceName::new(namespace.clone(), name.clone());
            match missing(&name, *port, services).or_else(|| own_tls(&name, *port, world)) {
                None => BackendTarget::Service { name, port: *port },
                Some(reason) => {
                    // What is never chosen may lead nowhere (BackendRef.weight).
                    if written.weight > 0 {
                        let message = format!("{reason}: its share of requests gets an error");
                        faults.push(Fault::new(Cause::Unresolved, &written.field, message));
                    }
                    BackendTarget::Invalid(reason)
                }
            }
        }
    };
    Backend { weight: written.weight, target }
}

fn missing(name: &ServiceName, port: u16, services: &Services) -> Option<String> {
    match services.get(name) {
        None => Some(format!("BackendNotFound: there is no Service {name}")),
        Some(service) if !service.ports.iter().any(|p| p.port == port) => {
            Some(format!("BackendNotFound: Service {name} has no port {port}"))
        }
        Some(_) => None,
    }
}

/// Routes send HTTP as it is: an application that does TLS of its own would not understand it (GEP-1911).
fn own_tls(name: &ServiceName, port: u16, world: &World) -> Option<String> {
    let port = world.service(name)?.ports.iter().find(|written| written.number == port)?;
    let (number, said) = (port.number, port.own_tls.as_ref()?);
    Some(format!("UnsupportedProtocol: port {number} of Service {name} speaks {said}"))
}
