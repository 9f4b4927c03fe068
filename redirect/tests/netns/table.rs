//! The table as a whole: written, replaced, taken away, and what stays beside it.

use std::io::{Read as _, Write as _};
use std::net::{TcpListener, TcpStream};
use std::time::Duration;

use redirect::rules::chains;
use redirect::text::Table;
use rustix::thread::{CapabilitySet, capabilities};

use crate::world::{ANY, FAR, World, said, settings};

/// Every kind of rule.
const FLAGS: &str = "--exclude-outbound-ports 25,3306 --exclude-inbound-ports 22 \
                     --exclude-outbound-subnets 10.0.0.0/8,172.16.0.0/12,fc00::/7,192.168.7.7 \
                     --exclude-inbound-subnets 0.0.0.0/0,::/0,2001:db8::/33,fd00::7";

const TABLE: &str = "table inet pillion";

/// Tables that are not ours: among them one of our name, but of another family.
const FOREIGN: &str = r#"
table inet foreign {
	set ports { type inet_service; elements = { 80, 443 }; }
	chain output { type filter hook output priority 0; tcp dport @ports counter accept; }
	chain nat { type nat hook output priority -100; tcp dport 7 redirect to :8; }
}
table ip pillion {
	chain output { type nat hook output priority -90; tcp dport 9 redirect to :10; }
}
"#;

#[test]
fn nft_lists_what_the_dry_run_shows() {
    let world = World::redirected(FLAGS);
    let shown = Table(&chains(&settings(FLAGS))).to_string();
    // Newer versions of nft have a name for the priority where older ones have a number.
    let listed = world.pod.list(TABLE).replace("priority dstnat;", "priority -100;");
    assert_eq!(listed, shown);
}

#[test]
fn nft_loads_what_the_dry_run_shows() {
    let world = World::new();
    let shown = Table(&chains(&settings(FLAGS))).to_string();
    world.pod.load(&shown);
    let listed = world.pod.list(TABLE).replace("priority dstnat;", "priority -100;");
    assert_eq!(listed, shown);
}

#[test]
fn to_install_twice_is_to_install_once() {
    let world = World::redirected(FLAGS);
    let once = world.pod.list("ruleset");
    world.install(FLAGS);
    assert_eq!(world.pod.list("ruleset"), once);
}

#[test]
fn an_install_replaces_all_of_the_one_before() {
    let world = World::redirected(FLAGS);
    world.pod.load("add chain inet pillion stray; add rule inet pillion output accept;");
    world.install("");
    let listed = world.pod.list("ruleset");
    world.pod.run(redirect::remove).unwrap();
    world.install("");
    assert_eq!(world.pod.list("ruleset"), listed);
}

#[test]
fn foreign_tables_survive_byte_for_byte() {
    let world = World::new();
    world.pod.load(FOREIGN);
    let before = world.pod.list_with_handles();
    world.install(FLAGS);
    assert!(world.pod.list("ruleset").contains("table inet pillion"));
    world.install("");
    assert!(world.pod.run(redirect::remove).unwrap());
    assert_eq!(world.pod.list_with_handles(), before);
}

#[test]
fn a_removal_of_nothing_is_well() {
    let world = World::redirected("");
    assert!(world.pod.run(redirect::remove).unwrap());
    assert_eq!(world.pod.list("ruleset"), "");
    assert!(!world.pod.run(redirect::remove).unwrap());
}

#[test]
fn without_rules_all_goes_where_it_was_sent() {
    let world = World::redirected("");
    world.pod.run(redirect::remove).unwrap();
    let _sidecar = world.pod.serve("sidecar", ANY, 15001);
    let _far = world.far.serve("far", ANY, 8080);
    for address in FAR {
        assert_eq!(world.pod.ask(address, 8080), said("far", address, 8080));
    }
}

#[test]
fn open_connections_outlive_an_install() {
    let world = World::redirected("");
    for (address, any) in FAR.into_iter().zip(ANY) {
        world.install("");
        let listener = world.pod.run(|| TcpListener::bind((any, 15001))).unwrap();
        let mut client = world.pod.run(|| TcpStream::connect((address, 8080))).unwrap();
        let (mut sidecar, _) = listener.accept().unwrap();
        sidecar.set_read_timeout(Some(Duration::from_secs(5))).unwrap();
        let mut exchange = |byte: u8| {
            client.write_all(&[byte]).unwrap();
            let mut read = [0];
            sidecar.read_exact(&mut read).unwrap();
            assert_eq!(read, [byte], "{address}");
        };
        exchange(1);
        world.install(FLAGS);
        exchange(2);
    }
}

#[test]
fn the_longest_lists_are_installed() {
    let list = |entry: &dyn Fn(u16) -> String| (1..=100).map(entry).collect::<Vec<_>>().join(",");
    let ports = list(&|n| n.to_string());
    let subnets = list(&|n| format!("2001:db8:{n}::/48"));
    let flags = format!(
        "--exclude-outbound-ports {ports} --exclude-inbound-ports {ports} \
         --exclude-outbound-subnets {subnets} --exclude-inbound-subnets {subnets}"
    );
    let world = World::redirected(&flags);
    assert_eq!(world.pod.list(TABLE).matches("excluded by a setting").count(), 400);
    let report = world.pod.run(|| redirect::check(&settings(&flags)));
    assert!(report.holds(), "{report}");
}

#[test]
fn net_admin_is_all_that_is_needed() {
    let world = World::new();
    world.pod.run_with(CapabilitySet::NET_ADMIN, || {
        redirect::install(&settings(FLAGS)).unwrap();
        redirect::install(&settings("")).unwrap();
        let report = redirect::check(&settings(""));
        assert!(report.holds(), "{report}");
        assert!(redirect::remove().unwrap());
    });
}

#[test]
fn without_net_admin_nothing_is_changed_and_the_error_names_it() {
    let world = World::redirected("");
    let before = world.pod.list_with_handles();
    let others = capabilities(None).unwrap().permitted - CapabilitySet::NET_ADMIN;
    let errors = world.pod.run_with(others, || {
        let install = redirect::install(&settings(FLAGS)).unwrap_err().to_string();
        let remove = redirect::remove().unwrap_err().to_string();
        [install, remove, redirect::check(&settings("")).rules.to_string()]
    });
    for error in errors {
        assert!(error.contains("the capability NET_ADMIN is missing"), "{error}");
    }
    assert_eq!(world.pod.list_with_handles(), before);
}
