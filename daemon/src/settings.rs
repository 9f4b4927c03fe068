//! Settings: flags, and for every flag an environment variable `PILLION_...`.
//!
//! What nobody knows is refused with the nearest name that is known: a setting that is silently
//! not in force is worse than a process that does not start.

use std::ffi::OsString;
use std::process::ExitCode;

use clap::{Command, Parser};

const PREFIX: &str = "PILLION_";

/// The environment variables of all of Pillion's commands, so that each of them passes over those
/// of the others: they may run in one environment. `PILLION_BIN_DIR` is the tests'.
pub const VARIABLES: &[&str] = &[
    "PILLION_ACCESS_LOG",
    "PILLION_ADDRESS",
    "PILLION_ADMIN_ADDRESS",
    "PILLION_ADMIN_PORT",
    "PILLION_APP_ADDRESS",
    "PILLION_APP_PORT",
    "PILLION_APP_PROTOCOL",
    "PILLION_BIN_DIR",
    "PILLION_CERTIFICATE_LIFETIME",
    "PILLION_CLUSTER_DOMAIN",
    "PILLION_CONFIG_DIR",
    "PILLION_CONNECT_TIMEOUT",
    "PILLION_CONTROL_PLANE",
    "PILLION_DEMO_BASE_ADDRESS",
    "PILLION_DEMO_FOR",
    "PILLION_DEMO_JSON",
    "PILLION_DEMO_RATE",
    "PILLION_DRAIN_TIMEOUT",
    "PILLION_EGRESS",
    "PILLION_EXCLUDE_INBOUND_PORTS",
    "PILLION_EXCLUDE_INBOUND_SUBNETS",
    "PILLION_EXCLUDE_OUTBOUND_PORTS",
    "PILLION_EXCLUDE_OUTBOUND_SUBNETS",
    "PILLION_IMAGE_REGISTRY",
    "PILLION_INBOUND_PLAINTEXT",
    "PILLION_INBOUND_PORT",
    "PILLION_LOG_FORMAT",
    "PILLION_LOG_LEVEL",
    "PILLION_MAX_CONNECTIONS",
    "PILLION_MESH_PORT",
    "PILLION_NAMESPACE",
    "PILLION_OTLP_ENDPOINT",
    "PILLION_OUTBOUND_PORT",
    "PILLION_PROBES",
    "PILLION_PROXY_CPU_LIMIT",
    "PILLION_PROXY_CPU_REQUEST",
    "PILLION_PROXY_ENV",
    "PILLION_PROXY_MEMORY_LIMIT",
    "PILLION_PROXY_MEMORY_REQUEST",
    "PILLION_PROXY_UID",
    "PILLION_REDIRECTED",
    "PILLION_SERVICE",
    "PILLION_SERVICE_ACCOUNT",
    "PILLION_SERVICE_CIDR",
    "PILLION_SERVICE_CLIENT_PORT",
    "PILLION_SOURCE",
    "PILLION_STATE_DIR",
    "PILLION_TOKEN_AUDIENCE",
    "PILLION_TOKEN_FILE",
    "PILLION_TRACE_SAMPLE_RATIO",
    "PILLION_TRUST_BUNDLE",
    "PILLION_TRUST_BUNDLE_FILE",
    "PILLION_TRUST_DOMAIN",
    "PILLION_TTL",
    "PILLION_WEBHOOK_ADDRESS",
    "PILLION_WORKERS",
];

/// An environment variable with our prefix that no flag stands for.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("unknown environment variable {name}{}", nearest.map(|n| format!("; did you mean {n}?")).unwrap_or_default())]
pub struct UnknownVariable {
    name: String,
    nearest: Option<&'static str>,
}

/// Reads the settings `A` from `args` (the program's name first) and the environment.
///
/// # Errors
/// The exit code to leave with, after the message was printed: 0 for `--help` and `--version`,
/// 2 for a bad or unknown flag or environment variable.
#[allow(clippy::print_stderr)] // the message of a command line goes to its user, before any log
pub fn parse<A: Parser>(args: impl IntoIterator<Item = OsString>) -> Result<A, ExitCode> {
    let parsed = A::try_parse_from(args);
    let refused = |error: clap::Error| {
        // A closed standard error is no reason to leave with another code.
        let _ = error.print();
        ExitCode::from(u8::try_from(error.exit_code()).unwrap_or(2))
    };
    if let Err(asked) = &parsed
        && !asked.use_stderr()
    {
        return parsed.map_err(refused); // --help or --version
    }
    // A misspelt variable is told before the setting that is missing for it.
    let given = std::env::vars_os().filter_map(|(name, _)| name.into_string().ok());
    check_variables(given).map_err(|unknown| {
        eprintln!("error: {unknown}");
        ExitCode::from(2)
    })?;
    parsed.map_err(refused)
}

/// The environment variables that stand for flags of `command` and of its subcommands.
pub fn variables_of(command: &Command) -> Vec<String> {
    let own = command.get_arguments().filter_map(|arg| arg.get_env()?.to_str());
    let below = command.get_subcommands().flat_map(variables_of);
    own.map(ToString::to_string).chain(below).collect()
}

/// Refuses the first of the `given` names that has our prefix and is nobody's.
fn check_variables(given: impl Iterator<Item = String>) -> Result<(), UnknownVariable> {
    let ours = |name: &String| name.starts_with(PREFIX) && !is_service_link(name);
    for name in given.filter(ours) {
        if !VARIABLES.contains(&name.as_str()) {
            let nearest = nearest(&name, VARIABLES.iter().copied());
            return Err(UnknownVariable { name, nearest });
        }
    }
    Ok(())
}

/// Whether Kubernetes put the variable there, for a Service whose name begins with `pillion`
/// (Docker-style links: `NAME_SERVICE_HOST`, `NAME_PORT_15010_TCP` and the like).
fn is_service_link(name: &str) -> bool {
    let protocol = |part: &str| ["_TCP", "_UDP", "_SCTP"].iter().any(|p| part.contains(p));
    name.ends_with("_SERVICE_HOST")
        || name.contains("_SERVICE_PORT")
        || name.ends_with("_PORT") && !VARIABLES.contains(&name)
        || name.split_once("_PORT_").is_some_and(|(_, rest)| protocol(rest))
}

/// The one of the `known` names that is most like `name`, if any is near enough to be a slip of the
/// pen.
pub fn nearest(name: &str, known: impl IntoIterator<Item = &'static str>) -> Option<&'static str> {
    known
        .into_iter()
        .map(|candidate| (strsim::jaro_winkler(name, candidate), candidate))
        .filter(|(likeness, _)| *likeness > 0.85)
        .max_by(|a, b| a.0.total_cmp(&b.0))
        .map(|(_, candidate)| candidate)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(names: &[&str]) -> Result<(), UnknownVariable> {
        check_variables(names.iter().map(ToString::to_string))
    }

    #[test]
    fn known_and_foreign_variables_pass() {
        assert_eq!(check(&["PILLION_STATE_DIR", "PATH", "PILLIONAIRE"]), Ok(()));
    }

    #[test]
    fn what_kubernetes_adds_for_services_passes() {
        let links = [
            "PILLION_CONTROL_PLANE_SERVICE_HOST",
            "PILLION_CONTROL_PLANE_SERVICE_PORT_GRPC",
            "PILLION_CONTROL_PLANE_PORT",
            "PILLION_CONTROL_PLANE_PORT_15010_TCP_ADDR",
        ];
        assert_eq!(check(&links), Ok(()));
    }

    #[test]
    fn a_slip_names_the_nearest_setting() {
        let error = check(&["PILLION_STATEDIR"]).unwrap_err();
        assert_eq!(
            error.to_string(),
            "unknown environment variable PILLION_STATEDIR; did you mean PILLION_STATE_DIR?"
        );
    }

    #[test]
    fn what_resembles_nothing_names_nothing() {
        let error = check(&["PILLION_QQQQQQQQQQQQQQQQQQQQQ"]).unwrap_err();
        assert!(error.to_string().starts_with("unknown environment variable PILLION_QQ"));
    }
}
