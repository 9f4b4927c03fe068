//! Durations as Gateway API objects write them: `1h30m`, `500ms` (GEP-2257).

use std::time::Duration;

/// Most components that a text may have.
const COMPONENTS: usize = 4;

/// Most digits that a value may have.
const DIGITS: usize = 5;

/// Longest text that can be a duration: four components of five digits and `ms`.
const LONGEST: usize = COMPONENTS * (DIGITS + 2);

/// Why a text is no duration.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{text:?} is not a duration such as 1h30m or 500ms: {reason}")]
pub struct DurationError {
    text: String,
    reason: Reason,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
enum Reason {
    #[error("it is empty")]
    Empty,
    #[error("a whole number without sign must stand before each unit")]
    NoValue,
    #[error("a number has more than five digits")]
    Digits,
    #[error("a number has no unit; the units are h, m, s and ms")]
    NoUnit,
    #[error("the units are h, m, s and ms")]
    Unit,
    #[error("it has more than four parts")]
    Components,
}

/// Reads a duration: `^([0-9]{1,5}(h|m|s|ms)){1,4}$`, the sum of its parts. Units may come in
/// any order and more than once.
pub fn parse(text: &str) -> Result<Duration, DurationError> {
    let wrong = |reason| DurationError { text: text.chars().take(2 * LONGEST).collect(), reason };
    if text.is_empty() {
        return Err(wrong(Reason::Empty));
    }
    let (mut rest, mut total) = (text, Duration::ZERO);
    for _ in 0..COMPONENTS {
        let (part, after) = component(rest).map_err(wrong)?;
        total += part;
        rest = after;
        if rest.is_empty() {
            return Ok(total);
        }
    }
    Err(wrong(Reason::Components))
}

/// Reads a value with its unit from the front of a text, and returns what follows.
fn component(text: &str) -> Result<(Duration, &str), Reason> {
    let (digits, rest) = split(text, |c| !c.is_ascii_digit());
    let (unit, rest) = split(rest, |c| c.is_ascii_digit());
    if digits.len() > DIGITS {
        return Err(Reason::Digits);
    }
    let value: u64 = digits.parse().map_err(|_| Reason::NoValue)?;
    let millis = match unit {
        "h" => 3_600_000,
        "m" => 60_000,
        "s" => 1_000,
        "ms" => 1,
        "" => return Err(Reason::NoUnit),
        _ => return Err(Reason::Unit),
    };
    Ok((Duration::from_millis(value * millis), rest))
}

fn split(text: &str, ends: impl Fn(char) -> bool) -> (&str, &str) {
    text.split_at(text.find(ends).unwrap_or(text.len()))
}

/// Writes a duration in GEP-2257's standard form: units descending, each once, the largest
/// possible; zero is `0s`.
///
/// `None` for what has no such form: a fraction of a millisecond, or more than 99999 hours.
pub fn format(duration: Duration) -> Option<String> {
    let seconds = duration.as_secs();
    let parts = [
        (seconds / 3600, "h"),
        (seconds / 60 % 60, "m"),
        (seconds % 60, "s"),
        (u64::from(duration.subsec_millis()), "ms"),
    ];
    if !duration.subsec_nanos().is_multiple_of(1_000_000) || parts[0].0 > 99_999 {
        return None;
    }
    if duration.is_zero() {
        return Some("0s".to_owned());
    }
    let written = parts.into_iter().filter(|(value, _)| *value > 0);
    Some(written.map(|(value, unit)| format!("{value}{unit}")).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn millis(hours: u64, minutes: u64, seconds: u64, millis: u64) -> Duration {
        Duration::from_millis(((hours * 60 + minutes) * 60 + seconds) * 1000 + millis)
    }

    /// GEP-2257, "Test Vectors", parsing; and some more.
    #[test]
    fn texts_and_their_standard_form() {
        let cases = [
            ("0h", "0s", millis(0, 0, 0, 0)),
            ("0s", "0s", millis(0, 0, 0, 0)),
            ("0h0m0s", "0s", millis(0, 0, 0, 0)),
            ("1h", "1h", millis(1, 0, 0, 0)),
            ("30m", "30m", millis(0, 30, 0, 0)),
            ("10s", "10s", millis(0, 0, 10, 0)),
            ("500ms", "500ms", millis(0, 0, 0, 500)),
            ("2h30m", "2h30m", millis(2, 30, 0, 0)),
            ("150m", "2h30m", millis(2, 30, 0, 0)),
            ("7230s", "2h30s", millis(2, 0, 30, 0)),
            ("1h30m10s", "1h30m10s", millis(1, 30, 10, 0)),
            ("10s30m1h", "1h30m10s", millis(1, 30, 10, 0)),
            ("100ms200ms300ms", "600ms", millis(0, 0, 0, 600)),
            ("1h2m3s4ms", "1h2m3s4ms", millis(1, 2, 3, 4)),
            ("00060m", "1h", millis(1, 0, 0, 0)),
            ("99999h", "99999h", millis(99_999, 0, 0, 0)),
        ];
        for (text, standard, duration) in cases {
            assert_eq!(parse(text), Ok(duration), "{text}");
            assert_eq!(format(duration).as_deref(), Some(standard), "{text}");
        }
    }

    #[test]
    fn texts_that_are_none_and_why() {
        let cases = [
            ("", Reason::Empty),
            ("1", Reason::NoUnit),
            ("1m1", Reason::NoUnit),
            ("1d", Reason::Unit),
            ("1h30m10s20ms50h", Reason::Components),
            ("999999h", Reason::Digits),
            ("1.5h", Reason::Unit),
            ("-15m", Reason::NoValue),
            ("+15m", Reason::NoValue),
            ("h", Reason::NoValue),
            ("1H", Reason::Unit),
            ("1 h", Reason::Unit),
            (" 1h", Reason::NoValue),
            ("1h ", Reason::Unit),
            ("1h\n", Reason::Unit),
            ("1hm", Reason::Unit),
            ("1us", Reason::Unit),
            ("١h", Reason::NoValue),
        ];
        for (text, reason) in cases {
            assert_eq!(parse(text).unwrap_err().reason, reason, "{text:?}");
        }
        let error = parse("1d").unwrap_err().to_string();
        assert_eq!(
            error,
            r#""1d" is not a duration such as 1h30m or 500ms: the units are h, m, s and ms"#
        );
        assert!(parse(&"x".repeat(1000)).unwrap_err().to_string().len() < 200);
    }

    /// GEP-2257, "Test Vectors", formatting.
    #[test]
    fn durations_and_what_has_no_form() {
        let cases = [
            (millis(2, 0, 0, 600), Some("2h600ms")),
            (millis(2, 30, 0, 600), Some("2h30m600ms")),
            (millis(2, 30, 10, 600), Some("2h30m10s600ms")),
            (Duration::from_secs(30), Some("30s")),
            (Duration::from_secs(10 * 24 * 3600), Some("240h")),
            (Duration::from_micros(100), None),
            (Duration::from_micros(500), None),
            (Duration::from_secs(10_000 * 24 * 3600), None),
            (Duration::MAX, None),
        ];
        for (duration, text) in cases {
            assert_eq!(format(duration).as_deref(), text, "{duration:?}");
        }
    }
}
