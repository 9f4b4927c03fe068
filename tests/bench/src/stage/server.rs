//! What the server pod serves: nginx, and for gRPC and bytes a small server of our own.

use std::path::Path;

use serde::Serialize;
use tests::process::Process;
use tests::tools;

use super::files::Files;
use super::netns::Namespace;
use super::program::Program;

/// An application of the server pod.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum App {
    /// nginx, HTTP/1.1.
    #[default]
    Http1,
    /// nginx, HTTP/2 with prior knowledge.
    Http2,
    /// A gRPC server (tonic).
    Grpc,
    /// A sink of uploads (hyper), HTTP/1.1.
    Upload,
    /// Bytes: echo, source and sink.
    Bytes,
}

impl App {
    /// All of them.
    pub(crate) const ALL: [Self; 5] =
        [Self::Http1, Self::Http2, Self::Grpc, Self::Upload, Self::Bytes];

    /// Its port in the pod.
    pub(crate) fn port(self) -> u16 {
        match self {
            Self::Http1 => 8080,
            Self::Http2 => 8081,
            Self::Grpc => 8082,
            Self::Upload => 8083,
            Self::Bytes => 9000,
        }
    }

    /// The port of its Service.
    pub(crate) fn service_port(self) -> u16 {
        match self {
            Self::Http1 => 80,
            Self::Http2 => 81,
            Self::Grpc => 82,
            Self::Upload => 83,
            Self::Bytes => 90,
        }
    }
}

/// Starts nginx and the server of our own in `namespace`.
///
/// # Errors
/// When a file cannot be written.
pub(crate) fn start(
    files: &Files,
    namespace: &Namespace,
    dir: &Path,
) -> anyhow::Result<Vec<Process>> {
    let config = dir.join("server-nginx.conf");
    let body = "x".repeat(100);
    let values = [
        ("dir", dir.to_string_lossy().into_owned()),
        ("www", files.www().to_string_lossy().into_owned()),
        ("body", body),
    ];
    std::fs::write(&config, super::files::fill(include_str!("nginx.conf"), &values))?;
    let nginx = Program::app(tools::find("nginx", "nginx-light")).args([
        "-e",
        "stderr",
        "-c",
        &config.to_string_lossy(),
    ]);
    let mut servers = vec![nginx.start(namespace, dir, "server-nginx")];
    let own = Program::app(files.bin("app"));
    servers.push(own.args(["serve"]).start(namespace, dir, "server-own"));
    Ok(servers)
}
