//! Values as YAML in block style, in words that readers of YAML 1.1 and of 1.2 understand alike:
//! kubectl reads `on`, `no` or `1_000` as no strings. Whatever could be another thing is quoted.

use serde_json::{Map, Value};

/// Words that are booleans or nothing in YAML 1.1 (https://yaml.org/type/bool.html, null.html).
const WORDS: [&str; 9] = ["y", "n", "yes", "no", "on", "off", "true", "false", "null"];

/// Writes a value as a document, with a newline at the end.
pub(super) fn write(value: &Value) -> String {
    let mut out = String::new();
    match value {
        Value::Object(map) if !map.is_empty() => mapping(&mut out, map, 0),
        Value::Array(items) if !items.is_empty() => sequence(&mut out, items, 0),
        other => line(&mut out, &scalar(other)),
    }
    out
}

/// The entries of a mapping. The first stands where `out` ends, the others are indented.
fn mapping(out: &mut String, map: &Map<String, Value>, indent: usize) {
    for (n, (key, value)) in map.iter().enumerate() {
        if n > 0 {
            out.extend(std::iter::repeat_n(' ', indent));
        }
        out.push_str(&string(key));
        out.push(':');
        match value {
            Value::Object(map) if !map.is_empty() => {
                out.push('\n');
                out.extend(std::iter::repeat_n(' ', indent + 2));
                mapping(out, map, indent + 2);
            }
            Value::Array(items) if !items.is_empty() => {
                out.push('\n');
                out.extend(std::iter::repeat_n(' ', indent));
                sequence(out, items, indent);
            }
            other => line(out, &format!(" {}", scalar(other))),
        }
    }
}

/// The items of a list, likewise.
fn sequence(out: &mut String, items: &[Value], indent: usize) {
    for (n, item) in items.iter().enumerate() {
        if n > 0 {
            out.extend(std::iter::repeat_n(' ', indent));
        }
        out.push_str("- ");
        match item {
            Value::Object(map) if !map.is_empty() => mapping(out, map, indent + 2),
            Value::Array(items) if !items.is_empty() => sequence(out, items, indent + 2),
            other => line(out, &scalar(other)),
        }
    }
}

fn line(out: &mut String, text: &str) {
    out.push_str(text);
    out.push('\n');
}

fn scalar(value: &Value) -> String {
    match value {
        Value::String(text) => string(text),
        other => other.to_string(), // as JSON, which is YAML; of lists and mappings the empty ones
    }
}

/// As it is where that can be nothing else, or in quotes as JSON has them.
fn string(text: &str) -> String {
    if is_plain(text) {
        return text.to_owned();
    }
    let mut quoted = String::new();
    for c in Value::from(text).to_string().chars() {
        match c {
            // JSON takes them as they are. YAML does not, or takes them for ends of lines.
            '\u{7f}'..='\u{9f}'
            | '\u{2028}'
            | '\u{2029}'
            | '\u{feff}'
            | '\u{fffe}'
            | '\u{ffff}' => {
                quoted.push_str(&format!("\\u{:04x}", u32::from(c)));
            }
            c => quoted.push(c),
        }
    }
    quoted
}

/// Whether a text can be no number, date, boolean, nothing, anchor, comment or mark: it begins with
/// a letter or a slash and goes on with what has no meaning.
fn is_plain(text: &str) -> bool {
    let begins = text.starts_with(|c: char| c.is_ascii_alphabetic() || c == '/');
    let meaningless = |c: char| c.is_ascii_alphanumeric() || "_-./".contains(c);
    begins && text.chars().all(meaningless) && !WORDS.contains(&text.to_ascii_lowercase().as_str())
}

#[cfg(test)]
mod tests {
    use control_plane::source::document::parse_yaml;
    use serde_json::json;

    use super::*;

    fn read(text: &str) -> Value {
        parse_yaml(text).unwrap_or_else(|error| panic!("{}: {text}", error.message))
    }

    #[test]
    fn what_is_written_is_read_again() {
        let values = [
            json!(null),
            json!("a"),
            json!([]),
            json!({}),
            json!([[1, [2, [], {}]], {"a": [{"b": 1, "c": [{"d": {"e": [1]}}]}]}]),
            json!({"a": {"b": {"c": null}}, "d": [true, -1, 1.5, "x"], "": "", "e": [[{"f": 1}]]}),
        ];
        for value in values {
            assert_eq!(read(&write(&value)), value, "{}", write(&value));
        }
    }

    #[test]
    fn it_looks_as_kubectl_writes_it() {
        let value = json!({"a": {"b": [{"c": 1, "d": ["e"]}, "f"], "g": []}, "h": "i j"});
        let text = "a:\n  b:\n  - c: 1\n    d:\n    - e\n  - f\n  g: []\nh: \"i j\"\n";
        assert_eq!(write(&value), text);
    }

    #[test]
    fn a_string_stays_one_for_every_reader() {
        let plain = ["a", "/a/b-c_d.e", "apps/v1", "yesterday", "pillion.dev/inject", "N1"];
        for text in plain {
            assert_eq!(string(text), text);
        }
        let quoted = [
            "",
            "yes",
            "No",
            "ON",
            "off",
            "y",
            "True",
            "null",
            "~",
            "1",
            "0755",
            "1_000",
            "0x1f",
            "1:30",
            "1e3",
            ".inf",
            "2001-01-01",
            "-",
            "- a",
            "a: b",
            "a #b",
            "#a",
            "&a",
            "*a",
            "!a",
            "%a",
            "@a",
            "`a",
            "'a",
            "\"a\"",
            "a\nb\n",
            "a\\b",
            " a",
            "a ",
            "{a",
            "[a",
            "|",
            ">",
            "?",
            "=",
            "<<",
            "ä",
            "a:b",
            "\u{7f}\u{1}\u{85}",
            "a\u{2028}b",
            "\u{feff}",
        ];
        for text in quoted {
            let written = string(text);
            assert!(written.starts_with('"'), "{text}");
            assert_eq!(read(&write(&json!({ text: [text] }))), json!({ text: [text] }), "{text}");
        }
    }
}
