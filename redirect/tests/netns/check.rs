//! What `check` finds in each of the states that a pod can be in.

use std::net::{IpAddr, SocketAddr, TcpStream};
use std::process::{Command, Output};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use redirect::check::Report;

use crate::world::{ANY, FAR, NOWHERE, POD, SIDECAR, World, ip, settings};

/// What a sidecar's line begins with.
const GREETING: &str = "pillion redirect";

fn check(world: &World, flags: &str) -> Report {
    world.pod.run(|| redirect::check(&settings(flags)))
}

/// The lines of a report that is not well.
fn flaws(world: &World, flags: &str) -> Vec<String> {
    let report = check(world, flags);
    assert!(!report.holds(), "{report}");
    report.to_string().lines().map(Into::into).collect()
}

#[test]
fn all_is_well_before_the_sidecar_listens() {
    let world = World::redirected("");
    let report = check(&world, "");
    assert!(report.holds());
    let expected = "rules: ok, as these settings say\n\
                    IPv4: ok, redirected with the original destination kept\n\
                    IPv6: ok, redirected with the original destination kept\n";
    assert_eq!(report.to_string(), expected);
}

#[test]
fn all_is_well_when_the_sidecar_names_the_destination() {
    let world = World::redirected("--outbound-port 7001");
    let _sidecar = world.pod.serve(GREETING, ANY, 7001);
    let report = check(&world, "--outbound-port 7001");
    assert!(report.holds(), "{report}");
}

#[test]
fn rules_that_are_not_there_are_missed() {
    let world = World::new();
    let lines = flaws(&world, "");
    assert_eq!(lines[0], "rules: wrong: not installed; run install");
    assert!(lines[1].starts_with("IPv4: wrong: not redirected"), "{lines:?}");
    assert!(lines[2].starts_with("IPv6: wrong: not redirected"), "{lines:?}");
}

#[test]
fn rules_of_other_settings_are_told() {
    let other = "rules: wrong: installed with other settings; run install again";
    let cases = [
        ("--exclude-outbound-ports 25", ""),
        ("", "--exclude-outbound-ports 25"),
        ("--exclude-inbound-subnets 10.0.0.0/8", "--exclude-inbound-subnets 10.0.0.0/9"),
        ("--proxy-uid 7", ""),
        ("--exclude-inbound-ports 1,2", "--exclude-inbound-ports 2,1"),
    ];
    let world = World::new();
    for (installed, asked) in cases {
        world.install(installed);
        assert_eq!(check(&world, asked).rules.to_string(), other["rules: ".len()..], "{installed}");
        assert_eq!(flaws(&world, asked)[0], other);
    }
}

#[test]
fn rules_that_were_changed_by_hand_are_told() {
    let changes = [
        "add rule inet pillion output accept",
        "add rule inet pillion prerouting accept",
        "insert rule inet pillion output accept",
        "add chain inet pillion stray",
        "delete chain inet pillion prerouting",
        "flush chain inet pillion output",
        "add table inet pillion { flags dormant; }",
        "add chain inet pillion output { policy drop; }",
    ];
    let world = World::new();
    for change in changes {
        world.pod.run(redirect::remove).unwrap();
        world.install("");
        world.pod.load(change);
        let report = check(&world, "");
        assert!(report.to_string().starts_with("rules: wrong: installed with other"), "{change}");
    }
}

/// Rules of somebody else that come before ours.
fn redirect_elsewhere(world: &World) {
    world.pod.load(&format!(
        "add table inet foreign
         add chain inet foreign output {{ type nat hook output priority -110; }}
         add rule inet foreign output tcp dport 15001 dnat ip to {}
         add rule inet foreign output tcp dport 15001 dnat ip6 to {}",
        FAR[0], FAR[1]
    ));
}

#[test]
fn a_connection_that_somebody_else_redirects_is_told() {
    let world = World::redirected("");
    let _far = world.far.serve("far", ANY, 15001);
    redirect_elsewhere(&world);
    let lines = flaws(&world, "");
    assert_eq!(lines[0], "rules: ok, as these settings say");
    let elsewhere = "not redirected: somebody else accepted the connection to";
    assert_eq!(lines[1], format!("IPv4: wrong: {elsewhere} 192.0.2.1:15001"));
    assert_eq!(lines[2], format!("IPv6: wrong: {elsewhere} [2001:db8::1]:15001"));
}

/// What the command does in the pod, whatever it finds there.
fn install(world: &World, flags: &[&str]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_pillion-redirect"));
    world.pod.run(|| command.arg("install").args(flags).output()).unwrap()
}

#[test]
fn an_install_that_is_not_in_force_fails() {
    let world = World::new();
    let well = install(&world, &[]);
    assert!(well.status.success(), "{well:?}");
    let nothing_to_try = ["--exclude-outbound-subnets=0.0.0.0/0,::/0"];
    let well = install(&world, &nothing_to_try);
    assert!(well.status.success(), "{well:?}");
    let _far = world.far.serve("far", ANY, 15001);
    redirect_elsewhere(&world);
    let broken = install(&world, &[]);
    let said = String::from_utf8(broken.stderr).unwrap();
    assert_eq!(broken.status.code(), Some(1), "{said}");
    assert!(said.starts_with("error: the rules are written and are not in force"), "{said}");
    assert!(said.contains("IPv4: wrong: not redirected"), "{said}");
}

#[test]
fn a_sidecar_that_is_not_on_loopback_is_missed() {
    let world = World::redirected("");
    let _sidecar = world.pod.serve(GREETING, POD, 15001);
    let lines = flaws(&world, "");
    assert!(lines[1].contains("nobody listens on the outbound port of loopback"), "{lines:?}");
    assert!(lines[2].contains("Connection refused"), "{lines:?}");
}

#[test]
fn a_sidecar_for_ipv4_only_is_told() {
    let world = World::redirected("");
    let probed = "127.64.2.1"; // where a connection to 192.0.2.1 comes to
    let _sidecar = world.pod.serve(GREETING, [probed, POD[0]], 15001);
    let lines = flaws(&world, "");
    assert!(lines[1].starts_with("IPv4: ok"), "{lines:?}");
    assert!(lines[2].contains("nobody listens on the outbound port of loopback"), "{lines:?}");
}

#[test]
fn connections_of_the_application_are_not_taken_for_the_probe() {
    let world = World::redirected("");
    let target: SocketAddr = (NOWHERE[0].parse::<IpAddr>().unwrap(), 8080).into();
    let over = AtomicBool::new(false);
    let send = || {
        while !over.load(Ordering::Relaxed) {
            let _ = TcpStream::connect_timeout(&target, Duration::from_millis(100));
        }
    };
    std::thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| world.pod.run(send));
        }
        let reports = [(); 10].map(|()| check(&world, ""));
        over.store(true, Ordering::Relaxed);
        let failed = reports.iter().find(|report| !report.holds());
        assert!(failed.is_none(), "{}", failed.unwrap());
    });
}

#[test]
fn a_sidecar_that_names_another_destination_is_told() {
    let world = World::redirected("");
    let wrong = format!("{GREETING} 10.9.9.9:80\nand"); // the server adds the right one
    let _sidecar = world.pod.serve(&wrong, ANY, 15001);
    let lines = flaws(&world, "");
    assert!(lines[1].contains("wrong: wrong original destination: 10.9.9.9:80"), "{lines:?}");
    assert!(lines[2].contains("wrong: wrong original destination: 10.9.9.9:80"), "{lines:?}");
}

#[test]
fn another_program_on_the_outbound_port_is_told() {
    let world = World::redirected("");
    let _other = world.pod.serve("HTTP/1.1 400", ANY, 15001);
    let lines = flaws(&world, "");
    let told = "what listens on port 15001 did not answer as a Pillion sidecar does: it said";
    assert!(lines[1].contains(told) && lines[2].contains(told), "{lines:?}");
}

#[test]
fn a_silent_program_on_the_outbound_port_is_told() {
    let world = World::redirected("");
    let any = ANY.map(|any| SocketAddr::new(any.parse().unwrap(), 15001));
    // The kernel accepts for it; it never says a word.
    let _v4 = world.pod.run(|| std::net::TcpListener::bind(any[0])).unwrap();
    let lines = flaws(&world, "");
    assert!(lines[1].contains("did not answer as a Pillion sidecar does: timed out"), "{lines:?}");
}

#[test]
fn a_family_without_a_route_is_not_checked() {
    let world = World::redirected("");
    ip(&format!("-n {} -6 route del default", world.pod.name));
    let report = check(&world, "");
    assert!(report.holds(), "{report}");
    let text = report.to_string();
    assert!(text.contains("IPv4: ok") && text.contains("IPv6: not checked: no route"), "{text}");
    ip(&format!("-n {} -4 route del default", world.pod.name));
    let lines = flaws(&world, "");
    assert!(lines[1].starts_with("IPv4: not checked: no route"), "{lines:?}");
    assert_eq!(lines[0], "rules: ok, as these settings say");
}

#[test]
fn the_sidecars_own_user_cannot_check() {
    let world = World::redirected("");
    let report = world.pod.run_as(SIDECAR, || redirect::check(&settings("")));
    assert!(!report.holds());
    let told = "not checked: user id 1337 is the sidecar's, which the rules pass over";
    assert_eq!(report.to_string().matches(told).count(), 2, "{report}");
}

#[test]
fn a_probe_that_the_settings_exclude_is_not_made() {
    let world = World::new();
    let flags = "--exclude-outbound-subnets 192.0.2.0/24";
    world.install(flags);
    let report = check(&world, flags);
    assert!(report.holds(), "{report}");
    let told = "IPv4: not checked: the settings exclude 192.0.2.1:15001";
    assert!(report.to_string().contains(told), "{report}");
}
