//! Between the system's time and the whole seconds that X.509 and JWT count in.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use rustls::pki_types::UnixTime;
use time::OffsetDateTime;

/// The last second that X.509 can write: 9999-12-31T23:59:59Z (RFC 5280 §4.1.2.5).
const LAST: u64 = 253_402_300_799;

/// Whole seconds since 1970, rounded down; 0 for a time before that, 9999 for one after.
pub(crate) fn seconds(time: SystemTime) -> u64 {
    time.duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs()).min(LAST)
}

/// The time so many seconds after 1970; 9999 for a time after that.
pub(crate) fn system(seconds: u64) -> SystemTime {
    UNIX_EPOCH + Duration::from_secs(seconds.min(LAST))
}

/// The same time for rustls.
pub(crate) fn unix(time: SystemTime) -> UnixTime {
    UnixTime::since_unix_epoch(Duration::from_secs(seconds(time)))
}

/// The same time for rcgen, in whole seconds.
pub(crate) fn date(time: SystemTime) -> OffsetDateTime {
    OffsetDateTime::UNIX_EPOCH + time::Duration::seconds(seconds(time).cast_signed())
}

/// A time of a parsed certificate; 1970 for one before that.
pub(crate) fn from_asn1(time: x509_parser::time::ASN1Time) -> SystemTime {
    system(u64::try_from(time.timestamp()).unwrap_or(0))
}

/// The time for people, `2026-11-09T12:00:00Z`.
pub(crate) fn show(time: SystemTime) -> String {
    let format = time::format_description::well_known::Rfc3339;
    date(time).format(&format).unwrap_or_else(|_| format!("{} s after 1970", seconds(time)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_out_of_range_end_at_the_range() {
        assert_eq!(seconds(UNIX_EPOCH - Duration::from_secs(5)), 0);
        let far = UNIX_EPOCH + Duration::from_secs(u64::MAX / 4);
        assert_eq!(show(far), "9999-12-31T23:59:59Z");
        assert_eq!(system(u64::MAX), system(LAST));
    }

    #[test]
    fn a_time_is_rounded_down_to_its_second() {
        let time = UNIX_EPOCH + Duration::from_millis(1_700_000_000_999);
        assert_eq!(seconds(time), 1_700_000_000);
        assert_eq!(show(time), "2023-11-14T22:13:20Z");
    }
}
