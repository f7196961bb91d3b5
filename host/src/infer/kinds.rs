//! The type of a column's texts, and how certain it is. A type is named only if every text has it.

use std::collections::BTreeSet;

use crate::record::fold;
use crate::zone::reserved;

use jiff::SignedDuration;
use jiff::civil::{Date, DateTime};

/// Different texts that are kept to be shown.
const SHOWN: usize = 3;
/// Characters of one of them.
const WIDTH: usize = 40;
/// A column of whole numbers up to this may be an `int`; larger ones might soon not fit.
const INT_ROOM: i64 = 1 << 30;
/// Decimals get room to grow: this many digits, unless more were seen.
const DECIMAL_ROOM: usize = 18;
/// A type is mentioned if at least this part of the texts has it, even if others do not.
const NEARLY: f64 = 0.8;

/// Counts over all texts of one column.
#[derive(Clone, Debug, Default)]
pub struct Texts {
    pub filled: u64,
    pub empty: u64,
    pub shown: Vec<String>,
    counts: [u64; KINDS.len()],
    /// The first text that is not of the kind.
    others: [Option<String>; KINDS.len()],
    largest: u64,
    whole_digits: usize,
    scale: usize,
    /// Digits behind the point that a decimal has at least.
    pub least_scale: usize,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Boolean,
    Whole,
    Decimal,
    Double,
    Date,
    PointedDate,
    Timestamp,
    SpacedTimestamp,
}

/// The narrower one first.
const KINDS: [Kind; 8] = [
    Kind::Boolean,
    Kind::Whole,
    Kind::Decimal,
    Kind::Double,
    Kind::Date,
    Kind::PointedDate,
    Kind::Timestamp,
    Kind::SpacedTimestamp,
];

impl Texts {
    /// `text` is as the plugin reads it, without the blanks that it trims: it takes those that are left for characters.
    pub fn see(&mut self, text: &str) {
        if text.is_empty() {
            self.empty += 1;
            return;
        }
        self.filled += 1;
        for (n, kind) in KINDS.iter().enumerate() {
            if is(*kind, text) {
                self.counts[n] += 1;
            } else if self.others[n].is_none() {
                self.others[n] = Some(cut(text));
            }
        }
        if is(Kind::Decimal, text) {
            let digits = text.trim_start_matches('-');
            let (whole, fraction) = digits.split_once('.').unwrap_or((digits, ""));
            self.whole_digits = self.whole_digits.max(whole.trim_start_matches('0').len());
            self.scale = self.scale.max(fraction.len());
            self.largest = self.largest.max(whole.parse().unwrap_or(u64::MAX));
        }
        let short = cut(text);
        if self.shown.len() < SHOWN && !self.shown.contains(&short) {
            self.shown.push(short);
        }
    }

    /// The narrowest type that every text is of, as configs name it.
    pub fn named(&self) -> String {
        let all = |n: &usize| self.filled > 0 && self.counts[*n] == self.filled;
        let found = (0..KINDS.len()).find(all);
        found
            .and_then(|n| self.name(KINDS[n]))
            .unwrap_or_else(|| "string".into())
    }

    /// Nothing where the texts cannot be held exactly.
    fn name(&self, kind: Kind) -> Option<String> {
        let named = match kind {
            Kind::Boolean => "boolean",
            Kind::Whole if self.largest < INT_ROOM.unsigned_abs() => "int",
            Kind::Whole if self.largest < i64::MAX.unsigned_abs() => "long",
            Kind::Whole | Kind::Decimal => {
                let scale = match kind {
                    Kind::Whole => 0,
                    _ => self.scale.max(self.least_scale),
                };
                let digits = (self.whole_digits + scale).max(DECIMAL_ROOM);
                return (digits <= 38).then(|| format!("decimal({digits},{scale})"));
            }
            Kind::Double => "double",
            Kind::Date => "date",
            Kind::PointedDate => "date(dd.MM.yyyy)",
            Kind::Timestamp => "timestamp",
            Kind::SpacedTimestamp => "timestamp(yyyy-MM-dd HH:mm:ss[.SSSSSS])",
        };
        Some(named.into())
    }

    /// A type that most texts are of, and the first that is not.
    pub fn conflict(&self) -> Option<String> {
        if self.named() != "string" || self.filled == 0 {
            return None;
        }
        let most = (0..KINDS.len()).max_by_key(|n| (self.counts[*n], KINDS.len() - n))?;
        let count = self.counts[most];
        if count == self.filled || (count as f64) < NEARLY * self.filled as f64 {
            return None;
        }
        let (name, other) = (self.name(KINDS[most])?, self.others[most].as_ref()?);
        Some(format!(
            "{count} of {} are {name}, but not {other:?}: as {name}, such rows would be refused",
            self.filled
        ))
    }
}

fn cut(text: &str) -> String {
    match text.char_indices().nth(WIDTH) {
        Some((at, _)) => format!("{}…", &text[..at]),
        None => text.to_owned(),
    }
}

fn is(kind: Kind, text: &str) -> bool {
    let digits = |text: &str| !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit());
    let number = text.strip_prefix('-').unwrap_or(text);
    match kind {
        Kind::Boolean => matches!(text, "true" | "false"),
        // 007 is a name, not a number.
        Kind::Whole => digits(number) && (number == "0" || !number.starts_with('0')),
        Kind::Decimal => match number.split_once('.') {
            Some((whole, fraction)) => {
                digits(fraction) && (whole == "0" || digits(whole) && !whole.starts_with('0'))
            }
            None => is(Kind::Whole, text),
        },
        Kind::Double => {
            let plain = text
                .bytes()
                .all(|b| b.is_ascii_digit() || b"+-.eE".contains(&b));
            let leading = number.starts_with('0') && number.len() > 1 && !number.starts_with("0.");
            // A number has no `+` before it: one that was written so, such as a telephone number, would lose it.
            plain && !leading && !text.starts_with('+') && is_double(text)
        }
        Kind::Date => shape(text, "dddd-dd-dd") && is_day(text),
        Kind::PointedDate => {
            let pieces: Vec<&str> = text.split('.').collect();
            let [day, month, year] = pieces[..] else {
                return false;
            };
            shape(text, "dd.dd.dddd") && is_day(&format!("{year}-{month}-{day}"))
        }
        Kind::Timestamp => timestamp(text, 'T', 9).is_some_and(|(time, zone)| {
            let east = offset(zone).map(SignedDuration::from_mins);
            let utc = east.and_then(|east| time.checked_sub(east).ok());
            utc.is_some_and(|utc| utc.year() >= 1)
        }),
        Kind::SpacedTimestamp => timestamp(text, ' ', 6).is_some_and(|(_, rest)| rest.is_empty()),
    }
}

/// As the plugins read one: within the range, and not a number that would become zero.
fn is_double(text: &str) -> bool {
    let mut mantissa = text.bytes().take_while(|b| !b"eE".contains(b));
    let zero = !mantissa.any(|b| (b'1'..=b'9').contains(&b));
    let number = text.parse::<f64>();
    number.is_ok_and(|number| number.is_finite() && (number != 0.0 || zero))
}

/// A day of the years 0001 to 9999, which has the right shape.
fn is_day(text: &str) -> bool {
    !text.starts_with("0000") && text.parse::<Date>().is_ok()
}

/// Minutes east of UTC.
fn offset(zone: &str) -> Option<i64> {
    const MOST: i64 = 18 * 60; // as the plugins have it
    if ["", "Z", "z"].contains(&zone) {
        return Some(0);
    }
    let sign = if zone.starts_with('-') { -1 } else { 1 };
    let clock = zone.strip_prefix(['+', '-'])?;
    if !shape(clock, "dd:dd") {
        return None;
    }
    let (hours, minutes) = clock.split_once(':')?;
    let (hours, minutes): (i64, i64) = (hours.parse().ok()?, minutes.parse().ok()?);
    let total = hours * 60 + minutes;
    (minutes < 60 && total <= MOST).then_some(sign * total)
}

/// `d` is a digit.
fn shape(text: &str, pattern: &str) -> bool {
    let fits = |(a, b): (u8, u8)| {
        if b == b'd' {
            a.is_ascii_digit()
        } else {
            a == b
        }
    };
    text.len() == pattern.len() && text.bytes().zip(pattern.bytes()).all(fits)
}

/// A valid time to the second, and what follows it and its fraction of up to `most` digits, of which those that a
/// microsecond cannot hold are zeros.
fn timestamp(text: &str, between: char, most: usize) -> Option<(DateTime, &str)> {
    let head = text.get(..19)?;
    let sound = shape(head, &format!("dddd-dd-dd{between}dd:dd:dd")) && is_day(&head[..10]);
    // A leap second would be taken for the one before.
    if !sound || head.ends_with("60") {
        return None;
    }
    let time = head.replace(' ', "T").parse::<DateTime>().ok()?;
    let rest = &text[19..];
    let Some(fraction) = rest.strip_prefix('.') else {
        return Some((time, rest));
    };
    let digits = fraction.bytes().take_while(u8::is_ascii_digit).count();
    let (fraction, rest) = fraction.split_at(digits);
    let kept = fraction.trim_end_matches('0').len() <= 6;
    (kept && (1..=most).contains(&digits)).then_some((time, rest))
}

/// Names that no column may have, as SQL engines compare them: those of the host and of the paths.
pub fn taken() -> BTreeSet<String> {
    let reserved = reserved(true).into_iter();
    reserved.map(|(name, _)| fold(name)).collect()
}

/// A column's name out of a path, unlike those in use.
pub fn unlike(name: String, used: &mut BTreeSet<String>) -> String {
    let mut free = name.clone();
    let mut n = 2;
    while !used.insert(fold(&free)) {
        free = format!("{name}_{n}");
        n += 1;
    }
    free
}

/// A note if the expected name is already taken.
pub fn renamed(wanted: &str, name: &str) -> Option<String> {
    (wanted != name).then(|| {
        format!("{name}: `{wanted}` is taken, by another column or by the host (docs/config.md, names of columns)")
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn named(texts: &[&str]) -> String {
        let mut seen = Texts::default();
        texts.iter().for_each(|text| seen.see(text));
        seen.named()
    }

    #[test]
    fn the_narrowest_type_that_fits_all() {
        let cases: &[(&[&str], &str)] = &[
            (&["1", "", "-20"], "int"),
            (&["1", "3000000000"], "long"),
            (&["1", "99999999999999999999"], "decimal(20,0)"),
            (&["1", "2.50"], "decimal(18,2)"),
            (&["1", "2.5e3"], "double"),
            (&["true", "false"], "boolean"),
            (&["0", "1"], "int"),
            (&["007", "1"], "string"),
            (&["+4917012", "+4917013"], "string"),
            (&["1", "+5"], "string"),
            (&["1.5", "+2.5"], "string"),
            (&["1e+5", "1.5"], "double"),
            (&["2020-02-29", "1999-12-31"], "date"),
            (&["2021-02-29"], "string"),
            (&["31.12.1999"], "date(dd.MM.yyyy)"),
            (
                &["2020-01-01T00:00:00Z", "2020-01-01T00:00:00.123456+02:00"],
                "timestamp",
            ),
            (
                &["2020-01-01 00:00:00"],
                "timestamp(yyyy-MM-dd HH:mm:ss[.SSSSSS])",
            ),
            (&["2020-01-01T25:00:00"], "string"),
            // What the plugins would refuse.
            (&["1", "1e309"], "string"),
            (&["1", "1e-400"], "string"),
            (&["1", "0.0e-400"], "double"),
            (&["0000-01-01"], "string"),
            (&["01.01.0000"], "string"),
            (&["2016-12-31T23:59:60Z"], "string"),
            (&["2020-01-01T00:00:00+18:01"], "string"),
            (&["2020-01-01T00:00:00+01:60"], "string"),
            (&["9999-12-31T23:59:59-05:00"], "string"),
            (&["0001-01-01T00:00:00+01:00"], "string"),
            (&["2020-01-01T00:00:00.123456789Z"], "string"),
            (&["2020-01-01 00:00:00.1234560"], "string"),
            // What Java's Instant and .NET write.
            (
                &[
                    "2020-01-01T00:00:00.123456000Z",
                    "2020-01-01T00:00:00.1234560+18:00",
                    "9999-12-31T23:59:59z",
                ],
                "timestamp",
            ),
            (&["", " "], "string"),
            (&["1", " 2"], "string"),
            (&["1", "\u{a0}2"], "string"),
            (&["1", "x"], "string"),
            (&["1.2.3"], "string"),
        ];
        for (texts, wanted) in cases {
            assert_eq!(named(texts), *wanted, "{texts:?}");
        }
    }

    #[test]
    fn a_conflict_is_told_where_most_are_of_one_type() {
        let mut seen = Texts::default();
        (0..9).for_each(|n| seen.see(&n.to_string()));
        seen.see("n/a");
        let told = seen.conflict().expect("nine of ten");
        assert!(
            told.starts_with("9 of 10 are int, but not \"n/a\""),
            "{told}"
        );
        (0..9).for_each(|_| seen.see("word"));
        assert_eq!(seen.conflict(), None);
    }
}
