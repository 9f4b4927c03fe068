//! Logs: one line an event, RFC 3339 UTC, as text or JSON, to standard error.

use std::io::IsTerminal;

use clap::{Args, ValueEnum};
use tracing_subscriber::filter::{EnvFilter, ParseError};
use tracing_subscriber::fmt::time::UtcTime;
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::util::SubscriberInitExt;
use tracing_subscriber::{Layer, Registry};

/// The settings of the log.
#[derive(Debug, Clone, Args)]
pub struct LogArgs {
    /// What is logged: a level (error, warn, info, debug, trace), or a list of TARGET=LEVEL.
    #[arg(
        long,
        env = "PILLION_LOG_LEVEL",
        default_value = "info",
        value_name = "FILTER",
        help_heading = "Log"
    )]
    pub log_level: String,

    /// How a line of the log is written.
    #[arg(
        long,
        env = "PILLION_LOG_FORMAT",
        default_value = "text",
        value_name = "FORMAT",
        help_heading = "Log"
    )]
    pub log_format: LogFormat,
}

/// How a line of the log is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum LogFormat {
    /// For people: time, level, where, message, fields.
    Text,
    /// For machines: one JSON object a line.
    Json,
}

/// What a text of `--log-level` lets through.
///
/// # Errors
/// When it is no filter; the error names the part that is wrong.
pub fn filter(text: &str) -> Result<EnvFilter, ParseError> {
    EnvFilter::builder().parse(text)
}

/// The log as a layer, for a subscriber that has other layers beside it.
///
/// # Errors
/// When the filter is none; the error names the part that is wrong.
pub fn layer(args: &LogArgs) -> Result<Box<dyn Layer<Registry> + Send + Sync>, ParseError> {
    let filter = filter(&args.log_level)?;
    let layer = tracing_subscriber::fmt::layer()
        .with_writer(std::io::stderr)
        .with_ansi(std::io::stderr().is_terminal())
        .with_timer(UtcTime::rfc_3339());
    Ok(match args.log_format {
        LogFormat::Text => layer.with_filter(filter).boxed(),
        LogFormat::Json => layer.json().flatten_event(true).with_filter(filter).boxed(),
    })
}

/// Starts the log of this process, where it is the only layer.
///
/// # Errors
/// When the filter is none; the error names the part that is wrong.
pub fn init(args: &LogArgs) -> Result<(), ParseError> {
    // A log that is started already (in tests) stays as it is.
    let _ = tracing_subscriber::registry().with(layer(args)?).try_init();
    Ok(())
}
