//! `pillion demo`: a whole mesh on this machine, real processes on loopback addresses, with load
//! and with failures on purpose.
//!
//! `plan` says who takes part, `start` starts them, `show` plays; `summary` says whether the mesh
//! kept its promise.

mod chaos;
mod config;
mod conversation;
mod error;
mod figures;
mod hints;
mod load;
mod metrics;
mod plan;
mod ports;
mod process;
mod scrape;
mod screen;
mod show;
mod signals;
mod start;
mod summary;
mod text;

use std::ffi::OsString;
use std::io::{self, Write};
use std::net::Ipv4Addr;
use std::process::ExitCode;
use std::time::Duration;

use clap::Parser;
use clap::builder::BoolishValueParser;

#[cfg(test)]
pub(crate) use self::config::OBJECTS;

use self::config::Home;
use self::error::DemoError;
use self::plan::Plan;
use self::process::Fleet;
use self::show::Show;
use self::signals::{Came, Signals};
use self::start::Starter;
use self::summary::Summary;

/// Run a whole mesh on this machine and watch it.
///
/// One control plane, and web -> api (three replicas: one slow, one failing) -> data (two
/// replicas), and a TCP server that speaks first; each with a sidecar, all of them processes of
/// their own on loopback addresses. The demo sends load, kills a replica on the way and starts it
/// again. Exits 0 if every request succeeded and all went over mutual TLS, else 1.
#[derive(Debug, Parser)]
#[command(name = "pillion demo", version, max_term_width = 100)]
pub(crate) struct DemoArgs {
    /// Run this long (a duration such as 30s or 5m), then print a summary [default: until Ctrl-C]
    #[arg(long = "for", env = "PILLION_DEMO_FOR", value_name = "DURATION", value_parser = length)]
    length: Option<Duration>,

    /// Print nothing but the summary, as JSON, to standard output; progress to standard error.
    #[arg(long, env = "PILLION_DEMO_JSON", value_parser = BoolishValueParser::new())]
    json: bool,

    /// HTTP requests a second, 1 to 2000.
    #[arg(long, env = "PILLION_DEMO_RATE", value_name = "N", default_value_t = 100, value_parser = clap::value_parser!(u32).range(1..=2000))]
    rate: u32,

    /// OTLP/gRPC endpoint for the sidecars' spans, such as http://127.0.0.1:4317 [default: no tracing]
    #[arg(long, env = "PILLION_OTLP_ENDPOINT", value_name = "URL")]
    otlp_endpoint: Option<String>,

    /// The demo lives on the nine loopback addresses after this one.
    #[arg(long, env = "PILLION_DEMO_BASE_ADDRESS", value_name = "IP", default_value = "127.0.2.0", value_parser = plan::base_address)]
    base_address: Ipv4Addr,
}

fn length(text: &str) -> Result<Duration, String> {
    match model::duration::parse(text) {
        Ok(length) if length < Duration::from_secs(1) => Err("one second is the least".into()),
        Ok(length) => Ok(length),
        Err(error) => Err(error.to_string()),
    }
}

/// Runs `pillion demo`.
pub(crate) fn main(args: impl IntoIterator<Item = OsString>) -> ExitCode {
    let args = match daemon::settings::parse::<DemoArgs>(args) {
        Ok(args) => args,
        Err(code) => return code,
    };
    // One thread: the kernel ends the children with the thread that started them.
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let result = runtime
        .map_err(DemoError::system("start a runtime"))
        .and_then(|runtime| runtime.block_on(run(&args)));
    match result {
        Ok(summary) => finish(&summary, args.json),
        Err(error) => {
            eprintln!("error: {error}");
            ExitCode::from(error.exit_code())
        }
    }
}

async fn run(args: &DemoArgs) -> Result<Summary, DemoError> {
    let mut signals = Signals::new().map_err(DemoError::system("listen for signals"))?;
    let plan = Plan::new(args.base_address);
    ports::check_free(&plan)?;
    let home = Home::new()?;
    let mut fleet = Fleet::new(home.logs())?;
    let otlp_endpoint = args.otlp_endpoint.as_deref();
    let starter = Starter { plan: &plan, home: &home, otlp_endpoint };
    let result = play(args, &starter, &mut fleet, &mut signals).await;
    fleet.stop().await;
    result
}

async fn play(
    args: &DemoArgs,
    starter: &Starter<'_>,
    fleet: &mut Fleet,
    signals: &mut Signals,
) -> Result<Summary, DemoError> {
    tokio::select! {
        Came { name, code } = signals.recv() => return Err(DemoError::Stopped { name, code }),
        started = starter.start_all(fleet) => started?,
    }
    Show::new(args, starter, fleet).await.run(signals).await
}

fn finish(summary: &Summary, json: bool) -> ExitCode {
    let text = if json {
        serde_json::to_string_pretty(summary).map_err(io::Error::from)
    } else {
        Ok(format!("\n{}", summary.lines().join("\n")))
    };
    match text.and_then(|text| writeln!(io::stdout(), "{text}")) {
        Ok(()) if summary.is_good() => ExitCode::SUCCESS,
        Ok(()) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("error: cannot write the summary: {error}");
            ExitCode::FAILURE
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(line: &str) -> Result<DemoArgs, clap::Error> {
        let args = std::iter::once("pillion demo").chain(line.split_whitespace());
        DemoArgs::try_parse_from(args)
    }

    #[test]
    fn the_flags_are_read() {
        let args = parse("").unwrap();
        assert_eq!((args.length, args.json, args.rate), (None, false, 100));
        let args = parse("--for 10s --json --rate 50 --base-address 127.0.9.0").unwrap();
        assert_eq!((args.length, args.json, args.rate), (Some(Duration::from_secs(10)), true, 50));
        assert_eq!(args.base_address, Ipv4Addr::new(127, 0, 9, 0));
    }

    #[test]
    fn what_cannot_be_is_refused_with_a_reason() {
        let cases = [
            ("--for 10", "the units are"),
            ("--for 10ms", "one second is the least"),
            ("--rate 0", "1..=2000"),
            ("--base-address 10.0.0.0", "loopback"),
            ("--jsn", "'--json'"),
        ];
        for (line, part) in cases {
            let error = parse(line).unwrap_err().to_string();
            assert!(error.contains(part), "{line}: {error}");
        }
    }
}
