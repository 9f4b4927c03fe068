//! What the sidecar holds of the control plane's publications: the last good of each resource,
//! with its version.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;

use model::name::ServiceName;
use model::table::Resources;
use wire::{Body, Key, Kind, Resource, proto};

/// Names remembered as not existing; the oldest is forgotten for a newer one, so that a client
/// that makes names up costs a bound amount of memory.
const MAX_ABSENT: usize = 1024;

/// Resources and subscriptions, kept over all streams.
#[derive(Debug, Default)]
pub(super) struct Snapshot {
    resources: Resources,
    versions: BTreeMap<Key, String>,
    subscribed: BTreeSet<ServiceName>,
    absent_in_order: VecDeque<ServiceName>,
}

/// What an Update came to.
#[derive(Debug, Default)]
pub(super) struct Applied {
    /// Resources refused, for the acknowledgement.
    pub(super) rejected: Vec<proto::Rejected>,
    /// Names that are not asked for any more.
    pub(super) unsubscribed: Vec<ServiceName>,
}

impl Snapshot {
    /// All resources in force.
    pub(super) const fn resources(&self) -> &Resources {
        &self.resources
    }

    /// Adds a subscription; says whether it is new.
    pub(super) fn subscribe(&mut self, name: ServiceName) -> bool {
        self.subscribed.insert(name)
    }

    /// The names subscribed to, for a Hello.
    pub(super) fn subscriptions(&self) -> Vec<String> {
        self.subscribed.iter().map(ToString::to_string).collect()
    }

    /// What is held, for a Hello: the control plane sends only what differs.
    pub(super) fn known(&self) -> Vec<proto::Known> {
        let known = |(key, version): (&Key, &String)| proto::Known {
            kind: key.kind.encode(),
            name: key.name.to_string(),
            version: version.clone(),
        };
        self.versions.iter().map(known).collect()
    }

    /// Puts an Update in force: all of it but what cannot be read, which keeps its last good.
    pub(super) fn apply(&mut self, update: proto::Update) -> Applied {
        let mut applied = Applied::default();
        for message in update.resources {
            let kind = wire::resource::kind_of(&message);
            let (name, version) = (message.name.clone(), message.version.clone());
            match wire::resource::decode(message) {
                Ok(resource) => self.put(resource),
                Err(error) => applied.rejected.push(proto::Rejected {
                    kind: kind.map_or(0, Kind::encode),
                    name,
                    version,
                    reason: error.to_string(),
                }),
            }
        }
        for removed in update.removed {
            if let Some(kind) = Kind::decode(removed.kind) {
                self.remove(&Key::new(kind, removed.name));
            }
        }
        self.resources.publication = update.publication;
        while self.absent_in_order.len() > MAX_ABSENT {
            let oldest = self.absent_in_order.pop_front();
            applied.unsubscribed.extend(oldest.inspect(|name| {
                self.resources.absent.remove(name);
                self.subscribed.remove(name);
            }));
        }
        applied
    }

    fn put(&mut self, resource: Resource) {
        match resource.body {
            Body::Service(service) => {
                if self.resources.absent.remove(&service.name) {
                    self.absent_in_order.retain(|name| *name != service.name);
                }
                self.resources.services.insert(service.name.clone(), Arc::new(service));
            }
            Body::Routes(routes) => {
                self.resources.routes.insert(routes.service.clone(), Arc::new(routes));
            }
            Body::Inbound(inbound) => self.resources.inbound = inbound,
        }
        self.versions.insert(resource.key, resource.version);
    }

    fn remove(&mut self, key: &Key) {
        self.versions.remove(key);
        if key.kind == Kind::Inbound {
            self.resources.inbound = Default::default();
            return;
        }
        let Ok(name) = key.name.parse::<ServiceName>() else { return };
        if key.kind == Kind::Routes {
            self.resources.routes.remove(&name);
            return;
        }
        self.resources.services.remove(&name);
        // One that only a route led to is not missed; it may be asked for later.
        if self.subscribed.contains(&name) && self.resources.absent.insert(name.clone()) {
            self.absent_in_order.push_back(name);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use model::service::Service;

    fn name(text: &str) -> ServiceName {
        text.parse().unwrap()
    }

    fn service(text: &str) -> proto::Resource {
        let (addresses, ports, endpoints) = (Vec::new(), Vec::new(), Vec::new());
        let body = Service { name: name(text), addresses, ports, endpoints };
        wire::resource::encode(text, &Body::Service(body))
    }

    fn removed(text: &str) -> proto::Removed {
        proto::Removed { kind: Kind::Service.encode(), name: text.into() }
    }

    fn update(resources: Vec<proto::Resource>, removed: Vec<proto::Removed>) -> proto::Update {
        proto::Update { nonce: 1, publication: 7, resources, removed }
    }

    #[test]
    fn a_bad_resource_is_rejected_by_name_and_the_last_good_stays() {
        let mut snapshot = Snapshot::default();
        snapshot.apply(update(vec![service("shop/api")], vec![]));
        let held = snapshot.known();
        let mut bad = service("shop/api");
        if let Some(proto::resource::Body::Service(body)) = &mut bad.body {
            body.addresses.push("not an address".into());
        }
        bad.version = "bad".into();
        let applied = snapshot.apply(update(vec![bad, service("shop/web")], vec![]));
        assert_eq!(applied.rejected.len(), 1);
        let rejected = &applied.rejected[0];
        assert_eq!((rejected.name.as_str(), rejected.version.as_str()), ("shop/api", "bad"));
        assert!(rejected.reason.contains("addresses"), "{}", rejected.reason);
        assert!(snapshot.known().starts_with(&held), "a rejected version is never held");
        assert!(snapshot.resources().services.contains_key(&name("shop/web")));
    }

    #[test]
    fn only_what_was_asked_for_is_remembered_as_absent() {
        let mut snapshot = Snapshot::default();
        assert!(snapshot.subscribe(name("shop/api")));
        snapshot.apply(update(vec![], vec![removed("shop/api"), removed("shop/backend")]));
        assert_eq!(snapshot.resources().absent.iter().collect::<Vec<_>>(), [&name("shop/api")]);
        snapshot.apply(update(vec![service("shop/api")], vec![]));
        assert!(snapshot.resources().absent.is_empty());
    }

    #[test]
    fn made_up_names_cost_a_bound_amount() {
        let mut snapshot = Snapshot::default();
        let mut unsubscribed = Vec::new();
        for number in 0..MAX_ABSENT + 10 {
            let text = format!("shop/x{number}");
            snapshot.subscribe(name(&text));
            unsubscribed.extend(snapshot.apply(update(vec![], vec![removed(&text)])).unsubscribed);
        }
        assert_eq!(snapshot.resources().absent.len(), MAX_ABSENT);
        assert_eq!(unsubscribed.len(), 10);
        assert_eq!(unsubscribed[0], name("shop/x0"));
        assert_eq!(snapshot.subscriptions().len(), MAX_ABSENT);
    }
}
