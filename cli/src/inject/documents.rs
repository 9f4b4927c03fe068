//! The documents of a text, and what becomes of each.

use std::fmt::Display;

use control_plane::source::document::{Syntax, parse_yaml, split};
use serde_json::Value;

use super::workload::{self, Act, Change};
use super::yaml;

/// What became of the documents of a text.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Documents {
    /// All documents; those that were changed are written anew.
    pub(super) text: String,
    /// What was done, and not done, and what the reader should know; a line each.
    pub(super) notes: Vec<String>,
    /// What is wrong, with file, line, object and field; a line each.
    pub(super) errors: Vec<String>,
}

impl Documents {
    /// Puts another text's documents after these.
    pub(super) fn append(&mut self, other: Self) {
        self.document(&other.text);
        self.notes.extend(other.notes);
        self.errors.extend(other.errors);
    }

    /// Changes the pods of the next document, whose text stands at `place`.
    fn take_in(&mut self, place: &str, document: &str, mut value: Value, act: Act<'_>) {
        let mut is_changed = false;
        for (object, change) in workload::each(&mut value, act) {
            let at = |what: &dyn Display| format!("{place}: {object}: {what}");
            match change {
                Change::Done(how, warnings) => {
                    is_changed = true;
                    self.notes.push(at(&how));
                    let warned = warnings.iter().map(|text| format!("warning: {}", at(text)));
                    self.notes.extend(warned);
                }
                Change::Skipped(reason) => self.notes.push(at(&format!("skipped: {reason}"))),
                Change::Refused(faults) => self.errors.extend(faults.iter().map(|f| at(f))),
            }
        }
        if is_changed {
            self.document(&format!("---\n{}", yaml::write(&value)));
        } else {
            self.document(document);
        }
    }

    /// Puts a document to the end, as a document of its own.
    fn document(&mut self, text: &str) {
        if !self.text.is_empty() && !self.text.ends_with('\n') {
            self.text.push('\n');
        }
        if !self.text.is_empty() && !text.is_empty() && !text.starts_with("---") {
            self.text.push_str("---\n");
        }
        self.text.push_str(text);
    }
}

/// Changes the pods of the documents of `text`, which is that of the file `file`.
pub(super) fn each(file: &str, text: &str, act: Act<'_>) -> Documents {
    let mut documents = Documents::default();
    for (line, document) in split(text) {
        match parse_yaml(document) {
            Ok(value) => documents.take_in(&format!("{file}:{line}"), document, value, act),
            Err(Syntax { line: within, message }) => {
                let line = line + within.saturating_sub(1);
                documents.errors.push(format!("{file}:{line}: {message}"));
            }
        }
    }
    documents
}

#[cfg(test)]
mod tests {
    use injector::variable::Variables;
    use injector::{Resources, Settings};

    use super::*;
    use crate::inject::{inject, uninject};

    fn settings() -> Settings {
        Settings {
            proxy_image: "pillion-proxy:1".into(),
            init_image: "pillion-init:1".into(),
            control_plane: "control:15010".into(),
            trust_bundle: "-----BEGIN\nend\n".into(),
            trust_domain: "example.org".parse().unwrap(),
            cluster_domain: "cluster.local".into(),
            token_audience: "pillion.dev".into(),
            version: "1".into(),
            resources: Resources::standard(),
            variables: Variables::default(),
        }
    }

    fn injected(text: &str) -> Documents {
        each("a.yaml", text, &|template| inject(template, &settings()))
    }

    const SERVICE: &str =
        "# kept\napiVersion: v1\nkind: Service\nmetadata: {name: a} # so is this\n";

    fn deployment(name: &str, annotations: &str) -> String {
        format!(
            "apiVersion: apps/v1\nkind: Deployment\nmetadata: {{name: {name}, namespace: shop}}\n\
             spec:\n  template:\n    metadata: {{annotations: {{{annotations}}}}}\n    \
             spec: {{containers: [{{name: a, env: [{{name: SWITCH, value: 'on'}}]}}]}}\n"
        )
    }

    #[test]
    fn only_what_is_injected_is_written_anew() {
        let disabled = deployment("off", "pillion.dev/inject: disabled");
        let text = format!("{SERVICE}---\n{}---\n{disabled}", deployment("api", ""));
        let done = injected(&text);
        assert_eq!(done.errors, Vec::<String>::new());
        assert_eq!(
            done.notes,
            [
                "a.yaml:5: Deployment shop/api: injected",
                "a.yaml:13: Deployment shop/off: skipped: pillion.dev/inject is disabled",
            ]
        );
        assert!(done.text.starts_with(&format!("{SERVICE}---\n")), "{}", done.text);
        assert!(done.text.ends_with(&format!("---\n{disabled}")), "{}", done.text);
        let documents = split(&done.text);
        assert_eq!(documents.len(), 3);
        let Ok(value) = parse_yaml(documents[1].1) else { panic!("{}", done.text) };
        let spec = &value["spec"]["template"]["spec"];
        assert_eq!(spec["initContainers"][1]["name"], "pillion-proxy");
        assert_eq!(spec["containers"][0]["env"][0]["value"], "on");
        assert!(done.text.contains("value: \"on\""), "kubectl reads on as true: {}", done.text);
        // What comes out goes in again.
        let again = injected(&done.text);
        assert_eq!(again.text, done.text);
        assert!(again.notes[0].ends_with("skipped: it has a sidecar already"), "{:?}", again.notes);
        // And comes out without a sidecar.
        let back = each("a.yaml", &done.text, &uninject);
        assert_eq!(back.notes[0], "a.yaml:5: Deployment shop/api: uninjected");
        assert!(back.notes[1].ends_with("skipped: it has no sidecar of ours"), "{:?}", back.notes);
        assert!(!back.text.contains("pillion-proxy"), "{}", back.text);
    }

    #[test]
    fn all_that_is_wrong_is_told_with_its_place() {
        let bad = deployment("api", "pillion.dev/egress: x, pillion.dev/drain-timeout: y");
        let done = injected(&format!("{SERVICE}---\n{bad}---\nkind: [\n"));
        let expected = [
            "a.yaml:5: Deployment shop/api: spec.template.metadata.annotations[pillion.dev/egress]: \"x\"",
            "a.yaml:5: Deployment shop/api: spec.template.metadata.annotations[pillion.dev/drain-timeout]: \"y\"",
            "a.yaml:1",
        ];
        assert_eq!(done.errors.len(), 3, "{:?}", done.errors);
        for (error, start) in done.errors.iter().zip(expected) {
            assert!(error.starts_with(start), "{error}");
        }
    }

    #[test]
    fn texts_of_several_files_stay_documents_of_their_own() {
        let mut all = injected("a: 1");
        all.append(injected(""));
        all.append(injected("b: 1\n"));
        all.append(injected("---\nc: 1\n"));
        assert_eq!(all.text, "a: 1\n---\nb: 1\n---\nc: 1\n");
    }
}
