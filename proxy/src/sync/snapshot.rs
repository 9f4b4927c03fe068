//! What the sidecar holds of the control plane's publications: the last good of each resource,
//! with its version.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::net::IpAddr;
use std::sync::Arc;

use model::name::ServiceName;
use model::table::Resources;
use wire::{Body, Key, Kind, Resource, proto};

use super::discovery::Wanted;

/// Names, and addresses, remembered as not existing; the oldest is forgotten for a newer one, so that a client
/// that makes names up costs a bound amount of memory.
const MAX_ABSENT: usize = 1024;

/// Names, and addresses, that are asked for and not answered yet; what comes on top of them is not
/// asked for now. While the control plane is away nothing else would bound what is made up, and it
/// refuses a sidecar that comes back with too much.
const MAX_AWAITED: usize = 1024;

/// Resources and subscriptions, kept over all streams.
#[derive(Debug, Default)]
pub(super) struct Snapshot {
    resources: Resources,
    versions: BTreeMap<Key, String>,
    subscribed: BTreeSet<ServiceName>,
    awaited: BTreeSet<ServiceName>,
    absent_in_order: VecDeque<ServiceName>,
    addresses: BTreeSet<IpAddr>,
    awaited_addresses: BTreeSet<IpAddr>,
    nobody_in_order: VecDeque<IpAddr>,
}

/// What an Update came to.
#[derive(Debug, Default)]
pub(super) struct Applied {
    /// Resources refused, for the acknowledgement.
    pub(super) rejected: Vec<proto::Rejected>,
    /// Names that are not asked for any more.
    pub(super) unsubscribed: Vec<ServiceName>,
    /// Addresses that are not asked for any more.
    pub(super) unsubscribed_addresses: Vec<IpAddr>,
}

impl Snapshot {
    /// All resources in force.
    pub(super) const fn resources(&self) -> &Resources {
        &self.resources
    }

    /// Adds a subscription; says whether the control plane is to be told of it: it is new, and
    /// there is room for it.
    pub(super) fn subscribe(&mut self, wanted: Wanted) -> bool {
        match wanted {
            Wanted::Service(name) => ask(&mut self.subscribed, &mut self.awaited, name),
            Wanted::Address(address) => {
                ask(&mut self.addresses, &mut self.awaited_addresses, address)
            }
        }
    }

    /// The names subscribed to, for a Hello.
    pub(super) fn subscriptions(&self) -> Vec<String> {
        self.subscribed.iter().map(ToString::to_string).collect()
    }

    /// The addresses subscribed to, for a Hello.
    pub(super) fn addresses(&self) -> Vec<String> {
        self.addresses.iter().map(ToString::to_string).collect()
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
            self.answered(kind, &name);
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
                self.answered(Some(kind), &removed.name);
                self.remove(&Key::new(kind, removed.name));
            }
        }
        self.resources.publication = update.publication;
        for name in beyond_the_bound(&mut self.absent_in_order) {
            self.resources.absent.remove(&name);
            self.subscribed.remove(&name);
            applied.unsubscribed.push(name);
        }
        for address in beyond_the_bound(&mut self.nobody_in_order) {
            self.resources.nobody.remove(&address);
            self.addresses.remove(&address);
            applied.unsubscribed_addresses.push(address);
        }
        applied
    }

    /// The control plane has said something of it, if only what cannot be read.
    fn answered(&mut self, kind: Option<Kind>, name: &str) {
        match (kind, name.parse(), name.parse()) {
            (Some(Kind::Service), Ok(name), _) => self.awaited.remove(&name),
            (Some(Kind::Address), _, Ok(address)) => self.awaited_addresses.remove(&address),
            _ => false,
        };
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
            Body::Address(owner) => {
                // invariant: the wire's decoder takes no other name for this kind.
                let Ok(address) = resource.key.name.parse() else { return };
                if self.resources.nobody.remove(&address) {
                    self.nobody_in_order.retain(|known| *known != address);
                }
                self.resources.owners.insert(address, Arc::new(owner));
            }
        }
        self.versions.insert(resource.key, resource.version);
    }

    fn remove(&mut self, key: &Key) {
        self.versions.remove(key);
        match (key.kind, key.name.parse::<ServiceName>(), key.name.parse::<IpAddr>()) {
            (Kind::Inbound, ..) => self.resources.inbound = Default::default(),
            (Kind::Routes, Ok(name), _) => {
                self.resources.routes.remove(&name);
            }
            (Kind::Service, Ok(name), _) => self.remove_service(name),
            (Kind::Address, _, Ok(address)) => self.remove_address(address),
            // A name that nobody asked for.
            (Kind::Routes | Kind::Service | Kind::Address, ..) => {}
        }
    }

    fn remove_service(&mut self, name: ServiceName) {
        self.resources.services.remove(&name);
        // One that only a route or an address led to is not missed; it may be asked for later.
        if self.subscribed.contains(&name) && self.resources.absent.insert(name.clone()) {
            self.absent_in_order.push_back(name);
        }
    }

    fn remove_address(&mut self, address: IpAddr) {
        self.resources.owners.remove(&address);
        if self.addresses.contains(&address) && self.resources.nobody.insert(address) {
            self.nobody_in_order.push_back(address);
        }
    }
}

fn ask<T: Ord + Clone>(subscribed: &mut BTreeSet<T>, awaited: &mut BTreeSet<T>, wanted: T) -> bool {
    if awaited.len() >= MAX_AWAITED || subscribed.contains(&wanted) {
        return false;
    }
    subscribed.insert(wanted.clone());
    awaited.insert(wanted)
}

/// What is remembered no more, the oldest first.
fn beyond_the_bound<T>(in_order: &mut VecDeque<T>) -> Vec<T> {
    in_order.drain(..in_order.len().saturating_sub(MAX_ABSENT)).collect()
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
        assert!(snapshot.subscribe(Wanted::Service(name("shop/api"))));
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
            snapshot.subscribe(Wanted::Service(name(&text)));
            unsubscribed.extend(snapshot.apply(update(vec![], vec![removed(&text)])).unsubscribed);
        }
        assert_eq!(snapshot.resources().absent.len(), MAX_ABSENT);
        assert_eq!(unsubscribed.len(), 10);
        assert_eq!(unsubscribed[0], name("shop/x0"));
        assert_eq!(snapshot.subscriptions().len(), MAX_ABSENT);
    }

    #[test]
    fn what_nobody_answers_costs_a_bound_amount_and_answers_make_room() {
        let mut snapshot = Snapshot::default();
        let wanted = |number| Wanted::Service(name(&format!("shop/x{number}")));
        for number in 0..MAX_AWAITED {
            assert!(snapshot.subscribe(wanted(number)));
        }
        assert!(!snapshot.subscribe(wanted(MAX_AWAITED)));
        assert_eq!(snapshot.subscriptions().len(), MAX_AWAITED);
        assert!(snapshot.subscribe(Wanted::Address([10, 0, 0, 1].into())), "that is another bound");
        let mut unreadable = service("shop/x2");
        if let Some(proto::resource::Body::Service(body)) = &mut unreadable.body {
            body.addresses.push("not an address".into());
        }
        let resources = vec![service("shop/x0"), unreadable];
        assert_eq!(snapshot.apply(update(resources, vec![removed("shop/x1")])).rejected.len(), 1);
        for number in MAX_AWAITED..MAX_AWAITED + 3 {
            assert!(snapshot.subscribe(wanted(number)), "{number}");
        }
        assert!(!snapshot.subscribe(wanted(MAX_AWAITED + 3)));
    }
}
