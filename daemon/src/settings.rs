//! Settings: flags, and for every flag an environment variable `PILLION_...`.
//!
//! What nobody knows is refused with the nearest name that is known: a setting that is silently
//! not in force is worse than a process that does not start.

use std::ffi::OsString;
use std::process::ExitCode;

use clap::{Command, Parser};

const PREFIX: &str = "PILLION_";

/// Environment variables that no flag stands for.
const OTHER_KNOWN: &[&str] = &["PILLION_BIN_DIR", "PILLION_TEST_KUBECONFIG", "PILLION_TEST_IMAGE"];

/// An environment variable with our prefix that no flag stands for.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("unknown environment variable {name}{}", nearest.as_ref().map(|n| format!("; did you mean {n}?")).unwrap_or_default())]
pub struct UnknownVariable {
    name: String,
    nearest: Option<String>,
}

/// Reads the settings `A` from `args` (the program's name first) and the environment.
///
/// # Errors
/// The exit code to leave with, after the message was printed: 0 for `--help` and `--version`,
/// 2 for a bad or unknown flag or environment variable.
#[allow(clippy::print_stderr)] // the message of a command line goes to its user, before any log
pub fn parse<A: Parser>(args: impl IntoIterator<Item = OsString>) -> Result<A, ExitCode> {
    let parsed = A::try_parse_from(args).map_err(|error| {
        // A closed standard error is no reason to leave with another code.
        let _ = error.print();
        ExitCode::from(u8::try_from(error.exit_code()).unwrap_or(2))
    })?;
    let given = std::env::vars_os().filter_map(|(name, _)| name.into_string().ok());
    check_variables(&A::command(), given).map_err(|unknown| {
        eprintln!("error: {unknown}");
        ExitCode::from(2)
    })?;
    Ok(parsed)
}

/// Refuses the first of the `given` names that has our prefix and no flag of `command`.
fn check_variables(
    command: &Command,
    given: impl Iterator<Item = String>,
) -> Result<(), UnknownVariable> {
    let mut known: Vec<String> = OTHER_KNOWN.iter().map(ToString::to_string).collect();
    collect_variables(command, &mut known);
    for name in given.filter(|name| name.starts_with(PREFIX)) {
        if !known.contains(&name) {
            let nearest = nearest(&name, &known);
            return Err(UnknownVariable { name, nearest });
        }
    }
    Ok(())
}

fn collect_variables(command: &Command, into: &mut Vec<String>) {
    into.extend(
        command.get_arguments().filter_map(|arg| arg.get_env()?.to_str().map(ToString::to_string)),
    );
    for subcommand in command.get_subcommands() {
        collect_variables(subcommand, into);
    }
}

/// The known name most like `name`, if any is near enough to be a slip of the pen.
fn nearest(name: &str, known: &[String]) -> Option<String> {
    known
        .iter()
        .map(|candidate| (strsim::jaro_winkler(name, candidate), candidate))
        .filter(|(likeness, _)| *likeness > 0.85)
        .max_by(|a, b| a.0.total_cmp(&b.0))
        .map(|(_, candidate)| candidate.clone())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Parser)]
    struct Sample {
        #[arg(long, env = "PILLION_STATE_DIR")]
        #[allow(dead_code)]
        state_dir: Option<String>,
    }

    fn check(names: &[&str]) -> Result<(), UnknownVariable> {
        let command = <Sample as clap::CommandFactory>::command();
        check_variables(&command, names.iter().map(ToString::to_string))
    }

    #[test]
    fn known_and_foreign_variables_pass() {
        assert_eq!(check(&["PILLION_STATE_DIR", "PATH", "PILLIONAIRE"]), Ok(()));
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
