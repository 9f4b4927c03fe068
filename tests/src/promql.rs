//! What a PromQL expression asks for, as far as names go: its metrics, the labels that it selects
//! by, and those that it groups by.

use std::collections::BTreeSet;

/// The names in one expression.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Query {
    /// Each metric with the labels in its braces.
    pub selectors: Vec<(String, BTreeSet<String>)>,
    /// The labels of `by`, `without`, `on` and `ignoring`.
    pub grouped: BTreeSet<String>,
}

#[derive(Debug, PartialEq, Eq)]
enum Token<'a> {
    Word(&'a str),
    Mark(char),
}

/// Reads the names out of an expression. Grafana's variables may stand where PromQL has strings or
/// durations.
pub fn read(expression: &str) -> Query {
    let tokens = tokens(expression);
    let mut query = Query::default();
    let mut rest = tokens.as_slice();
    while let Some((first, after)) = rest.split_first() {
        rest = after;
        match first {
            Token::Word("by" | "without" | "on" | "ignoring") => {
                query.grouped.extend(list(&mut rest, '(', ')'));
            }
            Token::Word(name) if name.starts_with("pillion_") || name.starts_with("process_") => {
                query.selectors.push(((*name).to_owned(), list(&mut rest, '{', '}')));
            }
            _ => {}
        }
    }
    query
}

/// The words between `open`, if that comes next, and `close`.
fn list(rest: &mut &[Token<'_>], open: char, close: char) -> BTreeSet<String> {
    let mut words = BTreeSet::new();
    if rest.first() != Some(&Token::Mark(open)) {
        return words;
    }
    while let Some((first, after)) = rest.split_first() {
        *rest = after;
        match first {
            Token::Mark(mark) if *mark == close => break,
            Token::Word(word) => _ = words.insert((*word).to_owned()),
            Token::Mark(_) => {}
        }
    }
    words
}

/// Words and marks; strings, numbers and what stands in brackets are no names and are left out.
fn tokens(mut text: &str) -> Vec<Token<'_>> {
    let mut found = Vec::new();
    while let Some(first) = text.chars().next() {
        let size = match first {
            '"' => string(text),
            '[' => text.find(']').map_or(text.len(), |end| end + 1),
            _ => word(text),
        };
        let size = size.max(first.len_utf8());
        match first {
            'a'..='z' | 'A'..='Z' | '_' => found.push(Token::Word(&text[..size])),
            '(' | ')' | '{' | '}' => found.push(Token::Mark(first)),
            _ => {}
        }
        text = &text[size..];
    }
    found
}

fn word(text: &str) -> usize {
    text.find(|mark: char| !mark.is_ascii_alphanumeric() && mark != '_').unwrap_or(text.len())
}

/// The length of the string that the text begins with, its quotes included.
fn string(text: &str) -> usize {
    let mut escaped = false;
    for (at, mark) in text.char_indices().skip(1) {
        match mark {
            '"' if !escaped => return at + 1,
            _ => escaped = mark == '\\' && !escaped,
        }
    }
    text.len()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_told_from_strings_functions_and_durations() {
        let query = read(
            r#"sum by (service, le) (rate(pillion_a_bucket{x="pillion_b, \"by (y)",z!~"5.."}[$__rate_interval]))
               / on(pod) process_c > 3600"#,
        );
        let labels = |names: &[&str]| names.iter().map(|&name| name.to_owned()).collect();
        let selectors = vec![
            ("pillion_a_bucket".to_owned(), labels(&["x", "z"])),
            ("process_c".to_owned(), BTreeSet::new()),
        ];
        assert_eq!(query, Query { selectors, grouped: labels(&["service", "le", "pod"]) });
    }
}
