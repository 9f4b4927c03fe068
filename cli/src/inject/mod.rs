//! `pillion inject`: puts sidecars into the pods of files, as the webhook does it in a cluster; and
//! `pillion uninject`, the way back.

mod documents;
mod workload;
mod yaml;

use std::ffi::OsString;
use std::io::{self, Read as _, Write as _};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::{Context, ensure};
use certs::Roots;
use clap::Parser;
use injector::args::InjectionArgs;
use injector::{Fault, Outcome, Settings};
use model::spiffe::TrustDomain;
use serde_json::Value;

use documents::Documents;
use workload::{Act, Change};

/// The version that is injected: this one.
const VERSION: &str = env!("CARGO_PKG_VERSION");

/// Put sidecars into the pods of YAML files: for pipelines, and for clusters without the webhook.
///
/// Reads Pods, Deployments, StatefulSets, DaemonSets, ReplicaSets, Jobs and CronJobs, also in Lists,
/// and writes all documents to standard output: those that are injected anew, all others as they
/// are. What was done is told on standard error. Nothing is written if anything is wrong.
///
///     pillion inject --trust-bundle-file roots.pem -f app.yaml | kubectl apply -f -
#[derive(Debug, Parser)]
#[command(name = "pillion inject", version, max_term_width = 100, verbatim_doc_comment)]
pub(crate) struct InjectArgs {
    /// The file; `-` is standard input. May be given more than once.
    #[arg(short, long, value_name = "FILE", default_value = "-")]
    filename: Vec<PathBuf>,

    /// The control plane's API, HOST:PORT, as pods reach it.
    #[arg(
        long,
        env = "PILLION_CONTROL_PLANE",
        value_name = "HOST:PORT",
        default_value = "pillion-control-plane.pillion-system.svc:15010",
        help_heading = "Control plane and identity"
    )]
    control_plane: String,

    /// The trust bundle (PEM) that the control plane's certificate must chain to.
    #[arg(
        long,
        env = "PILLION_TRUST_BUNDLE",
        value_name = "PEM",
        allow_hyphen_values = true, // PEM begins with them
        conflicts_with = "trust_bundle_file",
        required_unless_present = "trust_bundle_file",
        help_heading = "Control plane and identity"
    )]
    trust_bundle: Option<String>,

    /// File with that trust bundle, in place of its text.
    #[arg(
        long,
        env = "PILLION_TRUST_BUNDLE_FILE",
        value_name = "FILE",
        help_heading = "Control plane and identity"
    )]
    trust_bundle_file: Option<PathBuf>,

    /// The mesh's SPIFFE trust domain.
    #[arg(
        long,
        env = "PILLION_TRUST_DOMAIN",
        value_name = "NAME",
        default_value = "cluster.local",
        help_heading = "Control plane and identity"
    )]
    trust_domain: TrustDomain,

    /// The DNS domain of Services: NAME.NAMESPACE.svc.DOMAIN.
    #[arg(
        long,
        env = "PILLION_CLUSTER_DOMAIN",
        value_name = "DOMAIN",
        default_value = "cluster.local",
        help_heading = "Control plane and identity"
    )]
    cluster_domain: String,

    /// Whom the tokens of service accounts are made for.
    #[arg(
        long,
        env = "PILLION_TOKEN_AUDIENCE",
        value_name = "NAME",
        default_value = "pillion.dev",
        help_heading = "Control plane and identity"
    )]
    token_audience: String,

    #[command(flatten)]
    injection: InjectionArgs,
}

/// Take the sidecars out of the pods of YAML files that `pillion inject` has put in.
///
/// Writes all documents to standard output: those that are changed anew, all others as they are.
#[derive(Debug, Parser)]
#[command(name = "pillion uninject", version, max_term_width = 100)]
pub(crate) struct UninjectArgs {
    /// The file; `-` is standard input. May be given more than once.
    #[arg(short, long, value_name = "FILE", default_value = "-")]
    filename: Vec<PathBuf>,
}

/// Runs `pillion inject`.
pub(crate) fn main(args: impl IntoIterator<Item = OsString>) -> ExitCode {
    let args = match daemon::settings::parse::<InjectArgs>(args) {
        Ok(args) => args,
        Err(code) => return code,
    };
    let run = || {
        let settings = args.settings()?;
        change(&args.filename, &|template| inject(template, &settings))
    };
    tell(run())
}

/// Runs `pillion uninject`.
pub(crate) fn undo(args: impl IntoIterator<Item = OsString>) -> ExitCode {
    match daemon::settings::parse::<UninjectArgs>(args) {
        Ok(args) => tell(change(&args.filename, &uninject)),
        Err(code) => code,
    }
}

fn tell(result: anyhow::Result<bool>) -> ExitCode {
    match result {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}

/// Changes the pods of files. Whether all was well; else what is wrong was told and nothing was
/// written.
fn change(files: &[PathBuf], act: Act<'_>) -> anyhow::Result<bool> {
    let mut all = Documents::default();
    for file in files {
        let (name, text) = read(file)?;
        all.append(documents::each(&name, &text, act));
    }
    for line in all.errors.iter().map(|error| format!("error: {error}")).chain(all.notes) {
        eprintln!("{line}");
    }
    if all.errors.is_empty() {
        io::stdout().write_all(all.text.as_bytes()).context("cannot write to standard output")?;
    }
    Ok(all.errors.is_empty())
}

/// Puts a sidecar into a Pod or a template of pods.
fn inject(template: &mut Value, settings: &Settings) -> Change {
    let (operations, warnings) = match injector::inject(template, settings) {
        Outcome::Patched { operations, warnings } => (operations, warnings),
        Outcome::Skipped(skip) => return Change::Skipped(skip.to_string()),
        Outcome::Refused(faults) => return Change::Refused(faults),
    };
    let wrong = |message: String| Change::Refused(vec![Fault { field: "spec".into(), message }]);
    match serde_json::from_value::<json_patch::Patch>(operations.into()) {
        Ok(patch) => match json_patch::patch(template, &patch) {
            Ok(()) => Change::Done("injected", warnings),
            Err(error) => wrong(format!("cannot be patched: {error}")),
        },
        Err(error) => wrong(format!("cannot be patched: {error}")),
    }
}

/// Takes the sidecar out of a Pod or a template of pods.
fn uninject(template: &mut Value) -> Change {
    if injector::uninject(template) {
        Change::Done("uninjected", Vec::new())
    } else {
        Change::Skipped("it has no sidecar of ours".into())
    }
}

fn read(file: &Path) -> anyhow::Result<(String, String)> {
    if file == Path::new("-") {
        let mut text = String::new();
        io::stdin().read_to_string(&mut text).context("cannot read standard input")?;
        return Ok(("standard input".into(), text));
    }
    let name = file.display().to_string();
    let text = std::fs::read_to_string(file).with_context(|| format!("cannot read {name}"))?;
    Ok((name, text))
}

impl InjectArgs {
    fn settings(&self) -> anyhow::Result<Settings> {
        let authority = self.control_plane.parse::<model::host::Authority>().ok();
        ensure!(
            authority.is_some_and(|authority| authority.port.is_some()),
            "--control-plane {:?} is not HOST:PORT",
            self.control_plane
        );
        Ok(Settings {
            proxy_image: self.injection.image("pillion-proxy", VERSION),
            init_image: self.injection.image("pillion-init", VERSION),
            control_plane: self.control_plane.clone(),
            trust_bundle: self.roots()?,
            trust_domain: self.trust_domain.clone(),
            cluster_domain: self.cluster_domain.to_ascii_lowercase(),
            token_audience: self.token_audience.clone(),
            version: VERSION.into(),
            resources: self.injection.resources(),
            variables: self.injection.variables(),
        })
    }

    /// The trust bundle, once it is known to be one: a pod would be too late to tell.
    fn roots(&self) -> anyhow::Result<String> {
        let (place, pem) = match (&self.trust_bundle, &self.trust_bundle_file) {
            (_, Some(file)) => {
                let place = format!("--trust-bundle-file {}", file.display());
                let pem = std::fs::read_to_string(file);
                (place.clone(), pem.with_context(|| format!("cannot read {place}"))?)
            }
            (pem, None) => ("--trust-bundle".into(), pem.clone().unwrap_or_default()),
        };
        Roots::from_pem(pem.as_bytes()).context(place)?;
        Ok(pem)
    }
}
