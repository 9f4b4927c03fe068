//! Who has which address: Services their ClusterIPs, workloads their own.

use std::collections::BTreeMap;
use std::net::IpAddr;

use model::inbound::Inbound;
use model::name::ServiceName;
use model::owner::{Owner, Workload};
use model::service::Service;

use super::endpoints::At;

/// The owner of every address that is known. A ClusterIP that is also a workload's stays the
/// Service's: that is what its clients mean.
pub(super) fn translate(
    services: &BTreeMap<ServiceName, Service>,
    workloads: BTreeMap<IpAddr, At>,
    inbound: &BTreeMap<IpAddr, Inbound>,
) -> BTreeMap<IpAddr, Owner> {
    let workload = |(address, at): (IpAddr, At)| {
        let ports = inbound.get(&address).map(|inbound| inbound.ports.clone()).unwrap_or_default();
        (address, Owner::Workload(Workload { name: at.workload, mesh: at.mesh, ports }))
    };
    let mut owners: BTreeMap<IpAddr, Owner> = workloads.into_iter().map(workload).collect();
    // Backwards, so that of two Services with one address the first by name has it.
    for service in services.values().rev() {
        let owner = || Owner::Service(service.name.clone());
        owners.extend(service.addresses.iter().map(|address| (*address, owner())));
    }
    owners
}
