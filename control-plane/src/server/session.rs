//! What one sidecar wants and holds, and what of a publication it must be told: without IO.

use std::collections::{BTreeSet, HashMap, HashSet};
use std::net::IpAddr;
use std::sync::Arc;

use model::name::{Label, ServiceName};
use wire::{Key, Kind, proto};

use crate::publish::{Publication, Published};

/// The most Services and addresses that one sidecar may subscribe to.
pub(super) const MOST_SUBSCRIPTIONS: usize = 20_000;

/// How large an Update becomes before the rest waits for the next one, in bytes. What belongs
/// together (a Service, its routes, and where they lead) stays together.
const UPDATE_SIZE: usize = 1 << 20;

/// One sidecar's side of the protocol.
#[derive(Debug)]
pub(super) struct Session {
    client: Label,
    address: IpAddr,
    subscribed: BTreeSet<ServiceName>,
    addresses: BTreeSet<IpAddr>,
    /// Names that can be no Service's and no address: told once that there is none.
    nonsense: BTreeSet<Key>,
    /// What it was sent, or said that it holds.
    held: HashMap<Key, Arc<str>>,
    /// What it refused, and in which version: not sent again until that changes.
    refused: HashMap<Key, Arc<str>>,
    /// What it was told does not exist.
    absent: HashSet<Key>,
    nonce: u64,
    /// The Update that is not acknowledged yet, with what it held before of each resource.
    /// Nothing more is sent meanwhile; then comes what is newest.
    outstanding: Option<Vec<(Key, Option<Arc<str>>)>>,
    /// Whether it has been told anything: even "nothing differs" is worth one Update.
    told: bool,
}

/// More than a sidecar may subscribe to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("more than {MOST_SUBSCRIPTIONS} subscriptions")]
pub(super) struct TooMany;

/// A resource that a sidecar refused.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Refusal {
    pub(super) key: Key,
    pub(super) version: String,
    pub(super) reason: String,
}

impl Session {
    /// A sidecar of this namespace and address that holds these resources.
    pub(super) fn new(client: Label, address: IpAddr, known: Vec<proto::Known>) -> Self {
        let held = known.into_iter().filter_map(|known| {
            let kind = Kind::decode(known.kind)?;
            Some((Key::new(kind, known.name), known.version.into()))
        });
        Self {
            client,
            address,
            subscribed: BTreeSet::new(),
            addresses: BTreeSet::new(),
            nonsense: BTreeSet::new(),
            held: held.collect(),
            refused: HashMap::new(),
            absent: HashSet::new(),
            nonce: 0,
            outstanding: None,
            told: false,
        }
    }

    /// Subscribes to Services. A name that can be no Service's is answered with Removed, as one
    /// of a Service that does not exist: a slip in one name costs no other.
    pub(super) fn subscribe(&mut self, names: Vec<String>) -> Result<(), TooMany> {
        for name in names {
            match name.parse() {
                Ok(name) => self.subscribed.insert(name),
                Err(_) => self.nonsense.insert(Key::new(Kind::Service, name)),
            };
            self.check_bound()?;
        }
        Ok(())
    }

    /// Subscribes to addresses; a text that is none is answered as [`Session::subscribe`] does.
    pub(super) fn subscribe_addresses(&mut self, addresses: Vec<String>) -> Result<(), TooMany> {
        for address in addresses {
            match address.parse() {
                Ok(address) => self.addresses.insert(address),
                Err(_) => self.nonsense.insert(Key::new(Kind::Address, address)),
            };
            self.check_bound()?;
        }
        Ok(())
    }

    fn check_bound(&self) -> Result<(), TooMany> {
        let all = self.subscribed.len() + self.addresses.len() + self.nonsense.len();
        if all > MOST_SUBSCRIPTIONS { Err(TooMany) } else { Ok(()) }
    }

    /// Ends subscriptions.
    pub(super) fn unsubscribe(&mut self, names: &[String], addresses: &[String]) {
        for name in names {
            self.absent.remove(&Key::new(Kind::Service, name.as_str()));
            if let Ok(name) = name.parse() {
                self.subscribed.remove(&name);
            }
        }
        for address in addresses {
            self.absent.remove(&Key::new(Kind::Address, address.as_str()));
            if let Ok(address) = address.parse() {
                self.addresses.remove(&address);
            }
        }
    }

    /// Whether an Update waits for its acknowledgement.
    pub(super) fn is_waiting(&self) -> bool {
        self.outstanding.is_some()
    }

    /// Takes in an acknowledgement, and returns what was refused. One of another Update than the
    /// outstanding one says nothing.
    pub(super) fn acknowledge(&mut self, message: proto::Acknowledge) -> Vec<Refusal> {
        if message.nonce != self.nonce {
            return Vec::new();
        }
        let sent = self.outstanding.take().unwrap_or_default();
        let mut refusals = Vec::new();
        for rejected in message.rejected {
            let Some(kind) = Kind::decode(rejected.kind) else { continue };
            let key = Key::new(kind, rejected.name);
            let Some((_, before)) = sent.iter().find(|(sent, _)| *sent == key) else { continue };
            if let Some(version) = self.held.remove(&key) {
                self.refused.insert(key.clone(), version);
            }
            if let Some(before) = before {
                self.held.insert(key.clone(), Arc::clone(before));
            }
            refusals.push(Refusal { key, version: rejected.version, reason: rejected.reason });
        }
        refusals
    }

    /// What the sidecar must be told of this publication; `None` when it is told everything, or
    /// has not acknowledged what it was told before.
    pub(super) fn difference(&mut self, publication: &Publication) -> Option<proto::Update> {
        if self.is_waiting() {
            return None;
        }
        let wanted = self.wanted(publication);
        let mut update = Draft::default();
        let mut groups = wanted.groups.iter();
        while update.size <= UPDATE_SIZE
            && let Some(group) = groups.next()
        {
            group.iter().for_each(|resource| self.add(resource, &mut update));
        }
        // Nothing is taken away before all has come that does without it.
        let removed = match groups.len() {
            0 => self.removed(&wanted),
            _ => Vec::new(),
        };
        if update.resources.is_empty() && removed.is_empty() && self.told {
            return None;
        }
        self.told = true;
        self.nonce += 1;
        self.outstanding = Some(update.before);
        Some(proto::Update {
            nonce: self.nonce,
            resources: update.resources,
            removed,
            publication: publication.number,
        })
    }

    fn add(&mut self, resource: &Arc<Published>, update: &mut Draft) {
        let encoded = &resource.encoded;
        let is_version =
            |held: &HashMap<Key, Arc<str>>| held.get(&encoded.key) == Some(&encoded.version);
        if is_version(&self.held) || is_version(&self.refused) {
            return;
        }
        self.refused.remove(&encoded.key);
        self.absent.remove(&encoded.key);
        let before = self.held.insert(encoded.key.clone(), Arc::clone(&encoded.version));
        update.before.push((encoded.key.clone(), before));
        update.resources.push(encoded.message().clone());
        update.size += encoded.size;
    }

    /// What it holds and should not, and what it wants and does not exist.
    fn removed(&mut self, wanted: &Wanted) -> Vec<proto::Removed> {
        let keys: HashSet<&Key> =
            wanted.groups.iter().flatten().map(|resource| &resource.encoded.key).collect();
        let mut gone: Vec<Key> =
            self.held.keys().filter(|key| !keys.contains(key)).cloned().collect();
        self.held.retain(|key, _| keys.contains(key));
        self.refused.retain(|key, _| keys.contains(key));
        gone.extend(std::mem::take(&mut self.nonsense));
        for key in &wanted.missing {
            if self.absent.insert(key.clone()) && !gone.contains(key) {
                gone.push(key.clone());
            }
        }
        gone.sort_unstable();
        let removed =
            |key: Key| proto::Removed { kind: key.kind.encode(), name: key.name.to_string() };
        gone.into_iter().map(removed).collect()
    }

    /// Each subscribed Service with all that belongs to it, and each subscribed address with the
    /// Service that has it; the sidecar's own Inbound comes first, for without it nothing reaches
    /// its workload.
    fn wanted(&self, publication: &Publication) -> Wanted {
        let mut groups = vec![vec![publication.inbound(self.address)]];
        let mut missing = Vec::new();
        for name in &self.subscribed {
            if publication.service(name).is_none() {
                missing.push(Key::new(Kind::Service, name.to_string()));
            }
            groups.push(self.group(publication, name));
        }
        for address in &self.addresses {
            match publication.owner(*address) {
                Some(owner) => {
                    let service = owner.leads_to.iter();
                    let mut group: Vec<_> =
                        service.flat_map(|name| self.group(publication, name)).collect();
                    group.push(Arc::clone(owner));
                    groups.push(group);
                }
                None => missing.push(Key::new(Kind::Address, address.to_string())),
            }
        }
        Wanted { groups, missing }
    }

    /// A Service with its routes and the Services that these lead to, each of which has its own
    /// routes with it: what a sidecar has, it does not ask for, and takes for the whole.
    fn group(&self, publication: &Publication, name: &ServiceName) -> Vec<Arc<Published>> {
        let (mut services, mut routes) = (Vec::new(), Vec::new());
        let (mut next, mut met) = (vec![name], HashSet::from([name]));
        while let Some(name) = next.pop() {
            services.extend(publication.service(name).cloned());
            if let Some(of) = publication.routes(name, &self.client) {
                next.extend(of.leads_to.iter().filter(|name| met.insert(name)));
                routes.push(Arc::clone(of));
            }
        }
        services.append(&mut routes);
        services
    }
}

struct Wanted {
    groups: Vec<Vec<Arc<Published>>>,
    missing: Vec<Key>,
}

/// An Update in the making.
#[derive(Default)]
struct Draft {
    resources: Vec<proto::Resource>,
    before: Vec<(Key, Option<Arc<str>>)>,
    size: usize,
}

#[cfg(test)]
mod tests;
