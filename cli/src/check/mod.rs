//! `pillion check`: says what is wrong with a directory of objects, or with a cluster.

mod cluster;
mod directory;
mod finding;
mod judge;
mod network;
mod pods;
mod rights;

use std::ffi::OsString;
use std::path::PathBuf;
use std::process::ExitCode;

use clap::Parser;
use control_plane::translate::{Range, Settings};
use model::name::Label;
use model::spiffe::TrustDomain;

/// Say what is wrong with a directory of objects as a control plane would read it, or without a
/// directory, with the cluster that KUBECONFIG names and the mesh in it.
///
/// Of a directory each problem is one line with its file, object and field; of a cluster each
/// check is one line, with what to do where something is wrong. Exits 1 if there is an error (in a
/// directory, also a warning), else 0; notes are for your knowledge only.
#[derive(Debug, Parser)]
#[command(name = "pillion check", version, max_term_width = 100)]
pub(crate) struct CheckArgs {
    /// The directory that is given to the control plane as --config-dir.
    #[arg(value_name = "DIR", conflicts_with_all = ["pre", "json"])]
    directory: Option<PathBuf>,

    /// Check whether the cluster is ready for an installation.
    #[arg(long)]
    pre: bool,

    /// Print what was found in the cluster as JSON.
    #[arg(long)]
    json: bool,

    /// The namespace of the control plane.
    #[arg(long, env = "PILLION_NAMESPACE", value_name = "NAME", default_value = "pillion-system")]
    namespace: Label,

    /// The mesh's SPIFFE trust domain.
    #[arg(
        long,
        env = "PILLION_TRUST_DOMAIN",
        value_name = "NAME",
        default_value = "cluster.local"
    )]
    trust_domain: TrustDomain,

    /// Range of the addresses that Services without a written clusterIP are given.
    #[arg(long, env = "PILLION_SERVICE_CIDR", value_name = "CIDR", default_value = "10.96.0.0/12")]
    service_cidr: Range,
}

/// Runs `pillion check`.
pub(crate) fn main(args: impl IntoIterator<Item = OsString>) -> ExitCode {
    let args = match daemon::settings::parse::<CheckArgs>(args) {
        Ok(args) => args,
        Err(code) => return code,
    };
    let well = match args.directory {
        Some(directory) => {
            let CheckArgs { trust_domain, service_cidr: service_range, .. } = args;
            let settings = Settings { trust_domain, service_range, wait_for_pods: false };
            directory::run(&directory, &settings)
        }
        None => cluster::run(&args.namespace, args.pre, args.json),
    };
    match well {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}
