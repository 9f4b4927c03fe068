//! nginx of Debian. It cannot speak HTTP/2 to an application that is not gRPC, so it has no part in
//! those cases.

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

/// Where Debian has nginx's modules.
const MODULES: &str = "/usr/lib/nginx/modules";

/// Starts both.
///
/// # Errors
/// When a file cannot be written.
pub(super) fn start(files: &Files, pods: &Pods) -> anyhow::Result<Sidecars> {
    ports::redirect(pods)?;
    let (client, server) = (Client(&files.certs), Server(&files.certs));
    let http =
        |role: &dyn Fn(App) -> String| [App::Http1, App::Grpc, App::Upload].map(role).concat();
    let outbound = http(&|app| client.http(app));
    let outbound = launch(pods, &pods.client, "outbound", &outbound, &client.stream())?;
    let inbound = http(&|app| server.http(app));
    let inbound = launch(pods, &pods.server, "inbound", &inbound, &server.stream())?;
    Ok(Sidecars { outbound: Some(outbound), inbound: Some(inbound), ..Sidecars::default() })
}

fn launch(
    pods: &Pods,
    at: &Namespace,
    end: &str,
    http: &str,
    stream: &str,
) -> anyhow::Result<Process> {
    let file = pods.file(&format!("{end}.conf"));
    let values = [
        ("dir", pods.dir.to_string_lossy().into_owned()),
        ("end", end.to_owned()),
        ("modules", MODULES.to_owned()),
        ("http", http.to_owned()),
        ("stream", stream.to_owned()),
    ];
    std::fs::write(&file, fill(include_str!("nginx.conf"), &values))?;
    let nginx = Program::proxy(tools::find("nginx", "nginx-light"));
    let args = ["-e", "stderr", "-c", &file.to_string_lossy()];
    Ok(nginx.args(args).start(at, pods.logs(), end))
}

/// Beside the client.
struct Client<'a>(&'a Certs);

impl Client<'_> {
    fn http(&self, app: App) -> String {
        let (name, own, peer) = (format!("{app:?}").to_lowercase(), outbound(app), mesh(app));
        let upstream = format!(
            "  upstream {name} {{ server {SERVER}:{peer}; keepalive 1024; \
             keepalive_requests 1000000000; keepalive_timeout 3600s; }}\n"
        );
        let tls = |kind: &str| {
            format!(
                "{kind}_ssl_certificate {chain}; {kind}_ssl_certificate_key {key}; \
                 {kind}_ssl_trusted_certificate {root}; {kind}_ssl_verify on; \
                 {kind}_ssl_verify_depth 2; {kind}_ssl_name {server}; \
                 {kind}_ssl_server_name on; {kind}_ssl_protocols TLSv1.3;",
                chain = self.0.chain("client").display(),
                key = self.0.key("client").display(),
                root = self.0.root.display(),
                server = Certs::name("server"),
            )
        };
        let (http2, tls, pass) = match app {
            App::Grpc => (" http2", tls("grpc"), format!("grpc_pass grpcs://{name}")),
            _ => ("", tls("proxy"), format!("proxy_pass https://{name}")),
        };
        format!(
            "{upstream}  server {{\n    listen {own}{http2} backlog=8192;\n    {tls}\n    \
             location / {{ {pass}; }}\n  }}\n"
        )
    }

    fn stream(&self) -> String {
        format!(
            "  server {{\n    listen {own} backlog=8192;\n    proxy_pass {SERVER}:{peer}; proxy_half_close on;\n    \
             proxy_ssl on; proxy_ssl_certificate {chain}; proxy_ssl_certificate_key {key}; \
             proxy_ssl_trusted_certificate {root}; proxy_ssl_verify on; proxy_ssl_verify_depth 2; \
             proxy_ssl_name {server}; proxy_ssl_protocols TLSv1.3;\n  }}\n",
            own = outbound(App::Bytes),
            peer = mesh(App::Bytes),
            chain = self.0.chain("client").display(),
            key = self.0.key("client").display(),
            root = self.0.root.display(),
            server = Certs::name("server"),
        )
    }
}

/// Beside the server.
struct Server<'a>(&'a Certs);

impl Server<'_> {
    fn http(&self, app: App) -> String {
        let (name, own, port) = (format!("{app:?}").to_lowercase(), mesh(app), app.port());
        let (http2, pass) = match app {
            App::Grpc => (" http2", format!("grpc_pass grpc://{name}")),
            _ => ("", format!("proxy_pass http://{name}")),
        };
        format!(
            "  upstream {name} {{ server 127.0.0.1:{port}; keepalive 1024; \
             keepalive_requests 1000000000; keepalive_timeout 3600s; }}\n  \
             server {{\n    listen {own} ssl{http2} backlog=8192;\n    {}\n    \
             location / {{ {pass}; }}\n  }}\n",
            self.tls()
        )
    }

    fn stream(&self) -> String {
        let (own, port) = (mesh(App::Bytes), App::Bytes.port());
        format!(
            "  server {{\n    listen {own} ssl backlog=8192;\n    {}\n    \
             proxy_pass 127.0.0.1:{port}; proxy_half_close on;\n  }}\n",
            self.tls()
        )
    }

    fn tls(&self) -> String {
        format!(
            "ssl_certificate {}; ssl_certificate_key {}; ssl_client_certificate {}; \
             ssl_verify_client on; ssl_verify_depth 2; ssl_protocols TLSv1.3;",
            self.0.chain("server").display(),
            self.0.key("server").display(),
            self.0.root.display(),
        )
    }
}
