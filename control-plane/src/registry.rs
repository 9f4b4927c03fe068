//! Workloads that registered themselves: each an endpoint for as long as its sidecar's stream
//! lives, and no longer.

mod store;

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::time::{Duration, Instant};

use model::name::ServiceName;
use model::service::Protocol;
use model::spiffe::SpiffeId;
use serde::{Deserialize, Serialize};

pub use store::{Store, StoreError};

/// How long a lease from before a restart of the control plane holds until its sidecar is back:
/// so a restart publishes no empty Services.
pub const GRACE: Duration = Duration::from_secs(15);

/// The number of one stream.
pub type StreamId = u64;

/// One registered workload.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Lease {
    /// The Service that it serves.
    pub service: ServiceName,
    /// Its address.
    pub address: IpAddr,
    /// The application's port.
    pub app_port: u16,
    /// The Service's port, where the registration says it.
    pub service_port: Option<u16>,
    /// The sidecar's mesh port.
    pub mesh_port: u16,
    /// What the application speaks, as far as the registration says.
    #[serde(with = "store::protocol")]
    pub protocol: Protocol,
    /// The identity that its sidecar proved.
    pub identity: SpiffeId,
    /// Its name, for people.
    pub workload: String,
}

/// All leases.
#[derive(Debug, Default)]
pub struct Registry {
    leases: BTreeMap<Slot, (Lease, Holder)>,
}

/// There is one workload of a Service at an address and port.
type Slot = (ServiceName, IpAddr, u16);

/// What keeps a lease alive.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Holder {
    Stream(StreamId),
    /// Nothing but memory, until then.
    Grace(Instant),
}

impl Registry {
    /// The registry after a restart: the sidecars of these leases have until then to come back.
    pub fn restored(leases: Vec<Lease>, until: Instant) -> Self {
        let held = leases.into_iter().map(|lease| (lease.slot(), (lease, Holder::Grace(until))));
        Self { leases: held.collect() }
    }

    /// Puts a lease in force. An older one of the same place gives way: its stream may only not
    /// have noticed yet that its sidecar is gone. Says whether anything changed.
    pub fn register(&mut self, stream: StreamId, lease: Lease) -> bool {
        let held = (lease.clone(), Holder::Stream(stream));
        let before = self.leases.insert(lease.slot(), held);
        before.is_none_or(|(before, _)| before != lease)
    }

    /// Ends the leases of a stream. Says whether there were any.
    pub fn release(&mut self, stream: StreamId) -> bool {
        let before = self.leases.len();
        self.leases.retain(|_, (_, holder)| *holder != Holder::Stream(stream));
        self.leases.len() != before
    }

    /// Ends the leases whose grace is over. Says whether there were any.
    pub fn expire(&mut self, now: Instant) -> bool {
        let before = self.leases.len();
        self.leases.retain(|_, (_, holder)| !matches!(holder, Holder::Grace(end) if *end <= now));
        self.leases.len() != before
    }

    /// When the next grace is over.
    pub fn next_expiry(&self) -> Option<Instant> {
        let ends = self.leases.values().filter_map(|(_, holder)| match holder {
            Holder::Grace(end) => Some(*end),
            Holder::Stream(_) => None,
        });
        ends.min()
    }

    /// The leases in force, in the order of Service, address and port.
    pub fn leases(&self) -> impl Iterator<Item = &Lease> {
        self.leases.values().map(|(lease, _)| lease)
    }
}

impl Lease {
    fn slot(&self) -> Slot {
        (self.service.clone(), self.address, self.app_port)
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    pub(crate) fn lease(service: &str, address: &str, app_port: u16) -> Lease {
        let namespace = service.split('/').next().unwrap();
        Lease {
            service: service.parse().unwrap(),
            address: address.parse().unwrap(),
            app_port,
            service_port: None,
            mesh_port: 15008,
            protocol: Protocol::Detect,
            identity: format!("spiffe://cluster.local/ns/{namespace}/sa/x").parse().unwrap(),
            workload: format!("{address}-pod"),
        }
    }

    #[test]
    fn a_lease_lives_as_long_as_its_stream() {
        let mut registry = Registry::default();
        assert!(registry.register(1, lease("shop/api", "10.0.0.1", 80)));
        assert!(registry.register(2, lease("shop/api", "10.0.0.2", 80)));
        assert!(registry.release(1));
        assert!(!registry.release(1));
        assert_eq!(registry.leases().count(), 1);
    }

    #[test]
    fn the_newest_stream_of_a_place_wins() {
        let mut registry = Registry::default();
        registry.register(1, lease("shop/api", "10.0.0.1", 80));
        assert!(!registry.register(2, lease("shop/api", "10.0.0.1", 80)), "nothing changed");
        assert!(!registry.release(1), "the old stream's end takes nothing away");
        assert_eq!(registry.leases().count(), 1);
    }

    #[test]
    fn after_a_restart_a_lease_has_a_grace() {
        let start = Instant::now();
        let leases = vec![lease("shop/api", "10.0.0.1", 80), lease("shop/api", "10.0.0.2", 80)];
        let mut registry = Registry::restored(leases, start + GRACE);
        assert_eq!(registry.next_expiry(), Some(start + GRACE));
        assert!(!registry.register(1, lease("shop/api", "10.0.0.1", 80)));
        assert!(!registry.expire(start + GRACE - Duration::from_millis(1)));
        assert!(registry.expire(start + GRACE));
        assert_eq!(registry.leases().count(), 1, "the one that came back");
        assert_eq!(registry.next_expiry(), None);
    }
}
