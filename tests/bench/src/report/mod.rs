//! Results for readers: tables, charts, JSON.

mod chart;
mod json;
mod machine;
mod number;
mod summary;
mod svg;
mod table;

use std::fmt::Write;
use std::fs;
use std::path::Path;

use anyhow::Context;

use crate::case::Case;
use crate::peer::Peer;
use crate::sample::Sample;

pub(crate) use self::summary::{case, targets};

/// All that was measured.
#[derive(Debug)]
pub(crate) struct Results {
    /// The cases, in their order.
    pub(crate) cases: Vec<Case>,
    /// The peers, in their order.
    pub(crate) peers: Vec<Peer>,
    /// Every run.
    pub(crate) samples: Vec<Sample>,
    /// How it was run: rounds and their length.
    pub(crate) manner: String,
}

/// Writes `results.md`, `results.json` and a chart for each section.
///
/// # Errors
/// When a file cannot be written.
pub(crate) fn write(dir: &Path, results: &Results) -> anyhow::Result<()> {
    fs::create_dir_all(dir).with_context(|| dir.display().to_string())?;
    let machine = machine::describe(results);
    fs::write(dir.join("results.md"), markdown(results, &machine))?;
    fs::write(dir.join("results.json"), json::text(results, &machine)?)?;
    for (name, chart) in chart::all(results) {
        fs::write(dir.join(name), chart)?;
    }
    Ok(())
}

fn markdown(results: &Results, machine: &[(String, String)]) -> String {
    let mut text = String::from("# What was measured\n\n");
    for (name, value) in machine {
        let _ = writeln!(text, "- {name}: {value}");
    }
    let mut section = "";
    for one in &results.cases {
        if one.section != section {
            section = one.section;
            let _ = write!(text, "\n## {section}\n");
        }
        let _ = write!(text, "\n{}", case(one, &results.peers, &results.samples));
    }
    if let Some(table) = targets(&results.samples) {
        let _ = write!(text, "\n## targets\n\n{table}");
    }
    text
}
