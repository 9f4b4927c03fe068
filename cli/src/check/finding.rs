//! What a check of a cluster found.

use std::fmt;

use serde::Serialize;

/// The outcome of one check.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub(super) struct Finding {
    pub(super) level: Level,
    /// What was found.
    pub(super) what: String,
    /// What to do about it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) fix: Option<String>,
}

/// How bad it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum Level {
    Ok,
    /// It could not be checked.
    Note,
    Warning,
    Error,
}

impl Finding {
    pub(super) fn ok(what: impl Into<String>) -> Self {
        Self { level: Level::Ok, what: what.into(), fix: None }
    }

    pub(super) fn note(what: impl Into<String>) -> Self {
        Self { level: Level::Note, what: what.into(), fix: None }
    }

    pub(super) fn warning(what: impl Into<String>, fix: impl Into<String>) -> Self {
        Self { level: Level::Warning, what: what.into(), fix: Some(fix.into()) }
    }

    pub(super) fn error(what: impl Into<String>, fix: impl Into<String>) -> Self {
        Self { level: Level::Error, what: what.into(), fix: Some(fix.into()) }
    }
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let level = match self.level {
            Level::Ok => "ok",
            Level::Note => "note",
            Level::Warning => "warning",
            Level::Error => "error",
        };
        write!(f, "{level}: {}", self.what)?;
        match &self.fix {
            Some(fix) => write!(f, "\n    {fix}"),
            None => Ok(()),
        }
    }
}
