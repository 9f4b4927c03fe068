//! What one sidecar is told, and when.

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
    let publication =
        publication(&[service("api", 80), service("b", 80), service("c", 80), route("shop", "b")]);
    let mut session = session(Vec::new(), &["shop/api"]);
    let update = session.difference(&publication).unwrap();
    assert_eq!(
        show(&update),
        ["inbound 10.0.0.1", "service shop/api", "service shop/b", "routes shop/api"]
    );
    ack(&mut session);
    assert!(session.difference(&publication).is_none());
}

/// What a sidecar has, it does not ask for: without its routes `b` would be one that has none.
#[test]
fn a_service_that_routes_lead_to_comes_with_its_own_routes() {
    let to = |parent: &str, backend: &str| {
        let from_api = route("shop", backend).replace("name: r", &format!("name: of-{parent}"));
        from_api.replace("name: api", &format!("name: {parent}"))
    };
    let publication = publication(&[
        service("api", 80),
        service("b", 80),
        service("c", 80),
        to("api", "b"),
        to("b", "c"),
        // round in a circle
        to("c", "api"),
    ]);
    let mut session = session(Vec::new(), &["shop/api"]);
    let update = session.difference(&publication).unwrap();
    let mut shown = show(&update);
    shown.sort_unstable();
    assert_eq!(
        shown,
        [
            "inbound 10.0.0.1",
            "routes shop/api",
            "routes shop/b",
            "routes shop/c",
            "service shop/api",
            "service shop/b",
            "service shop/c",
        ]
    );
    ack(&mut session);
    session.subscribe(vec!["shop/b".into()]).unwrap();
    assert!(session.difference(&publication).is_none(), "all of it is there");
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
    session.unsubscribe(&["shop/b".into()], &[]);
    assert_eq!(show(&session.difference(&publication).unwrap()), ["-service shop/b"]);
}

#[test]
fn subscriptions_have_a_limit() {
    let mut session = session(Vec::new(), &[]);
    let names = (0..=MOST_SUBSCRIPTIONS).map(|i| format!("shop/s{i}")).collect();
    assert_eq!(session.subscribe(names), Err(TooMany));
}

/// `s0` to `s29`, each of which takes a good part of an Update.
fn many() -> (Vec<String>, Vec<String>) {
    let ports: Vec<String> = (1..1500)
        .map(|p| format!("{{name: {}, port: {p}}}", "x".repeat(30) + &p.to_string()))
        .collect();
    let ports = format!("[{}]", ports.join(", "));
    let large = |i| service(&format!("s{i}"), 80).replace("[{port: 80}]", &ports);
    ((0..30).map(large).collect(), (0..30).map(|i| format!("shop/s{i}")).collect())
}

#[test]
fn a_large_state_comes_in_several_updates() {
    let (objects, names) = many();
    let publication = publication(&objects);
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

#[test]
fn what_a_route_left_is_taken_away_after_the_route_has_changed() {
    let leads_to = |backend: &str| {
        let services = ["zzz", "b", "c"].map(|name| service(name, 80));
        let route = route("shop", backend).replace("name: api", "name: zzz");
        services.into_iter().chain([route]).collect::<Vec<_>>()
    };
    let mut session = session(Vec::new(), &["shop/zzz"]);
    session.difference(&publication(&leads_to("b"))).unwrap();
    ack(&mut session);
    let (mut objects, names) = many();
    session.subscribe(names).unwrap();
    objects.extend(leads_to("c"));
    let publication = publication(&objects);
    let mut seen = Vec::new();
    while let Some(update) = session.difference(&publication) {
        seen.push(show(&update));
        ack(&mut session);
    }
    assert!(seen.len() > 1, "{seen:?}");
    let last = seen.pop().unwrap();
    assert!(last.contains(&"routes shop/zzz".into()), "{last:?}");
    assert!(last.contains(&"-service shop/b".into()), "{last:?}");
    assert!(seen.iter().flatten().all(|shown| !shown.starts_with('-')), "{seen:?}");
}

#[test]
fn an_address_comes_with_the_service_that_has_it() {
    let api = service("api", 80).replace("spec: {", "spec: {clusterIP: 10.96.0.7, ");
    let publication = publication(&[api, service("b", 80), route("shop", "b")]);
    let mut session = session(Vec::new(), &[]);
    let addresses = ["10.96.0.7", "10.9.9.9", "nonsense"];
    session.subscribe_addresses(addresses.map(String::from).to_vec()).unwrap();
    let update = session.difference(&publication).unwrap();
    assert_eq!(
        show(&update),
        [
            "inbound 10.0.0.1",
            "service shop/api",
            "service shop/b",
            "routes shop/api",
            "address 10.96.0.7",
            "-address 10.9.9.9",
            "-address nonsense",
        ]
    );
    ack(&mut session);
    assert!(session.difference(&publication).is_none());
    session.unsubscribe(&[], &["10.96.0.7".into()]);
    let update = session.difference(&publication).unwrap();
    assert_eq!(
        show(&update),
        ["-service shop/api", "-service shop/b", "-routes shop/api", "-address 10.96.0.7"]
    );
}
