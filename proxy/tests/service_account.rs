//! A sidecar in a cluster: it shows the token of its service account, and knows the control plane by
//! the trust bundle that was given to it as text.

#![allow(clippy::unwrap_used, clippy::expect_used)] // a test says what is wrong by failing

mod control_plane;
mod support;

use std::net::SocketAddr;
use std::path::Path;
use std::process::{Command, Output};

use control_plane::{ControlPlane, Stream};
use support::{Sidecar, eventually, request};

/// A sidecar that cannot start.
fn refused(token: &Path, args: &[&str], variables: &[(&str, &str)]) -> Output {
    let output = Command::new(env!("CARGO_BIN_EXE_pillion-proxy"))
        .args(["--address", "127.12.60.9", "--token-file", token.to_str().unwrap()])
        .args(args)
        .envs(variables.iter().copied())
        .output()
        .unwrap();
    assert_eq!(output.status.code(), Some(2), "{output:?}");
    output
}

fn told(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

#[test]
fn a_service_accounts_token_and_a_bundle_as_text_make_a_sidecar_ready() {
    let mut control_plane = ControlPlane::start();
    let token = control_plane.service_account_token("shop", "api");
    let bundle = control_plane.trust_bundle();
    let variables = [("PILLION_TRUST_BUNDLE", bundle.as_str())];
    let sidecar = Sidecar::with_token(&control_plane, [127, 12, 60, 1], &token, &[], &variables);
    let mut stream = control_plane.accept();
    assert!(!stream.by_certificate());
    stream.update(vec![], vec![]);
    stream.acknowledged();
    sidecar.wait_until_ready();
}

#[test]
fn a_control_plane_that_the_bundle_does_not_vouch_for_is_shown_no_token() {
    let (mut control_plane, other) = (ControlPlane::start(), ControlPlane::start());
    let token = control_plane.service_account_token("shop", "api");
    let wrong = other.trust_bundle();
    let variables = [("PILLION_TRUST_BUNDLE", wrong.as_str())];
    let lost = Sidecar::with_token(&control_plane, [127, 12, 60, 2], &token, &[], &variables);
    let admin = SocketAddr::new(lost.address, 15020);
    let reason = "the TLS handshake with the control plane";
    eventually("it does not believe the control plane", || {
        request(admin, "/ready").contains(reason)
    });
    // One that is given the right bundle comes later and is still the first.
    let right = control_plane.trust_bundle();
    let right = Sidecar::with_token(
        &control_plane,
        [127, 12, 60, 3],
        &token,
        &["--trust-bundle", &right],
        &[],
    );
    let mut stream = control_plane.accept();
    assert_eq!(stream.hello().address, right.address.to_string());
    stream.update(vec![], vec![]);
    stream.acknowledged();
    right.wait_until_ready();
}

#[test]
fn without_any_root_a_sidecar_does_not_start() {
    let control_plane = ControlPlane::start();
    let token = control_plane.service_account_token("shop", "api");
    let message = told(&refused(&token, &[], &[]));
    assert!(message.contains("names no root"), "{message}");
    assert!(message.contains("--trust-bundle or --trust-bundle-file"), "{message}");
}

#[test]
fn a_bundle_that_is_none_is_refused_by_its_flag() {
    let control_plane = ControlPlane::start();
    let token = control_plane.token_file("shop", "api");
    let bundle = control_plane.state().join("bundle.pem");
    let bundle = bundle.to_str().unwrap();
    let empty = "--trust-bundle: there is no certificate in it";
    type Case<'a> = (&'a [&'a str], &'a [(&'a str, &'a str)], &'a str);
    let cases: [Case<'_>; 5] = [
        (&["--trust-bundle", "bundle.pem"], &[], empty),
        (&[], &[("PILLION_TRUST_BUNDLE", "")], empty),
        (&["--trust-bundle-file", "/nowhere"], &[], "cannot read --trust-bundle-file /nowhere: "),
        (
            &[],
            &[("PILLION_TRUST_BUNDLE_FILE", "/dev/null")],
            "--trust-bundle-file /dev/null: there is no certificate in it",
        ),
        (&["--trust-bundle-file", bundle, "--trust-bundle", "x"], &[], "cannot be used with"),
    ];
    for (args, variables, part) in cases {
        let message = told(&refused(&token, args, variables));
        assert!(message.contains(part), "{args:?} {variables:?}: {message}");
    }
}

/// The stream of a sidecar that has a configuration, and a certificate.
fn becomes_ready(control_plane: &mut ControlPlane, sidecar: &Sidecar) -> Stream {
    let mut stream = control_plane.accept();
    stream.update(vec![], vec![]);
    stream.acknowledged();
    sidecar.wait_until_ready();
    stream
}

/// A pod outlives its container, and roots are replaced meanwhile.
#[test]
fn a_sidecar_that_is_started_anew_believes_the_roots_that_it_was_told_of() {
    let (mut before, mut after) = (ControlPlane::start(), ControlPlane::start());
    let state = tempfile::tempdir().unwrap();
    let bundle = before.trust_bundle();
    let args = ["--state-dir", state.path().to_str().unwrap(), "--trust-bundle", &bundle];
    let address = [127, 12, 60, 4];

    let token = before.service_account_token("shop", "api");
    let first = Sidecar::with_token(&before, address, &token, &args, &[]);
    let mut stream = becomes_ready(&mut before, &first);
    stream.trust(&[&before.root()[..], &after.root()[..]]);
    drop(first);

    let token = after.service_account_token("shop", "api");
    let second = Sidecar::with_token(&after, address, &token, &args, &[]);
    becomes_ready(&mut after, &second);
    drop(second);

    std::fs::write(state.path().join("trust-bundle.pem"), "nonsense").unwrap();
    let token = before.service_account_token("shop", "api");
    let third = Sidecar::with_token(&before, address, &token, &args, &[]);
    becomes_ready(&mut before, &third);
}
