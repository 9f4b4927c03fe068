//! `pillion-proxy redirect` as an init container runs it: a process of its own, in a namespace.
//! What its rules do is tested beside them, in the crate `redirect`.

#![allow(clippy::unwrap_used, clippy::expect_used)] // a test says what is wrong by failing

use std::process::{Command, Output};

/// A network namespace, which ends with it.
struct Namespace(String);

impl Namespace {
    fn new() -> Self {
        let name = format!("pillion-{}-init", std::process::id());
        let output = Command::new("ip").args(["netns", "add", &name]).output();
        let output = output.expect("`ip` is needed: install the package iproute2");
        assert!(output.status.success(), "namespaces need root: {}", text(&output.stderr));
        let namespace = Self(name);
        for step in [
            "link set lo up",
            "link add eth0 type veth peer name eth1",
            "link set eth0 up",
            "link set eth1 up",
            "addr add 10.77.0.2/24 dev eth0",
            "route add default via 10.77.0.1",
        ] {
            let output = namespace.exec("ip", step);
            assert!(output.status.success(), "ip {step}: {}", text(&output.stderr));
        }
        namespace
    }

    fn exec(&self, program: &str, args: &str) -> Output {
        let command = ["netns", "exec", &self.0, program];
        let args = args.split_whitespace();
        Command::new("ip").args(command).args(args).output().unwrap()
    }

    /// Runs `pillion-proxy redirect` as root with these capabilities of root's.
    fn redirect(&self, capabilities: &str, args: &str) -> Output {
        let (drop, program) = ("--inh-caps=-all", env!("CARGO_BIN_EXE_pillion-proxy"));
        let args = format!("--bounding-set={capabilities} {drop} {program} redirect {args}");
        self.exec("setpriv", &args)
    }
}

impl Drop for Namespace {
    fn drop(&mut self) {
        let _ = Command::new("ip").args(["netns", "delete", &self.0]).output();
    }
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

#[test]
fn a_container_with_net_admin_only_installs_checks_and_removes() {
    let namespace = Namespace::new();
    let step = |args: &str, expected: &str| {
        let output = namespace.redirect("-all,+net_admin", args);
        assert!(output.status.success(), "{args}: {}", text(&output.stderr));
        assert!(text(&output.stdout).contains(expected), "{args}: {}", text(&output.stdout));
    };
    step("install", "installed: outbound TCP goes to port 15001, inbound to port 15006");
    step("check", "IPv4: ok, redirected with the original destination kept");
    step("check", "IPv6: not checked: no route");
    step("remove", "removed");
    step("remove", "there was nothing to remove");
    let output = namespace.redirect("-all,+net_admin", "check");
    assert_eq!(output.status.code(), Some(1));
    assert!(text(&output.stdout).contains("rules: wrong: not installed; run install"));
}

#[test]
fn a_container_without_net_admin_is_told_so() {
    let namespace = Namespace(format!("pillion-{}-none", std::process::id()));
    let output = Command::new("ip").args(["netns", "add", &namespace.0]).output().unwrap();
    assert!(output.status.success(), "namespaces need root: {}", text(&output.stderr));
    for args in ["install", "remove"] {
        let output = namespace.redirect("-net_admin", args);
        assert_eq!(output.status.code(), Some(1));
        let error = text(&output.stderr);
        assert!(error.starts_with("error: the capability NET_ADMIN is missing"), "{error}");
    }
}

#[test]
fn the_flags_are_judged_before_the_kernel_is_asked() {
    let redirect = |args: &[&str]| {
        let program = env!("CARGO_BIN_EXE_pillion-proxy");
        Command::new(program).arg("redirect").args(args).output().unwrap()
    };
    let shown = redirect(&["install", "--dry-run", "--exclude-outbound-ports", "25"]);
    assert!(shown.status.success());
    assert!(text(&shown.stdout).contains("tcp dport 25 return comment"));
    let same = redirect(&["check", "--mesh-port", "15001"]);
    assert_eq!(same.status.code(), Some(2));
    let reason = "error: --outbound-port and --mesh-port are both 15001";
    assert!(text(&same.stderr).starts_with(reason), "{}", text(&same.stderr));
    let usage = redirect(&["install", "--exclude-inbound-ports", "x"]);
    assert_eq!(usage.status.code(), Some(2));
    assert!(text(&usage.stderr).contains("`x` is no port"), "{}", text(&usage.stderr));
    let help = text(&redirect(&["--help"]).stdout);
    assert!(help.contains("Usage: pillion-proxy redirect <COMMAND>"), "{help}");
}
