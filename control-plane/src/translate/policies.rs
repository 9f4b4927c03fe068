//! InboundPolicies: which of them decides for each workload.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use model::inbound::Inbound;

use crate::object::Key;
use crate::object::inbound_policy::Policy;
use crate::object::pod::Pod;
use crate::problem::{Cause, Fault, Origin, Problem};
use crate::registry::Lease;
use crate::world::World;

/// Notes in each workload's Inbound what the policy that decides for it says, and returns those
/// that another one overrules.
pub(super) fn note(
    world: &World,
    leases: &[&Lease],
    inbound: &mut BTreeMap<IpAddr, Inbound>,
) -> Vec<Problem> {
    let mut policies: Vec<(&Key, &Origin, &Policy)> = world.policies().collect();
    if policies.is_empty() {
        return Vec::new(); // a large mesh without any pays nothing for them
    }
    // The oldest decides, then the first by name.
    policies.sort_by_key(|(_, _, policy)| (policy.age, &policy.namespace, &policy.name));
    let mut overruled: BTreeSet<(&Key, &Origin, &Key)> = BTreeSet::new();
    for (address, workload) in workloads(world, leases) {
        let selects =
            |(_, _, policy): &&(_, _, &Policy)| policy.selects(workload.namespace, workload.labels);
        let mut selecting = policies.iter().filter(selects);
        let Some((first, _, decides)) = selecting.next() else { continue };
        inbound.entry(address).or_default().plaintext = Some(decides.plaintext);
        overruled.extend(selecting.map(|(key, origin, _)| (*key, *origin, *first)));
    }
    let problem = |(key, origin, first): (&Key, &Origin, &Key)| {
        let message = format!(
            "{first} selects some of the same pods and decides for them: it is older, or its name \
             comes first"
        );
        let fault = Fault::new(Cause::Conflicted, "spec.selector", message);
        fault.of(Some(key.clone()), origin.clone())
    };
    overruled.into_iter().map(problem).collect()
}

/// What policies select by.
struct Workload<'w> {
    namespace: &'w str,
    labels: &'w BTreeMap<String, String>,
}

static NO_LABELS: BTreeMap<String, String> = BTreeMap::new();

/// The workload at each address: the pod there, or one that registered, which has no labels. An
/// address that was given on may still be written in a pod that has ended.
fn workloads<'w>(world: &'w World, leases: &[&'w Lease]) -> BTreeMap<IpAddr, Workload<'w>> {
    let mut found = BTreeMap::new();
    for lease in leases {
        if let Some(namespace) = lease.identity.namespace() {
            found.insert(lease.address, Workload { namespace, labels: &NO_LABELS });
        }
    }
    let (ready, others): (Vec<&Pod>, Vec<&Pod>) = world.pods().partition(|pod| pod.ready);
    for pod in others.into_iter().rev().chain(ready.into_iter().rev()) {
        for address in &pod.addresses {
            let workload = Workload { namespace: pod.namespace.as_str(), labels: &pod.labels };
            found.insert(*address, workload);
        }
    }
    found
}
