//! All objects there are now.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::Arc;

use foldhash::HashMap;
use model::name::{Label, ServiceName};

use crate::object::inbound_policy::Policy;
use crate::object::pod::Pod;
use crate::object::route::Route;
use crate::object::service::Service;
use crate::object::slice::Slice;
use crate::object::{Entry, Key, Known, Object};
use crate::problem::Origin;
use crate::source::Event;

/// The objects, by their keys, of which the kind comes first. A sorted map: whatever is made of it
/// comes in one order.
#[derive(Debug, Default)]
pub struct World {
    objects: BTreeMap<Key, Arc<Entry>>,
    /// The pods among them, by each of their addresses and there by their keys.
    at: HashMap<IpAddr, Vec<Arc<Entry>>>,
    synced: bool,
}

impl World {
    /// Takes in one change.
    pub fn apply(&mut self, event: Event) {
        match event {
            Event::Upsert(entry) => {
                let before = self.objects.insert(entry.key.clone(), Arc::clone(&entry));
                before.iter().for_each(|before| self.leave(before));
                self.settle(&entry);
            }
            Event::Delete(key) => {
                let before = self.objects.remove(&key);
                before.iter().for_each(|before| self.leave(before));
            }
            Event::Synced => self.synced = true,
        }
    }

    /// An object, if it is a pod, has its addresses from now on.
    fn settle(&mut self, entry: &Arc<Entry>) {
        let Some(pod) = as_pod(entry) else { return };
        for address in &pod.addresses {
            let there = self.at.entry(*address).or_default();
            let place = there.partition_point(|other| other.key < entry.key);
            there.insert(place, Arc::clone(entry));
        }
    }

    /// An object, if it is a pod, has its addresses no more.
    fn leave(&mut self, entry: &Entry) {
        let Some(pod) = as_pod(entry) else { return };
        for address in &pod.addresses {
            let Some(there) = self.at.get_mut(address) else { continue };
            there.retain(|other| other.key != entry.key);
            if there.is_empty() {
                self.at.remove(address);
            }
        }
    }

    /// Whether all that was there at the start has been told.
    pub fn is_synced(&self) -> bool {
        self.synced
    }

    /// What there is of one kind.
    fn of_kind(&self, kind: Known) -> impl Iterator<Item = &Entry> {
        let kind = kind.as_str();
        let first = Key { kind, namespace: None, name: String::new() };
        let entries = self.objects.range(first..).map(|(_, entry)| &**entry);
        entries.take_while(move |entry| entry.key.kind == kind)
    }

    /// The Services.
    pub fn services(&self) -> impl Iterator<Item = &Service> {
        self.of_kind(Known::Service).filter_map(|entry| match &entry.object {
            Object::Service(service) => Some(service),
            _ => None,
        })
    }

    /// One Service.
    pub fn service(&self, name: &ServiceName) -> Option<&Service> {
        let namespace = Some(name.namespace.clone());
        let kind = Known::Service.as_str();
        match &self.objects.get(&Key { kind, namespace, name: name.name.to_string() })?.object {
            Object::Service(service) => Some(service),
            _ => None,
        }
    }

    /// The EndpointSlices.
    pub fn slices(&self) -> impl Iterator<Item = &Slice> {
        self.of_kind(Known::EndpointSlice).filter_map(|entry| match &entry.object {
            Object::Slice(slice) => Some(slice),
            _ => None,
        })
    }

    /// The Pods.
    pub fn pods(&self) -> impl Iterator<Item = &Pod> {
        self.of_kind(Known::Pod).filter_map(as_pod)
    }

    /// Whether there is an object of this key.
    pub fn has(&self, key: &Key) -> bool {
        self.objects.contains_key(key)
    }

    /// The Pods that have this address, in the order of their keys.
    pub fn pods_at(&self, address: IpAddr) -> impl Iterator<Item = &Pod> + Clone {
        pods_of(self.at.get(&address).map(Vec::as_slice).unwrap_or_default())
    }

    /// The same for all addresses that Pods have.
    pub fn pods_by_address(
        &self,
    ) -> impl Iterator<Item = (IpAddr, impl Iterator<Item = &Pod> + Clone)> {
        self.at.iter().map(|(address, there)| (*address, pods_of(there)))
    }

    /// One Pod.
    pub fn pod(&self, namespace: Label, name: String) -> Option<&Pod> {
        let key = Key { kind: Known::Pod.as_str(), namespace: Some(namespace), name };
        as_pod(self.objects.get(&key)?)
    }

    /// The HTTPRoutes and GRPCRoutes, with their keys and where they were written.
    pub fn routes(&self) -> impl Iterator<Item = (&Key, &Origin, &Route)> {
        let routes = self.of_kind(Known::GrpcRoute).chain(self.of_kind(Known::HttpRoute));
        routes.filter_map(|entry| match &entry.object {
            Object::Route(route) => Some((&entry.key, &entry.origin, route)),
            _ => None,
        })
    }

    /// The InboundPolicies, with their keys and where they were written.
    pub fn policies(&self) -> impl Iterator<Item = (&Key, &Origin, &Policy)> {
        self.of_kind(Known::InboundPolicy).filter_map(|entry| match &entry.object {
            Object::Policy(policy) => Some((&entry.key, &entry.origin, policy)),
            _ => None,
        })
    }

    /// How many objects of each kind there are.
    pub fn counts(&self) -> BTreeMap<&'static str, usize> {
        let mut counts = BTreeMap::new();
        for key in self.objects.keys() {
            *counts.entry(key.kind).or_default() += 1;
        }
        counts
    }
}

fn pods_of(entries: &[Arc<Entry>]) -> impl Iterator<Item = &Pod> + Clone {
    entries.iter().filter_map(|entry| as_pod(entry))
}

fn as_pod(entry: &Entry) -> Option<&Pod> {
    match &entry.object {
        Object::Pod(pod) => Some(pod),
        _ => None,
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use crate::object::Parsed;
    use crate::object::tests::{origin, yaml};

    /// The event of this object, which must be good.
    pub(crate) fn upsert(text: &str) -> Event {
        match crate::object::parse(&yaml(text), &origin()) {
            Parsed::Good(entry, _) => Event::Upsert(entry.into()),
            other => panic!("{text}: {other:?}"),
        }
    }

    /// The world of these objects, all of which must be good.
    pub(crate) fn world(objects: &[&str]) -> World {
        let mut world = World::default();
        objects.iter().for_each(|text| world.apply(upsert(text)));
        world.apply(Event::Synced);
        world
    }

    #[test]
    fn events_are_folded() {
        let service = "{apiVersion: v1, kind: Service, metadata: {name: a}}";
        let mut world = world(&[service, service]);
        assert!(world.is_synced());
        assert_eq!(world.counts(), BTreeMap::from([("Service", 1)]));
        world.apply(Event::Delete(Key::sample("Service", "default", "a")));
        assert_eq!(world.services().count(), 0);
    }

    #[test]
    fn pods_are_found_where_they_are_now() {
        let pod = |name: &str, address: &str| {
            upsert(&format!(
                "{{apiVersion: v1, kind: Pod, metadata: {{name: {name}}}, \
                 status: {{podIP: {address}}}}}"
            ))
        };
        let names = |world: &World, address: [u8; 4]| -> Vec<String> {
            world.pods_at(address.into()).map(|pod| pod.name.clone()).collect()
        };
        let mut world = World::default();
        for event in [pod("b", "10.0.0.1"), pod("a", "10.0.0.1"), pod("b", "10.0.0.1")] {
            world.apply(event);
        }
        assert_eq!(names(&world, [10, 0, 0, 1]), ["a", "b"]);
        world.apply(pod("a", "10.0.0.2"));
        assert_eq!(names(&world, [10, 0, 0, 1]), ["b"]);
        assert_eq!(names(&world, [10, 0, 0, 2]), ["a"]);
        world.apply(Event::Delete(Key::sample("Pod", "default", "b")));
        let addresses = world.pods_by_address().map(|(address, _)| address);
        assert_eq!(addresses.collect::<Vec<_>>(), [IpAddr::from([10, 0, 0, 2])]);
    }
}
