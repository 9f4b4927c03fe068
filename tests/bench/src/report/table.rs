//! A table of text, which Markdown reads as one too.

use std::fmt::{self, Display, Formatter};

/// Rows of the same number of cells; the first column names, all others are aligned to the right.
#[derive(Debug)]
pub(super) struct Table {
    rows: Vec<Vec<String>>,
}

impl Table {
    /// One with a head and no row yet.
    pub(super) fn new<S: Into<String>>(head: impl IntoIterator<Item = S>) -> Self {
        Self { rows: vec![head.into_iter().map(Into::into).collect()] }
    }

    /// Adds a row.
    pub(super) fn row(&mut self, cells: Vec<String>) {
        self.rows.push(cells);
    }

    fn width(&self, column: usize) -> usize {
        let cells = self.rows.iter().filter_map(|row| row.get(column));
        cells.map(|cell| cell.chars().count()).max().unwrap_or_default().max(2)
    }
}

impl Display for Table {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        for (nth, row) in self.rows.iter().enumerate() {
            for (column, cell) in row.iter().enumerate() {
                let width = self.width(column);
                match column {
                    0 => write!(f, "| {cell:width$} |")?,
                    _ => write!(f, " {cell:>width$} |")?,
                }
            }
            writeln!(f)?;
            if nth == 0 {
                for column in 0..row.len() {
                    let line = "-".repeat(self.width(column));
                    match column {
                        0 => write!(f, "| {line} |")?,
                        _ => write!(f, " {}: |", &line[1..])?,
                    }
                }
                writeln!(f)?;
            }
        }
        Ok(())
    }
}
