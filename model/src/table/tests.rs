//! What a Table says, and what it carries over from the one before.

use super::*;
use crate::owner::Workload;
use crate::service::{Endpoint as Published, Target};

fn name(text: &str) -> ServiceName {
    text.parse().unwrap()
}

fn service(addresses: &[&str]) -> Service {
    let endpoint = |address: &&str| Published {
        address: address.parse().unwrap(),
        workload: format!("pod-{address}"),
        targets: vec![Target { port: 80, target: 8080 }],
        mesh: None,
    };
    Service {
        name: name("shop/api"),
        addresses: vec!["10.96.0.1".parse().unwrap()],
        ports: vec![ServicePort { port: 80, name: None, protocol: Protocol::Detect }],
        endpoints: addresses.iter().map(endpoint).collect(),
    }
}

fn resources(service: Service) -> Resources {
    let mut resources = Resources::default();
    resources.services.insert(service.name.clone(), Arc::new(service));
    resources
}

fn entry(table: &Table) -> Arc<ServiceEntry> {
    let Lookup::Known(entry) = table.service(&name("shop/api")) else { panic!("not known") };
    Arc::clone(entry)
}

#[test]
fn live_state_is_carried_over_by_key() {
    let now = Instant::now();
    let first =
        Table::build(&Table::default(), &resources(service(&["10.0.0.1", "10.0.0.2"])), now);
    let second = Table::build(&first, &resources(service(&["10.0.0.2", "10.0.0.3"])), now);
    let (before, after) = (entry(&first), entry(&second));
    assert!(Arc::ptr_eq(&before.ports[0].endpoints[1], &after.ports[0].endpoints[0]));
    assert_eq!(after.ports[0].endpoints[1].key.address.to_string(), "10.0.0.3");
    assert!(Arc::ptr_eq(&before.ports[0].budget, &after.ports[0].budget));
}

#[test]
fn an_unchanged_service_is_not_built_again() {
    let now = Instant::now();
    let resources = resources(service(&["10.0.0.1"]));
    let first = Table::build(&Table::default(), &resources, now);
    let second = Table::build(&first, &resources, now);
    assert!(Arc::ptr_eq(&entry(&first), &entry(&second)));
}

#[test]
fn absent_is_told_from_not_asked() {
    let mut resources = resources(service(&[]));
    resources.absent.insert(name("shop/gone"));
    let table = Table::build(&Table::default(), &resources, Instant::now());
    assert!(matches!(table.service(&name("shop/gone")), Lookup::Absent));
    assert!(matches!(table.service(&name("shop/other")), Lookup::NotAsked));
}

#[test]
fn an_address_is_a_services_a_workloads_nobodys_or_not_asked_for() {
    let mut resources = resources(service(&[]));
    let at = |last: u8| IpAddr::from([10, 0, 0, last]);
    let pod = Workload { name: "pod".into(), mesh: None, ports: vec![] };
    let now = Instant::now();
    let owners = [
        (at(1), Owner::Service(name("shop/api"))),
        (at(2), Owner::Workload(pod)),
        (at(3), Owner::Service(name("shop/lost"))),
    ];
    resources.owners.extend(owners.map(|(address, owner)| (address, Arc::new(owner))));
    resources.nobody.insert(at(4));
    let table = Table::build(&Table::default(), &resources, now);
    let of_cluster = table.at("10.96.0.1".parse().unwrap());
    assert!(matches!(of_cluster, At::Service(entry) if *entry.name() == name("shop/api")));
    assert!(matches!(table.at(at(1)), At::Service(_)));
    let At::Workload(pod) = table.at(at(2)) else { panic!("the pod has it") };
    let next = Table::build(&table, &resources, now);
    assert!(matches!(next.at(at(2)), At::Workload(same) if Arc::ptr_eq(pod, same)));
    assert!(matches!(table.at(at(3)), At::NotAsked), "its Service has not come yet");
    assert!(matches!(table.at(at(4)), At::Nobody));
    assert!(matches!(table.at(at(5)), At::NotAsked));
}

#[test]
fn a_missing_port_means_80_or_the_only_one() {
    let mut api = service(&[]);
    api.ports[0].port = 5000;
    let one = Table::build(&Table::default(), &resources(api.clone()), Instant::now());
    assert_eq!(entry(&one).default_port().map(|p| p.port), Some(5000));
    api.ports.push(ServicePort { port: 5001, name: None, protocol: Protocol::Detect });
    let two = Table::build(&Table::default(), &resources(api), Instant::now());
    assert!(entry(&two).default_port().is_none());
}
