//! The yardstick of our own (`src/bin/floor`).

use crate::stage::Pods;
use crate::stage::certs::Certs;
use crate::stage::files::Files;
use crate::stage::program::Program;
use crate::stage::server::App;

use super::{Sidecars, ports};

/// Starts both; with `bytes` all that they carry is bytes.
///
/// # Errors
/// When the rules cannot be installed.
pub(super) fn start(files: &Files, pods: &Pods, bytes: bool) -> anyhow::Result<Sidecars> {
    ports::redirect_all(pods)?;
    let http2 = [App::Http2, App::Grpc].map(|app| app.port().to_string()).join(",");
    let http1 = [App::Http1, App::Upload].map(|app| app.port().to_string()).join(",");
    let launch = |end: &str, own: &str, peer: &str, at| {
        let (cert, roots) = (files.certs.both(own), files.certs.root.clone());
        let program = Program::proxy(files.bin("floor"))
            .args([end, "--cert", &cert.to_string_lossy(), "--roots", &roots.to_string_lossy()])
            .args(["--peer", &Certs::name(peer)]);
        let http = ["--http1", &http1, "--http2", &http2];
        let program = if bytes { program } else { program.args(http) };
        program.start(at, pods.logs(), end)
    };
    let outbound = Some(launch("outbound", "client", "server", &pods.client));
    let inbound = Some(launch("inbound", "server", "client", &pods.server));
    Ok(Sidecars { outbound, inbound, ..Sidecars::default() })
}
