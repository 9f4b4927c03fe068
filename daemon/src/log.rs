//! Logs: one line an event, RFC 3339 UTC, as text or JSON, to standard error.
//!
//! A thread of its own writes, behind a bounded queue: a slow reader of standard error costs
//! lines (counted), never the time of whoever logs.

use std::io::IsTerminal;
use std::str::FromStr;
use std::time::{Duration, Instant};

use clap::{Args, ValueEnum};
use prometheus::Registry as Metrics;
use tracing_appender::non_blocking::{ErrorCounter, NonBlockingBuilder, WorkerGuard};
use tracing_subscriber::filter::{LevelFilter, Targets};
use tracing_subscriber::fmt::time::UtcTime;
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::util::SubscriberInitExt;
use tracing_subscriber::{Layer, Registry};

use crate::metrics::asked_counter;
use crate::settings::nearest;

/// Lines that may wait to be written.
const QUEUE: usize = 1024;

/// How often something is logged that comes again and again.
const SELDOM: Duration = Duration::from_secs(60);

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

/// A log that is being written. What waits when it is dropped has a second to be written.
#[derive(Debug)]
#[must_use = "nothing is written any more when it is dropped"]
pub struct Log {
    dropped: ErrorCounter,
    _writer: WorkerGuard,
}

impl Log {
    /// Registers the counter of what could not be written.
    ///
    /// # Errors
    /// When there is one already, which is a defect.
    pub fn register(&self, metrics: &Metrics) -> prometheus::Result<()> {
        let help = "Lines of the log dropped because standard error was too slow.";
        let dropped = self.dropped.clone();
        let count = move || dropped.dropped_lines() as u64;
        asked_counter(metrics, "pillion_log_dropped_total", help, count)
    }
}

/// Keeps what comes again and again from filling the log.
#[derive(Debug, Default)]
pub struct Seldom(Option<Instant>);

impl Seldom {
    /// Whether it is to be logged now: the first time, and a minute after it was last.
    pub fn is_due(&mut self) -> bool {
        let is_due = self.0.is_none_or(|last| last.elapsed() >= SELDOM);
        if is_due {
            self.0 = Some(Instant::now());
        }
        is_due
    }
}

/// The log as a layer, for a subscriber that has other layers beside it.
pub fn layer(args: LogArgs) -> (Box<dyn Layer<Registry> + Send + Sync>, Log) {
    let (writer, guard) = NonBlockingBuilder::default()
        .buffered_lines_limit(QUEUE)
        .thread_name("log")
        .finish(std::io::stderr());
    let log = Log { dropped: writer.error_counter(), _writer: guard };
    let Filter(filter) = args.log_level;
    let layer = tracing_subscriber::fmt::layer()
        .with_writer(writer)
        .with_ansi(std::io::stderr().is_terminal())
        .with_timer(UtcTime::rfc_3339());
    let layer = match args.log_format {
        LogFormat::Text => layer.with_filter(filter).boxed(),
        LogFormat::Json => layer.json().flatten_event(true).with_filter(filter).boxed(),
    };
    (layer, log)
}

/// Starts the log of this process, where it is the only layer.
pub fn init(args: LogArgs) -> Log {
    let (layer, log) = layer(args);
    // A log that is started already (in tests) stays as it is.
    let _ = tracing_subscriber::registry().with(layer).try_init();
    log
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
    fn what_comes_again_and_again_is_due_once() {
        let mut seldom = Seldom::default();
        assert_eq!([seldom.is_due(), seldom.is_due()], [true, false]);
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
