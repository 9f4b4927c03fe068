//! What the flags mean: everything parsed, read and checked before anything is started.

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::path::PathBuf;
use std::time::{Duration, SystemTime};

use certs::{Roots, TokenError, TokenPin, TrustBundle};
use model::name::{Label, ServiceName};
use model::service::Protocol;
use model::spiffe::{TrustDomain, TrustDomainError};

use crate::args::{AccessLog, AppProtocol, Args, Policy};
use crate::inbound::probes::Probes;

/// The sidecar's settings, checked.
#[derive(Debug, Clone)]
pub struct Config {
    /// The workload's address, by which other sidecars reach it.
    pub address: IpAddr,
    /// All of the workload's addresses, that one first.
    pub addresses: Vec<IpAddr>,
    /// Whether the workload's connections are redirected here.
    pub redirected: bool,
    /// The sidecar's own ports at these addresses.
    pub ports: Ports,
    /// The application behind the sidecar.
    pub app: App,
    /// The Service that the workload is registered for.
    pub registration: Option<Registration>,
    /// Whether plaintext is let in, where no policy of the control plane's says so.
    pub plaintext: Policy,
    /// What is let in all the same.
    pub probes: Probes,
    /// Whether redirected connections may leave the mesh.
    pub egress: Policy,
    /// The workload's namespace, from its token.
    pub namespace: Label,
    /// The DNS domain of Services.
    pub cluster_domain: String,
    /// Where configuration and certificates come from.
    pub control_plane: ControlPlane,
    /// Threads that carry traffic.
    pub workers: usize,
    /// For a TCP connection, and again for a TLS handshake.
    pub connect_timeout: Duration,
    /// Connections accepted at the same time.
    pub max_connections: usize,
    /// From SIGTERM to the end.
    pub drain_timeout: Duration,
    /// What is written to the access log.
    pub access_log: AccessLog,
    /// Where spans go.
    pub otlp_endpoint: Option<String>,
    /// Share of new traces that are recorded.
    pub trace_sample_ratio: f64,
}

/// The sidecar's own ports.
#[derive(Debug, Clone, Copy)]
pub struct Ports {
    /// What the application sends.
    pub outbound: u16,
    /// What comes without the mesh.
    pub inbound: u16,
    /// Other sidecars.
    pub mesh: u16,
    /// The operator.
    pub admin: u16,
}

impl Ports {
    /// Whether `port` is one of them: none is ever a destination.
    pub const fn contains(&self, port: u16) -> bool {
        self.outbound == port || self.inbound == port || self.mesh == port || self.admin == port
    }
}

/// The application behind the sidecar.
#[derive(Debug, Clone)]
pub struct App {
    /// Where it listens; `None`: at the address that its caller means.
    pub address: Option<IpAddr>,
    /// The port named by `--app-port`.
    pub port: Option<u16>,
    /// What it speaks there.
    pub protocol: Protocol,
}

/// A workload that registers itself.
#[derive(Debug, Clone)]
pub struct Registration {
    /// The Service it serves.
    pub service: ServiceName,
    /// The application's port.
    pub app_port: u16,
    /// The Service's port, if it is not to be found by the application's.
    pub service_port: Option<u16>,
}

/// Where configuration and certificates come from.
#[derive(Debug, Clone)]
pub struct ControlPlane {
    /// HOST:PORT of the API.
    pub address: String,
    /// Read again for every connection.
    pub token_file: PathBuf,
    /// The bundle its certificate must chain to; else the root that the token names.
    pub trust_bundle: Option<TrustBundle>,
    /// Where newer roots than those are kept.
    pub state_dir: Option<PathBuf>,
    /// The mesh's trust domain.
    pub trust_domain: TrustDomain,
}

/// A setting that cannot be put in force.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// A file cannot be read.
    #[error("cannot read {setting} {}: {source}", file.display())]
    Unreadable {
        /// The flag that names it.
        setting: &'static str,
        /// The file.
        file: PathBuf,
        /// Why not.
        source: io::Error,
    },
    /// The join token is none, or its time is over.
    #[error("the token in {} is no use: {source}; make another with `pillion token`", file.display())]
    Token {
        /// The file.
        file: PathBuf,
        /// Why not.
        source: TokenError,
    },
    /// The token names no root, and there is no trust bundle either.
    #[error("the token in {} names no root, so that the control plane could be anybody: give the \
             mesh's roots with --trust-bundle or --trust-bundle-file", .0.display())]
    NoRoot(PathBuf),
    /// The Service is in another namespace than the token.
    #[error("--service {service} is not in the namespace of the token, {namespace}")]
    ForeignService {
        /// What was asked for.
        service: ServiceName,
        /// The token's namespace.
        namespace: Label,
    },
    /// The trust bundle holds no roots.
    #[error("{place}: {source}")]
    TrustBundle {
        /// The flag, and the file that it names.
        place: String,
        /// Why not.
        source: certs::BundleError,
    },
    /// The trust domain is none.
    #[error("--trust-domain: {0}")]
    TrustDomain(#[from] TrustDomainError),
    /// The control plane's address is none.
    #[error("--control-plane {0:?} is not HOST:PORT")]
    ControlPlane(String),
    /// The endpoint for spans is none.
    #[error("--otlp-endpoint {0:?} is not http://HOST:PORT")]
    OtlpEndpoint(String),
    /// Two of the sidecar's ports are the same.
    #[error("the sidecar's own ports must differ, and {0} is given twice")]
    SamePort(u16),
    /// The application's port is one of the sidecar's own.
    #[error("--app-port {0} is one of the sidecar's own ports")]
    OwnPort(u16),
}

impl Config {
    /// Checks what was typed and reads the files that it names.
    ///
    /// # Errors
    /// The first setting that cannot be put in force, by its flag.
    pub fn new(args: Args) -> Result<Self, ConfigError> {
        let token = read_token(&args.token_file)?;
        let ports = Ports {
            outbound: args.outbound_port,
            inbound: args.inbound_port,
            mesh: args.mesh_port,
            admin: args.admin_port,
        };
        // invariant: clap takes no empty list.
        let address = args.address.first().copied().unwrap_or_else(|| Ipv4Addr::LOCALHOST.into());
        let app = App {
            address: args.app_address.or_else(|| (!args.redirected).then_some(address)),
            port: args.app_port,
            protocol: args.app_protocol.into(),
        };
        check_ports(&ports, &app, &args.address, args.redirected)?;
        let registration = args.service.zip(args.app_port).map(|(service, app_port)| {
            Registration { service, app_port, service_port: args.service_port }
        });
        let namespace = token.service_account.namespace().clone();
        check_namespace(registration.as_ref(), &namespace)?;
        let trust_domain: TrustDomain = args.trust_domain.parse()?;
        let trust_bundle = trust_bundle(args.trust_bundle, args.trust_bundle_file, &trust_domain)?;
        if token.root_sha256.is_none() && trust_bundle.is_none() {
            return Err(ConfigError::NoRoot(args.token_file));
        }
        Ok(Self {
            address,
            addresses: args.address,
            redirected: args.redirected,
            ports,
            app,
            registration,
            plaintext: args.inbound_plaintext,
            probes: args.probes,
            egress: args.egress,
            namespace,
            cluster_domain: args.cluster_domain.to_ascii_lowercase(),
            control_plane: ControlPlane {
                address: host_and_port(args.control_plane)?,
                trust_bundle,
                state_dir: args.state_dir,
                token_file: args.token_file,
                trust_domain,
            },
            workers: args.workers.map_or_else(cpu_limit, usize::from),
            connect_timeout: args.connect_timeout,
            max_connections: args.max_connections as usize,
            drain_timeout: args.drain_timeout,
            access_log: args.access_log,
            otlp_endpoint: args.otlp_endpoint.map(otlp_endpoint).transpose()?,
            trace_sample_ratio: args.trace_sample_ratio,
        })
    }

    /// Where the sidecar listens for one of its own ports: redirected connections come to an
    /// address of the kernel's choice, so that it must be all of them.
    pub fn listen_at(&self, port: u16) -> Vec<SocketAddr> {
        let everywhere = [Ipv4Addr::UNSPECIFIED.into(), Ipv6Addr::UNSPECIFIED.into()];
        let addresses = if self.redirected { &everywhere[..] } else { &self.addresses };
        addresses.iter().map(|address| SocketAddr::new(*address, port)).collect()
    }

    /// Whether the sidecar itself listens at `address`.
    pub fn is_listened_at(&self, address: SocketAddr) -> bool {
        self.ports.contains(address.port())
            && is_listened_at(address.ip(), &self.addresses, self.redirected)
    }

    /// Whether `address` is this workload's.
    pub fn is_own(&self, address: IpAddr) -> bool {
        address.is_loopback() || self.addresses.contains(&address)
    }

    /// The name that stands for this workload in logs and spans: its Service's, if it has one.
    pub fn workload(&self) -> &str {
        self.registration.as_ref().map_or("pillion-proxy", |own| own.service.name.as_str())
    }
}

impl From<AppProtocol> for Protocol {
    fn from(typed: AppProtocol) -> Self {
        match typed {
            AppProtocol::Detect => Self::Detect,
            AppProtocol::Http => Self::Http1,
            AppProtocol::Http2 => Self::Http2,
            AppProtocol::Tcp => Self::Opaque,
        }
    }
}

/// Reads the join token's text.
///
/// # Errors
/// When the file cannot be read as text.
pub fn read_token_text(file: &PathBuf) -> Result<String, ConfigError> {
    let text = std::fs::read_to_string(file).map_err(|source| ConfigError::Unreadable {
        setting: "--token-file",
        file: file.clone(),
        source,
    })?;
    Ok(text.trim().to_string())
}

/// What the token says, if it is still good.
fn read_token(file: &PathBuf) -> Result<TokenPin, ConfigError> {
    let useless = |source| ConfigError::Token { file: file.clone(), source };
    let pin = TokenPin::read(&read_token_text(file)?).map_err(useless)?;
    if pin.expires < SystemTime::now() {
        return Err(useless(TokenError::Expired(pin.expires)));
    }
    Ok(pin)
}

/// The trust bundle that is given as text or in a file.
fn trust_bundle(
    text: Option<String>,
    file: Option<PathBuf>,
    domain: &TrustDomain,
) -> Result<Option<TrustBundle>, ConfigError> {
    const FILE: &str = "--trust-bundle-file";
    let (place, pem) = match (text, file) {
        (Some(pem), _) => ("--trust-bundle".into(), pem.into_bytes()),
        (None, Some(file)) => match std::fs::read(&file) {
            Ok(pem) => (format!("{FILE} {}", file.display()), pem),
            Err(source) => return Err(ConfigError::Unreadable { setting: FILE, file, source }),
        },
        (None, None) => return Ok(None),
    };
    match Roots::from_pem(&pem) {
        Ok(roots) => Ok(Some(TrustBundle::of(domain.clone(), roots))),
        Err(source) => Err(ConfigError::TrustBundle { place, source }),
    }
}

/// Whether the sidecar's ports are at `address` too: where connections are redirected, they are at
/// all of this machine's.
fn is_listened_at(address: IpAddr, own: &[IpAddr], redirected: bool) -> bool {
    let everywhere = redirected && (address.is_loopback() || address.is_unspecified());
    everywhere || own.contains(&address)
}

fn check_ports(
    ports: &Ports,
    app: &App,
    own: &[IpAddr],
    redirected: bool,
) -> Result<(), ConfigError> {
    let all = [ports.outbound, ports.inbound, ports.mesh, ports.admin];
    for (index, port) in all.iter().enumerate() {
        if all[..index].contains(port) {
            return Err(ConfigError::SamePort(*port));
        }
    }
    match app.port {
        Some(port)
            if ports.contains(port)
                && app.address.is_none_or(|at| is_listened_at(at, own, redirected)) =>
        {
            Err(ConfigError::OwnPort(port))
        }
        _ => Ok(()),
    }
}

fn check_namespace(own: Option<&Registration>, namespace: &Label) -> Result<(), ConfigError> {
    match own {
        Some(own) if own.service.namespace != *namespace => Err(ConfigError::ForeignService {
            service: own.service.clone(),
            namespace: namespace.clone(),
        }),
        _ => Ok(()),
    }
}

fn host_and_port(text: String) -> Result<String, ConfigError> {
    match text.parse::<model::host::Authority>() {
        Ok(authority) if authority.port.is_some() => Ok(text),
        _ => Err(ConfigError::ControlPlane(text)),
    }
}

fn otlp_endpoint(text: String) -> Result<String, ConfigError> {
    let host = text.strip_prefix("http://").map(|rest| rest.trim_end_matches('/'));
    match host.map(str::parse::<model::host::Authority>) {
        Some(Ok(authority)) if authority.port.is_some() => Ok(text),
        _ => Err(ConfigError::OtlpEndpoint(text)),
    }
}

/// The CPUs this process may use: the cgroup's quota and the affinity mask, at least 1.
fn cpu_limit() -> usize {
    std::thread::available_parallelism().map_or(1, std::num::NonZero::get)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn where_connections_are_redirected_the_sidecars_ports_are_everywhere() {
        let own = ["10.0.0.7".parse().unwrap()];
        let at =
            |address: &str, redirected| is_listened_at(address.parse().unwrap(), &own, redirected);
        assert!(at("10.0.0.7", false) && at("10.0.0.7", true));
        assert!(!at("127.0.0.1", false), "it is the application's own affair");
        assert!(at("127.0.0.1", true) && at("::1", true) && at("0.0.0.0", true));
        assert!(!at("10.0.0.8", true));
    }
}
