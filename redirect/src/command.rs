//! The command: reads the flags, does what they say, tells how it went.

use std::ffi::OsString;
use std::fmt::Display;
use std::io::{self, Write as _};
use std::process::ExitCode;

use crate::args::{Args, Command, RuleArgs};
use crate::check::check;
use crate::rules::chains;
use crate::settings::Settings;
use crate::table::{install, remove};
use crate::text::Table;

/// Runs `redirect` with these arguments (the program's name first). The exit code is 0 when it is
/// done or all is well, 2 for a bad flag, 1 for the rest.
pub fn main(args: impl IntoIterator<Item = OsString>) -> ExitCode {
    match daemon::settings::parse::<Args>(args) {
        Ok(args) => run(args.command),
        Err(code) => code,
    }
}

fn run(command: Command) -> ExitCode {
    let (rules, act): (RuleArgs, fn(&Settings) -> ExitCode) = match command {
        Command::Remove => return take_away(),
        Command::Install { rules, dry_run: true } => (rules, show),
        Command::Install { rules, dry_run: false } => (rules, write),
        Command::Check { rules } => (rules, judge),
    };
    match Settings::try_from(rules) {
        Ok(settings) => act(&settings),
        Err(error) => failed(&error, 2),
    }
}

fn show(settings: &Settings) -> ExitCode {
    tell(&Table(&chains(settings)), true)
}

/// Writes the rules and tries them: a kernel that takes rules and does not obey them (a sandbox may
/// have one) must not let an application start in plaintext.
fn write(settings: &Settings) -> ExitCode {
    if let Err(error) = install(settings) {
        return failed(&error, 1);
    }
    let report = check(settings);
    if report.is_wrong() {
        return failed(&format_args!("the rules are written and are not in force\n{report}"), 1);
    }
    tell(
        &format_args!(
            "installed: outbound TCP goes to port {}, inbound to port {}\n",
            settings.outbound_port, settings.inbound_port
        ),
        true,
    )
}

fn take_away() -> ExitCode {
    match remove() {
        Ok(true) => tell(&"removed\n", true),
        Ok(false) => tell(&"there was nothing to remove\n", true),
        Err(error) => failed(&error, 1),
    }
}

fn judge(settings: &Settings) -> ExitCode {
    let report = check(settings);
    tell(&report, report.holds())
}

/// Prints what was found; a closed standard output does not change what is true.
fn tell(text: &dyn Display, well: bool) -> ExitCode {
    let _ = write!(io::stdout(), "{text}");
    if well { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

#[allow(clippy::print_stderr)] // a command's error goes to whoever typed it; there is no log
fn failed(error: &dyn Display, code: u8) -> ExitCode {
    eprintln!("error: {error}");
    ExitCode::from(code)
}
