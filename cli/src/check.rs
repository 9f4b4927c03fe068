//! `pillion check`: says what is wrong with a directory of objects, without a control plane.

use std::ffi::OsString;
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::{Context, bail};
use clap::Parser;
use control_plane::check::{Report, check};
use control_plane::problem::Severity;
use control_plane::translate::{Range, Settings};
use model::spiffe::TrustDomain;

/// Say what is wrong with a directory of objects, as a control plane would read it.
///
/// Each problem is one line with its file, object and field. Exits 1 if there is an error or a
/// warning, else 0; notes are for your knowledge only.
#[derive(Debug, Parser)]
#[command(name = "pillion check", version, max_term_width = 100)]
pub(crate) struct CheckArgs {
    /// The directory that is given to the control plane as --config-dir.
    #[arg(value_name = "DIR")]
    directory: PathBuf,

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
    match run(args) {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}

/// Whether all is well with the directory.
fn run(args: CheckArgs) -> anyhow::Result<bool> {
    let directory = &args.directory;
    let what = || format!("cannot read the directory {}", directory.display());
    if !directory.metadata().with_context(what)?.is_dir() {
        bail!("{} is no directory", directory.display());
    }
    let CheckArgs { trust_domain, service_cidr: service_range, .. } = args;
    let settings = Settings { trust_domain, service_range, wait_for_pods: false };
    let report = check(directory, &settings);
    let text = lines(&report, directory).join("\n");
    writeln!(io::stdout(), "{text}").context("cannot write the report")?;
    Ok(is_well(&report))
}

fn is_well(report: &Report) -> bool {
    count(report, Severity::Error) + count(report, Severity::Warning) == 0
}

fn count(report: &Report, severity: Severity) -> usize {
    report.problems.iter().filter(|problem| problem.cause.severity() == severity).count()
}

/// The problems, a line each, and at the end what was found.
fn lines(report: &Report, directory: &Path) -> Vec<String> {
    let problems = report.problems.iter().map(|problem| {
        let severity = match problem.cause.severity() {
            Severity::Error => "error",
            Severity::Warning => "warning",
            Severity::Note => "note",
        };
        format!("{severity}: {problem}")
    });
    let kinds = report.objects.iter().map(|(kind, count)| format!("{count} {kind}"));
    let objects = match kinds.collect::<Vec<_>>() {
        kinds if kinds.is_empty() => "no objects".into(),
        kinds => kinds.join(", "),
    };
    let verdict = match [Severity::Error, Severity::Warning].map(|s| count(report, s)) {
        [0, 0] => "nothing is wrong".into(),
        [errors, 0] => plural(errors, "error"),
        [0, warnings] => plural(warnings, "warning"),
        [errors, warnings] => {
            format!("{}, {}", plural(errors, "error"), plural(warnings, "warning"))
        }
    };
    problems.chain([format!("{}: {objects}; {verdict}", directory.display())]).collect()
}

fn plural(count: usize, what: &str) -> String {
    if count == 1 { format!("1 {what}") } else { format!("{count} {what}s") }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use control_plane::problem::{Cause, Origin, Problem};

    use super::*;

    fn report(causes: &[Cause]) -> Report {
        let origin = || Origin::of_file("a.yaml", 3);
        let problem = |cause: &Cause| Problem::of_file(*cause, origin(), "oh");
        Report {
            objects: BTreeMap::from([("HTTPRoute", 1), ("Service", 2)]),
            problems: causes.iter().map(problem).collect(),
        }
    }

    #[test]
    fn a_report_ends_with_what_was_found() {
        let cases: [(&[Cause], bool, &str); 4] = [
            (&[], true, "dir: 1 HTTPRoute, 2 Service; nothing is wrong"),
            (
                &[Cause::Ignored],
                true,
                "note: a.yaml:3: oh\ndir: 1 HTTPRoute, 2 Service; nothing is wrong",
            ),
            (&[Cause::Syntax], false, "error: a.yaml:3: oh\ndir: 1 HTTPRoute, 2 Service; 1 error"),
            (
                &[Cause::Syntax, Cause::Invalid, Cause::Unresolved],
                false,
                "error: a.yaml:3: oh\nerror: a.yaml:3: oh\nwarning: a.yaml:3: oh\n\
                 dir: 1 HTTPRoute, 2 Service; 2 errors, 1 warning",
            ),
        ];
        for (causes, well, text) in cases {
            let report = report(causes);
            assert_eq!(is_well(&report), well, "{causes:?}");
            assert_eq!(lines(&report, Path::new("dir")).join("\n"), text);
        }
    }

    #[test]
    fn nothing_is_wrong_with_the_demo() {
        let temp = tempfile::tempdir().unwrap();
        for (name, text) in crate::demo::OBJECTS {
            std::fs::write(temp.path().join(name), text).unwrap();
        }
        let settings = Settings {
            trust_domain: "cluster.local".parse().unwrap(),
            service_range: "10.96.0.0/12".parse().unwrap(),
            wait_for_pods: false,
        };
        let report = check(temp.path(), &settings);
        assert_eq!(report.problems, []);
        assert_eq!(report.objects["Service"], 4);
        assert_eq!(report.objects["HTTPRoute"], 1);
    }
}
