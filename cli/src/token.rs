//! `pillion token`: prints a join token.

use std::ffi::OsString;
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::{Duration, SystemTime};

use anyhow::{Context, anyhow};
use certs::{ServiceAccount, StateError, TokenError, TokenSigner};
use clap::Parser;
use model::name::Label;

/// Print a join token: a sidecar's proof that it may have the identity of a service account.
///
/// The token is signed with the key in the control plane's state directory, whether or not the
/// control plane runs at the moment. Write it to a file that only the sidecar can read, and give
/// that to `pillion proxy --token-file FILE`. The sidecar shows it once and gets a certificate,
/// which proves it from then on; a sidecar that starts again needs a token that is still good.
#[derive(Debug, Parser)]
#[command(name = "pillion token", version, max_term_width = 100)]
pub(crate) struct TokenArgs {
    /// The namespace of the service account.
    #[arg(long, env = "PILLION_NAMESPACE", value_name = "NAME")]
    namespace: Label,

    /// The service account that the sidecar will be.
    #[arg(long, env = "PILLION_SERVICE_ACCOUNT", value_name = "NAME")]
    service_account: String,

    /// How long the token is good for (a duration such as 30m or 24h).
    #[arg(long, env = "PILLION_TTL", value_name = "DURATION", default_value = "1h", value_parser = ttl)]
    ttl: Duration,

    /// The state directory of the control plane.
    #[arg(long, env = "PILLION_STATE_DIR", value_name = "DIR", default_value = "./pillion-state")]
    state_dir: PathBuf,
}

fn ttl(text: &str) -> Result<Duration, String> {
    match model::duration::parse(text) {
        Ok(ttl) if ttl < Duration::from_secs(1) => Err("a token lasts one second at least".into()),
        Ok(ttl) => Ok(ttl),
        Err(error) => Err(error.to_string()),
    }
}

/// Runs `pillion token`.
pub(crate) fn main(args: impl IntoIterator<Item = OsString>) -> ExitCode {
    let args = match daemon::settings::parse::<TokenArgs>(args) {
        Ok(args) => args,
        Err(code) => return code,
    };
    match run(&args, SystemTime::now()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run(args: &TokenArgs, now: SystemTime) -> anyhow::Result<()> {
    let account = ServiceAccount::new(args.namespace.clone(), &args.service_account)?;
    let signer = TokenSigner::open(&args.state_dir)
        .map_err(|error| explain(error, &args.state_dir))
        .context("no token can be made")?;
    let token = signer.mint(&account, args.ttl, now)?;
    writeln!(io::stdout(), "{token}").context("cannot write the token to standard output")
}

/// A state directory without keys is most likely one that no control plane has used yet.
fn explain(error: TokenError, dir: &Path) -> anyhow::Error {
    match error {
        TokenError::State(StateError::Io { source, .. })
            if source.kind() == io::ErrorKind::NotFound =>
        {
            anyhow!(
                "{} holds no keys of a control plane. They are made at its first start: run \
                 `pillion control-plane --state-dir {0}` first, or name the directory that it \
                 uses with --state-dir",
                dir.display()
            )
        }
        // In words: the error tells of its causes itself.
        other => anyhow!("{other}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(line: &str) -> Result<TokenArgs, clap::Error> {
        TokenArgs::try_parse_from(std::iter::once("pillion token").chain(line.split(' ')))
    }

    #[test]
    fn the_flags_are_read() {
        let args = parse("--namespace demo --service-account web --ttl 90m").unwrap();
        assert_eq!(args.namespace.as_str(), "demo");
        assert_eq!(args.service_account, "web");
        assert_eq!(args.ttl, Duration::from_secs(5400));
    }

    #[test]
    fn what_cannot_be_is_refused_with_a_reason() {
        let cases = [
            ("--namespace demo", "--service-account"),
            ("--namespace DEMO --service-account web", "DNS-1123"),
            ("--namespace demo --service-account web --ttl 0s", "one second at least"),
            ("--namespace demo --service-account web --ttl 1d", "the units are"),
            ("--namespace demo --service-acount web", "'--service-account'"),
        ];
        for (line, part) in cases {
            let error = parse(line).unwrap_err().to_string();
            assert!(error.contains(part), "{line}: {error}");
        }
    }

    #[test]
    fn before_the_first_start_the_error_says_how_and_nothing_is_made() {
        let temp = tempfile::tempdir().unwrap();
        let mut args = parse("--namespace demo --service-account web").unwrap();
        args.state_dir = temp.path().join("state");
        let error = format!("{:#}", run(&args, SystemTime::UNIX_EPOCH).unwrap_err());
        assert!(error.contains("pillion control-plane --state-dir"), "{error}");
        assert!(!args.state_dir.exists());
    }
}
