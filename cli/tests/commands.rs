//! What an operator types, and what comes back: exit codes and messages.

#![allow(clippy::unwrap_used)] // tests fail by panicking

use std::net::TcpListener;
use std::process::{Command, Output};

/// Runs `pillion` with arguments and environment variables.
fn pillion(args: &[&str], variables: &[(&str, &str)]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_pillion"))
        .args(args)
        .envs(variables.iter().copied())
        .output()
        .unwrap()
}

fn stdout(output: &Output) -> String {
    String::from_utf8_lossy(&output.stdout).into_owned()
}

fn stderr(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

#[test]
fn help_is_the_help_of_the_command() {
    let cases: [(&[&str], &str); 6] = [
        (&["--help"], "control-plane"),
        (&["help", "token"], "Usage: pillion token"),
        (&["token", "--help"], "Usage: pillion token"),
        (&["demo", "-h"], "Usage: pillion demo"),
        (&["proxy", "--help"], "Usage: pillion proxy"),
        (&["control-plane", "--help"], "Usage: pillion control-plane"),
    ];
    for (args, part) in cases {
        let output = pillion(args, &[]);
        assert!(output.status.success(), "{args:?}: {output:?}");
        assert!(stdout(&output).contains(part), "{args:?}: {}", stdout(&output));
    }
}

#[test]
fn what_is_unknown_is_refused_with_the_nearest_name() {
    type Case<'a> = (&'a [&'a str], &'a [(&'a str, &'a str)], &'a str);
    let cases: [Case<'_>; 6] = [
        (&["tokn"], &[], "'token'"),
        (&["token", "--namespce", "a"], &[], "'--namespace'"),
        (&["demo", "--jso"], &[], "'--json'"),
        (&["proxy", "--adress", "::1"], &[], "'--address'"),
        (&["check", "."], &[("PILLION_LOG_LEVELS", "info")], "PILLION_LOG_LEVELS"),
        (
            &["token", "--namespace=a", "--service-account=b"],
            &[("PILLION_DEMO_RATES", "1")],
            "did you mean PILLION_DEMO_RATE?",
        ),
    ];
    for (args, variables, part) in cases {
        let output = pillion(args, variables);
        assert_eq!(output.status.code(), Some(2), "{args:?}: {output:?}");
        assert!(stderr(&output).contains(part), "{args:?}: {}", stderr(&output));
    }
}

#[test]
fn settings_of_other_commands_and_links_of_kubernetes_are_passed_over() {
    let temp = tempfile::tempdir().unwrap();
    let others = [("PILLION_DEMO_RATE", "1"), ("PILLION_CONTROL_PLANE_SERVICE_HOST", "10.96.0.9")];
    let output = pillion(&["check", temp.path().to_str().unwrap()], &others);
    assert_eq!(output.status.code(), Some(0), "{output:?}");
}

#[test]
fn a_token_before_the_first_start_is_an_error_that_says_how() {
    let temp = tempfile::tempdir().unwrap();
    let dir = temp.path().join("state");
    let args = ["token", "--namespace=a", "--service-account=b"];
    let output = pillion(&args, &[("PILLION_STATE_DIR", dir.to_str().unwrap())]);
    assert_eq!(output.status.code(), Some(1));
    assert_eq!(stdout(&output), "");
    assert!(stderr(&output).contains("run `pillion control-plane"), "{}", stderr(&output));
    assert!(!dir.exists());
}

#[test]
fn a_taken_port_is_named_before_anything_is_started() {
    let temp = tempfile::tempdir().unwrap();
    let taken = TcpListener::bind("127.0.61.4:15008").unwrap();
    let output = pillion(
        &["demo", "--for=1s", "--base-address=127.0.61.0"],
        &[("TMPDIR", temp.path().to_str().unwrap())],
    );
    drop(taken);
    assert_eq!(output.status.code(), Some(1));
    let message = stderr(&output);
    let us = format!("process {} ", std::process::id());
    for part in ["127.0.61.4:15008", "mesh port of api-2's sidecar", &us, "--base-address"] {
        assert!(message.contains(part), "{part:?} in {message}");
    }
    assert!(!message.contains("starting"), "{message}");
    assert_eq!(std::fs::read_dir(temp.path()).unwrap().count(), 0, "nothing is left behind");
}

#[test]
fn a_child_of_the_demo_does_not_run_without_its_parent() {
    let output = pillion(&["--die-with-parent", "1", "demo-app", "data"], &[]);
    assert_eq!(output.status.code(), Some(1));
    assert!(stderr(&output).contains("has ended already"), "{}", stderr(&output));
}

#[test]
fn check_names_file_object_and_field_and_counts_what_is_good() {
    let temp = tempfile::tempdir().unwrap();
    let dir = temp.path().to_str().unwrap();
    let service = "apiVersion: v1\nkind: Service\nmetadata: {namespace: shop, name: api}\nspec:\n";
    std::fs::write(temp.path().join("api.yaml"), format!("{service}  ports: [{{port: 80}}]\n"))
        .unwrap();
    let output = pillion(&["check", dir], &[]);
    assert_eq!(output.status.code(), Some(0), "{output:?}");
    assert_eq!(stdout(&output), format!("{dir}: 1 Service; nothing is wrong\n"));

    std::fs::write(temp.path().join("api.yaml"), format!("{service}  port: 80\n")).unwrap();
    let output = pillion(&["check", dir], &[]);
    assert_eq!(output.status.code(), Some(1), "{output:?}");
    for part in ["error: api.yaml:1: Service shop/api: spec.port: ", "1 error"] {
        assert!(stdout(&output).contains(part), "{part:?} in {}", stdout(&output));
    }

    let output = pillion(&["check", &format!("{dir}/nowhere")], &[]);
    assert_eq!(output.status.code(), Some(1));
    assert!(stderr(&output).contains("nowhere"), "{output:?}");
}

/// A trust bundle, and a file to inject.
fn to_inject(annotations: &str) -> (tempfile::TempDir, String, String) {
    let temp = tempfile::tempdir().unwrap();
    let path = |name: &str| temp.path().join(name).to_str().unwrap().to_owned();
    let (bundle, file) = (path("state/bundle.pem"), path("pod.yaml"));
    let domain = "cluster.local".parse().unwrap();
    let state = temp.path().join("state");
    certs::Authority::open_or_create(&state, &domain, std::time::SystemTime::now()).unwrap();
    let pod = format!(
        "# first\nkind: Service\n---\napiVersion: v1\nkind: Pod\n\
         metadata: {{name: a, annotations: {{{annotations}}}}}\nspec: {{containers: [{{name: a}}]}}\n"
    );
    std::fs::write(&file, pod).unwrap();
    (temp, bundle, file)
}

#[test]
fn inject_writes_what_it_was_given_with_sidecars_and_uninject_takes_them_out() {
    let (temp, bundle, file) = to_inject("");
    let flags = ["--trust-bundle-file", &bundle, "--image-registry", "example.org/mesh"];
    let output = pillion(&[&["inject", "-f", &file], &flags[..]].concat(), &[]);
    assert_eq!(output.status.code(), Some(0), "{output:?}");
    assert_eq!(stderr(&output), format!("{file}:3: Pod a: injected\n"));
    let text = stdout(&output);
    assert!(text.starts_with("# first\nkind: Service\n---\napiVersion: v1\n"), "{text}");
    let image = concat!("image: \"example.org/mesh/pillion-proxy:", env!("CARGO_PKG_VERSION"));
    assert!(text.contains(image), "{text}");
    let injected = temp.path().join("injected.yaml");
    std::fs::write(&injected, text).unwrap();
    let output = pillion(&["uninject", "-f", injected.to_str().unwrap()], &[]);
    assert_eq!(output.status.code(), Some(0), "{output:?}");
    assert!(!stdout(&output).contains("pillion-"), "{}", stdout(&output));
}

#[test]
fn inject_reads_standard_input_and_variables() {
    let (_temp, bundle, file) = to_inject("");
    let bundle = std::fs::read_to_string(bundle).unwrap();
    let output = Command::new(env!("CARGO_BIN_EXE_pillion"))
        .arg("inject")
        .env("PILLION_TRUST_BUNDLE", &bundle)
        .stdin(std::fs::File::open(file).unwrap())
        .output()
        .unwrap();
    assert_eq!(output.status.code(), Some(0), "{output:?}");
    assert_eq!(stderr(&output), "standard input:3: Pod a: injected\n");
    assert!(stdout(&output).contains("-----BEGIN CERTIFICATE-----"), "{}", stdout(&output));
}

#[test]
fn inject_refuses_with_the_place_and_writes_nothing() {
    let (_temp, bundle, file) = to_inject("pillion.dev/egress: x");
    let flags = ["--trust-bundle-file", &bundle];
    let output = pillion(&[&["inject", "-f", &file], &flags[..]].concat(), &[]);
    assert_eq!((output.status.code(), stdout(&output).as_str()), (Some(1), ""), "{output:?}");
    let fault = "metadata.annotations[pillion.dev/egress]: \"x\" is neither allow nor deny";
    assert_eq!(stderr(&output), format!("error: {file}:3: Pod a: {fault}\n"));
    let cases: [(&[&str], i32, &str); 5] = [
        (&["-f", &file], 2, "--trust-bundle <PEM>"),
        (&["-f", "/nowhere", "--trust-bundle-file", &bundle], 1, "cannot read /nowhere: "),
        (&["--trust-bundle-file", &file], 1, "--trust-bundle-file"),
        (&["--trust-bundle-file", &bundle, "--control-plane", "here"], 1, "is not HOST:PORT"),
        (&["--trust-bundle-file", &bundle, "--proxy-cpu-limit", "0"], 2, "is too small"),
    ];
    for (args, code, part) in cases {
        let output = pillion(&[&["inject"], args].concat(), &[]);
        assert_eq!(output.status.code(), Some(code), "{args:?}: {output:?}");
        assert!(stderr(&output).contains(part), "{args:?}: {}", stderr(&output));
        assert_eq!(stdout(&output), "");
    }
}
