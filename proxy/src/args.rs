//! What was typed: the flags of the sidecar, each with its environment variable.

use std::net::IpAddr;
use std::path::PathBuf;
use std::time::Duration;

use clap::{Parser, ValueEnum};
use daemon::log::LogArgs;
use model::name::ServiceName;

use crate::inbound::probes::Probes;

/// The Pillion sidecar: carries one workload's traffic through the mesh.
#[derive(Debug, Parser)]
#[command(
    name = "pillion-proxy",
    version,
    about,
    max_term_width = 100,
    after_help = "`pillion-proxy redirect` sends a pod's traffic to its sidecar without a setting \
                  of the application; see `pillion-proxy redirect --help`."
)]
pub struct Args {
    /// The workload's address: the sidecar opens its ports here and other sidecars reach it here.
    /// Without root, each workload of a machine can have its own loopback address. A workload with
    /// several (IPv4 and IPv6) lists them, the one that other sidecars use first.
    #[arg(
        long,
        env = "PILLION_ADDRESS",
        value_name = "IP",
        default_value = "127.0.0.1",
        value_delimiter = ','
    )]
    pub address: Vec<IpAddr>,

    /// The workload's connections are redirected to the sidecar's ports (see `pillion-proxy
    /// redirect`): it listens on all addresses, and carries each connection where it was meant to
    /// go.
    #[arg(long, env = "PILLION_REDIRECTED")]
    pub redirected: bool,

    /// Register the workload as an endpoint of this Service for as long as the sidecar runs.
    /// The namespace must be the one of the join token.
    #[arg(long, env = "PILLION_SERVICE", value_name = "NAMESPACE/NAME", requires = "app_port")]
    pub service: Option<ServiceName>,

    /// The application's TCP port, 1 to 65535.
    #[arg(long, env = "PILLION_APP_PORT", value_name = "PORT", value_parser = port())]
    pub app_port: Option<u16>,

    /// Where the application listens [default: the value of --address]
    #[arg(long, env = "PILLION_APP_ADDRESS", value_name = "IP")]
    pub app_address: Option<IpAddr>,

    /// What the application speaks.
    #[arg(long, env = "PILLION_APP_PROTOCOL", value_name = "PROTOCOL", default_value = "detect")]
    pub app_protocol: AppProtocol,

    /// The registered Service's port that clients use [default: the port whose target --app-port
    /// is in the Service object; without such an object, the value of --app-port]
    #[arg(long, env = "PILLION_SERVICE_CLIENT_PORT", value_name = "PORT", requires = "service", value_parser = port())]
    pub service_port: Option<u16>,

    /// The port for what the application sends: an HTTP proxy (absolute-form, Host, CONNECT).
    #[arg(long, env = "PILLION_OUTBOUND_PORT", value_name = "PORT", default_value_t = 15001, help_heading = "Ports", value_parser = port())]
    pub outbound_port: u16,

    /// The port for what reaches the workload without the mesh, in plaintext.
    #[arg(long, env = "PILLION_INBOUND_PORT", value_name = "PORT", default_value_t = 15006, help_heading = "Ports", value_parser = port())]
    pub inbound_port: u16,

    /// The port for other sidecars: TLS 1.3 with a client certificate, always.
    #[arg(long, env = "PILLION_MESH_PORT", value_name = "PORT", default_value_t = 15008, help_heading = "Ports", value_parser = port())]
    pub mesh_port: u16,

    /// The port for /live, /ready, /metrics, and from loopback /config.
    #[arg(long, env = "PILLION_ADMIN_PORT", value_name = "PORT", default_value_t = 15020, help_heading = "Ports", value_parser = port())]
    pub admin_port: u16,

    /// Whether the inbound plaintext port serves or refuses, where no InboundPolicy says so.
    #[arg(
        long,
        env = "PILLION_INBOUND_PLAINTEXT",
        value_name = "POLICY",
        default_value = "allow",
        help_heading = "Ports"
    )]
    pub inbound_plaintext: Policy,

    /// The kubelet's HTTP probes, as JSON: [{"port":8080,"path":"/healthz"}]. A GET of such a path
    /// is let in at the inbound plaintext port also where that refuses.
    #[arg(
        long,
        env = "PILLION_PROBES",
        value_name = "JSON",
        default_value = "[]",
        help_heading = "Ports"
    )]
    pub probes: Probes,

    /// Whether redirected connections may leave the mesh, for addresses that are neither a
    /// Service's nor a workload's.
    #[arg(
        long,
        env = "PILLION_EGRESS",
        value_name = "POLICY",
        default_value = "allow",
        help_heading = "Ports"
    )]
    pub egress: Policy,

    /// The control plane's API, HOST:PORT.
    #[arg(
        long,
        env = "PILLION_CONTROL_PLANE",
        value_name = "HOST:PORT",
        default_value = "127.0.0.1:15010",
        help_heading = "Control plane and identity"
    )]
    pub control_plane: String,

    /// File with the join token of `pillion token`, or with a token of a Kubernetes service account
    /// that is made for the mesh; read again for every connection.
    #[arg(
        long,
        env = "PILLION_TOKEN_FILE",
        value_name = "FILE",
        help_heading = "Control plane and identity"
    )]
    pub token_file: PathBuf,

    /// The trust bundle (PEM) that the control plane's certificate must chain to
    /// [default: the root that the join token names; a service account's token names none]
    #[arg(
        long,
        env = "PILLION_TRUST_BUNDLE",
        value_name = "PEM",
        allow_hyphen_values = true, // PEM begins with them
        conflicts_with = "trust_bundle_file",
        help_heading = "Control plane and identity"
    )]
    pub trust_bundle: Option<String>,

    /// File with that trust bundle, in place of its text.
    #[arg(
        long,
        env = "PILLION_TRUST_BUNDLE_FILE",
        value_name = "FILE",
        help_heading = "Control plane and identity"
    )]
    pub trust_bundle_file: Option<PathBuf>,

    /// Where the mesh's newest roots are kept over a restart of the sidecar: the control plane is
    /// believed by them too [default: nowhere]
    #[arg(
        long,
        env = "PILLION_STATE_DIR",
        value_name = "DIR",
        help_heading = "Control plane and identity"
    )]
    pub state_dir: Option<PathBuf>,

    /// The mesh's SPIFFE trust domain.
    #[arg(
        long,
        env = "PILLION_TRUST_DOMAIN",
        value_name = "DOMAIN",
        default_value = "cluster.local",
        help_heading = "Control plane and identity"
    )]
    pub trust_domain: String,

    /// The DNS domain of Services: NAME.NAMESPACE.svc.DOMAIN.
    #[arg(
        long,
        env = "PILLION_CLUSTER_DOMAIN",
        value_name = "DOMAIN",
        default_value = "cluster.local",
        help_heading = "Control plane and identity"
    )]
    pub cluster_domain: String,

    /// Threads that carry traffic [default: the CPU limit of the cgroup, at least 1]
    #[arg(long, env = "PILLION_WORKERS", value_name = "N", help_heading = "Limits", value_parser = clap::value_parser!(u16).range(1..=256))]
    pub workers: Option<u16>,

    /// Longest time for a TCP connection to an endpoint, and again for its TLS handshake
    /// (a duration such as 1s or 250ms).
    #[arg(long, env = "PILLION_CONNECT_TIMEOUT", value_name = "DURATION", default_value = "1s", help_heading = "Limits", value_parser = duration)]
    pub connect_timeout: Duration,

    /// Connections accepted at the same time, over all ports; further ones wait in the kernel.
    #[arg(long, env = "PILLION_MAX_CONNECTIONS", value_name = "N", default_value_t = 10_000, help_heading = "Limits", value_parser = clap::value_parser!(u32).range(1..))]
    pub max_connections: u32,

    /// Longest time between SIGTERM and the end, for requests under way to finish. In its last 5 s,
    /// or its second half where that is shorter, nothing new is accepted.
    #[arg(long, env = "PILLION_DRAIN_TIMEOUT", value_name = "DURATION", default_value = "30s", help_heading = "Limits", value_parser = duration)]
    pub drain_timeout: Duration,

    /// Which requests and connections are written to the access log (JSON, to standard error).
    #[arg(
        long,
        env = "PILLION_ACCESS_LOG",
        value_name = "WHICH",
        default_value = "off",
        help_heading = "Telemetry"
    )]
    pub access_log: AccessLog,

    /// OTLP/gRPC endpoint for spans, such as http://127.0.0.1:4317 [default: no tracing]
    #[arg(long, env = "PILLION_OTLP_ENDPOINT", value_name = "URL", help_heading = "Telemetry")]
    pub otlp_endpoint: Option<String>,

    /// Share of new traces that are recorded, 0 to 1; a caller's decision is kept.
    #[arg(long, env = "PILLION_TRACE_SAMPLE_RATIO", value_name = "SHARE", default_value_t = 1.0, help_heading = "Telemetry", value_parser = share)]
    pub trace_sample_ratio: f64,

    #[command(flatten)]
    #[allow(missing_docs)]
    pub log: LogArgs,
}

/// What the application behind the sidecar speaks.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum AppProtocol {
    /// Told from the first bytes.
    Detect,
    /// HTTP/1.1.
    Http,
    /// HTTP/2 with prior knowledge, gRPC.
    Http2,
    /// Bytes that nobody looks into.
    Tcp,
}

/// Whether connections of a kind are carried.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Policy {
    /// Carried, and counted.
    Allow,
    /// Refused, and counted.
    Deny,
}

/// Which requests and connections are logged.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum AccessLog {
    /// None.
    Off,
    /// Those that failed: an error of the sidecar's own, or a status of 500 and above.
    Errors,
    /// All.
    All,
}

fn port() -> clap::builder::RangedI64ValueParser<u16> {
    clap::value_parser!(u16).range(1..)
}

fn duration(text: &str) -> Result<Duration, String> {
    model::duration::parse(text).map_err(|error| error.to_string())
}

fn share(text: &str) -> Result<f64, String> {
    match text.parse() {
        Ok(share) if (0.0..=1.0).contains(&share) => Ok(share),
        _ => Err("not a number from 0 to 1".into()),
    }
}
