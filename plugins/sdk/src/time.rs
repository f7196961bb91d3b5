//! Dates and timestamps by pattern, in the letters that Spark and Java use; proleptic Gregorian, UTC.
use std::fmt;

/// A compiled pattern. `yyyy M MM MMM d dd H HH m mm s ss`, `S`… (a fraction of up to as many digits), `X`/`XXX`
/// (`Z` or an offset), `'literal'`, `[optional]`; any other character that is no letter stands for itself.
#[derive(Debug, Clone, PartialEq)]
pub struct Pattern {
    text: String,
    parts: Vec<Part>,
}

#[derive(Debug, Clone, PartialEq)]
enum Part {
    Literal(Vec<u8>),
    Number(Unit, usize, usize),
    MonthName,
    Fraction(usize),
    Offset,
    Optional(Vec<Part>),
}

#[derive(Debug, Clone, Copy, PartialEq)]
enum Unit {
    Year,
    Month,
    Day,
    Hour,
    Minute,
    Second,
}

/// What a text said, before it is one instant.
#[derive(Debug, Clone, Copy)]
struct Read {
    year: i64,
    month: i64,
    day: i64,
    hour: i64,
    minute: i64,
    second: i64,
    micros: i64,
    offset_minutes: i64,
}

const MONTHS: [&[u8; 3]; 12] = [
    b"jan", b"feb", b"mar", b"apr", b"may", b"jun", b"jul", b"aug", b"sep", b"oct", b"nov", b"dec",
];
const MICROS_PER_SECOND: i64 = 1_000_000;

impl Pattern {
    pub const DATE: &'static str = "yyyy-MM-dd";
    pub const TIMESTAMP: &'static str = "yyyy-MM-dd'T'HH:mm:ss[.SSSSSS][XXX]";

    pub fn compile(text: &str) -> Result<Self, String> {
        let mut rest = text.as_bytes();
        let parts = compile(&mut rest, 0)?;
        if !rest.is_empty() {
            return Err(format!("pattern `{text}`: `]` without `[`"));
        }
        if !names_a_day(&parts) {
            return Err(format!(
                "pattern `{text}` names no full day: it needs yyyy, MM and dd"
            ));
        }
        Ok(Self {
            text: text.to_owned(),
            parts,
        })
    }

    /// Days since 1970-01-01.
    pub fn date(&self, text: &[u8]) -> Option<i32> {
        i32::try_from(self.read(text)?.days()).ok()
    }

    /// Microseconds since 1970-01-01T00:00Z; a text without an offset is in UTC.
    pub fn timestamp(&self, text: &[u8]) -> Option<i64> {
        let read = self.read(text)?;
        let minutes = read.days() * 1440 + read.hour * 60 + read.minute - read.offset_minutes;
        Some((minutes * 60 + read.second) * MICROS_PER_SECOND + read.micros)
    }

    fn read(&self, text: &[u8]) -> Option<Read> {
        let mut read = Read {
            year: 1970,
            month: 1,
            day: 1,
            hour: 0,
            minute: 0,
            second: 0,
            micros: 0,
            offset_minutes: 0,
        };
        let rest = step(&self.parts, text, &mut read)?;
        (rest.is_empty() && read.exists()).then_some(read)
    }
}

impl fmt::Display for Pattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

impl Read {
    fn exists(&self) -> bool {
        (1..=12).contains(&self.month)
            && (1..=days_in_month(self.year, self.month)).contains(&self.day)
            && self.hour < 24
            && self.minute < 60
            && self.second < 60
    }

    /// Howard Hinnant's `days_from_civil`.
    fn days(&self) -> i64 {
        let year = self.year - i64::from(self.month <= 2);
        let era = year.div_euclid(400);
        let of_era = year.rem_euclid(400);
        let of_year = (153 * ((self.month + 9) % 12) + 2) / 5 + self.day - 1;
        era * 146_097 + of_era * 365 + of_era / 4 - of_era / 100 + of_year - 719_468
    }
}

/// `yyyy-MM-dd` of a day since 1970-01-01.
pub fn show_date(days: i64) -> String {
    let shifted = days + 719_468;
    let era = shifted.div_euclid(146_097);
    let of_era = shifted.rem_euclid(146_097);
    let of_era_year = (of_era - of_era / 1460 + of_era / 36_524 - of_era / 146_096) / 365;
    let of_year = of_era - (365 * of_era_year + of_era_year / 4 - of_era_year / 100);
    let march = (5 * of_year + 2) / 153;
    let day = of_year - (153 * march + 2) / 5 + 1;
    let month = if march < 10 { march + 3 } else { march - 9 };
    let year = of_era_year + era * 400 + i64::from(month <= 2);
    format!("{year:04}-{month:02}-{day:02}")
}

/// `yyyy-MM-ddTHH:mm:ss[.SSSSSS]Z` of microseconds since 1970-01-01T00:00Z.
pub fn show_timestamp(micros: i64) -> String {
    let seconds = micros.div_euclid(MICROS_PER_SECOND);
    let (day, second) = (seconds.div_euclid(86_400), seconds.rem_euclid(86_400));
    let (hour, minute) = (second / 3600, second / 60 % 60);
    let date = show_date(day);
    let fraction = match micros.rem_euclid(MICROS_PER_SECOND) {
        0 => String::new(),
        micros => format!(".{micros:06}"),
    };
    format!("{date}T{hour:02}:{minute:02}:{:02}{fraction}Z", second % 60)
}

fn days_in_month(year: i64, month: i64) -> i64 {
    match month {
        2 if year % 4 == 0 && (year % 100 != 0 || year % 400 == 0) => 29,
        2 => 28,
        4 | 6 | 9 | 11 => 30,
        _ => 31,
    }
}

fn compile(rest: &mut &[u8], depth: usize) -> Result<Vec<Part>, String> {
    let mut parts = Vec::new();
    while let Some(&letter) = rest.first() {
        let run = rest.iter().take_while(|b| **b == letter).count();
        let part = match (letter, run) {
            (b'y', 4) => Part::Number(Unit::Year, 4, 4),
            (b'M', 3) => Part::MonthName,
            (b'M', n @ 1..=2) => Part::Number(Unit::Month, n, 2),
            (b'd', n @ 1..=2) => Part::Number(Unit::Day, n, 2),
            (b'H', n @ 1..=2) => Part::Number(Unit::Hour, n, 2),
            (b'm', n @ 1..=2) => Part::Number(Unit::Minute, n, 2),
            (b's', n @ 1..=2) => Part::Number(Unit::Second, n, 2),
            (b'S', n @ 1..=9) => Part::Fraction(n),
            (b'X', 1..=3) => Part::Offset,
            (b'\'', _) => {
                let inside = &rest[1..];
                let close = inside
                    .iter()
                    .position(|b| *b == b'\'')
                    .ok_or("pattern: `'` is open")?;
                parts.push(Part::Literal(inside[..close].to_vec()));
                *rest = &inside[close + 1..];
                continue;
            }
            (b'[', _) => {
                if depth == 8 {
                    return Err("pattern: too many `[` in each other".into());
                }
                *rest = &rest[1..];
                let inside = compile(rest, depth + 1)?;
                if rest.first() != Some(&b']') {
                    return Err("pattern: `[` is open".into());
                }
                *rest = &rest[1..];
                parts.push(Part::Optional(inside));
                continue;
            }
            (b']', _) => return Ok(parts),
            (letter, _) if letter.is_ascii_alphabetic() => {
                let found = String::from_utf8_lossy(&rest[..run]).into_owned();
                return Err(format!(
                    "pattern letters `{found}` are not known; use yyyy MM MMM dd HH mm ss S XXX, or quote them"
                ));
            }
            (other, _) => {
                parts.push(Part::Literal(vec![other; run]));
                *rest = &rest[run..];
                continue;
            }
        };
        parts.push(part);
        *rest = &rest[run..];
    }
    Ok(parts)
}

fn names_a_day(parts: &[Part]) -> bool {
    let has = |unit: Unit| {
        parts
            .iter()
            .any(|p| matches!(p, Part::Number(u, _, _) if *u == unit))
    };
    let month = has(Unit::Month) || parts.contains(&Part::MonthName);
    has(Unit::Year) && month && has(Unit::Day)
}

/// Reads `text` by `parts`; what is left of it.
fn step<'a>(parts: &[Part], mut text: &'a [u8], read: &mut Read) -> Option<&'a [u8]> {
    for part in parts {
        text = match part {
            Part::Literal(literal) => text.strip_prefix(literal.as_slice())?,
            Part::Number(unit, least, most) => {
                let (number, rest) = digits(text, *least, *most)?;
                *match unit {
                    Unit::Year => &mut read.year,
                    Unit::Month => &mut read.month,
                    Unit::Day => &mut read.day,
                    Unit::Hour => &mut read.hour,
                    Unit::Minute => &mut read.minute,
                    Unit::Second => &mut read.second,
                } = number;
                rest
            }
            Part::MonthName => {
                let name = text.first_chunk::<3>()?.to_ascii_lowercase();
                read.month = 1 + MONTHS.iter().position(|month| month[..] == name[..])? as i64;
                &text[3..]
            }
            Part::Fraction(most) => {
                let count = text
                    .iter()
                    .take(*most)
                    .take_while(|b| b.is_ascii_digit())
                    .count();
                let (number, rest) = digits(text, 1, count)?;
                let micros = if count <= 6 {
                    number * 10i64.pow(6 - count as u32)
                } else {
                    number / 10i64.pow(count as u32 - 6)
                };
                read.micros = micros;
                rest
            }
            Part::Offset => offset(text, read)?,
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

/// `Z`, `+hh`, `+hhmm` or `+hh:mm`.
fn offset<'a>(text: &'a [u8], read: &mut Read) -> Option<&'a [u8]> {
    let (sign, rest) = match text.split_first()? {
        (b'Z', rest) => {
            read.offset_minutes = 0;
            return Some(rest);
        }
        (b'+', rest) => (1, rest),
        (b'-', rest) => (-1, rest),
        _ => return None,
    };
    let (hours, rest) = digits(rest, 2, 2)?;
    let tail = rest.strip_prefix(b":").unwrap_or(rest);
    let (minutes, rest) = digits(tail, 2, 2).unwrap_or((0, rest));
    if hours > 18 || minutes > 59 {
        return None;
    }
    read.offset_minutes = sign * (hours * 60 + minutes);
    Some(rest)
}

#[inline]
fn digits(text: &[u8], least: usize, most: usize) -> Option<(i64, &[u8])> {
    let mut number = 0i64;
    let mut count = 0;
    while count < most && text.get(count).is_some_and(u8::is_ascii_digit) {
        number = number * 10 + i64::from(text[count] - b'0');
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
        assert_eq!(at("1970-01-01T24:00:00"), None);
        assert_eq!(at("1970-01-01T00:00:00+19:00"), None);
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
        ] {
            assert!(Pattern::compile(bad).is_err(), "{bad}");
        }
    }
}
