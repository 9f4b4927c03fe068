//! What gRPC says of a request in its headers (gRPC over HTTP/2, "Requests").

use std::time::Duration;

/// The header with the time that the client gives the call.
pub const TIMEOUT: &str = "grpc-timeout";

/// Most digits of a timeout.
const MAX_DIGITS: usize = 8;

/// The time that the value of [`TIMEOUT`] means: up to eight digits and a unit. `None` for a value
/// that is malformed; it then limits nothing.
pub fn timeout(value: &[u8]) -> Option<Duration> {
    let (unit, digits) = value.split_last()?;
    let valid = (1..=MAX_DIGITS).contains(&digits.len()) && digits.iter().all(u8::is_ascii_digit);
    let number = std::str::from_utf8(digits).ok().filter(|_| valid)?.parse().ok()?;
    match unit {
        b'H' => Some(Duration::from_secs(number * 3600)),
        b'M' => Some(Duration::from_secs(number * 60)),
        b'S' => Some(Duration::from_secs(number)),
        b'm' => Some(Duration::from_millis(number)),
        b'u' => Some(Duration::from_micros(number)),
        b'n' => Some(Duration::from_nanos(number)),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_timeout_is_digits_and_a_unit() {
        let cases: [(&str, Option<Duration>); 11] = [
            ("2H", Some(Duration::from_secs(7200))),
            ("3M", Some(Duration::from_secs(180))),
            ("5S", Some(Duration::from_secs(5))),
            ("100m", Some(Duration::from_millis(100))),
            ("7u", Some(Duration::from_micros(7))),
            ("99999999n", Some(Duration::from_nanos(99_999_999))),
            ("999999999n", None),
            ("+5S", None),
            ("5s", None),
            ("S", None),
            ("", None),
        ];
        for (value, expected) in cases {
            assert_eq!(timeout(value.as_bytes()), expected, "{value:?}");
        }
    }
}
