//! Figures as lines, beside what they must reach.

use std::fmt;

/// Prints figures as they are found, and remembers which targets were not reached.
#[derive(Debug, Default)]
pub(crate) struct Report {
    missed: Vec<String>,
}

/// Bytes of a mebibyte.
pub(crate) const MIB: f64 = 1024.0 * 1024.0;

/// Bytes of a kibibyte.
pub(crate) const KIB: f64 = 1024.0;

impl Report {
    /// Prints a headline.
    pub(crate) fn part(&self, title: &str) {
        println!("\n{title}");
    }

    /// Prints a figure.
    pub(crate) fn line(&self, name: &str, value: impl fmt::Display) {
        println!("  {name:<58} {value}");
    }

    /// Prints a figure that must not be larger than `most`.
    pub(crate) fn target(&mut self, name: &str, value: f64, most: f64, unit: &str) {
        let reached = value <= most;
        let verdict = if reached { "reached" } else { "NOT REACHED" };
        self.line(name, format!("{value:.1} {unit} (at most {most} {unit}: {verdict})"));
        if !reached {
            self.missed.push(format!("{name}: {value:.1} {unit}, not {most} {unit}"));
        }
    }

    /// Prints which targets were not reached.
    pub(crate) fn end(self) {
        if self.missed.is_empty() {
            return;
        }
        println!("\nnot reached:");
        for missed in self.missed {
            println!("  {missed}");
        }
    }
}

/// The middle of some figures, or the value below which `share` of them are.
pub(crate) fn quantile(values: &[f64], share: f64) -> f64 {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    let last = sorted.len().saturating_sub(1);
    // The nearest rank: no figure that was not seen.
    let rank = (share * sorted.len() as f64).ceil() as usize;
    sorted.get(rank.saturating_sub(1).min(last)).copied().unwrap_or(f64::NAN)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_quantile_is_one_of_the_values() {
        let values: Vec<f64> = (1..=100).rev().map(f64::from).collect();
        assert_eq!([0.5, 0.99, 1.0].map(|share| quantile(&values, share)), [50.0, 99.0, 100.0]);
        assert_eq!(quantile(&[7.0], 0.99), 7.0);
        assert!(quantile(&[], 0.5).is_nan());
    }
}
