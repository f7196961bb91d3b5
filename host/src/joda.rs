//! Patterns of dates and times as Joda-Time has them, in which Kafka Connect's configs name directories:
//! `'year'=YYYY/'month'=MM/'day'=dd/'hour'=HH`. Names of months and days are English.
//!
//! Repeated letters are one field, other characters are text, and text with letters stands between `'`.

use std::fmt::Write as _;

use jiff::civil::{DateTime, Weekday};

/// A pattern that was read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Pattern {
    parts: Vec<Part>,
    text: String,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Part {
    Text(String),
    Field(char, usize),
}

/// Local time, and how it differs from UTC.
#[derive(Clone, Copy, Debug)]
pub struct Local<'a> {
    pub at: DateTime,
    pub offset_seconds: i32,
    pub zone: &'a str,
}

/// Most characters of one field: Joda-Time pads a number to as many digits.
const WIDTH_MAX: usize = 20;

/// A Wednesday in September.
const SAMPLE: DateTime = jiff::civil::date(2021, 9, 29).at(23, 59, 59, 999_999_999);

/// Bytes of a directory's name.
const DIRECTORY_MAX: usize = 255;

const MONTHS: [&str; 12] = [
    "January",
    "February",
    "March",
    "April",
    "May",
    "June",
    "July",
    "August",
    "September",
    "October",
    "November",
    "December",
];

impl Pattern {
    /// `Err` says what is wrong.
    pub fn parse(text: &str) -> Result<Pattern, String> {
        let mut parts: Vec<Part> = Vec::new();
        let mut literal = String::new();
        let mut chars = text.chars().peekable();
        let mut quoted = false;
        while let Some(c) = chars.next() {
            match c {
                '\'' if chars.peek() == Some(&'\'') => {
                    chars.next();
                    literal.push('\'');
                }
                '\'' => quoted = !quoted,
                c if quoted || !c.is_ascii_alphabetic() => literal.push(c),
                c => {
                    let mut width = 1;
                    while chars.next_if_eq(&c).is_some() {
                        width += 1;
                    }
                    known(c, width)?;
                    if !literal.is_empty() {
                        parts.push(Part::Text(std::mem::take(&mut literal)));
                    }
                    parts.push(Part::Field(c, width));
                }
            }
        }
        if !literal.is_empty() {
            parts.push(Part::Text(literal));
        }
        if parts.is_empty() {
            return Err("it is empty".to_owned());
        }
        let text = text.to_owned();
        Ok(Pattern { parts, text })
    }

    /// One that names directories, of names that stores take. Slashes at its ends do not count.
    pub fn of_directories(text: &str) -> Result<Pattern, String> {
        let pattern = Pattern::parse(text.trim_matches('/'))?;
        let sample = pattern.sample("UTC");
        if let Some(bad) = ["..", "\\"].into_iter().find(|bad| sample.contains(bad)) {
            return Err(format!("`{bad}` may not be in it"));
        }
        if sample.contains(char::is_control) {
            return Err("a character in it is none that is printed".to_owned());
        }
        for name in sample.split('/') {
            match name {
                "" => return Err(format!("a name in it is empty: it gives `{sample}`")),
                "." => return Err(format!("`.` is no name: it gives `{sample}`")),
                name if name.len() > DIRECTORY_MAX => {
                    let long = name.len();
                    return Err(format!(
                        "a name in it has {long} bytes, expected at most {DIRECTORY_MAX}"
                    ));
                }
                _ => {}
            }
        }
        Ok(pattern)
    }

    /// What it gives for a time whose names are the longest.
    pub fn sample(&self, zone: &str) -> String {
        let mut out = String::new();
        let local = Local {
            at: SAMPLE,
            offset_seconds: 3600,
            zone,
        };
        self.write(&mut out, local);
        out
    }

    /// As it was typed.
    pub fn text(&self) -> &str {
        &self.text
    }

    /// Whether two times of one minute can differ.
    pub fn has_seconds(&self) -> bool {
        let mut parts = self.parts.iter();
        parts.any(|part| matches!(part, Part::Field('s' | 'S', _)))
    }

    /// Whether it has names of months, days or halves of a day, which depend on a language.
    pub fn has_names(&self) -> bool {
        let named = |part: &Part| match part {
            Part::Field('M', width) => *width > 2,
            Part::Field(letter, _) => matches!(letter, 'E' | 'a' | 'G'),
            Part::Text(_) => false,
        };
        self.parts.iter().any(named)
    }

    pub fn write(&self, out: &mut String, local: Local<'_>) {
        for part in &self.parts {
            match part {
                Part::Text(text) => out.push_str(text),
                Part::Field(letter, width) => field(out, *letter, *width, local),
            }
        }
    }
}

fn known(letter: char, width: usize) -> Result<(), String> {
    if width > WIDTH_MAX {
        return Err(format!(
            "`{letter}` is there {width} times, expected at most {WIDTH_MAX}"
        ));
    }
    match letter {
        'G' | 'C' | 'Y' | 'x' | 'w' | 'e' | 'E' | 'y' | 'D' | 'M' | 'd' | 'a' | 'K' | 'h' | 'H'
        | 'k' | 'm' | 's' | 'S' | 'Z' => Ok(()),
        'z' => Err("`z`, the name of a time zone in a language, is not known here".to_owned()),
        _ => Err(format!("`{letter}` is no letter of a date or time")),
    }
}

fn field(out: &mut String, letter: char, width: usize, local: Local<'_>) {
    let at = local.at;
    let hour = i64::from(at.hour());
    let half = hour % 12;
    let number = |out: &mut String, n: i64| {
        let _unfailing = write!(out, "{n:0width$}");
    };
    match letter {
        'G' => out.push_str("AD"),
        'C' => number(out, i64::from(at.year()) / 100),
        'y' | 'Y' => year(out, i64::from(at.year()), width),
        'x' => year(out, i64::from(at.date().iso_week_date().year()), width),
        'w' => number(out, i64::from(at.date().iso_week_date().week())),
        'e' => number(out, i64::from(at.weekday().to_monday_one_offset())),
        'E' => short(out, day_name(at.weekday()), width > 3),
        'D' => number(out, i64::from(at.day_of_year())),
        'M' if width > 2 => {
            let month = usize::try_from(at.month()).unwrap_or(1);
            let name = MONTHS.get(month.saturating_sub(1)).unwrap_or(&"");
            short(out, name, width > 3);
        }
        'M' => number(out, i64::from(at.month())),
        'd' => number(out, i64::from(at.day())),
        'a' => out.push_str(if hour < 12 { "AM" } else { "PM" }),
        'K' => number(out, half),
        'h' => number(out, if half == 0 { 12 } else { half }),
        'H' => number(out, hour),
        'k' => number(out, if hour == 0 { 24 } else { hour }),
        'm' => number(out, i64::from(at.minute())),
        's' => number(out, i64::from(at.second())),
        'S' => {
            let digits = format!("{:09}00000000000", at.subsec_nanosecond());
            out.push_str(&digits[..width.min(digits.len())]);
        }
        'Z' => zone(out, width, local),
        _ => {}
    }
}

fn year(out: &mut String, year: i64, width: usize) {
    let _unfailing = match width {
        2 => write!(out, "{:02}", year.abs() % 100),
        _ => write!(out, "{year:0width$}"),
    };
}

fn short(out: &mut String, name: &str, whole: bool) {
    let end = if whole { name.len() } else { name.len().min(3) };
    out.push_str(&name[..end]);
}

fn day_name(day: Weekday) -> &'static str {
    match day {
        Weekday::Monday => "Monday",
        Weekday::Tuesday => "Tuesday",
        Weekday::Wednesday => "Wednesday",
        Weekday::Thursday => "Thursday",
        Weekday::Friday => "Friday",
        Weekday::Saturday => "Saturday",
        Weekday::Sunday => "Sunday",
    }
}

fn zone(out: &mut String, width: usize, local: Local<'_>) {
    if width > 2 {
        return out.push_str(local.zone);
    }
    let (sign, seconds) = match local.offset_seconds {
        negative if negative < 0 => ('-', -negative),
        seconds => ('+', seconds),
    };
    let between = if width == 2 { ":" } else { "" };
    let (hours, minutes) = (seconds / 3600, seconds / 60 % 60);
    let _unfailing = write!(out, "{sign}{hours:02}{between}{minutes:02}");
}

#[cfg(test)]
mod tests {
    use super::*;
    use jiff::civil::date;

    fn written(pattern: &str) -> String {
        let mut out = String::new();
        let local = Local {
            at: date(2021, 1, 3).at(0, 5, 9, 123_456_000),
            offset_seconds: -12_600,
            zone: "America/St_Johns",
        };
        Pattern::parse(pattern).unwrap().write(&mut out, local);
        out
    }

    #[test]
    fn each_letter_is_what_joda_time_writes() {
        for (pattern, expected) in [
            (
                "'year'=YYYY/'month'=MM/'day'=dd/'hour'=HH",
                "year=2021/month=01/day=03/hour=00",
            ),
            ("yyyy-MM-dd", "2021-01-03"),
            ("yy/y/yyyyy/YY", "21/2021/02021/21"),
            ("M/d/H/m/s", "1/3/0/5/9"),
            ("MMM MMMM E EEEE", "Jan January Sun Sunday"),
            ("xxxx-ww-e", "2020-53-7"),
            ("D DDD", "3 003"),
            ("a K h k", "AM 0 12 24"),
            ("S SSS SSSSSSSSSSSS", "1 123 123456000000"),
            ("Z ZZ ZZZ", "-0330 -03:30 America/St_Johns"),
            ("C G", "20 AD"),
            ("'it''s' ''yyyy''", "it's '2021'"),
            ("'dt'=yyyyMMdd", "dt=20210103"),
        ] {
            assert_eq!(written(pattern), expected, "{pattern}");
        }
    }

    /// Also where the name stands between quotes.
    #[test]
    fn a_pattern_of_directories_has_no_name_that_a_store_does_not_take() {
        let long = format!("'{}'yyyy", "x".repeat(252));
        for (pattern, part) in [
            ("yyyy//MM", "is empty: it gives `2021//09`"),
            ("'a/'/MM", "is empty: it gives `a//09`"),
            ("yyyy'/'", "is empty: it gives `2021/`"),
            ("'/'yyyy", "is empty"),
            ("yyyy/./MM", "`.` is no name"),
            ("yyyy/'.'/MM", "`.` is no name"),
            ("yyyy/.'.'/MM", "`..` may not"),
            ("'a\\b'/MM", "`\\` may not"),
            ("'a\n'MM", "printed"),
            (&long, "256 bytes"),
            ("/", "empty"),
        ] {
            let told = Pattern::of_directories(pattern).err().unwrap_or_default();
            assert!(told.contains(part), "{pattern}: {told}");
        }
        let most = format!("'{}'yyyy", "x".repeat(251));
        for pattern in ["/'year'=yyyy/'m'=MM/", "'a/b'/MM", "yyyy.MM", &most] {
            assert!(Pattern::of_directories(pattern).is_ok(), "{pattern}");
        }
    }

    #[test]
    fn what_joda_time_refuses_is_refused() {
        for (pattern, part) in [
            ("year=YYYY", "`r`"),
            ("", "empty"),
            ("z", "`z`"),
            ("b", "`b`"),
        ] {
            let told = Pattern::parse(pattern).unwrap_err();
            assert!(told.contains(part), "{pattern}: {told}");
        }
    }
}
