//! What is wrong with the configuration, in words that name the place.
//!
//! A problem never takes the rest down: what is good is in force, and of what is not, the last
//! good state stays.

use std::fmt;
use std::sync::Arc;

use serde::Serialize;

use crate::object::Key;

/// Something wrong with a file, an object or a field.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize)]
pub struct Problem {
    /// What sort of problem it is.
    pub cause: Cause,
    /// Where it was written.
    pub origin: Option<Origin>,
    /// The object, where it could be told.
    pub object: Option<Key>,
    /// The field's path, as in `spec.rules[0].matches[1].path.value`; empty for the whole.
    pub field: String,
    /// What is wrong.
    pub message: String,
}

/// The sorts of problems. Each is one value of the metric's label.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Cause {
    /// A file or directory cannot be read.
    Unreadable,
    /// A document is no YAML or JSON.
    Syntax,
    /// A kind of object that Pillion does not know.
    UnknownKind,
    /// A field that objects of the kind do not have.
    UnknownField,
    /// A value that the field cannot have.
    Invalid,
    /// The same object twice.
    Duplicate,
    /// Something of the standard that this version does not do.
    Unsupported,
    /// A reference to something that is not there.
    Unresolved,
    /// Another object takes its place, as the standard or the kind says.
    Conflicted,
    /// Something that has no effect here, as the standard says.
    Ignored,
}

/// How much a problem holds back.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Severity {
    /// The object is not in force as written; its last good state is, if there was one.
    Error,
    /// The object is in force, but not all that it asks for.
    Warning,
    /// For the reader's knowledge.
    Note,
}

/// Where an object was written.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
pub struct Origin {
    /// The file, relative to the directory that is read.
    pub file: Arc<str>,
    /// The line that the document begins at, or that is wrong, from 1; 0 for the whole file.
    pub line: u32,
    /// Which object it is at the API server, where it comes from one.
    #[serde(skip)]
    pub instance: Option<Instance>,
}

/// One object of an API server, in one of its versions.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Instance {
    /// What tells it from others that have had its name.
    pub uid: Arc<str>,
    /// Counts the changes of what it asks for.
    pub generation: i64,
}

impl Origin {
    /// A line of a file; 0 for the whole.
    pub fn of_file(file: impl Into<Arc<str>>, line: u32) -> Self {
        Self { file: file.into(), line, instance: None }
    }
}

/// What is wrong inside one object, before the object's own place is known.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Fault {
    /// What sort of problem it is.
    pub cause: Cause,
    /// The field's path.
    pub field: String,
    /// What is wrong.
    pub message: String,
}

impl Cause {
    /// Every cause.
    pub const ALL: [Self; 10] = [
        Self::Unreadable,
        Self::Syntax,
        Self::UnknownKind,
        Self::UnknownField,
        Self::Invalid,
        Self::Duplicate,
        Self::Unsupported,
        Self::Unresolved,
        Self::Conflicted,
        Self::Ignored,
    ];

    /// The cause as the metric's label shows it.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Unreadable => "unreadable",
            Self::Syntax => "syntax",
            Self::UnknownKind => "unknown_kind",
            Self::UnknownField => "unknown_field",
            Self::Invalid => "invalid",
            Self::Duplicate => "duplicate",
            Self::Unsupported => "unsupported",
            Self::Unresolved => "unresolved",
            Self::Conflicted => "conflicted",
            Self::Ignored => "ignored",
        }
    }

    /// How much a problem of this sort holds back.
    pub const fn severity(self) -> Severity {
        match self {
            Self::Unsupported | Self::Unresolved | Self::Conflicted => Severity::Warning,
            Self::Ignored => Severity::Note,
            _ => Severity::Error,
        }
    }
}

impl Problem {
    /// A problem of a file as a whole, or of one line of it.
    pub fn of_file(cause: Cause, origin: Origin, message: impl Into<String>) -> Self {
        let field = String::new();
        Self { cause, origin: Some(origin), object: None, field, message: message.into() }
    }

    /// What makes it the same problem on the next reading. The line is no part of it: lines move
    /// when something else in the file is edited.
    pub fn identity(&self) -> (Option<&str>, Option<&Key>, &str, &str) {
        let file = self.origin.as_ref().map(|origin| origin.file.as_ref());
        (file, self.object.as_ref(), &self.field, &self.message)
    }
}

impl Fault {
    /// A fault of `field`.
    pub fn new(cause: Cause, field: impl Into<String>, message: impl Into<String>) -> Self {
        Self { cause, field: field.into(), message: message.into() }
    }

    /// A value that `field` cannot have.
    pub fn invalid(field: impl Into<String>, message: impl Into<String>) -> Self {
        Self::new(Cause::Invalid, field, message)
    }

    /// The fault with its place: a problem to report.
    pub fn of(self, object: Option<Key>, origin: Origin) -> Problem {
        let Self { cause, field, message } = self;
        Problem { cause, origin: Some(origin), object, field, message }
    }
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(origin) = &self.origin {
            write!(f, "{origin}: ")?;
        }
        if let Some(object) = &self.object {
            write!(f, "{object}: ")?;
        }
        if !self.field.is_empty() {
            write!(f, "{}: ", self.field)?;
        }
        f.write_str(&self.message)
    }
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.line {
            0 => f.write_str(&self.file),
            line => write!(f, "{}:{line}", self.file),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_problem_names_file_object_field_and_reason() {
        let origin = Origin::of_file("shop/api.yaml", 12);
        let key = Key::sample("HTTPRoute", "shop", "api");
        let fault = Fault::invalid("spec.rules[0].matches[1].path.value", "must begin with '/'");
        let problem = fault.of(Some(key), origin.clone());
        assert_eq!(
            problem.to_string(),
            "shop/api.yaml:12: HTTPRoute shop/api: spec.rules[0].matches[1].path.value: \
             must begin with '/'"
        );
        let file = Origin { line: 0, ..origin };
        let problem = Problem::of_file(Cause::Unreadable, file, "permission denied");
        assert_eq!(problem.to_string(), "shop/api.yaml: permission denied");
    }

    #[test]
    fn every_cause_has_its_own_label() {
        let mut labels = Cause::ALL.map(Cause::as_str).to_vec();
        labels.sort_unstable();
        labels.dedup();
        assert_eq!(labels.len(), Cause::ALL.len());
    }

    /// An alert that names another cause would fire for ever, or never.
    #[test]
    fn the_alert_of_refused_objects_names_the_causes_that_are_errors() {
        let rules = include_str!("../../deploy/prometheus/rules.yaml");
        let alert = rules.split("- alert: ").find(|rule| rule.starts_with("PillionObjectsRefused"));
        let named = alert.and_then(|rule| rule.split('"').nth(1)).unwrap();
        let errors = Cause::ALL.into_iter().filter(|cause| cause.severity() == Severity::Error);
        assert_eq!(named, errors.map(Cause::as_str).collect::<Vec<_>>().join("|"));
    }
}
