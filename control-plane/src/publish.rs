//! A publication: everything that sidecars may be told, encoded once, under its names.

use std::fmt::Display;
use std::net::IpAddr;
use std::sync::Arc;

use foldhash::HashMap;
use model::inbound::Inbound;
use model::name::{Label, ServiceName};
use model::owner::Owner;
use model::route::{Action, BackendTarget, ServiceRoutes};
use wire::{Body, Encoded, Kind};

use crate::translate::{ScopedRoutes, Translation};

/// One state of the whole mesh. Numbers rise by one with each that differs; 0 is the time before
/// the source has told all it has, and nothing is sent then.
#[derive(Debug, Default)]
pub struct Publication {
    /// Its number.
    pub number: u64,
    services: HashMap<ServiceName, Arc<Published>>,
    routes: HashMap<ServiceName, Scoped>,
    inbound: HashMap<IpAddr, Arc<Published>>,
    owners: HashMap<IpAddr, Arc<Published>>,
}

/// One resource.
#[derive(Debug)]
pub struct Published {
    /// As it is sent.
    pub encoded: Encoded,
    /// The Services that it sends traffic to, beside its own.
    pub leads_to: Vec<ServiceName>,
    body: Body,
}

#[derive(Debug, Default)]
struct Scoped {
    producer: Option<Arc<Published>>,
    consumers: HashMap<Label, Arc<Published>>,
}

impl Publication {
    /// The publication after this one; `None` when nothing differs. Resources that did not
    /// change are shared with this one, not made again.
    pub fn next(&self, translation: Translation) -> Option<Self> {
        let Translation { services, routes, inbound, owners, problems: _ } = translation;
        let next = Self {
            number: self.number + 1,
            services: services
                .into_iter()
                .map(|(name, service)| {
                    let before = self.services.get(&name);
                    let published = reuse(before, &name, Body::Service(service));
                    (name, published)
                })
                .collect(),
            routes: routes.into_iter().map(|(name, routes)| self.scoped(name, routes)).collect(),
            inbound: inbound
                .into_iter()
                .map(|(address, inbound)| {
                    let before = self.inbound.get(&address);
                    (address, reuse(before, &address, Body::Inbound(inbound)))
                })
                .collect(),
            owners: owners
                .into_iter()
                .map(|(address, owner)| {
                    let before = self.owners.get(&address);
                    (address, reuse(before, &address, Body::Address(owner)))
                })
                .collect(),
        };
        (self.number == 0 || !next.is_same(self)).then_some(next)
    }

    fn scoped(&self, service: ServiceName, routes: ScopedRoutes) -> (ServiceName, Scoped) {
        let before = self.routes.get(&service);
        let publish = |before: Option<&Arc<Published>>, routes: ServiceRoutes| {
            reuse(before, &service, Body::Routes(routes))
        };
        let producer = routes
            .producer
            .map(|routes| publish(before.and_then(|before| before.producer.as_ref()), routes));
        let consumer = |(namespace, routes): (Label, ServiceRoutes)| {
            let before = before.and_then(|before| before.consumers.get(&namespace));
            (namespace, publish(before, routes))
        };
        let consumers = routes.consumers.into_iter().map(consumer).collect();
        (service, Scoped { producer, consumers })
    }

    /// The Service of this name.
    pub fn service(&self, name: &ServiceName) -> Option<&Arc<Published>> {
        self.services.get(name)
    }

    /// The routes of a Service as a client of this namespace sees them: the consumer routes of its
    /// own namespace, where there are any, else the producer's (GEP-1294).
    pub fn routes(&self, name: &ServiceName, client: &Label) -> Option<&Arc<Published>> {
        let scoped = self.routes.get(name)?;
        scoped.consumers.get(client).or(scoped.producer.as_ref())
    }

    /// What the workload at this address lets in: nothing, if nobody named a port of it.
    pub fn inbound(&self, address: IpAddr) -> Arc<Published> {
        let nothing = || reuse(None, &address, Body::Inbound(Inbound::default()));
        self.inbound.get(&address).cloned().unwrap_or_else(nothing)
    }

    /// Who has this address.
    pub fn owner(&self, address: IpAddr) -> Option<&Arc<Published>> {
        self.owners.get(&address)
    }

    /// How many resources of each kind there are.
    pub fn counts(&self) -> [(Kind, usize); 4] {
        let routes = self.routes.values();
        let routes = routes.map(|of| usize::from(of.producer.is_some()) + of.consumers.len()).sum();
        [
            (Kind::Service, self.services.len()),
            (Kind::Routes, routes),
            (Kind::Inbound, self.inbound.len()),
            (Kind::Address, self.owners.len()),
        ]
    }

    fn is_same(&self, other: &Self) -> bool {
        same(&self.services, &other.services, Arc::ptr_eq)
            && same(&self.inbound, &other.inbound, Arc::ptr_eq)
            && same(&self.owners, &other.owners, Arc::ptr_eq)
            && same(&self.routes, &other.routes, |a, b| {
                let producers = match (&a.producer, &b.producer) {
                    (Some(a), Some(b)) => Arc::ptr_eq(a, b),
                    (None, None) => true,
                    _ => false,
                };
                producers && same(&a.consumers, &b.consumers, Arc::ptr_eq)
            })
    }
}

fn same<K: Eq + std::hash::Hash, V>(
    a: &HashMap<K, V>,
    b: &HashMap<K, V>,
    equal: impl Fn(&V, &V) -> bool,
) -> bool {
    a.len() == b.len() && a.iter().all(|(key, value)| b.get(key).is_some_and(|b| equal(value, b)))
}

/// The resource published before, if it says the same.
fn reuse(before: Option<&Arc<Published>>, name: &impl Display, body: Body) -> Arc<Published> {
    match before {
        Some(before) if before.body == body => Arc::clone(before),
        _ => {
            let leads_to = leads_to(&body);
            Arc::new(Published { encoded: Encoded::new(&name.to_string(), &body), leads_to, body })
        }
    }
}

fn leads_to(body: &Body) -> Vec<ServiceName> {
    let routes = match body {
        Body::Routes(routes) => routes,
        Body::Address(Owner::Service(name)) => return vec![name.clone()],
        Body::Service(_) | Body::Inbound(_) | Body::Address(Owner::Workload(_)) => {
            return Vec::new();
        }
    };
    let rules = routes.routes.iter().flat_map(|route| &route.rules);
    let backends = rules.flat_map(|rule| match &rule.action {
        Action::Forward(backends) => backends.as_slice(),
        Action::Unsupported(_) => &[],
    });
    let mut names: Vec<ServiceName> = backends
        .filter_map(|backend| match &backend.target {
            BackendTarget::Service { name, .. } => Some(name.clone()),
            BackendTarget::Invalid(_) => None,
        })
        .filter(|name| *name != routes.service)
        .collect();
    names.sort_unstable();
    names.dedup();
    names
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use crate::translate::{Settings, translate};
    use crate::world::tests::world;

    pub(crate) fn translation(objects: &[&str]) -> Translation {
        let settings = Settings {
            trust_domain: "cluster.local".parse().unwrap(),
            service_range: "10.96.0.0/12".parse().unwrap(),
            wait_for_pods: false,
        };
        translate(&world(objects), &[], &settings)
    }

    pub(crate) fn service(name: &str, port: u16) -> String {
        format!(
            "{{apiVersion: v1, kind: Service, metadata: {{name: {name}, namespace: shop}}, \
             spec: {{ports: [{{port: {port}}}]}}}}"
        )
    }

    pub(crate) fn route(namespace: &str, backend: &str) -> String {
        format!(
            "{{apiVersion: gateway.networking.k8s.io/v1, kind: HTTPRoute, \
             metadata: {{name: r, namespace: {namespace}}}, \
             spec: {{parentRefs: [{{group: '', kind: Service, name: api, namespace: shop}}], \
             rules: [{{backendRefs: [{{name: {backend}, namespace: shop, port: 80}}]}}]}}}}"
        )
    }

    #[test]
    fn only_what_differs_is_made_anew() {
        let (a, b) = (service("a", 80), service("b", 80));
        let first = Publication::default().next(translation(&[&a, &b])).unwrap();
        assert_eq!(first.number, 1);
        assert!(first.next(translation(&[&a, &b])).is_none(), "nothing differs");
        let second = first.next(translation(&[&a, &service("b", 81)])).unwrap();
        let name = |name: &str| name.parse().unwrap();
        let (a, b) = (name("shop/a"), name("shop/b"));
        assert!(Arc::ptr_eq(first.service(&a).unwrap(), second.service(&a).unwrap()));
        assert!(!Arc::ptr_eq(first.service(&b).unwrap(), second.service(&b).unwrap()));
        assert!(second.next(translation(&[])).unwrap().service(&a).is_none());
    }

    #[test]
    fn the_first_publication_comes_also_when_there_is_nothing() {
        assert_eq!(Publication::default().next(Translation::default()).unwrap().number, 1);
    }

    #[test]
    fn consumer_routes_replace_producer_routes_for_their_namespace() {
        let objects =
            [service("api", 80), service("b", 80), route("shop", "api"), route("web", "b")];
        let objects: Vec<&str> = objects.iter().map(String::as_str).collect();
        let publication = Publication::default().next(translation(&objects)).unwrap();
        let routes = |client: &str| {
            let api = "shop/api".parse().unwrap();
            publication.routes(&api, &client.parse().unwrap()).unwrap().leads_to.clone()
        };
        assert_eq!(routes("shop"), []);
        assert_eq!(routes("other"), []);
        assert_eq!(routes("web"), ["shop/b".parse().unwrap()]);
    }

    #[test]
    fn an_address_that_nobody_named_lets_nothing_in() {
        let publication = Publication::default();
        let inbound = publication.inbound("10.0.0.1".parse().unwrap());
        assert_eq!(inbound.encoded.key.name.as_ref(), "10.0.0.1");
    }
}
