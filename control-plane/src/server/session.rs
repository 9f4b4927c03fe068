//! What one sidecar wants and holds, and what of a publication it must be told: without IO.

use std::collections::{BTreeSet, HashMap, HashSet};
use std::net::IpAddr;
use std::sync::Arc;

use model::name::{Label, ServiceName};
use wire::{Key, Kind, proto};

use crate::publish::{Publication, Published};

/// The most Services that one sidecar may subscribe to.
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
    /// Names that can be no Service's: told once that there is none.
    nonsense: BTreeSet<String>,
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

/// More Services than a sidecar may subscribe to.
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
                Err(_) => self.nonsense.insert(name),
            };
            if self.subscribed.len() + self.nonsense.len() > MOST_SUBSCRIPTIONS {
                return Err(TooMany);
            }
        }
        Ok(())
    }

    /// Ends subscriptions.
    pub(super) fn unsubscribe(&mut self, names: &[String]) {
        for name in names {
            self.absent.remove(&Key::new(Kind::Service, name.as_str()));
            if let Ok(name) = name.parse() {
                self.subscribed.remove(&name);
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
        let removed = self.removed(&wanted);
        let mut update = Draft::default();
        for group in &wanted.groups {
            if update.size > UPDATE_SIZE {
                break;
            }
            group.iter().for_each(|resource| self.add(resource, &mut update));
        }
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
        for name in std::mem::take(&mut self.nonsense) {
            gone.push(Key::new(Kind::Service, name));
        }
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

    /// Each subscribed Service with its routes and the Services that these lead to; and the
    /// sidecar's own Inbound first, without which nothing reaches its workload.
    fn wanted(&self, publication: &Publication) -> Wanted {
        let mut groups = vec![vec![publication.inbound(self.address)]];
        let mut missing = Vec::new();
        for name in &self.subscribed {
            let mut group = Vec::new();
            match publication.service(name) {
                Some(service) => group.push(Arc::clone(service)),
                None => missing.push(Key::new(Kind::Service, name.to_string())),
            }
            if let Some(routes) = publication.routes(name, &self.client) {
                let backends = routes.leads_to.iter();
                group.extend(backends.filter_map(|name| publication.service(name)).cloned());
                group.push(Arc::clone(routes));
            }
            groups.push(group);
        }
        Wanted { groups, missing }
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
mod tests {
    use super::*;
    use crate::publish::tests::{route, service, translation};

    fn publication(objects: &[String]) -> Publication {
        let objects: Vec<&str> = objects.iter().map(String::as_str).collect();
        Publication::default().next(translation(&objects)).unwrap()
    }

    fn session(known: Vec<proto::Known>, services: &[&str]) -> Session {
        let mut session = Session::new("shop".parse().unwrap(), [10, 0, 0, 1].into(), known);
        session.subscribe(services.iter().map(ToString::to_string).collect()).unwrap();
        session
    }

    fn ack(session: &mut Session) {
        let message = proto::Acknowledge { nonce: session.nonce, rejected: Vec::new() };
        assert_eq!(session.acknowledge(message), []);
    }

    /// Names of the resources and, with `-`, of those removed.
    fn show(update: &proto::Update) -> Vec<String> {
        let resources = update.resources.iter().map(|resource| {
            format!("{} {}", wire::resource::kind_of(resource).unwrap().as_str(), resource.name)
        });
        let removed = update.removed.iter().map(|removed| {
            format!("-{} {}", Kind::decode(removed.kind).unwrap().as_str(), removed.name)
        });
        resources.chain(removed).collect()
    }

    #[test]
    fn a_service_comes_with_its_routes_and_where_they_lead() {
        let publication = publication(&[
            service("api", 80),
            service("b", 80),
            service("c", 80),
            route("shop", "b"),
        ]);
        let mut session = session(Vec::new(), &["shop/api"]);
        let update = session.difference(&publication).unwrap();
        assert_eq!(
            show(&update),
            ["inbound 10.0.0.1", "service shop/api", "service shop/b", "routes shop/api"]
        );
        ack(&mut session);
        assert!(session.difference(&publication).is_none());
    }

    #[test]
    fn nothing_more_is_sent_before_the_acknowledgement_and_then_only_the_newest() {
        let mut session = session(Vec::new(), &["shop/api"]);
        session.difference(&publication(&[service("api", 80)])).unwrap();
        assert!(session.difference(&publication(&[service("api", 81)])).is_none());
        ack(&mut session);
        let newest = publication(&[service("api", 82)]);
        assert_eq!(show(&session.difference(&newest).unwrap()), ["service shop/api"]);
        ack(&mut session);
        assert!(session.difference(&newest).is_none());
    }

    #[test]
    fn a_resumed_stream_gets_only_what_differs() {
        let before = publication(&[service("api", 80), service("b", 80)]);
        let known = |key: Kind, name: &str, version: &str| proto::Known {
            kind: key.encode(),
            name: name.into(),
            version: version.into(),
        };
        let version = |name: &str| {
            let name = name.parse().unwrap();
            before.service(&name).unwrap().encoded.version.to_string()
        };
        let inbound = before.inbound([10, 0, 0, 1].into()).encoded.version.to_string();
        let held = vec![
            known(Kind::Service, "shop/api", &version("shop/api")),
            known(Kind::Service, "shop/b", "older"),
            known(Kind::Service, "shop/gone", "1"),
            known(Kind::Routes, "shop/api", "1"),
            known(Kind::Inbound, "10.0.0.1", &inbound),
        ];
        let mut session = session(held, &["shop/api", "shop/b", "shop/gone"]);
        let update = session.difference(&before).unwrap();
        assert_eq!(show(&update), ["service shop/b", "-service shop/gone", "-routes shop/api"]);
        let held = vec![
            known(Kind::Service, "shop/api", &version("shop/api")),
            known(Kind::Inbound, "10.0.0.1", &inbound),
        ];
        let mut session = self::session(held, &["shop/api"]);
        let update = session.difference(&before).unwrap();
        assert!(show(&update).is_empty(), "an empty Update says that it is in sync");
        ack(&mut session);
        assert!(session.difference(&before).is_none());
    }

    #[test]
    fn what_does_not_exist_is_told_once_and_pushed_when_it_appears() {
        let mut session = session(Vec::new(), &["shop/api", "Not A Name"]);
        let nothing = publication(&[]);
        let update = session.difference(&nothing).unwrap();
        assert_eq!(show(&update), ["inbound 10.0.0.1", "-service Not A Name", "-service shop/api"]);
        ack(&mut session);
        assert!(session.difference(&nothing).is_none());
        let update = session.difference(&publication(&[service("api", 80)])).unwrap();
        assert_eq!(show(&update), ["service shop/api"]);
        ack(&mut session);
        assert_eq!(show(&session.difference(&nothing).unwrap()), ["-service shop/api"]);
    }

    #[test]
    fn a_refused_resource_is_not_sent_again_until_it_changes() {
        let mut session = session(Vec::new(), &["shop/api"]);
        let first = publication(&[service("api", 80)]);
        session.difference(&first).unwrap();
        ack(&mut session);
        let second = publication(&[service("api", 81)]);
        session.difference(&second).unwrap();
        let rejected = proto::Rejected {
            kind: Kind::Service.encode(),
            name: "shop/api".into(),
            version: "v".into(),
            reason: "why".into(),
        };
        let message = proto::Acknowledge { nonce: session.nonce, rejected: vec![rejected] };
        let refusals = session.acknowledge(message);
        assert_eq!((refusals.len(), refusals[0].reason.as_str()), (1, "why"));
        assert!(session.difference(&second).is_none(), "the same version is not sent again");
        assert!(session.difference(&first).is_none(), "the version before is still held");
        let third = publication(&[service("api", 82)]);
        assert_eq!(show(&session.difference(&third).unwrap()), ["service shop/api"]);
    }

    #[test]
    fn an_ended_subscription_is_taken_away() {
        let publication = publication(&[service("api", 80), service("b", 80)]);
        let mut session = session(Vec::new(), &["shop/api", "shop/b"]);
        session.difference(&publication).unwrap();
        ack(&mut session);
        session.unsubscribe(&["shop/b".into()]);
        assert_eq!(show(&session.difference(&publication).unwrap()), ["-service shop/b"]);
    }

    #[test]
    fn subscriptions_have_a_limit() {
        let mut session = session(Vec::new(), &[]);
        let names = (0..=MOST_SUBSCRIPTIONS).map(|i| format!("shop/s{i}")).collect();
        assert_eq!(session.subscribe(names), Err(TooMany));
    }

    #[test]
    fn a_large_state_comes_in_several_updates() {
        let many: Vec<String> = (0..30)
            .map(|i| {
                let ports: Vec<String> = (1..1500)
                    .map(|p| format!("{{name: {}, port: {p}}}", "x".repeat(30) + &p.to_string()))
                    .collect();
                service(&format!("s{i}"), 80)
                    .replace("[{port: 80}]", &format!("[{}]", ports.join(", ")))
            })
            .collect();
        let publication = publication(&many);
        let names: Vec<String> = (0..30).map(|i| format!("shop/s{i}")).collect();
        let names: Vec<&str> = names.iter().map(String::as_str).collect();
        let mut session = session(Vec::new(), &names);
        let mut updates = 0;
        while let Some(update) = session.difference(&publication) {
            assert!(update.removed.is_empty());
            updates += 1;
            ack(&mut session);
        }
        assert!(updates > 1, "{updates} updates");
        assert_eq!(session.held.len(), 31);
    }
}
