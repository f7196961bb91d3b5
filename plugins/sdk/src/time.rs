//! Dates and timestamps by pattern, in the letters that Spark and Java use; proleptic Gregorian, UTC. A text is read
//! exactly or not at all: values that cannot be kept (nanoseconds, a year above 9999) are refused.
use std::fmt;
use std::ops::RangeInclusive;

use crate::pattern;

/// A compiled pattern. `yyyy M MM MMM d dd H HH m mm s ss`, `S`… (a fraction of up to as many digits), `X`/`XXX`
/// (`Z` or an offset), `'literal'`, `''` (a quote), `[optional]`; any other character that is no letter and none of
/// `{`, `}`, `#` stands for itself.
#[derive(Debug, Clone, PartialEq)]
pub struct Pattern {
    text: String,
    parts: Vec<Part>,
}

#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Part {
    /// Itself.
    Byte(u8),
    /// `yyyy-MM-dd`, which most texts begin with.
    Day,
    /// `HH:mm`.
    Clock,
    Number(Unit, usize, usize),
    MonthName,
    Fraction(usize),
    Offset,
    Optional(Vec<Part>),
}

#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) enum Unit {
    Year,
    Month,
    Day,
    Hour,
    Minute,
    Second,
    Micros,
    /// Minutes east of UTC.
    Offset,
}

/// What a text said, before it is one instant: a value for each `Unit`.
#[derive(Debug, Clone, Copy)]
struct Read {
    values: [i32; 8],
    /// A bit for each unit that the text gave.
    given: u8,
}

const MONTHS: [&[u8; 3]; 12] = [
    b"jan", b"feb", b"mar", b"apr", b"may", b"jun", b"jul", b"aug", b"sep", b"oct", b"nov", b"dec",
];
const MICROS_PER_SECOND: i64 = 1_000_000;
const SECONDS_PER_DAY: i64 = 86_400;
const MICROS_PER_DAY: i64 = SECONDS_PER_DAY * MICROS_PER_SECOND;
/// What Java's, Spark's and Python's offsets have in common: up to 18 hours.
const MAX_OFFSET_MINUTES: i32 = 18 * 60;
/// 0001-01-01 to 9999-12-31, the days that SQL, Spark and Python have, since 1970-01-01.
const DAYS: RangeInclusive<i64> = -719_162..=2_932_896;
/// Every microsecond of `DAYS`.
const INSTANTS: RangeInclusive<i64> =
    *DAYS.start() * MICROS_PER_DAY..=(*DAYS.end() + 1) * MICROS_PER_DAY - 1;

/// Whether a day since 1970-01-01 is in the years 0001 to 9999.
pub fn is_day(days: i64) -> bool {
    DAYS.contains(&days)
}

/// Whether microseconds since 1970-01-01T00:00Z are in the years 0001 to 9999, in UTC.
pub fn is_instant(micros: i64) -> bool {
    INSTANTS.contains(&micros)
}

/// Said of what `is_day` and `is_instant` refuse.
pub const OUT_OF_RANGE: &str = "it is outside of the years 0001 to 9999 in UTC";

impl Pattern {
    /// With the zone that XML Schema allows behind a date.
    pub const DATE: &'static str = "yyyy-MM-dd[XXX]";
    /// What Java, .NET, Python and XML Schema write: with or without seconds, up to nine digits behind them.
    pub const TIMESTAMP: &'static str = "yyyy-MM-dd'T'HH:mm[:ss[.SSSSSSSSS]][XXX]";

    pub fn compile(text: &str) -> Result<Self, String> {
        let parts = pattern::parts(text).map_err(|why| format!("pattern `{text}`: {why}"))?;
        let text = text.to_owned();
        Ok(Self { text, parts })
    }

    /// Days since 1970-01-01: the day as it is written, whatever time and offset follow. A day that ends at 24:00:00 is
    /// none, since that moment belongs to the next one.
    pub fn date(&self, text: &[u8]) -> Option<i32> {
        let read = self.read(text)?;
        (read.get(Unit::Hour) < 24).then(|| read.days())
    }

    /// Microseconds since 1970-01-01T00:00Z; a text without an offset is in UTC.
    pub fn timestamp(&self, text: &[u8]) -> Option<i64> {
        let read = self.read(text)?;
        let minutes = read.get(Unit::Hour) * 60 + read.get(Unit::Minute) - read.get(Unit::Offset);
        let seconds = minutes * 60 + read.get(Unit::Second);
        let seconds = i64::from(read.days()) * SECONDS_PER_DAY + i64::from(seconds);
        let micros = seconds * MICROS_PER_SECOND + i64::from(read.get(Unit::Micros));
        is_instant(micros).then_some(micros)
    }

    #[inline]
    fn read(&self, text: &[u8]) -> Option<Read> {
        self.written(text).filter(Read::exists)
    }

    /// What a text of this form says, whether there is such a time or not.
    #[inline]
    fn written(&self, text: &[u8]) -> Option<Read> {
        let mut read = Read {
            values: [1970, 1, 1, 0, 0, 0, 0, 0],
            given: 0,
        };
        let rest = step(&self.parts, text, &mut read)?;
        rest.is_empty().then_some(read)
    }

    /// Why `date` finds nothing, where that cannot be seen at once.
    pub fn why_no_date(&self, text: &[u8]) -> Option<&'static str> {
        match self.read(text) {
            Some(_) => Some("24:00:00 belongs to the next day"),
            None => self.why_none(text),
        }
    }

    /// Why `timestamp` finds nothing, where that cannot be seen at once.
    pub fn why_no_timestamp(&self, text: &[u8]) -> Option<&'static str> {
        match self.read(text) {
            Some(_) => Some(OUT_OF_RANGE),
            None => self.why_none(text),
        }
    }

    fn why_none(&self, text: &[u8]) -> Option<&'static str> {
        if let Some(read) = self.written(text) {
            return Some(match read.get(Unit::Year) {
                0 => OUT_OF_RANGE,
                _ => "there is no such day or time",
            });
        }
        let point = text.iter().rposition(|b| *b == b'.')?;
        let is_digit = |b: &&u8| b.is_ascii_digit();
        let digits: Vec<u8> = text[point + 1..]
            .iter()
            .take_while(is_digit)
            .copied()
            .collect();
        let lost = digits.len() > 6 && digits[6..].iter().any(|b| *b != b'0');
        lost.then_some("digits beyond microseconds must be zeros")
    }
}

impl fmt::Display for Pattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

impl Read {
    #[inline]
    fn get(&self, unit: Unit) -> i32 {
        self.values[unit as usize]
    }

    /// Nothing where the text gave another value for this unit before.
    #[inline]
    fn give(&mut self, unit: Unit, value: i32) -> Option<()> {
        let bit = 1 << unit as u8;
        let old = &mut self.values[unit as usize];
        if self.given & bit != 0 && *old != value {
            return None;
        }
        self.given |= bit;
        *old = value;
        Some(())
    }

    fn exists(&self) -> bool {
        let [year, month, day, hour, minute, second, micros, _] = self.values;
        let midnight = hour == 24 && minute == 0 && second == 0 && micros == 0;
        (1..=9999).contains(&year)
            && (1..=12).contains(&month)
            && (1..=days_in_month(year, month)).contains(&day)
            && (hour < 24 || midnight)
            && minute < 60
            && second < 60
    }

    fn days(&self) -> i32 {
        let [year, month, day, ..] = self.values;
        days(year, month, day)
    }
}

/// Howard Hinnant's `days_from_civil`.
fn days(year: i32, month: i32, day: i32) -> i32 {
    let year = year - i32::from(month <= 2);
    let era = year.div_euclid(400);
    let of_era = year.rem_euclid(400);
    let of_year = (153 * ((month + 9) % 12) + 2) / 5 + day - 1;
    era * 146_097 + of_era * 365 + of_era / 4 - of_era / 100 + of_year - 719_468
}

/// Days since 1970-01-01; nothing where the years 0001 to 9999 have no such day.
pub fn day_of(year: i32, month: i32, day: i32) -> Option<i32> {
    let there = (1..=9999).contains(&year)
        && (1..=12).contains(&month)
        && (1..=days_in_month(year, month)).contains(&day);
    there.then(|| days(year, month, day))
}

/// Year, month and day of a day since 1970-01-01.
pub fn civil(days: i64) -> (i64, i64, i64) {
    let shifted = days + 719_468;
    let era = shifted.div_euclid(146_097);
    let of_era = shifted.rem_euclid(146_097);
    let of_era_year = (of_era - of_era / 1460 + of_era / 36_524 - of_era / 146_096) / 365;
    let of_year = of_era - (365 * of_era_year + of_era_year / 4 - of_era_year / 100);
    let march = (5 * of_year + 2) / 153;
    let day = of_year - (153 * march + 2) / 5 + 1;
    let month = if march < 10 { march + 3 } else { march - 9 };
    let year = of_era_year + era * 400 + i64::from(month <= 2);
    (year, month, day)
}

/// `yyyy-MM-dd` of a day since 1970-01-01; years that have more digits, or are before 0, with a sign as in ISO 8601.
pub fn show_date(days: i64) -> String {
    let (year, month, day) = civil(days);
    match year {
        0..=9999 => format!("{year:04}-{month:02}-{day:02}"),
        _ => format!("{year:+05}-{month:02}-{day:02}"),
    }
}

/// `yyyy-MM-ddTHH:mm:ss[.SSSSSS]Z` of microseconds since 1970-01-01T00:00Z.
pub fn show_timestamp(micros: i64) -> String {
    let seconds = micros.div_euclid(MICROS_PER_SECOND);
    let (day, second) = (
        seconds.div_euclid(SECONDS_PER_DAY),
        seconds.rem_euclid(SECONDS_PER_DAY),
    );
    let (hour, minute) = (second / 3600, second / 60 % 60);
    let date = show_date(day);
    let fraction = match micros.rem_euclid(MICROS_PER_SECOND) {
        0 => String::new(),
        micros => format!(".{micros:06}"),
    };
    format!("{date}T{hour:02}:{minute:02}:{:02}{fraction}Z", second % 60)
}

fn days_in_month(year: i32, month: i32) -> i32 {
    match month {
        2 if year % 4 == 0 && (year % 100 != 0 || year % 400 == 0) => 29,
        2 => 28,
        4 | 6 | 9 | 11 => 30,
        _ => 31,
    }
}

/// Reads `text` by `parts`; what is left of it.
fn step<'a>(parts: &[Part], mut text: &'a [u8], read: &mut Read) -> Option<&'a [u8]> {
    for part in parts {
        text = match part {
            Part::Byte(byte) => match text {
                [found, rest @ ..] if found == byte => rest,
                _ => return None,
            },
            Part::Number(unit, least, most) => {
                let (number, rest) = digits(text, *least, *most)?;
                read.give(*unit, number)?;
                rest
            }
            Part::Day => {
                let [a, b, c, d, b'-', e, f, b'-', g, h, rest @ ..] = text else {
                    return None;
                };
                let year = 100 * two(*a, *b)? + two(*c, *d)?;
                read.give(Unit::Year, year)?;
                read.give(Unit::Month, two(*e, *f)?)?;
                read.give(Unit::Day, two(*g, *h)?)?;
                rest
            }
            Part::Clock => {
                let [a, b, b':', c, d, rest @ ..] = text else {
                    return None;
                };
                read.give(Unit::Hour, two(*a, *b)?)?;
                read.give(Unit::Minute, two(*c, *d)?)?;
                rest
            }
            Part::MonthName => {
                let name = text.first_chunk::<3>()?.to_ascii_lowercase();
                let month = MONTHS.iter().position(|month| month[..] == name[..])?;
                read.give(Unit::Month, 1 + month as i32)?;
                &text[3..]
            }
            Part::Fraction(most) => {
                let (micros, rest) = fraction(text, *most)?;
                read.give(Unit::Micros, micros)?;
                rest
            }
            Part::Offset => {
                let (minutes, rest) = offset(text)?;
                read.give(Unit::Offset, minutes)?;
                rest
            }
            // Seen without trying.
            Part::Optional(inside) if !may_begin(inside, text) => text,
            Part::Optional(inside) => {
                let mut tried = *read;
                match step(inside, text, &mut tried) {
                    Some(rest) => {
                        *read = tried;
                        rest
                    }
                    None => text,
                }
            }
        };
    }
    Some(text)
}

/// Whether `text` may begin with `parts`, by a look at its first byte.
#[inline]
fn may_begin(parts: &[Part], text: &[u8]) -> bool {
    match (parts.first(), text.first()) {
        (Some(Part::Byte(byte)), Some(found)) => byte == found,
        (_, found) => found.is_some(),
    }
}

/// Microseconds, of up to `most` digits behind the point; those that a microsecond cannot hold must be zeros.
fn fraction(text: &[u8], most: usize) -> Option<(i32, &[u8])> {
    let ends = |b: &u8| !b.is_ascii_digit();
    let count = text.iter().take(most).position(ends);
    let count = count.unwrap_or(most.min(text.len()));
    let (number, rest) = digits(text, 1, count)?;
    if count <= 6 {
        return Some((number * 10i32.pow(6 - count as u32), rest));
    }
    let beyond = 10i32.pow(count as u32 - 6);
    (number % beyond == 0).then_some((number / beyond, rest))
}

/// `Z`, `+hh`, `+hhmm` or `+hh:mm`, in minutes.
fn offset(text: &[u8]) -> Option<(i32, &[u8])> {
    let (sign, rest) = match text.split_first()? {
        (b'Z' | b'z', rest) => return Some((0, rest)),
        (b'+', rest) => (1, rest),
        (b'-', rest) => (-1, rest),
        _ => return None,
    };
    let (hours, rest) = digits(rest, 2, 2)?;
    let tail = rest.strip_prefix(b":").unwrap_or(rest);
    let (minutes, rest) = digits(tail, 2, 2).unwrap_or((0, rest));
    let total = hours * 60 + minutes;
    (minutes < 60 && total <= MAX_OFFSET_MINUTES).then_some((sign * total, rest))
}

/// A number of two digits.
#[inline]
fn two(tens: u8, ones: u8) -> Option<i32> {
    let (tens, ones) = (tens.wrapping_sub(b'0'), ones.wrapping_sub(b'0'));
    (tens < 10 && ones < 10).then_some(i32::from(tens) * 10 + i32::from(ones))
}

#[inline]
fn digits(text: &[u8], least: usize, most: usize) -> Option<(i32, &[u8])> {
    let mut number = 0;
    let mut count = 0;
    while count < most
        && let Some(byte) = text.get(count)
        && byte.is_ascii_digit()
    {
        number = number * 10 + i32::from(byte - b'0');
        count += 1;
    }
    (count >= least.max(1)).then(|| (number, &text[count..]))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn date(pattern: &str, text: &str) -> Option<i32> {
        Pattern::compile(pattern).unwrap().date(text.as_bytes())
    }

    #[test]
    fn days_count_from_1970() {
        assert_eq!(date("yyyy-MM-dd", "1970-01-01"), Some(0));
        assert_eq!(date("yyyy-MM-dd", "2000-03-01"), Some(11017));
        assert_eq!(date("yyyy-MM-dd", "1969-12-31"), Some(-1));
        assert_eq!(date("yyyy-MM-dd", "0001-01-01"), Some(-719162));
        assert_eq!(date("dd/MM/yyyy", "29/02/2024"), Some(19782));
        assert_eq!(
            date("d MMM yyyy", "9 Sep 2021"),
            date("yyyyMMdd", "20210909")
        );
    }

    #[test]
    fn days_that_do_not_exist_are_refused() {
        for bad in [
            "2023-02-29",
            "2023-13-01",
            "2023-00-10",
            "2023-04-31",
            "2023-1-01",
            "2023-01-01x",
            "",
        ] {
            assert_eq!(date("yyyy-MM-dd", bad), None, "{bad}");
        }
    }

    #[test]
    fn timestamps_take_fractions_and_offsets() {
        let p = Pattern::compile(Pattern::TIMESTAMP).unwrap();
        let at = |text: &str| p.timestamp(text.as_bytes());
        assert_eq!(at("1970-01-01T00:00:01"), Some(1_000_000));
        assert_eq!(at("1970-01-01T00:00:01.5Z"), Some(1_500_000));
        assert_eq!(at("1970-01-01T02:00:00.000001+02:00"), Some(1));
        assert_eq!(at("1969-12-31T23:59:59"), Some(-1_000_000));
        assert_eq!(at("1970-01-01T00:00:00+19:00"), None);
    }

    #[test]
    fn the_default_takes_what_java_dotnet_and_xml_schema_write() {
        let p = Pattern::compile(Pattern::TIMESTAMP).unwrap();
        let second = 1_000_000;
        for (text, micros) in [
            ("1970-01-01T00:00:01.1234560Z", second + 123_456), // .NET's `o`
            ("1970-01-01T00:00:01.1234560+00:00", second + 123_456), // .NET's DateTimeOffset
            ("1970-01-01T00:00:01.123456000Z", second + 123_456), // Java's Instant
            ("1970-01-01T00:01Z", 60 * second),                 // Java's OffsetDateTime
            ("1970-01-01T00:01", 60 * second),
            ("1970-01-01T00:01+00:01", 0),
            ("1970-01-01T00:00:01z", second),
            ("1970-01-01T24:00:00", MICROS_PER_DAY), // xs:dateTime
            ("1970-01-01T24:00:00.000Z", MICROS_PER_DAY),
            ("1970-01-01T24:00-18:00", MICROS_PER_DAY + 64_800 * second),
            ("2024-02-28T24:00:00Z", 19_782 * MICROS_PER_DAY),
            (
                "9999-12-31T24:00:00+00:01",
                *INSTANTS.end() + 1 - 60 * second,
            ),
            ("9999-12-31T23:59:59.999999Z", *INSTANTS.end()),
            ("0001-01-01T00:00:00Z", *INSTANTS.start()),
        ] {
            assert_eq!(p.timestamp(text.as_bytes()), Some(micros), "{text}");
        }
        for bad in [
            "1970-01-01T00:00:01.1234561Z",
            "1970-01-01T00:00:01.123456789Z",
            "1970-01-01T00:00:01.0000000000Z", // ten digits
            "1970-01-01T00:00:01.Z",
            "1970-01-01T00Z",
            "1970-01-01T00:00.5Z",
            "1970-01-01T24:00:01Z",
            "1970-01-01T24:01:00Z",
            "1970-01-01T24:00:00.000001Z",
            "1970-01-01T25:00:00Z",
            "2016-12-31T23:59:60Z", // a leap second has no microsecond of its own
            "2023-02-29T00:00:00Z",
            "1970-01-01T00:00:00+18:01",
            "1970-01-01T00:00:00-18:30",
            "1970-01-01T00:00:00+01:60",
            "1970-01-01T00:00:00ZZ",
            "1970-01-01 00:00:00",
            "1970-01-01",
            "9999-12-31T24:00:00Z",
            "9999-12-31T23:59:59-00:01",
            "0001-01-01T00:00:00+00:01",
            "0000-12-31T23:59:59Z",
            "0000-12-31T23:59:59-01:00",
            "-0001-01-01T00:00:00Z",
            "+10000-01-01T00:00:00Z",
            "10000-01-01T00:00:00Z",
        ] {
            assert_eq!(p.timestamp(bad.as_bytes()), None, "{bad}");
        }
    }

    #[test]
    fn a_date_is_the_day_as_it_is_written() {
        for text in [
            "2024-02-29Z",
            "2024-02-29+18:00",
            "2024-02-29-11:30",
            "2024-02-29z",
        ] {
            assert_eq!(date(Pattern::DATE, text), Some(19_782), "{text}");
        }
        let minute = "yyyy-MM-dd'T'HH:mm[X]";
        assert_eq!(date(minute, "2024-02-29T23:59-05"), Some(19_782));
        for (pattern, bad) in [
            (Pattern::DATE, "2024-02-29+19:00"),
            (Pattern::DATE, "2024-02-29+"),
            (Pattern::DATE, "0000-01-01"),
            (minute, "2024-02-28T24:00"),
        ] {
            assert_eq!(date(pattern, bad), None, "{bad}");
        }
        let edges = [
            date(Pattern::DATE, "0001-01-01"),
            date(Pattern::DATE, "9999-12-31"),
        ];
        assert_eq!(
            edges.map(|day| day.map(i64::from)),
            [DAYS.start(), DAYS.end()].map(|d| Some(*d))
        );
    }

    #[test]
    fn fractions_keep_every_digit_or_none() {
        let nanos = Pattern::compile("yyyy-MM-dd HH:mm:ss.SSSSSSSSS").unwrap();
        let at = |digits: &str| nanos.timestamp(format!("1970-01-01 00:00:00.{digits}").as_bytes());
        assert_eq!(at("123456000"), Some(123_456));
        assert_eq!(at("1"), Some(100_000));
        assert_eq!(at("1234567"), None);
        assert_eq!(at("000000001"), None);
        assert_eq!(at("0000000000"), None);
        assert_eq!(at(""), None);
    }

    #[test]
    fn quotes_are_javas() {
        for (pattern, text) in [
            ("dd 'o''clock' MM yyyy", "05 o'clock 06 2024"),
            ("dd''MM''yyyy", "05'06'2024"),
            ("dd'''of'''MM yyyy", "05'of'06 2024"),
            ("dd '{#}' MM yyyy", "05 {#} 06 2024"),
            ("yyyy-MM-dd''''", "2024-06-05''"),
        ] {
            assert_eq!(date(pattern, text), Some(19_879), "{pattern}");
        }
        assert_eq!(date("dd 'o''clock' MM yyyy", "05 oclock 06 2024"), None);
    }

    #[test]
    fn a_unit_that_comes_twice_says_the_same_twice() {
        let twice = "yyyy-MM-dd (dd MMM)";
        assert_eq!(date(twice, "2024-02-29 (29 Feb)"), Some(19_782));
        assert_eq!(date(twice, "2024-02-29 (28 Feb)"), None);
        assert_eq!(date(twice, "2024-02-29 (29 Jan)"), None);
    }

    #[test]
    fn years_beyond_four_digits_are_shown_with_a_sign() {
        assert_eq!(show_date(*DAYS.end() + 1), "+10000-01-01");
        assert_eq!(show_date(*DAYS.start() - 1), "0000-12-31");
        assert_eq!(show_date(*DAYS.start() - 367), "-0001-12-31");
        assert_eq!(
            show_timestamp(*INSTANTS.end()),
            "9999-12-31T23:59:59.999999Z"
        );
    }

    #[test]
    fn patterns_that_name_no_day_or_no_known_letter_are_refused() {
        for bad in [
            "HH:mm",
            "yyyy-MM",
            "yyyy-MM-dd QQ",
            "[yyyy-MM-dd",
            "yyyy-MM-dd]",
            "yy-MM-dd",
            "yyyy-MM-dd'T",
            "yyyy-MM-dd'''",
            "yyyy-MM-dd {HH}",
            "yyyy-MM-dd#",
            "dMyyyy",
            "dMMyyyy",
            "yyyy-MM-dd[H][m]",
            "yyyy-MM-d'1'",
            "yyyy-MM-dd HH:mm:ss.SSSss",
            "XXXyyyy-MM-dd",
            "yyyyy-MM-dd",
            "yyyy-MM-dd hh",
        ] {
            assert!(Pattern::compile(bad).is_err(), "{bad}");
        }
    }
}
