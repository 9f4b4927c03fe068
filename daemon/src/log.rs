//! Logs: one line an event, RFC 3339 UTC, as text or JSON, to standard error.

use std::io::IsTerminal;
use std::str::FromStr;

use clap::{Args, ValueEnum};
use tracing_subscriber::filter::{LevelFilter, Targets};
use tracing_subscriber::fmt::time::UtcTime;
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::util::SubscriberInitExt;
use tracing_subscriber::{Layer, Registry};

use crate::settings::nearest;

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
    pub log_level: Filter,

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

/// What the log lets through.
#[derive(Debug, Clone, PartialEq)]
pub struct Filter(Targets);

impl Filter {
    /// The same, and nothing of `target`.
    #[must_use]
    pub fn without(self, target: &str) -> Self {
        Self(self.0.with_target(target, LevelFilter::OFF))
    }
}

impl FromStr for Filter {
    type Err = FilterError;

    fn from_str(text: &str) -> Result<Self, FilterError> {
        let mut parts = text.split(',').map(str::trim).filter(|part| !part.is_empty()).peekable();
        if parts.peek().is_none() {
            return Err(FilterError::Empty);
        }
        let all = parts.try_fold(Targets::new(), |all, part| match part.split_once('=') {
            Some((target, name)) if !target.is_empty() => Ok(all.with_target(target, level(name)?)),
            Some(_) => Err(FilterError::NoTarget(part.to_owned())),
            None => Ok(all.with_default(level(part)?)),
        });
        all.map(Self)
    }
}

fn level(name: &str) -> Result<LevelFilter, FilterError> {
    // The empty text is a level to tracing.
    let known = if name.is_empty() { None } else { name.parse().ok() };
    known.ok_or_else(|| FilterError::Level { name: name.to_owned(), near: nearest(name, LEVELS) })
}

const LEVELS: [&str; 6] = ["off", "error", "warn", "info", "debug", "trace"];

/// Why a text is no [`Filter`].
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum FilterError {
    /// There is nothing in it.
    #[error("it is empty: a level is one of {}", LEVELS.join(", "))]
    Empty,
    /// A part has a level for nothing.
    #[error("{0:?} has no target before the =")]
    NoTarget(String),
    /// What stands for a level is none.
    #[error(
        "{name:?} is no level{}; a level is one of {}",
        near.map(|near| format!(", did you mean {near}?")).unwrap_or_default(),
        LEVELS.join(", ")
    )]
    Level {
        /// What stands there.
        name: String,
        /// The level that is most like it.
        near: Option<&'static str>,
    },
}

/// The log as a layer, for a subscriber that has other layers beside it.
pub fn layer(args: LogArgs) -> Box<dyn Layer<Registry> + Send + Sync> {
    let Filter(filter) = args.log_level;
    let layer = tracing_subscriber::fmt::layer()
        .with_writer(std::io::stderr)
        .with_ansi(std::io::stderr().is_terminal())
        .with_timer(UtcTime::rfc_3339());
    match args.log_format {
        LogFormat::Text => layer.with_filter(filter).boxed(),
        LogFormat::Json => layer.json().flatten_event(true).with_filter(filter).boxed(),
    }
}

/// Starts the log of this process, where it is the only layer.
pub fn init(args: LogArgs) {
    // A log that is started already (in tests) stays as it is.
    let _ = tracing_subscriber::registry().with(layer(args)).try_init();
}

#[cfg(test)]
mod tests {
    use tracing::Level;

    use super::*;

    fn refused(text: &str) -> String {
        text.parse::<Filter>().unwrap_err().to_string()
    }

    #[test]
    fn a_filter_is_a_level_for_all_and_levels_for_some() {
        let Filter(filter) = "warn, proxy::sync=debug,h2=off".parse().unwrap();
        assert!(filter.would_enable("any", &Level::WARN));
        assert!(!filter.would_enable("any", &Level::INFO));
        assert!(filter.would_enable("proxy::sync::stream", &Level::DEBUG));
        assert!(!filter.would_enable("h2", &Level::ERROR));
        let Filter(quiet) = "info".parse::<Filter>().unwrap().without("spans");
        assert!(
            quiet.would_enable("any", &Level::INFO) && !quiet.would_enable("spans", &Level::ERROR)
        );
    }

    #[test]
    fn a_misspelt_level_is_refused_with_the_nearest_one() {
        assert!(refused("inof").contains(r#""inof" is no level, did you mean info?"#));
        assert!(refused("verbose").contains("one of off, error, warn, info, debug, trace"));
        assert!(refused("info,proxy=").contains(r#""" is no level"#));
        assert!(refused("=debug").contains("no target"));
        assert!(refused(" ,").contains("empty"));
    }
}
