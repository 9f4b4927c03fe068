//! What ARCHITECTURE.md promises of the house itself.

use std::collections::BTreeSet;
use std::process::Command;

use tests::bins::workspace;

use crate::source::{MEMBERS, Source, sources};

/// Every package that a normal build of `package` compiles, by name.
fn dependencies(package: &str) -> BTreeSet<String> {
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let output = Command::new(cargo)
        .args(["tree", "--package", package, "--edges", "normal", "--prefix", "none", "--offline"])
        .current_dir(workspace())
        .output()
        .expect("cargo starts");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let text = String::from_utf8(output.stdout).unwrap();
    text.lines().filter_map(|line| line.split(' ').next()).map(ToOwned::to_owned).collect()
}

fn read(path: &str) -> String {
    std::fs::read_to_string(workspace().join(path))
        .unwrap_or_else(|error| panic!("{path}: {error}"))
}

#[test]
fn the_model_knows_no_runtime_and_no_network() {
    let found = dependencies("model");
    assert!(found.contains("http"), "the tree was read: {found:?}");
    for name in ["tokio", "hyper", "tonic", "mio", "socket2", "rustls", "h2", "tower"] {
        assert!(!found.contains(name), "model depends on {name}");
    }
}

#[test]
fn proxy_and_control_plane_do_not_know_each_other() {
    assert!(!dependencies("proxy").contains("control-plane"));
    assert!(!dependencies("control-plane").contains("proxy"));
    let kubernetes = ["k8s-openapi", "gateway-api", "kube", "kube-client"];
    let found = dependencies("proxy");
    for name in kubernetes {
        assert!(!found.contains(name), "the sidecar carries {name}");
    }
}

#[test]
fn there_is_one_implementation_of_tls_primitives() {
    for package in ["pillion", "proxy", "control-plane"] {
        let found = dependencies(package);
        for name in ["ring", "openssl-sys", "native-tls", "serde_yaml"] {
            assert!(!found.contains(name), "{package} depends on {name}");
        }
    }
}

/// The files outside of `wire` that may name protobuf types: those that hold the stream.
const STREAM_FILES: [&str; 8] = [
    "control-plane/src/server/api.rs",
    "control-plane/src/server/certificates.rs",
    "control-plane/src/server/hello.rs",
    "control-plane/src/server/session.rs",
    "control-plane/src/server/stream.rs",
    "proxy/src/sync/certificate.rs",
    "proxy/src/sync/snapshot.rs",
    "proxy/src/sync/stream.rs",
];

#[test]
fn protobuf_types_stay_in_wire_and_the_stream_files() {
    let outside = MEMBERS.iter().filter(|member| **member != "wire");
    let mut naming = BTreeSet::new();
    for source in outside.flat_map(|member| sources(member)) {
        let names = |line: &str| {
            ["wire::proto", " proto::", "(proto::", "<proto::", "prost::"]
                .iter()
                .any(|name| line.contains(name))
        };
        if code(&source).any(|(_, line)| names(line)) {
            naming.insert(source.path.to_str().unwrap().to_owned());
        }
    }
    let allowed: BTreeSet<String> = STREAM_FILES.iter().map(ToString::to_string).collect();
    let strange: Vec<_> = naming.difference(&allowed).collect();
    assert!(strange.is_empty(), "protobuf types are named in {strange:?}");
    let gone: Vec<_> = allowed.difference(&naming).collect();
    assert!(gone.is_empty(), "no stream files any more, take them off the list: {gone:?}");
}

/// The lines that are no comments, numbered from 1.
fn code(source: &Source) -> impl Iterator<Item = (usize, &String)> {
    let numbered = source.lines.iter().enumerate().map(|(index, line)| (index + 1, line));
    numbered.filter(|(_, line)| !line.trim_start().starts_with("//"))
}

#[test]
fn what_cannot_fail_says_why() {
    let mut bare = Vec::new();
    for source in MEMBERS.iter().flat_map(|member| sources(member)) {
        for (number, line) in code(&source) {
            let may_panic = line.contains(".unwrap()") || line.contains(".expect(");
            // The reason stands on the line or among the four above it.
            let around = &source.lines[number.saturating_sub(5)..number];
            if may_panic
                && !around.iter().any(|line| line.contains("//") || line.contains("reason ="))
            {
                bare.push(format!("{}:{number}: {}", source.path.display(), line.trim()));
            }
        }
    }
    assert!(bare.is_empty(), "say in a comment why it cannot fail:\n{}", bare.join("\n"));
}

#[test]
fn every_member_takes_the_lints_of_the_workspace() {
    let root = read("Cargo.toml");
    assert!(root.contains("unsafe_code = \"forbid\""));
    assert!(root.contains("missing_docs = "));
    for member in MEMBERS.iter().chain(&["tests"]) {
        let manifest = read(&format!("{member}/Cargo.toml"));
        assert!(manifest.contains("[lints]\nworkspace = true"), "{member}/Cargo.toml");
        assert!(manifest.contains("license.workspace = true"), "{member}/Cargo.toml");
        assert!(root.contains(&format!("\"{member}\"")), "{member} is no member of the workspace");
    }
}

#[test]
fn versions_of_dependencies_stand_in_the_root_only() {
    for member in MEMBERS.iter().chain(&["tests"]) {
        let manifest = read(&format!("{member}/Cargo.toml"));
        let dependencies =
            manifest.split("\n[").filter(|section| section.contains("dependencies]\n"));
        for line in dependencies.flat_map(|section| section.lines().skip(1)) {
            let line = line.trim();
            let inherits = line.contains("workspace = true") || line.contains("path = ");
            assert!(
                line.is_empty() || line.starts_with('#') || inherits,
                "{member}/Cargo.toml: {line}"
            );
        }
    }
}

/// Longest file; nine of ten stay far below (STYLE: none near 1,000).
const LONGEST: usize = 600;

#[test]
fn no_file_becomes_a_god_file() {
    for member in MEMBERS {
        for source in sources(member) {
            let lines = source.lines.len();
            assert!(
                lines < LONGEST,
                "{} has {lines} lines before its tests",
                source.path.display()
            );
        }
    }
}

#[test]
fn the_readme_opens_with_the_two_commands() {
    let readme = read("README.md");
    let opening = readme.split("\n## ").next().unwrap();
    let mut in_block = false;
    let mut commands = Vec::new();
    for line in opening.lines() {
        if line.trim_start().starts_with("```") {
            in_block = !in_block;
        } else if line.starts_with("    ") || (in_block && !line.trim().is_empty()) {
            commands.push(line.trim().split(" #").next().unwrap().trim());
        }
    }
    assert_eq!(commands, ["cargo run --release --bin pillion -- demo", "tests/run"]);
}

#[test]
fn the_license_and_the_change_log_are_there() {
    assert!(read("LICENSE").contains("Apache License"));
    assert!(read("CHANGELOG.md").lines().count() > 5);
    for page in ["ARCHITECTURE.md", "CONTRIBUTING.md"] {
        assert!(read(page).lines().count() > 10, "{page}");
    }
}

#[test]
fn the_architecture_page_names_files_that_exist() {
    let page = read("ARCHITECTURE.md");
    let quoted = page.split('`').skip(1).step_by(2);
    // `outbound/http.rs:handle` names a function of a file, often below the `src` in question.
    let files =
        quoted.filter_map(|text| text.split_once(".rs").map(|(stem, _)| format!("{stem}.rs")));
    let named: BTreeSet<String> = files.filter(|file| file.contains('/')).collect();
    let is_there = |file: &String| {
        let in_member = |member: &&str| workspace().join(member).join("src").join(file).is_file();
        workspace().join(file).is_file() || MEMBERS.iter().any(in_member)
    };
    let missing: Vec<_> = named.iter().filter(|file| !is_there(file)).collect();
    assert!(missing.is_empty(), "ARCHITECTURE.md names files that are not there: {missing:?}");
    assert!(named.len() > 5, "the walks name their files: {named:?}");
}
