//! `pillion crds`: prints the definitions of our own kinds.

use std::ffi::OsString;
use std::io::{self, Write};
use std::process::ExitCode;

use anyhow::Context;
use clap::Parser;

/// Print the CustomResourceDefinitions of Pillion's own kinds as YAML.
///
/// They are part of `deploy/base`; by itself: `pillion crds | kubectl apply --server-side -f -`.
#[derive(Debug, Parser)]
#[command(name = "pillion crds", version, max_term_width = 100)]
pub(crate) struct CrdsArgs {}

/// Runs `pillion crds`.
pub(crate) fn main(args: impl IntoIterator<Item = OsString>) -> ExitCode {
    if let Err(code) = daemon::settings::parse::<CrdsArgs>(args) {
        return code;
    }
    match run() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run() -> anyhow::Result<()> {
    let yaml = control_plane::crds::yaml().context("the definitions cannot be written")?;
    write!(io::stdout(), "{yaml}").context("cannot write the definitions to standard output")
}
