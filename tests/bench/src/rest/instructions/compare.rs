//! What was measured, beside what the file says.

use std::collections::BTreeMap;
use std::fmt;
use std::path::Path;

use anyhow::Context;
use serde::{Deserialize, Serialize};

use super::case::Case;
use super::scene::Measured;

/// By how much instructions may differ from the file, in percent.
const MARGIN: f64 = 5.0;

/// By how much allocations may.
const ALLOCATIONS: f64 = 1.0;

/// How the file is brought up to date.
const COMMAND: &str =
    "PILLION_BIN_DIR=target/release cargo run --bin bench-rest -- instructions --update";

/// Entry points of the C library's allocator, through which Rust's own goes as well.
const ALLOCATOR: [&str; 6] =
    ["malloc", "calloc", "realloc", "posix_memalign", "aligned_alloc", "memalign"];

/// One request in one sidecar.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
struct Cost {
    instructions: u64,
    allocations: f64,
}

/// By case and sidecar.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(transparent)]
pub(super) struct Figures(BTreeMap<String, BTreeMap<String, Cost>>);

/// The file.
pub(super) type Recorded = Figures;

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
    pub(super) fn add(&mut self, case: Case, measured: &Measured) {
        let costs = measured.sides().map(|(side, profile)| {
            let requests = measured.requests as f64;
            let allocations = profile.calls(&ALLOCATOR) as f64 / requests;
            let cost = Cost {
                instructions: (profile.instructions as f64 / requests).round() as u64,
                allocations: (allocations * 10.0).round() / 10.0,
            };
            (side.to_owned(), cost)
        });
        self.0.insert(case.to_string(), costs.into());
    }

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
    pub(super) fn updated(mut self, measured: &Self) -> Self {
        self.0.extend(measured.0.clone());
        self
    }

    /// Judges what was measured by what is recorded here.
    pub(super) fn compare(&self, measured: &Self) -> Verdict {
        let mut verdict = Verdict::default();
        for (case, side, new) in measured.rows() {
            match self.0.get(case).and_then(|sides| sides.get(side)) {
                Some(old) => verdict.judge(&format!("{case}, {side}"), *old, new),
                None => verdict.failures.push(format!(
                    "{case}, {side}: the file has no figure; write it with: {COMMAND}"
                )),
            }
        }
        verdict
    }

    fn rows(&self) -> impl Iterator<Item = (&str, &str, Cost)> {
        self.0.iter().flat_map(|(case, sides)| {
            sides.iter().map(|(side, cost)| (case.as_str(), side.as_str(), *cost))
        })
    }
}

impl Verdict {
    fn judge(&mut self, what: &str, old: Cost, new: Cost) {
        let (was, is) = (old.instructions as f64, new.instructions as f64);
        let margin = was * MARGIN / 100.0;
        self.judge_one(what, "instructions", was, is, margin);
        self.judge_one(what, "allocations", old.allocations, new.allocations, ALLOCATIONS);
    }

    fn judge_one(&mut self, what: &str, unit: &str, old: f64, new: f64, margin: f64) {
        if new > old + margin {
            self.failures.push(format!(
                "{what}: a request costs {new} {unit}, and {old} when the file was written; if that is \
                 meant: {COMMAND}"
            ));
        } else if new < old - margin {
            self.notes.push(format!(
                "{what}: a request costs {new} {unit}, less than the file's {old}; hold it with: {COMMAND}"
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
