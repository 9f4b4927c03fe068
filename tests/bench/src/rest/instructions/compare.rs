//! What was measured, beside what the file says.

use std::collections::BTreeMap;
use std::fmt;
use std::path::Path;

use anyhow::{Context, ensure};
use serde::{Deserialize, Serialize};

use crate::callgrind::Profile;
use crate::scene::{Case, Measured};

/// By how much instructions may differ from the file, in percent. Runs of one build differ by half
/// of a percent; the C library of another machine, whose allocator and copying are counted as
/// well, takes the rest.
const MARGIN: f64 = 3.0;

/// By how much allocations may. What grows once for many requests gives them their fractions.
const ALLOCATIONS: f64 = 0.6;

/// How the file is brought up to date.
const COMMAND: &str = "tests/bench/run instructions --update";

/// Entry points of jemalloc, which gives Rust its memory, and of the C library's allocator, which
/// gives C its own. Those of Rust itself are compiled into their callers, and cannot be counted.
const ALLOCATOR: [&str; 11] = [
    "_rjem_malloc",
    "_rjem_mallocx",
    "_rjem_calloc",
    "_rjem_realloc",
    "_rjem_rallocx",
    "malloc",
    "calloc",
    "realloc",
    "posix_memalign",
    "aligned_alloc",
    "memalign",
];

/// One request in one sidecar.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
struct Cost {
    instructions: u64,
    allocations: f64,
}

impl Cost {
    fn of(profile: &Profile, requests: u64) -> Self {
        let each = |count: u64| count as f64 / requests as f64;
        Self {
            instructions: each(profile.instructions).round() as u64,
            allocations: (10.0 * each(profile.calls(&ALLOCATOR))).round() / 10.0,
        }
    }
}

/// By case and sidecar.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(transparent)]
pub(super) struct Figures(BTreeMap<String, BTreeMap<String, Cost>>);

/// The file.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub(super) struct Recorded {
    /// What counts move with besides the code: compiler and C library.
    made_with: String,
    cases: Figures,
    /// Of a sidecar that was compiled without its profile.
    #[serde(default)]
    without_profile: Figures,
}

/// What a comparison says.
#[derive(Debug, Default)]
pub(super) struct Verdict {
    /// What fails it.
    pub(super) failures: Vec<String>,
    /// What should be known.
    pub(super) notes: Vec<String>,
}

impl Figures {
    /// Adds what was measured of one case.
    ///
    /// # Errors
    /// When nothing was allocated.
    pub(super) fn add(&mut self, case: Case, measured: &Measured) -> anyhow::Result<()> {
        let sides = self.0.entry(case.to_string()).or_default();
        for (side, profile) in measured.sides() {
            let cost = Cost::of(profile, measured.requests);
            ensure!(cost.allocations > 0.0, "{case}, {side}: another allocator? {ALLOCATOR:?}");
            sides.insert(side.to_owned(), cost);
        }
        Ok(())
    }

    fn rows(&self) -> impl Iterator<Item = (&str, &str, Cost)> {
        self.0.iter().flat_map(|(case, sides)| {
            sides.iter().map(|(side, cost)| (case.as_str(), side.as_str(), *cost))
        })
    }
}

impl Recorded {
    /// Reads the file.
    pub(super) fn read(path: &Path) -> anyhow::Result<Self> {
        let text = std::fs::read_to_string(path).with_context(|| path.display().to_string())?;
        serde_json::from_str(&text).with_context(|| path.display().to_string())
    }

    /// Writes the file.
    pub(super) fn write(&self, path: &Path) -> anyhow::Result<()> {
        let text = serde_json::to_string_pretty(self)? + "\n";
        std::fs::write(path, text).with_context(|| path.display().to_string())
    }

    /// With what was measured in place of what was there.
    pub(super) fn updated(
        mut self,
        measured: &Figures,
        made_with: String,
        without_profile: bool,
    ) -> Self {
        let cases = if without_profile { &mut self.without_profile } else { &mut self.cases };
        cases.0.extend(measured.0.clone());
        Self { made_with, ..self }
    }

    /// Judges what was measured by what is recorded here. Another compiler gives functions other names,
    /// by which nothing in the profile is theirs: its sidecar is one without.
    pub(super) fn compare(
        &self,
        measured: &Figures,
        made_with: &str,
        without_profile: bool,
    ) -> Verdict {
        let without_profile = without_profile || compiler(&self.made_with) != compiler(made_with);
        let cases = if without_profile { &self.without_profile } else { &self.cases };
        let mut verdict = Verdict::default();
        if self.made_with != made_with {
            verdict.notes.push(format!(
                "the file is of {}, and this is {made_with}: counts may move with that alone",
                self.made_with
            ));
        }
        for (case, side, new) in measured.rows() {
            match cases.0.get(case).and_then(|sides| sides.get(side)) {
                Some(old) => verdict.judge(&format!("{case}, {side}"), *old, new),
                None => verdict.failures.push(format!(
                    "{case}, {side}: the file has no figure; write it with: {COMMAND}"
                )),
            }
        }
        verdict
    }
}

/// What compiled it, of a compiler and a C library.
fn compiler(made_with: &str) -> Option<&str> {
    made_with.split(", ").next()
}

impl Verdict {
    fn judge(&mut self, what: &str, old: Cost, new: Cost) {
        let (was, is) = (old.instructions as f64, new.instructions as f64);
        self.judge_one(what, "instructions", (was, is), was * MARGIN / 100.0);
        self.judge_one(what, "allocations", (old.allocations, new.allocations), ALLOCATIONS);
    }

    fn judge_one(&mut self, what: &str, unit: &str, (old, new): (f64, f64), margin: f64) {
        if new > old + margin {
            self.failures.push(format!(
                "{what}: {new} {unit} a request, {old} when the file was written. If that is meant: {COMMAND}"
            ));
        } else if new < old - margin {
            self.notes.push(format!(
                "{what}: {new} {unit} a request, less than the {old} of the file. To hold that: {COMMAND}"
            ));
        }
    }
}

impl fmt::Display for Figures {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(
            f,
            "{:<12} {:<9} {:>12} {:>12}",
            "case", "sidecar", "instructions", "allocations"
        )?;
        for (case, side, cost) in self.rows() {
            writeln!(
                f,
                "{case:<12} {side:<9} {:>12} {:>12.1}",
                cost.instructions, cost.allocations
            )?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn figures(instructions: u64, allocations: f64) -> Figures {
        let cost = Cost { instructions, allocations };
        Figures([("http1".to_owned(), [("inbound".to_owned(), cost)].into())].into())
    }

    const HERE: &str = "a compiler, a library";

    fn file(cases: Figures) -> Recorded {
        let without_profile = figures(20_000, 30.0);
        Recorded { made_with: HERE.to_owned(), cases, without_profile }
    }

    #[test]
    fn slower_fails_and_faster_is_told() {
        let file = file(figures(10_000, 30.0));
        // What is measured, failures, notes.
        let cases = [
            (figures(10_000, 30.0), 0, 0),
            (figures(10_299, 30.5), 0, 0),
            (figures(9_701, 29.5), 0, 0),
            (figures(10_301, 30.0), 1, 0),
            (figures(10_000, 31.0), 1, 0),
            (figures(20_000, 40.0), 2, 0),
            (figures(9_000, 29.0), 0, 2),
            (figures(9_000, 31.0), 1, 1),
        ];
        for (measured, failures, notes) in cases {
            let verdict = file.compare(&measured, HERE, false);
            let seen = (verdict.failures.len(), verdict.notes.len());
            assert_eq!(seen, (failures, notes), "{measured}: {verdict:?}");
        }
    }

    #[test]
    fn a_failure_says_what_to_do() {
        let verdict = file(figures(10_000, 30.0)).compare(&figures(11_000, 30.0), HERE, false);
        let sentence = &verdict.failures[0];
        for part in ["http1, inbound", "11000 instructions", "10000", "--update"] {
            assert!(sentence.contains(part), "{sentence}");
        }
    }

    #[test]
    fn what_is_not_in_the_file_fails() {
        let verdict = file(Figures::default()).compare(&figures(1, 1.0), HERE, false);
        assert_eq!(verdict.failures.len(), 1);
    }

    #[test]
    fn a_sidecar_without_its_profile_is_judged_by_another() {
        let file = file(figures(10_000, 30.0));
        // By whom, whether with a profile, what is measured, failures, notes.
        let cases = [
            ("another, a library", false, 20_599, 0, 1),
            ("another, a library", false, 20_601, 1, 1),
            ("a compiler, another", false, 20_599, 1, 1),
            (HERE, false, 20_599, 1, 0),
            (HERE, true, 20_599, 0, 0),
            (HERE, true, 20_601, 1, 0),
        ];
        for (made_with, without_profile, instructions, failures, notes) in cases {
            let verdict = file.compare(&figures(instructions, 30.0), made_with, without_profile);
            let seen = (verdict.failures.len(), verdict.notes.len());
            assert_eq!(seen, (failures, notes), "{made_with}, {instructions}: {verdict:?}");
        }
    }

    #[test]
    fn an_update_keeps_what_was_not_measured() {
        let file = file(Figures([("tcp".to_owned(), BTreeMap::default())].into()));
        let updated = file.updated(&figures(1, 1.0), HERE.to_owned(), false);
        assert_eq!(updated.cases.0.keys().collect::<Vec<_>>(), ["http1", "tcp"]);
    }
}
