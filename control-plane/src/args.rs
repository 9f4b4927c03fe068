//! The settings of a control plane, as flags and environment variables.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use clap::{Parser, ValueEnum};
use daemon::log::LogArgs;
use injector::args::InjectionArgs;
use model::name::Label;
use model::spiffe::TrustDomain;

use crate::translate::Range;

/// The control plane of a Pillion mesh: reads objects, pushes configuration and certificates to
/// the sidecars.
///
/// Every flag is also an environment variable. The state directory holds the mesh's certificate
/// authority: keep it, keep it private, and back it up.
#[derive(Debug, Clone, Parser)]
#[command(name = "pillion-control-plane", version)]
pub struct Args {
    /// Where objects are read from.
    #[arg(long, env = "PILLION_SOURCE", value_name = "SOURCE", default_value = "directory")]
    pub source: SourceKind,

    /// The namespace that the control plane runs in, where it keeps its Secrets and its Lease.
    /// With --source kubernetes.
    #[arg(long, env = "PILLION_NAMESPACE", value_name = "NAME", default_value = "pillion-system")]
    pub namespace: Label,

    /// What the service-account tokens of sidecars must be made for. With --source kubernetes.
    #[arg(
        long,
        env = "PILLION_TOKEN_AUDIENCE",
        value_name = "NAME",
        default_value = "pillion.dev"
    )]
    pub token_audience: String,

    /// Address of the webhook that injects sidecars into new pods (HTTPS) [default: none]. With
    /// --source kubernetes.
    #[arg(long, env = "PILLION_WEBHOOK_ADDRESS", value_name = "IP:PORT")]
    pub webhook_address: Option<SocketAddr>,

    /// The cluster's DNS domain, which injected sidecars are told: NAME.NAMESPACE.svc.DOMAIN.
    #[arg(
        long,
        env = "PILLION_CLUSTER_DOMAIN",
        value_name = "DOMAIN",
        default_value = "cluster.local"
    )]
    pub cluster_domain: String,

    /// What is injected.
    #[command(flatten)]
    pub injection: InjectionArgs,

    /// Directory of Kubernetes objects (*.yaml, *.yml, *.json, also in subdirectories), watched
    /// for changes. Without it there are only the workloads that register themselves.
    #[arg(long, env = "PILLION_CONFIG_DIR", value_name = "DIR")]
    pub config_dir: Option<PathBuf>,

    /// Directory of the certificate authority and the registry; made at the first start.
    #[arg(long, env = "PILLION_STATE_DIR", value_name = "DIR", default_value = "./pillion-state")]
    pub state_dir: PathBuf,

    /// Trust domain of all identities: spiffe://TRUST-DOMAIN/ns/NAMESPACE/sa/SERVICE-ACCOUNT.
    #[arg(
        long,
        env = "PILLION_TRUST_DOMAIN",
        value_name = "NAME",
        default_value = "cluster.local"
    )]
    pub trust_domain: TrustDomain,

    /// Address of the API for sidecars (gRPC over TLS).
    #[arg(
        long,
        env = "PILLION_ADDRESS",
        value_name = "IP:PORT",
        default_value = "127.0.0.1:15010"
    )]
    pub address: SocketAddr,

    /// Connections of sidecars to the API at the same time; further ones are refused, and find another
    /// replica. Each takes some 55 KiB. One in eight may be of somebody who has not proved yet who it
    /// is.
    #[arg(
        long,
        env = "PILLION_MAX_CONNECTIONS",
        value_name = "N",
        default_value_t = 10_000,
        value_parser = clap::value_parser!(u32).range(1..)
    )]
    pub max_connections: u32,

    /// Address of the admin server: /live, /ready, /metrics; /problems from this machine only.
    #[arg(
        long,
        env = "PILLION_ADMIN_ADDRESS",
        value_name = "IP:PORT",
        default_value = "127.0.0.1:15014"
    )]
    pub admin_address: SocketAddr,

    /// How long the certificates of sidecars live (such as 24h, 90m, 20s); at least 1s. They are
    /// renewed at two thirds of it.
    #[arg(
        long,
        env = "PILLION_CERTIFICATE_LIFETIME",
        value_name = "DURATION",
        default_value = "24h",
        value_parser = lifetime
    )]
    pub certificate_lifetime: Duration,

    /// Range of the addresses that Services without a written clusterIP are given.
    #[arg(long, env = "PILLION_SERVICE_CIDR", value_name = "CIDR", default_value = "10.96.0.0/12")]
    pub service_cidr: Range,

    /// The log.
    #[command(flatten)]
    pub log: LogArgs,
}

/// Where objects are read from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum SourceKind {
    /// Files in --config-dir; sidecars prove themselves by join tokens.
    Directory,
    /// A Kubernetes API server (KUBECONFIG, ~/.kube/config, or the pod's own); sidecars prove
    /// themselves by their pods' service-account tokens.
    Kubernetes,
}

/// A duration of at least a second.
fn lifetime(text: &str) -> Result<Duration, String> {
    let duration = model::duration::parse(text).map_err(|error| error.to_string())?;
    if duration < Duration::from_secs(1) {
        return Err("a certificate lives for at least 1s".into());
    }
    Ok(duration)
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;

    #[test]
    fn every_flag_is_an_environment_variable_and_has_help() {
        let command = Args::command();
        command.clone().debug_assert();
        for arg in command.get_arguments().filter(|arg| arg.get_long().is_some()) {
            let name = arg.get_long().unwrap();
            if matches!(name, "help" | "version") {
                continue;
            }
            let expected = format!("PILLION_{}", name.to_uppercase().replace('-', "_"));
            assert_eq!(arg.get_env().and_then(|env| env.to_str()), Some(expected.as_str()));
            assert!(arg.get_help().is_some(), "--{name}");
        }
    }

    #[test]
    fn lifetimes_are_durations_of_at_least_a_second() {
        assert_eq!(lifetime("20s"), Ok(Duration::from_secs(20)));
        assert!(lifetime("0s").is_err());
        assert!(lifetime("500ms").is_err());
        assert!(lifetime("1d").is_err());
    }
}
