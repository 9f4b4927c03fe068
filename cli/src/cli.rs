//! The commands: which one was typed. What stands after its name is read by the command itself,
//! so that each knows its own flags and environment variables and no other's.

use std::ffi::OsString;
use std::process::ExitCode;

use clap::{Args, Parser, Subcommand};

use crate::{check, crds, demo, demo_app, inject, parent, token};

/// Pillion, a service mesh: a sidecar beside each workload, and a small control plane.
#[derive(Debug, Parser)]
#[command(
    name = "pillion",
    version,
    arg_required_else_help = true,
    disable_help_subcommand = true,
    max_term_width = 100
)]
struct Cli {
    /// End at once when the parent, the process of this id, ends.
    #[arg(long, value_name = "PID", hide = true)]
    die_with_parent: Option<u32>,

    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Run a whole mesh on this machine, with load and failures, and watch it
    #[command(disable_help_flag = true)]
    Demo(Rest),
    /// Print a join token: a sidecar's proof of who it is
    #[command(disable_help_flag = true)]
    Token(Rest),
    /// Say what is wrong with a directory of objects
    #[command(disable_help_flag = true)]
    Check(Rest),
    /// Put sidecars into the pods of Kubernetes YAML
    #[command(disable_help_flag = true)]
    Inject(Rest),
    /// Take them out again
    #[command(disable_help_flag = true)]
    Uninject(Rest),
    /// Print the definitions of Pillion's own kinds, for `kubectl apply`
    #[command(disable_help_flag = true)]
    Crds(Rest),
    /// Run the control plane
    #[command(disable_help_flag = true)]
    ControlPlane(Rest),
    /// Run a sidecar, or `redirect` a pod's traffic to it
    #[command(disable_help_flag = true)]
    Proxy(Rest),
    /// Show what a command does and its flags
    Help {
        /// The command.
        command: Option<OsString>,
    },
    #[command(hide = true, disable_help_flag = true)]
    DemoApp(Rest),
}

/// What stands after a command's name.
#[derive(Debug, Args)]
struct Rest {
    #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
    args: Vec<OsString>,
}

impl Rest {
    /// The arguments of the command as a program of its own would get them.
    fn of(self, program: &str) -> impl Iterator<Item = OsString> {
        std::iter::once(program.into()).chain(self.args)
    }
}

/// Runs what was typed.
pub(crate) fn main(args: impl IntoIterator<Item = OsString>) -> ExitCode {
    let cli = match Cli::try_parse_from(args) {
        Ok(cli) => cli,
        Err(error) => return usage(&error),
    };
    if let Some(parent) = cli.die_with_parent
        && let Err(error) = parent::die_with(parent)
    {
        eprintln!("error: {error}");
        return ExitCode::FAILURE;
    }
    dispatch(cli.command)
}

fn dispatch(command: Command) -> ExitCode {
    match command {
        Command::Demo(rest) => demo::main(rest.of("pillion demo")),
        Command::Token(rest) => token::main(rest.of("pillion token")),
        Command::Check(rest) => check::main(rest.of("pillion check")),
        Command::Inject(rest) => inject::main(rest.of("pillion inject")),
        Command::Uninject(rest) => inject::undo(rest.of("pillion uninject")),
        Command::Crds(rest) => crds::main(rest.of("pillion crds")),
        Command::ControlPlane(rest) => control_plane::run::main(rest.of("pillion control-plane")),
        Command::Proxy(rest) => proxy::run::main(rest.of("pillion proxy")),
        Command::Help { command } => {
            main(["pillion".into()].into_iter().chain(command).chain(["--help".into()]))
        }
        Command::DemoApp(rest) => demo_app::main(rest.of("pillion demo-app")),
    }
}

/// Prints help, version or what is wrong with the command line.
fn usage(error: &clap::Error) -> ExitCode {
    // A closed standard error is no reason to leave with another code.
    let _ = error.print();
    ExitCode::from(u8::try_from(error.exit_code()).unwrap_or(2))
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory as _;
    use daemon::settings;

    use super::*;

    fn parse(line: &str) -> Result<Cli, clap::Error> {
        Cli::try_parse_from(line.split_whitespace())
    }

    #[test]
    fn the_definition_holds() {
        Cli::command().debug_assert();
    }

    #[test]
    fn a_command_gets_all_that_stands_after_its_name() {
        let cases = [
            ("pillion proxy --help", "--help"),
            ("pillion proxy --address 127.0.0.1 --version", "--address 127.0.0.1 --version"),
            ("pillion --die-with-parent 1 proxy -h", "-h"),
            ("pillion proxy", ""),
            ("pillion proxy --die-with-parent 1", "--die-with-parent 1"),
        ];
        for (line, expected) in cases {
            let Command::Proxy(rest) = parse(line).unwrap().command else { panic!("{line}") };
            let args: Vec<_> = rest.args.iter().map(|arg| arg.to_str().unwrap()).collect();
            assert_eq!(args.join(" "), expected, "{line}");
        }
    }

    #[test]
    fn a_slip_of_the_pen_is_answered_with_the_nearest_command() {
        let error = parse("pillion tokn").unwrap_err().to_string();
        assert!(error.contains("'token'"), "{error}");
    }

    #[test]
    fn what_is_internal_is_not_shown() {
        let help = parse("pillion --help").unwrap_err().to_string();
        assert!(help.contains("control-plane") && help.contains("check"), "{help}");
        assert!(!help.contains("demo-app") && !help.contains("die-with"), "{help}");
    }

    #[test]
    fn each_command_knows_the_variables_of_all() {
        let commands = [
            proxy::args::Args::command(),
            redirect::args::Args::command(),
            control_plane::args::Args::command(),
            token::TokenArgs::command(),
            check::CheckArgs::command(),
            inject::InjectArgs::command(),
            demo::DemoArgs::command(),
        ];
        let mut named: Vec<_> = commands.iter().flat_map(settings::variables_of).collect();
        named.push("PILLION_BIN_DIR".into());
        named.sort();
        named.dedup();
        assert_eq!(named, settings::VARIABLES);
    }
}
