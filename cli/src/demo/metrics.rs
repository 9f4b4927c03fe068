//! Reads Prometheus's text format.

use std::collections::BTreeMap;

/// One line of metrics without its value: a name and labels.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Series {
    /// The metric's name.
    pub(crate) name: String,
    /// Its labels.
    pub(crate) labels: BTreeMap<String, String>,
}

/// Values by series, at one time or over a span of time.
pub(crate) type Values = BTreeMap<Series, f64>;

/// Text that is no metrics.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("line {line} of the metrics cannot be read: {text:?}")]
pub(crate) struct FormatError {
    line: usize,
    text: String,
}

impl Series {
    /// The value of a label; empty for one that is not there, as Prometheus has it.
    pub(crate) fn label(&self, name: &str) -> &str {
        self.labels.get(name).map_or("", String::as_str)
    }
}

/// Reads the text of a `/metrics` page.
///
/// # Errors
/// For the first line that is neither comment nor metric.
pub(crate) fn parse(text: &str) -> Result<Values, FormatError> {
    let lines = text.lines().map(str::trim).enumerate();
    let samples = lines.filter(|(_, line)| !line.is_empty() && !line.starts_with('#'));
    samples
        .map(|(n, line)| {
            sample(line)
                .ok_or_else(|| FormatError { line: n + 1, text: line.chars().take(120).collect() })
        })
        .collect()
}

/// `name value`, `name{label="value",...} value`, each perhaps with a timestamp after it.
fn sample(line: &str) -> Option<(Series, f64)> {
    let end = line.find(['{', ' ', '\t'])?;
    let (name, rest) = line.split_at(end);
    let (labels, rest) = match rest.strip_prefix('{') {
        Some(rest) => labels(rest)?,
        None => (BTreeMap::new(), rest),
    };
    let value = rest.split_whitespace().next()?.parse().ok()?;
    (!name.is_empty()).then(|| (Series { name: name.to_owned(), labels }, value))
}

/// The labels up to the closing brace, and what follows it.
fn labels(mut rest: &str) -> Option<(BTreeMap<String, String>, &str)> {
    let mut labels = BTreeMap::new();
    loop {
        rest = rest.trim_start_matches([',', ' ']);
        if let Some(rest) = rest.strip_prefix('}') {
            return Some((labels, rest));
        }
        let (name, after) = rest.split_once('=')?;
        let (value, after) = quoted(after.trim_start())?;
        labels.insert(name.trim().to_owned(), value);
        rest = after;
    }
}

/// A text in quotes with its escapes (`\\`, `\"`, `\n`) resolved, and what follows it.
fn quoted(text: &str) -> Option<(String, &str)> {
    let text = text.strip_prefix('"')?;
    let mut value = String::new();
    let mut chars = text.char_indices();
    while let Some((at, char)) = chars.next() {
        match char {
            '"' => return Some((value, &text[at + 1..])),
            '\\' => match chars.next()?.1 {
                'n' => value.push('\n'),
                other => value.push(other),
            },
            other => value.push(other),
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What a line is read as: name, labels, value.
    fn read(line: &str) -> Option<String> {
        let (series, value) = sample(line)?;
        let labels: Vec<_> = series.labels.iter().map(|(k, v)| format!("{k}={v}")).collect();
        Some(format!("{} [{}] {value}", series.name, labels.join(" ")))
    }

    #[test]
    fn lines_are_read() {
        let cases = [
            ("up 1", Some("up [] 1")),
            ("up{} 1.5 1700000000000", Some("up [] 1.5")),
            ("a{b=\"c\"} 2", Some("a [b=c] 2")),
            ("a{b=\"c\",d=\"\",} 2e3", Some("a [b=c d=] 2000")),
            ("a{b=\"}, {\\\"\\\\\\n\"} 1", Some("a [b=}, {\"\\\n] 1")),
            ("a_bucket{le=\"+Inf\"} +Inf", Some("a_bucket [le=+Inf] inf")),
            ("a NaN", Some("a [] NaN")),
            ("a", None),
            ("a{b=\"c\" 1", None),
            ("a{b=c} 1", None),
            ("a{b=\"c} 1", None),
            ("a one", None),
            ("{a=\"b\"} 1", None),
        ];
        for (line, expected) in cases {
            assert_eq!(read(line).as_deref(), expected, "{line}");
        }
    }

    #[test]
    fn a_page_is_read_and_its_first_bad_line_named() {
        let values = parse("# HELP a Some.\n# TYPE a counter\n\na 1\na{b=\"c\"} 2\n").unwrap();
        assert_eq!(values.len(), 2);
        let error = parse("a 1\nwhat is this\n").unwrap_err();
        assert_eq!(error.to_string(), "line 2 of the metrics cannot be read: \"what is this\"");
    }
}
