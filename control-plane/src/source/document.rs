//! The text of one file as objects.
//!
//! Documents are told apart by lines that begin with `---`, which ends a document wherever it
//! stands (YAML 1.2 §9.1.2), so that one broken document costs its file no other.

use std::sync::Arc;

use serde::Deserialize;
use serde_json::Value;

use crate::object::{self, Entry, Key, Meant, Parsed};
use crate::problem::{Cause, Fault, Origin, Problem};

/// What a file says.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(crate) struct Contents {
    /// The good objects, in order.
    pub(crate) entries: Vec<Entry>,
    /// What is there but refused may mean: the last good state of that stays.
    pub(crate) refused: Vec<Meant>,
    /// What is wrong.
    pub(crate) problems: Vec<Problem>,
}

/// Reads the text of the file with this name, relative to the directory.
pub(crate) fn read(file: &Arc<str>, text: &str) -> Contents {
    let mut contents = Contents::default();
    if file.ends_with(".json") {
        let parsed = serde_json::from_str(text).map_err(|error| Syntax {
            line: u32::try_from(error.line()).unwrap_or(0),
            message: error.to_string(),
        });
        contents.document(file, 1, parsed);
        return contents;
    }
    for (line, document) in split(text) {
        contents.document(file, line, parse_yaml(document));
    }
    contents
}

/// Why a document is none, and at which of its lines.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Syntax {
    /// The line, from 1.
    pub line: u32,
    /// What is wrong.
    pub message: String,
}

impl Contents {
    /// Takes in the document that begins at `line`.
    fn document(&mut self, file: &Arc<str>, line: u32, parsed: Result<Value, Syntax>) {
        match parsed {
            Ok(Value::Null) => {}
            Ok(value) => self.value(&value, &Origin::of_file(Arc::clone(file), line)),
            Err(error) => {
                let line = line + error.line.saturating_sub(1);
                let origin = Origin::of_file(Arc::clone(file), line);
                self.problems.push(Problem::of_file(Cause::Syntax, origin, error.message));
                self.refused.push(Meant::Anything);
            }
        }
    }

    fn value(&mut self, value: &Value, origin: &Origin) {
        let is_list = value.get("kind").and_then(Value::as_str) == Some("List");
        match value.get("items").and_then(Value::as_array).filter(|_| is_list) {
            Some(items) => items.iter().for_each(|item| self.object(item, origin)),
            None => self.object(value, origin),
        }
    }

    fn object(&mut self, value: &Value, origin: &Origin) {
        match object::parse(value, origin) {
            Parsed::Good(entry, warnings) => self.good(*entry, warnings),
            Parsed::Refused(meant, faults) => {
                self.report(meant.key(), faults, origin);
                self.refused.push(meant);
            }
            Parsed::Ignored => {
                tracing::debug!(%origin, kind = %value["kind"], "an object that Pillion does not read");
            }
        }
    }

    /// Within a file, the first of two documents of the same object counts.
    fn good(&mut self, entry: Entry, warnings: Vec<Fault>) {
        match self.entries.iter().find(|before| before.key == entry.key) {
            Some(before) => {
                let message = format!(
                    "the same object stands at {} too, which counts; this one is left out",
                    before.origin
                );
                let fault = Fault::new(Cause::Duplicate, "", message);
                self.report(Some(&entry.key), vec![fault], &entry.origin);
            }
            None => {
                self.report(Some(&entry.key), warnings, &entry.origin);
                self.entries.push(entry);
            }
        }
    }

    fn report(&mut self, key: Option<&Key>, faults: Vec<Fault>, origin: &Origin) {
        let problems = faults.into_iter().map(|fault| fault.of(key.cloned(), origin.clone()));
        self.problems.extend(problems);
    }
}

/// The documents of a text, each with the line that it begins at.
pub fn split(text: &str) -> Vec<(u32, &str)> {
    let is_marker = |line: &str| {
        line.strip_prefix("---")
            .is_some_and(|rest| rest.is_empty() || rest.starts_with([' ', '\t']))
    };
    let (mut documents, mut start, mut start_line, mut offset) = (Vec::new(), 0, 1, 0);
    for (number, line) in (1..).zip(text.split_inclusive('\n')) {
        if is_marker(line.trim_end_matches(['\n', '\r'])) && offset > start {
            documents.push((start_line, &text[start..offset]));
            (start, start_line) = (offset, number);
        }
        offset += line.len();
    }
    documents.push((start_line, &text[start..]));
    documents
}

/// Reads one document; an empty one is null.
///
/// # Errors
/// When it is no YAML, or a key stands twice in it.
pub fn parse_yaml(text: &str) -> Result<Value, Syntax> {
    let syntax = |error: serde_norway::Error| Syntax {
        line: error.location().map_or(1, |at| u32::try_from(at.line()).unwrap_or(1)),
        message: error.to_string(),
    };
    let deserializer = serde_norway::Deserializer::from_str(text);
    // By way of YAML's own value, which refuses a key that stands twice.
    let value = serde_norway::Value::deserialize(deserializer).map_err(syntax)?;
    serde_json::to_value(value)
        .map_err(|error| Syntax { line: 1, message: format!("no value that JSON has: {error}") })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn contents(text: &str) -> Contents {
        read(&"test.yaml".into(), text)
    }

    fn keys(contents: &Contents) -> Vec<String> {
        contents.entries.iter().map(|entry| entry.key.to_string()).collect()
    }

    fn problems(contents: &Contents) -> Vec<String> {
        contents.problems.iter().map(ToString::to_string).collect()
    }

    fn account(name: &str) -> String {
        format!("apiVersion: v1\nkind: ServiceAccount\nmetadata:\n  name: {name}\n")
    }

    #[test]
    fn documents_lists_and_empty_ones() {
        let list = "apiVersion: v1\nkind: List\nitems:\n- {apiVersion: v1, kind: Namespace, \
                    metadata: {name: c}}\n";
        let text =
            format!("# head\n---\n{}---\n{}--- # empty\n\n---\n{list}", account("a"), account("b"));
        let contents = contents(&text);
        assert_eq!(
            keys(&contents),
            ["ServiceAccount default/a", "ServiceAccount default/b", "Namespace c"]
        );
        assert_eq!(problems(&contents), Vec::<String>::new());
        assert_eq!(contents.entries[1].origin.line, 7);
        assert_eq!(contents.refused, []);
    }

    #[test]
    fn a_broken_document_costs_no_other() {
        let text = format!("{}---\nkind: [\n---\n{}", account("a"), account("b"));
        let contents = contents(&text);
        assert_eq!(keys(&contents), ["ServiceAccount default/a", "ServiceAccount default/b"]);
        assert_eq!(contents.refused, [Meant::Anything]);
        let problem = &problems(&contents)[0];
        assert!(
            problem.starts_with("test.yaml:6: ") || problem.starts_with("test.yaml:7: "),
            "{problem}"
        );
    }

    #[test]
    fn a_refused_object_is_named() {
        let text = account("a").replace("metadata", "zone: x\nmetadata");
        let contents = contents(&text);
        assert_eq!(
            problems(&contents),
            ["test.yaml:1: ServiceAccount default/a: zone: unknown field"]
        );
        assert_eq!(contents.refused, [Meant::One(Key::sample("ServiceAccount", "default", "a"))]);
    }

    #[test]
    fn a_key_that_stands_twice_is_an_error() {
        let contents = contents("kind: a\nkind: b\n");
        assert_eq!(contents.refused, [Meant::Anything]);
        assert!(problems(&contents)[0].contains("duplicate"), "{:?}", problems(&contents));
    }

    #[test]
    fn the_same_object_twice_in_a_file_counts_once() {
        let contents = contents(&format!("{}---\n{}", account("a"), account("a")));
        assert_eq!(contents.entries.len(), 1);
        let problems = problems(&contents);
        assert!(problems[0].contains("test.yaml:5: ServiceAccount default/a: the same object"));
        assert!(problems[0].contains("test.yaml:1"), "{problems:?}");
    }

    #[test]
    fn json_is_read_as_json() {
        let text = r#"{"apiVersion":"v1","kind":"Namespace","metadata":{"name":"a"}}"#;
        assert_eq!(keys(&read(&"a.json".into(), text)), ["Namespace a"]);
        let broken = read(&"a.json".into(), "{\n\"a\":\n");
        assert!(problems(&broken)[0].starts_with("a.json:"), "{:?}", problems(&broken));
    }

    #[test]
    fn an_empty_text_says_nothing() {
        assert_eq!(contents(""), Contents::default());
        assert_eq!(contents("# only a comment\n---\n"), Contents::default());
    }
}
