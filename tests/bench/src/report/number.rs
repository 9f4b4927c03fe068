//! Numbers for readers.

use crate::stats::Spread;

/// Three digits that count.
pub(super) fn short(value: f64) -> String {
    match value.abs() {
        v if v >= 100.0 => format!("{value:.0}"),
        v if v >= 10.0 => format!("{value:.1}"),
        v if v >= 0.1 => format!("{value:.2}"),
        _ => format!("{value:.3}"),
    }
}

/// From the least to the most.
pub(super) fn range(spread: &Spread) -> String {
    format!("{}..{}", short(spread.min), short(spread.max))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn three_digits_count() {
        let shown = [12_345.6, 123.45, 12.345, 1.234, 0.0123].map(short);
        assert_eq!(shown, ["12346", "123", "12.3", "1.23", "0.012"]);
    }
}
