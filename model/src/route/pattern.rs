//! Regular expressions that hold for a whole text.

use std::str::FromStr;

use regex::{Regex, RegexBuilder};
use serde::{Serialize, Serializer};

/// The most memory that one pattern may take, compiled and in use. Whoever may write a route could
/// fill every sidecar with a pattern like `(.{1000}){1000}`.
const MOST_BYTES: usize = 256 * 1024;

/// A regular expression that must hold for the whole text. It takes a time that grows with the
/// text alone, whatever the pattern (no look-around, no back references, as RE2).
#[derive(Debug, Clone)]
pub struct Pattern {
    written: String,
    whole: Regex,
}

/// Why a text is no [`Pattern`].
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{written:?} is no regular expression: {reason}")]
pub struct PatternError {
    written: String,
    reason: String,
}

impl Pattern {
    /// The pattern of exactly this text.
    ///
    /// # Errors
    /// When the text is too long for a pattern.
    pub fn exactly(text: &str) -> Result<Self, PatternError> {
        regex::escape(text).parse()
    }

    /// The pattern as it was written.
    pub fn as_str(&self) -> &str {
        &self.written
    }

    /// Whether it holds for the whole of `text`.
    pub fn holds(&self, text: &str) -> bool {
        self.whole.is_match(text)
    }
}

impl FromStr for Pattern {
    type Err = PatternError;

    fn from_str(text: &str) -> Result<Self, PatternError> {
        // By itself first: with something around it, `a)|(b` would be one.
        let compiled = build(text).and_then(|_| build(&format!("^(?:{text})$")));
        let failed = |error: regex::Error| PatternError {
            written: text.into(),
            // The crate shows the place by lines of text; the last says what is wrong.
            reason: error.to_string().lines().last().unwrap_or_default().trim().into(),
        };
        Ok(Self { written: text.into(), whole: compiled.map_err(failed)? })
    }
}

fn build(text: &str) -> Result<Regex, regex::Error> {
    RegexBuilder::new(text).size_limit(MOST_BYTES).dfa_size_limit(MOST_BYTES).build()
}

impl PartialEq for Pattern {
    fn eq(&self, other: &Self) -> bool {
        self.written == other.written
    }
}

impl Eq for Pattern {}

impl Serialize for Pattern {
    fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        self.written.serialize(to)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pattern_holds_for_the_whole_text() {
        let cases = [
            ("a|b", "a", true),
            ("a|b", "ab", false),
            ("a|b", "xb", false),
            ("Get.*", "GetAll", true),
            ("Get.*", "get", false),
            ("", "", true),
            ("", "a", false),
            (".*", "a\nb", false),
        ];
        for (pattern, text, holds) in cases {
            let pattern: Pattern = pattern.parse().unwrap();
            assert_eq!(pattern.holds(text), holds, "{pattern:?} {text:?}");
        }
        let exactly = Pattern::exactly("a.b").unwrap();
        assert!(exactly.holds("a.b") && !exactly.holds("axb"));
    }

    #[test]
    fn what_is_no_pattern_says_why() {
        let cases = [
            ("a)|(b", "unopened group"),
            ("(a", "unclosed group"),
            ("(?=a)", "look-around"),
            ("(.{1000}){1000}", "exceeds size limit"),
        ];
        for (text, expected) in cases {
            let error = text.parse::<Pattern>().unwrap_err().to_string();
            assert!(error.starts_with(&format!("{text:?} is no")), "{error}");
            assert!(error.contains(expected), "{error:?} must contain {expected:?}");
        }
    }
}
