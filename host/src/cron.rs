//! Schedules as cron writes them, with a time zone: parsed with all problems at once, and when the next run is due.
//!
//! Five fields (minute, hour, day of month, month, day of week) as Vixie's cron reads them, or six with seconds first.
//! Where clocks are put forward or back it does as cron does: a schedule with fixed hours and minutes runs once for
//! each time of day, at the end of a gap for a time that is skipped, and at the first of two equal times. One whose hours or
//! minutes begin with `*` follows the clock on the wall: skipped times do not come, repeated ones come twice.

use std::fmt;

use jiff::civil::{Date, DateTime};
use jiff::tz::{AmbiguousOffset, TimeZone};
use jiff::{SignedDuration, Timestamp};

/// An expression that nothing matches within so many days from 2000 on never runs: the longest wait is for a 29 February on
/// one day of the week, 40 years around 2100.
const DAYS_MAX: usize = 366 * 41;
/// Changes of a zone's clocks between now and the next run. Two a year, for as long as [`DAYS_MAX`], and some to spare.
const CHANGES_MAX: usize = 100;
const SECOND: SignedDuration = SignedDuration::from_secs(1);

pub const EXAMPLE: &str = "cron:0 5 * * MON-FRI Europe/Berlin";

const MACROS: [(&str, &str); 7] = [
    ("@yearly", "0 0 1 1 *"),
    ("@annually", "0 0 1 1 *"),
    ("@monthly", "0 0 1 * *"),
    ("@weekly", "0 0 * * 0"),
    ("@daily", "0 0 * * *"),
    ("@midnight", "0 0 * * *"),
    ("@hourly", "0 * * * *"),
];
const MONTHS: [&str; 12] = [
    "jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec",
];
const WEEKDAYS: [&str; 7] = ["sun", "mon", "tue", "wed", "thu", "fri", "sat"];

/// A schedule that has a next run after each moment.
#[derive(Clone, PartialEq, Eq)]
pub struct Cron {
    /// As typed.
    text: String,
    /// One bit for each second, minute, hour, day (from 1), month (from 1) and day of the week (from Sunday, 0).
    seconds: u64,
    minutes: u64,
    hours: u64,
    days: u64,
    months: u64,
    weekdays: u64,
    /// Both days must match; otherwise one of them is enough, as cron has it where both are restricted.
    both_days: bool,
    /// Follows the clock on the wall when clocks change.
    by_wall: bool,
    zone: TimeZone,
}

/// As typed: for configs, messages and tests.
impl fmt::Debug for Cron {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "cron:{}", self.text)
    }
}

impl fmt::Display for Cron {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

/// What one field takes.
struct Field {
    name: &'static str,
    min: u32,
    max: u32,
    names: &'static [&'static str],
}

const fn field(name: &'static str, min: u32, max: u32) -> Field {
    let names = &[];
    Field {
        name,
        min,
        max,
        names,
    }
}

const FIELDS: [Field; 6] = [
    field("second", 0, 59),
    field("minute", 0, 59),
    field("hour", 0, 23),
    field("day of month", 1, 31),
    Field {
        names: &MONTHS,
        ..field("month", 1, 12)
    },
    Field {
        names: &WEEKDAYS,
        ..field("day of week", 0, 7)
    },
];

impl Cron {
    /// All problems of the expression, each with its field.
    pub fn parse(text: &str) -> Result<Cron, Vec<String>> {
        let mut problems = Vec::new();
        let mut tokens: Vec<&str> = text.split_whitespace().collect();
        let zone = match tokens.last() {
            Some(last) if is_zone(last) && tokens.len() > 1 => {
                let zone = zone(last, &mut problems);
                tokens.pop();
                zone
            }
            _ => TimeZone::UTC,
        };
        let found =
            expanded(tokens).and_then(|fields| Cron::of_fields(&fields, zone, &mut problems));
        match found {
            Ok(cron) if problems.is_empty() => Ok(Cron {
                text: text.split_whitespace().collect::<Vec<_>>().join(" "),
                ..cron
            }),
            Ok(_) => Err(problems),
            Err(why) => {
                problems.push(why);
                Err(problems)
            }
        }
    }

    /// What is wrong with single fields goes to `problems`.
    fn of_fields(
        fields: &[&str; 6],
        zone: TimeZone,
        problems: &mut Vec<String>,
    ) -> Result<Cron, String> {
        let mut parts = [0; 6];
        for ((part, token), field) in parts.iter_mut().zip(fields).zip(&FIELDS) {
            *part = bits(token, field, problems);
        }
        let [seconds, minutes, hours, days, months, weekdays] = parts;
        let star = |at: usize| fields[at].starts_with('*');
        let cron = Cron {
            text: String::new(),
            seconds,
            minutes,
            hours,
            days,
            months,
            // 7 is Sunday too.
            weekdays: (weekdays | weekdays >> 7) & 0x7f,
            both_days: star(3) || star(5),
            by_wall: star(1) || star(2),
            zone,
        };
        let begin = jiff::civil::datetime(2000, 1, 1, 0, 0, 0, 0);
        if problems.is_empty() && cron.next_on_wall(begin).is_none() {
            return Err("no day is ever like this".to_owned());
        }
        Ok(cron)
    }

    /// The first run after this moment; both in microseconds since 1970 UTC. `None`: beyond the calendar.
    pub fn next(&self, after: i64) -> Option<i64> {
        let at = Timestamp::from_microsecond(after).ok()?;
        let found = match self.by_wall {
            true => self.next_by_wall(at),
            false => self.next_fixed(at),
        };
        found.map(Timestamp::as_microsecond)
    }

    /// Every time of day once: one in a gap at the gap's end, one that is there twice at the first of them.
    fn next_fixed(&self, after: Timestamp) -> Option<Timestamp> {
        let mut wall = self.zone.to_datetime(after);
        loop {
            wall = self.next_on_wall(wall)?;
            let found = self.zone.to_ambiguous_timestamp(wall);
            let at = match found.offset() {
                AmbiguousOffset::Gap { .. } => {
                    let before = found.earlier().ok()?;
                    self.zone.following(before).next()?.timestamp()
                }
                AmbiguousOffset::Unambiguous { .. } | AmbiguousOffset::Fold { .. } => {
                    found.earlier().ok()?
                }
            };
            if at > after {
                return Some(at);
            }
        }
    }

    /// Each moment at which the clock on the wall shows a time of the schedule.
    fn next_by_wall(&self, after: Timestamp) -> Option<Timestamp> {
        let mut offset = self.zone.to_offset(after);
        let (mut from, mut wall) = (after, offset.to_datetime(after));
        for _ in 0..CHANGES_MAX {
            let found = self.next_on_wall(wall);
            let found = found.and_then(|wall| offset.to_timestamp(wall).ok());
            let change = self
                .zone
                .following(from)
                .next()
                .map(|next| next.timestamp());
            match (found, change) {
                (found, Some(change)) if found.is_none_or(|found| found >= change) => {
                    from = change;
                    offset = self.zone.to_offset(change);
                    // The moment of the change itself may be a run.
                    wall = offset.to_datetime(change).checked_sub(SECOND).ok()?;
                }
                (found, _) => return found,
            }
        }
        None
    }

    /// The first time of the schedule after this one, on a clock that is never changed.
    fn next_on_wall(&self, after: DateTime) -> Option<DateTime> {
        let whole = after
            .date()
            .at(after.hour(), after.minute(), after.second(), 0);
        let first = whole.checked_add(SECOND).ok()?;
        let mut date = first.date();
        let (hour, minute, second) = (first.hour(), first.minute(), first.second());
        let mut from = [hour, minute, second].map(i8::unsigned_abs).map(u32::from);
        for _ in 0..DAYS_MAX {
            if self.has_day(date)
                && let Some([hour, minute, second]) = self.time_from(from)
            {
                return Some(date.at(hour, minute, second, 0));
            }
            date = date.tomorrow().ok()?;
            from = [0; 3];
        }
        None
    }

    fn has_day(&self, date: Date) -> bool {
        let has = |bits: u64, n: i8| bits >> n.unsigned_abs() & 1 == 1;
        let day = has(self.days, date.day());
        let weekday = has(self.weekdays, date.weekday().to_sunday_zero_offset());
        let right = match self.both_days {
            true => day && weekday,
            false => day || weekday,
        };
        right && has(self.months, date.month())
    }

    /// The first time of a day at or after this one: hour, minute, second.
    fn time_from(&self, [hour, minute, second]: [u32; 3]) -> Option<[i8; 3]> {
        let has = |bits: u64, n: u32| first_of(bits, n) == Some(n);
        let (firsts, first) = (first_of(self.seconds, 0)?, first_of(self.minutes, 0)?);
        let within = || -> Option<[u32; 3]> {
            if !has(self.hours, hour) {
                return None;
            }
            let same = has(self.minutes, minute).then(|| first_of(self.seconds, second));
            match same.flatten() {
                Some(second) => Some([hour, minute, second]),
                None => Some([hour, first_of(self.minutes, minute + 1)?, firsts]),
            }
        };
        let later = || Some([first_of(self.hours, hour + 1)?, first, firsts]);
        let found = within().or_else(later)?;
        Some(found.map(|n| i8::try_from(n).unwrap_or(0)))
    }
}

/// Second, minute, hour, day of month, month, day of week.
fn expanded(mut tokens: Vec<&str>) -> Result<[&str; 6], String> {
    if let [one] = tokens[..]
        && one.starts_with('@')
    {
        let Some((_, stands_for)) = MACROS.iter().find(|(name, _)| *name == one) else {
            let known = MACROS.map(|(name, _)| name).join(", ");
            return Err(format!("`{one}` is none of {known}"));
        };
        tokens = stands_for.split(' ').collect();
    }
    if tokens.len() == 5 {
        tokens.insert(0, "0");
    }
    let number = tokens.len();
    tokens.try_into().map_err(|_| {
        format!(
            "{number} fields; there are 5 (minute, hour, day of month, month, day of week), or 6 with seconds first, and then a time zone if wanted"
        )
    })
}

/// The first bit that is set, from this one on.
fn first_of(bits: u64, from: u32) -> Option<u32> {
    let rest = bits.checked_shr(from)?;
    (rest != 0).then(|| from + rest.trailing_zeros())
}

/// Begins with a letter, and is no day of the week.
fn is_zone(token: &str) -> bool {
    let lower = token.to_ascii_lowercase();
    let day = WEEKDAYS.iter().any(|day| {
        lower
            .strip_prefix(day)
            .is_some_and(|rest| rest.is_empty() || rest.starts_with(['-', ',', '/', '#']))
    });
    token.starts_with(|c: char| c.is_ascii_alphabetic()) && token.len() > 1 && !day
}

fn zone(name: &str, problems: &mut Vec<String>) -> TimeZone {
    TimeZone::get(name).unwrap_or_else(|_| {
        problems.push(format!(
            "`{name}` is no time zone; names are those of the IANA, such as Europe/Berlin"
        ));
        TimeZone::UTC
    })
}

/// One bit for each number that the field names; what is wrong goes to `problems`.
fn bits(token: &str, field: &Field, problems: &mut Vec<String>) -> u64 {
    token
        .split(',')
        .fold(0, |bits, item| match item_bits(item, field) {
            Ok(more) => bits | more,
            Err(why) => {
                problems.push(format!("{}: {why}", field.name));
                bits
            }
        })
}

/// `*`, `7`, `1-5`, `*/15`, `10-40/10`.
fn item_bits(item: &str, field: &Field) -> Result<u64, String> {
    if item.is_empty() {
        return Err("an empty item between commas".to_owned());
    }
    let quartz = |c| matches!(c, '?' | 'L' | 'W' | '#');
    if item.contains(quartz)
        && field
            .names
            .iter()
            .all(|name| !item.to_ascii_lowercase().contains(name))
    {
        return Err(format!(
            "`{item}` is Quartz's way to write, not cron's; `*` is every one"
        ));
    }
    let (range, step) = match item.split_once('/') {
        Some((range, step)) => (range, Some(step)),
        None => (item, None),
    };
    let (from, to) = match range.split_once('-') {
        _ if range == "*" => (
            field.min,
            field.max.min(if field.max == 7 { 6 } else { field.max }),
        ),
        Some((from, to)) => (number(from, field)?, number(to, field)?),
        None if step.is_some() => {
            return Err(format!(
                "`{item}` has a step without a range; write `{range}-{}/{}`",
                field.max,
                step.unwrap_or_default()
            ));
        }
        None => {
            let only = number(range, field)?;
            (only, only)
        }
    };
    if from > to {
        return Err(format!(
            "`{range}` ends before it begins; write two ranges with a comma"
        ));
    }
    let step = match step {
        None => 1,
        Some(step) => match step.parse::<u32>() {
            Ok(n) if n > 0 && n <= field.max => n,
            _ => {
                return Err(format!(
                    "the step `{step}` is no number from 1 to {}",
                    field.max
                ));
            }
        },
    };
    let step = usize::try_from(step).unwrap_or(1);
    Ok((from..=to).step_by(step).fold(0, |bits, n| bits | 1 << n))
}

fn number(text: &str, field: &Field) -> Result<u32, String> {
    let lower = text.to_ascii_lowercase();
    if let Some(at) = field.names.iter().position(|name| *name == lower) {
        return Ok(field.min + u32::try_from(at).unwrap_or(0));
    }
    let digits = text.bytes().all(|byte| byte.is_ascii_digit());
    match text.parse::<u32>() {
        Ok(n) if digits && (field.min..=field.max).contains(&n) => Ok(n),
        _ => {
            let names = match field.names {
                [first, .., last] => {
                    format!(", or {} to {}", first.to_uppercase(), last.to_uppercase())
                }
                _ => String::new(),
            };
            Err(format!(
                "`{text}` is not {} to {}{names}",
                field.min, field.max
            ))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::instant;

    fn runs(text: &str, from: &str, count: usize) -> Vec<String> {
        let cron = Cron::parse(text).expect(text);
        let mut at = instant::micros(instant::parse(from, false).expect(from));
        let next = || {
            at = cron.next(at).expect("a next run");
            instant::utc(at, 0)
        };
        std::iter::repeat_with(next).take(count).collect()
    }

    #[test]
    fn fields_mean_what_cron_means() {
        for (text, from, expected) in [
            // Exactly at a run, the next one counts.
            ("5 * * * *", "2024-01-01T00:05:00Z", "2024-01-01T01:05:00Z"),
            (
                "5 * * * *",
                "2024-01-01T00:04:59.999999Z",
                "2024-01-01T00:05:00Z",
            ),
            (
                "0 5 * * * *",
                "2024-01-01T00:05:00Z",
                "2024-01-01T01:05:00Z",
            ),
            (
                "*/15 * * * *",
                "2024-01-01T00:46:00Z",
                "2024-01-01T01:00:00Z",
            ),
            (
                "30 10-40/10 * * * *",
                "2024-01-01T00:20:31Z",
                "2024-01-01T00:30:30Z",
            ),
            ("0 0 29 2 *", "2024-03-01T00:00:00Z", "2028-02-29T00:00:00Z"),
            (
                "0 0 * feb,DEC *",
                "2024-03-01T00:00:00Z",
                "2024-12-01T00:00:00Z",
            ),
            ("0 0 * * 7", "2024-01-01T00:00:00Z", "2024-01-07T00:00:00Z"),
            (
                "0 0 * * fri-7",
                "2024-01-06T12:00:00Z",
                "2024-01-07T00:00:00Z",
            ),
            // Both days are named: either is enough.
            (
                "0 0 13 * FRI",
                "2024-01-01T00:00:00Z",
                "2024-01-05T00:00:00Z",
            ),
            (
                "0 0 13 * FRI",
                "2024-01-12T00:00:00Z",
                "2024-01-13T00:00:00Z",
            ),
            // One begins with a star: both must match.
            (
                "0 0 */2 * FRI",
                "2024-01-06T00:00:00Z",
                "2024-01-19T00:00:00Z",
            ),
            ("@daily", "2024-12-31T23:59:59Z", "2025-01-01T00:00:00Z"),
            (
                "@hourly Asia/Kolkata",
                "2024-01-01T00:00:00Z",
                "2024-01-01T00:30:00Z",
            ),
            (
                "0 5 * * MON-FRI Europe/Berlin",
                "2024-01-05T10:00:00Z",
                "2024-01-08T04:00:00Z",
            ),
            (
                "0 5 * * * europe/berlin",
                "2024-07-05T10:00:00Z",
                "2024-07-06T03:00:00Z",
            ),
        ] {
            assert_eq!(runs(text, from, 1), [expected], "{text}");
        }
    }

    /// Berlin: 2024-03-31 02:00 becomes 03:00 (01:00 UTC), 2024-10-27 03:00 becomes 02:00 (01:00 UTC).
    #[test]
    fn where_clocks_change_it_does_as_cron() {
        // Fixed times. In the gap: at its end, once, however many are skipped.
        assert_eq!(
            runs("30 2 * * * Europe/Berlin", "2024-03-30T12:00:00Z", 2),
            ["2024-03-31T01:00:00Z", "2024-04-01T00:30:00Z"]
        );
        assert_eq!(
            runs("0,20,40 2 * * * Europe/Berlin", "2024-03-30T12:00:00Z", 2),
            ["2024-03-31T01:00:00Z", "2024-04-01T00:00:00Z"]
        );
        // Twice on the wall: only the first.
        assert_eq!(
            runs("30 2 * * * Europe/Berlin", "2024-10-26T12:00:00Z", 2),
            ["2024-10-27T00:30:00Z", "2024-10-28T01:30:00Z"]
        );
        assert_eq!(
            runs("30 2 * * * Europe/Berlin", "2024-10-27T01:00:00Z", 1),
            ["2024-10-28T01:30:00Z"]
        );
        // By the wall: what is skipped does not come, what is repeated comes twice.
        assert_eq!(
            runs("30 * * * * Europe/Berlin", "2024-03-31T00:00:00Z", 3),
            [
                "2024-03-31T00:30:00Z",
                "2024-03-31T01:30:00Z",
                "2024-03-31T02:30:00Z"
            ]
        );
        assert_eq!(
            runs("0 2-3/1 * * * Europe/Berlin", "2024-03-30T12:00:00Z", 2),
            ["2024-03-31T01:00:00Z", "2024-04-01T00:00:00Z"]
        );
        assert_eq!(
            runs("*/30 2 * * * Europe/Berlin", "2024-10-26T12:00:00Z", 5),
            [
                "2024-10-27T00:00:00Z",
                "2024-10-27T00:30:00Z",
                "2024-10-27T01:00:00Z",
                "2024-10-27T01:30:00Z",
                "2024-10-28T01:00:00Z"
            ]
        );
        assert_eq!(
            runs("*/30 2 * * * Europe/Berlin", "2024-03-31T00:00:00Z", 1),
            ["2024-04-01T00:00:00Z"]
        );
        // Half an hour, at midnight's other side, and a day that was left out (Apia, 30 December 2011).
        assert_eq!(
            runs("15 2 * * * Australia/Lord_Howe", "2024-10-05T12:00:00Z", 1),
            ["2024-10-05T15:30:00Z"]
        );
        assert_eq!(
            runs("0 12 * * * Pacific/Apia", "2011-12-29T00:00:00Z", 2),
            ["2011-12-29T22:00:00Z", "2011-12-30T10:00:00Z"]
        );
    }

    /// Each run is after the one before, and shows a time of the schedule on the wall, over thirty years of every minute's kind.
    #[test]
    fn runs_only_go_forward() {
        for zone in [
            "UTC",
            "Europe/Berlin",
            "America/St_Johns",
            "Australia/Lord_Howe",
            "Africa/Casablanca",
        ] {
            for fields in [
                "*/7 */5 * * *",
                "1 0 * * *",
                "59 23 * * 0",
                "30 1-2 */3 * *",
                "0 0 1 1,7 *",
            ] {
                let cron = Cron::parse(&format!("{fields} {zone}")).expect(fields);
                let mut at = 0;
                for _ in 0..2000 {
                    let next = cron.next(at).expect("a next run");
                    assert!(next > at, "{fields} {zone}: {next} after {at}");
                    assert_eq!(cron.next(next - 1), Some(next), "{fields} {zone}");
                    at = next;
                }
            }
        }
    }

    #[test]
    fn all_problems_are_told_at_once() {
        let told = |text: &str| Cron::parse(text).expect_err(text).join("; ");
        assert_eq!(
            told("61 24-2 0 FOO 1/2 Europe/Berln"),
            "`Europe/Berln` is no time zone; names are those of the IANA, such as Europe/Berlin; minute: `61` is not 0 to 59; \
             hour: `24` is not 0 to 23; day of month: `0` is not 1 to 31; month: `FOO` is not 1 to 12, or JAN to DEC; \
             day of week: `1/2` has a step without a range; write `1-7/2`"
        );
        for (text, part) in [
            ("", "0 fields"),
            ("* * * *", "4 fields"),
            ("0 0 * * * * *", "7 fields"),
            ("@never", "`@never` is none of @yearly"),
            ("0 0 30 2 *", "no day is ever like this"),
            ("0 0 L * *", "Quartz"),
            ("0 0 * * FRI-MON", "ends before it begins"),
            ("*/0 * * * *", "the step `0`"),
            ("1,,2 * * * *", "an empty item"),
            ("+5 * * * *", "`+5` is not 0 to 59"),
            ("0 0 * * MON#2", "`MON#2` is not"),
        ] {
            assert!(told(text).contains(part), "{text}: {}", told(text));
        }
    }
}
