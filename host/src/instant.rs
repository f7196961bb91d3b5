//! Instants as text and back, for every day of the years 1 to 9999, exact to the microsecond.
//!
//! jiff's own `Timestamp` ends on 9999-12-30 at 22:00 UTC, so that it is valid in every zone. Many people write
//! `9999-12-31T23:59:59Z` for "for ever", so instants are a date and a time in UTC here.

use jiff::SignedDuration;
use jiff::civil::{Date, DateTime, Time, date};
use jiff::fmt::temporal::Pieces;

const EPOCH: Date = date(1970, 1, 1);
const DAY: i64 = 86_400_000_000;
const SECOND: i64 = 1_000_000;

/// Date and time in UTC; `None` if outside of the calendar's years.
pub fn civil(micros: i64) -> Option<DateTime> {
    let days = i32::try_from(micros.div_euclid(DAY)).ok()?;
    let date = EPOCH.checked_add(jiff::Span::new().try_days(days).ok()?);
    let rest = micros.rem_euclid(DAY);
    let (seconds, nanos) = (rest / SECOND, rest % SECOND * 1000);
    let part = |n: i64| i8::try_from(n).ok();
    let (hour, minute, second) = (seconds / 3600, seconds / 60 % 60, seconds % 60);
    let time = Time::new(part(hour)?, part(minute)?, part(second)?, nanos as i32);
    Some(date.ok()?.to_datetime(time.ok()?))
}

/// RFC 3339 in UTC, with this many digits of the second's fraction. The number itself if it is outside of the
/// calendar's years.
pub fn utc(micros: i64, digits: usize) -> String {
    match civil(micros) {
        Some(time) => format!("{time:.digits$}Z"),
        None => micros.to_string(),
    }
}

/// `2020-02-29T12:00:00Z`, without the `Z` where it is not known to be UTC, with the digits of the fraction that it has. The
/// number itself if it is outside of the calendar's years.
pub fn text(micros: i64, utc: bool) -> String {
    match civil(micros) {
        Some(time) if utc => format!("{time}Z"),
        Some(time) => time.to_string(),
        None => micros.to_string(),
    }
}

/// Microseconds since 1970; finer digits are cut off.
pub fn micros(utc: DateTime) -> i64 {
    // The span between two dates, in its largest default unit, is in days.
    let days = utc.date().since(EPOCH).map_or(0, |span| span.get_days());
    let seconds =
        i64::from(utc.hour()) * 3600 + i64::from(utc.minute()) * 60 + i64::from(utc.second());
    i64::from(days) * DAY + seconds * SECOND + i64::from(utc.subsec_nanosecond()) / 1000
}

/// Parses RFC 3339, and other forms of a date with a time that jiff accepts, as UTC. `None`: another text, or outside
/// of the years 1 to 9999 in UTC. If `local`, a text without an offset is allowed and means UTC.
pub fn parse(text: &str, local: bool) -> Option<DateTime> {
    let pieces = Pieces::parse(text).ok()?;
    let written = pieces.date().to_datetime(pieces.time()?);
    match pieces.to_numeric_offset() {
        Some(offset) => {
            let offset = SignedDuration::from_secs(offset.seconds().into());
            written.checked_sub(offset).ok()
        }
        None => (local && pieces.time_zone_annotation().is_none()).then_some(written),
    }
}

/// True: the text is a date with a time and an offset, whatever day that is.
pub fn has_offset(text: &str) -> bool {
    Pieces::parse(text).is_ok_and(|pieces| pieces.to_numeric_offset().is_some())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_day_of_the_calendar_has_its_instants() {
        for (text, expected) in [
            ("1970-01-01T00:00:00Z", 0),
            ("1969-12-31T23:59:59.999999Z", -1),
            ("9999-12-31T23:59:59.999999Z", 253_402_300_799_999_999),
            ("9999-12-31T23:59:59+14:00", 253_402_250_399_000_000),
            ("0001-01-01T00:00:00Z", -62_135_596_800_000_000),
        ] {
            let utc = parse(text, false).expect(text);
            assert_eq!(micros(utc), expected, "{text}");
            assert_eq!(civil(expected), Some(utc), "{text}");
        }
        for outside in [
            "9999-12-31T23:59:59-01:00",
            "2024-01-01",
            "noon",
            "2024-01-01T00:00",
        ] {
            assert_eq!(parse(outside, false), None, "{outside}");
        }
        assert!(has_offset("9999-12-31T23:59:59-01:00") && !has_offset("2024-01-01T00:00"));
        assert_eq!(parse("1970-01-01T00:00", true).map(micros), Some(0));
        assert_eq!(civil(i64::MAX), None);
        assert_eq!(utc(-1, 3), "1969-12-31T23:59:59.999Z");
        assert_eq!(utc(0, 0), "1970-01-01T00:00:00Z");
        assert_eq!(utc(i64::MAX, 0), i64::MAX.to_string());
    }
}
