//! HAProxy of Debian, HTTP/2 between the two.

use tests::process::Process;
use tests::tools;

use crate::stage::certs::Certs;
use crate::stage::files::{Files, fill};
use crate::stage::netns::Namespace;
use crate::stage::program::Program;
use crate::stage::server::App;
use crate::stage::{Pods, SERVER};

use super::ports::{mesh, outbound};
use super::{Sidecars, ports};

/// Starts both.
///
/// # Errors
/// When a file cannot be written.
pub(super) fn start(files: &Files, pods: &Pods) -> anyhow::Result<Sidecars> {
    ports::redirect(pods)?;
    let roles =
        |role: fn(&Certs, App) -> String| App::ALL.map(|app| role(&files.certs, app)).concat();
    let outbound = launch(pods, &pods.client, "outbound", &roles(outbound_role))?;
    let inbound = launch(pods, &pods.server, "inbound", &roles(inbound_role))?;
    Ok(Sidecars { outbound: Some(outbound), inbound: Some(inbound), ..Sidecars::default() })
}

fn launch(pods: &Pods, at: &Namespace, name: &str, roles: &str) -> anyhow::Result<Process> {
    let file = pods.file(&format!("{name}.cfg"));
    std::fs::write(&file, fill(include_str!("haproxy.cfg"), &[("roles", roles.to_owned())]))?;
    let haproxy = Program::proxy(tools::find("haproxy", "haproxy"));
    Ok(haproxy.args(["-db", "-f", &file.to_string_lossy()]).start(at, pods.logs(), name))
}

/// Beside the client: in the clear, HTTP/1.1 or HTTP/2 told from its first bytes.
fn outbound_role(certs: &Certs, app: App) -> String {
    let (chain, root) = (certs.both("client"), certs.root.clone());
    let tls = format!(
        "ssl crt {} ca-file {} verify required verifyhost {} sni str({})",
        chain.display(),
        root.display(),
        Certs::name("server"),
        Certs::name("server"),
    );
    let (mode, between) = match app {
        App::Bytes => ("mode tcp", String::new()),
        _ => ("mode http\n  http-reuse always", " alpn h2".to_owned()),
    };
    format!(
        "listen {app:?}\n  {mode}\n  bind :{}\n  server peer {SERVER}:{} {tls}{between}\n\n",
        outbound(app),
        mesh(app),
    )
}

/// Beside the server: mutual TLS; the application in its own version.
fn inbound_role(certs: &Certs, app: App) -> String {
    let (chain, root) = (certs.both("server"), certs.root.clone());
    let tls = format!("ssl crt {} ca-file {} verify required", chain.display(), root.display());
    let (mode, between, version) = match app {
        App::Bytes => ("mode tcp", "", ""),
        App::Http1 | App::Upload => ("mode http\n  http-reuse always", " alpn h2", ""),
        App::Http2 | App::Grpc => ("mode http\n  http-reuse always", " alpn h2", " proto h2"),
    };
    format!(
        "listen {app:?}\n  {mode}\n  bind :{} {tls}{between}\n  server app 127.0.0.1:{}{version}\n\n",
        mesh(app),
        app.port(),
    )
}
