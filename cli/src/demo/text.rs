//! Figures as people read them.

use std::time::Duration;

/// A share in percent. `100 %` is said only of all.
pub(crate) fn percent(share: Option<f64>) -> String {
    match share {
        None => "-".into(),
        Some(share) if share >= 1.0 => "100 %".into(),
        Some(share) => format!("{:.1} %", (share * 1000.0).floor() / 10.0),
    }
}

/// A time of some milliseconds, in three digits.
pub(crate) fn milliseconds(seconds: Option<f64>) -> String {
    match seconds.map(|seconds| seconds * 1000.0) {
        None => "-".into(),
        Some(ms) if ms < 10.0 => format!("{ms:.2} ms"),
        Some(ms) if ms < 100.0 => format!("{ms:.1} ms"),
        Some(ms) => format!("{ms:.0} ms"),
    }
}

/// A span of time in seconds: `8 s`, `1 min 20 s`.
pub(crate) fn span(time: Duration) -> String {
    match time.as_secs() {
        seconds @ ..60 => format!("{seconds} s"),
        seconds => format!("{} min {} s", seconds / 60, seconds % 60),
    }
}

/// Columns: the first to the left, the others to the right.
pub(crate) fn row<const N: usize>(widths: [usize; N], cells: [&str; N]) -> String {
    let mut line = String::new();
    for (n, (width, cell)) in widths.into_iter().zip(cells).enumerate() {
        line += &if n == 0 { format!("{cell:<width$}") } else { format!("{cell:>width$}") };
    }
    line
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_hundred_percent_means_all() {
        let cases =
            [(None, "-"), (Some(1.0), "100 %"), (Some(0.99999), "99.9 %"), (Some(0.0), "0.0 %")];
        for (share, expected) in cases {
            assert_eq!(percent(share), expected);
        }
    }

    #[test]
    fn times_have_three_digits() {
        let cases =
            [(0.0012, "1.20 ms"), (0.0123, "12.3 ms"), (0.1234, "123 ms"), (2.5, "2500 ms")];
        for (seconds, expected) in cases {
            assert_eq!(milliseconds(Some(seconds)), expected);
        }
        assert_eq!(span(Duration::from_secs(80)), "1 min 20 s");
        assert_eq!(span(Duration::from_millis(1900)), "1 s");
    }

    #[test]
    fn columns_stand_under_each_other() {
        assert_eq!(row([4, 5], ["a", "1.0"]), "a     1.0");
    }
}
