//! Which date directory a PROCESSED row belongs to.
//!
//! | field | how it is read |
//! |---|---|
//! | date32, date64 | the day |
//! | timestamp | its day in UTC, with or without a time zone |
//! | integer | a year; only with `%Y` |
//! | string | RFC 3339 (its day in UTC), `YYYY-MM-DD…` up to a `T` or blank, `YYYY-MM` with `%Y-%m` or `%Y`, `YYYY` with `%Y` |
//!
//! Null, unreadable, and years outside of 0001–9999 go to `__HIVE_DEFAULT_PARTITION__`: a row is never lost for its date.

use std::str::FromStr;

use arrow_array::cast::AsArray;
use arrow_array::types::{
    ArrowPrimitiveType, Date32Type, Date64Type, Int8Type, Int16Type, Int32Type, Int64Type,
    TimestampMicrosecondType, TimestampMillisecondType, TimestampNanosecondType,
    TimestampSecondType, UInt8Type, UInt16Type, UInt32Type, UInt64Type,
};
use arrow_array::{Array, ArrayRef};
use arrow_schema::{DataType, TimeUnit};
use jiff::civil::Date;

use crate::error::{Error, Kind, Result};
use crate::instant;

use super::layout::NO_PARTITION_VALUE;

/// `sink.partition.*`
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PartitionBy {
    pub field: String,
    pub format: PartitionFormat,
    /// Name of the partition column, which is only in the path.
    pub name: String,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PartitionFormat {
    /// `%Y-%m-%d`
    Day,
    /// `%Y-%m`
    Month,
    /// `%Y`
    Year,
}

impl FromStr for PartitionFormat {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text {
            "%Y-%m-%d" => Ok(PartitionFormat::Day),
            "%Y-%m" => Ok(PartitionFormat::Month),
            "%Y" => Ok(PartitionFormat::Year),
            other => Err(format!("expected %Y-%m-%d, %Y-%m or %Y, found `{other}`")),
        }
    }
}

/// A partition: its first day since 1970-01-01, or none. Ordered like the values.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Period(Option<i32>);

impl Period {
    /// As a number that is ordered like it.
    pub fn code(self) -> i32 {
        self.0.unwrap_or(i32::MIN)
    }

    pub fn of_code(code: i32) -> Period {
        Period((code != i32::MIN).then_some(code))
    }
}

/// The one partition of a table without a partition field.
pub const WHOLE: Period = Period(None);

impl PartitionBy {
    /// Refuses a field type that can never be a date of this format.
    pub fn check(&self, data_type: &DataType) -> Result<()> {
        let fits = match data_type {
            DataType::Date32 | DataType::Date64 | DataType::Timestamp(..) => true,
            DataType::Utf8 | DataType::LargeUtf8 => true,
            t if t.is_integer() => self.format == PartitionFormat::Year,
            _ => false,
        };
        if fits {
            return Ok(());
        }
        Err(Error::new(
            Kind::ConfigInvalid,
            "zone.partition",
            format!(
                "sink.partition.field `{}` is {data_type}, which is no date of this format",
                self.field
            ),
        )
        .hint("dates, timestamps and strings fit every format, whole numbers fit %Y"))
    }

    /// The partition of each row.
    pub fn periods(&self, values: &ArrayRef) -> Result<Vec<Period>> {
        self.check(values.data_type())?;
        let format = self.format;
        Ok(match values.data_type() {
            DataType::Date32 => by::<Date32Type>(values, |v| format.of_day(i64::from(v))),
            DataType::Date64 => {
                by::<Date64Type>(values, |v| format.of_day(v.div_euclid(86_400_000)))
            }
            DataType::Timestamp(TimeUnit::Second, _) => {
                by::<TimestampSecondType>(values, |v| format.of_day(v.div_euclid(86_400)))
            }
            DataType::Timestamp(TimeUnit::Millisecond, _) => {
                by::<TimestampMillisecondType>(values, |v| format.of_day(v.div_euclid(86_400_000)))
            }
            DataType::Timestamp(TimeUnit::Microsecond, _) => {
                let day = 86_400_000_000;
                by::<TimestampMicrosecondType>(values, |v| format.of_day(v.div_euclid(day)))
            }
            DataType::Timestamp(TimeUnit::Nanosecond, _) => {
                let day = 86_400_000_000_000;
                by::<TimestampNanosecondType>(values, |v| format.of_day(v.div_euclid(day)))
            }
            DataType::Int8 => by::<Int8Type>(values, |v| of_year(v.into())),
            DataType::Int16 => by::<Int16Type>(values, |v| of_year(v.into())),
            DataType::Int32 => by::<Int32Type>(values, |v| of_year(v.into())),
            DataType::Int64 => by::<Int64Type>(values, of_year),
            DataType::UInt8 => by::<UInt8Type>(values, |v| of_year(v.into())),
            DataType::UInt16 => by::<UInt16Type>(values, |v| of_year(v.into())),
            DataType::UInt32 => by::<UInt32Type>(values, |v| of_year(v.into())),
            DataType::UInt64 => by::<UInt64Type>(values, |v| of_year(v.try_into().unwrap_or(0))),
            DataType::LargeUtf8 => {
                let strings = values.as_string::<i64>();
                strings
                    .iter()
                    .map(|s| Period(s.and_then(|s| format.of_text(s))))
                    .collect()
            }
            _ => {
                let strings = values.as_string::<i32>();
                strings
                    .iter()
                    .map(|s| Period(s.and_then(|s| format.of_text(s))))
                    .collect()
            }
        })
    }

    /// The value in the path, before escaping.
    pub fn value(&self, period: Period) -> String {
        let Some(date) = period.0.and_then(|day| date(i64::from(day))) else {
            return NO_PARTITION_VALUE.to_owned();
        };
        let (y, m, d) = (date.year(), date.month(), date.day());
        match self.format {
            PartitionFormat::Day => format!("{y:04}-{m:02}-{d:02}"),
            PartitionFormat::Month => format!("{y:04}-{m:02}"),
            PartitionFormat::Year => format!("{y:04}"),
        }
    }

    /// The period of a moment, microseconds since 1970 UTC.
    pub fn at(&self, micros: i64) -> Period {
        Period(self.format.of_day(micros.div_euclid(24 * 3600 * 1_000_000)))
    }

    /// The period that a value in a path means.
    pub fn period(&self, value: &str) -> Period {
        Period(self.format.of_text(value))
    }

    /// True when at most `days` lie between two periods: rows of the one may be duplicates of rows of the other.
    pub fn near(&self, a: Period, b: Period, days: u32) -> bool {
        let (Some(a), Some(b)) = (a.0, b.0) else {
            return a == b;
        };
        let (early, late) = (a.min(b), a.max(b));
        early == late || i64::from(late) - self.format.last_day(early) <= i64::from(days)
    }
}

fn by<T: ArrowPrimitiveType>(
    values: &ArrayRef,
    period: impl Fn(T::Native) -> Option<i32>,
) -> Vec<Period> {
    let values = values.as_primitive::<T>();
    values.iter().map(|v| Period(v.and_then(&period))).collect()
}

impl PartitionFormat {
    fn of_day(self, day: i64) -> Option<i32> {
        match self {
            PartitionFormat::Day => date(day).map(|_| day as i32),
            _ => self.of_date(date(day)?),
        }
    }

    fn of_date(self, date: Date) -> Option<i32> {
        if date.year() < 1 {
            return None;
        }
        let first = match self {
            PartitionFormat::Day => date,
            PartitionFormat::Month => date.first_of_month(),
            PartitionFormat::Year => date.first_of_year(),
        };
        Some(day_number(first))
    }

    fn of_text(self, text: &str) -> Option<i32> {
        let text = text.trim_ascii();
        let plain = text.bytes().all(|b| b.is_ascii_digit() || b == b'-');
        match (text.len(), plain) {
            (10, true) => self.of_date(text.parse().ok()?),
            (7, true) if self != PartitionFormat::Day => {
                self.of_date(format!("{text}-01").parse().ok()?)
            }
            (4, true) if self == PartitionFormat::Year => of_year(text.parse().ok()?),
            (11.., false) => {
                if instant::has_offset(text) {
                    return self.of_date(instant::parse(text, false)?.date());
                }
                let (day, _) = text.split_once(['T', 't', ' '])?;
                (day.len() == 10)
                    .then(|| day.parse().ok())?
                    .and_then(|d| self.of_date(d))
            }
            _ => None,
        }
    }

    /// The last day of the period that begins on `first`.
    fn last_day(self, first: i32) -> i64 {
        let last = date(i64::from(first)).map(|first| match self {
            PartitionFormat::Day => first,
            PartitionFormat::Month => first.last_of_month(),
            PartitionFormat::Year => first.last_of_year(),
        });
        i64::from(last.map_or(first, day_number))
    }
}

fn of_year(year: i64) -> Option<i32> {
    let year = i16::try_from(year).ok().filter(|y| *y >= 1)?;
    Some(day_number(Date::new(year, 1, 1).ok()?))
}

const EPOCH: Date = jiff::civil::date(1970, 1, 1);
/// 0001-01-01 and 9999-12-31.
const DAYS: std::ops::RangeInclusive<i64> = -719_162..=2_932_896;

fn date(day: i64) -> Option<Date> {
    let day = DAYS.contains(&day).then_some(day)?;
    EPOCH.checked_add(jiff::Span::new().days(day)).ok()
}

fn day_number(date: Date) -> i32 {
    // The span between two dates, in its largest default unit, is in days.
    date.since(EPOCH).map_or(0, |span| span.get_days())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::Arc;

    use arrow_array::{Date32Array, Int32Array, StringArray, TimestampMillisecondArray};

    fn by(format: &str) -> PartitionBy {
        PartitionBy {
            field: "f".into(),
            format: format.parse().expect("format"),
            name: "date".into(),
        }
    }

    fn check(format: &str, values: ArrayRef, expected: &[&str]) {
        let by = by(format);
        let periods = by.periods(&values).expect("fits");
        let found: Vec<String> = periods.iter().map(|p| by.value(*p)).collect();
        assert_eq!(found, expected, "{format}");
        for (period, value) in periods.iter().zip(&found) {
            assert_eq!(
                by.period(value),
                *period,
                "a value in a path stands for its period"
            );
        }
    }

    const NONE: &str = NO_PARTITION_VALUE;

    #[test]
    fn every_kind_of_field_finds_its_date() {
        let days = || {
            Arc::new(Date32Array::from(vec![
                Some(0),
                Some(19_716),
                Some(-1),
                None,
                Some(i32::MAX),
            ]))
        };
        check(
            "%Y-%m-%d",
            days(),
            &["1970-01-01", "2023-12-25", "1969-12-31", NONE, NONE],
        );
        check(
            "%Y-%m",
            days(),
            &["1970-01", "2023-12", "1969-12", NONE, NONE],
        );
        check("%Y", days(), &["1970", "2023", "1969", NONE, NONE]);
        let moments = TimestampMillisecondArray::from(vec![-1, 86_399_999, 86_400_000]);
        check(
            "%Y-%m-%d",
            Arc::new(moments),
            &["1969-12-31", "1970-01-01", "1970-01-02"],
        );
        let years = Int32Array::from(vec![1999, 0, 10_000, 1]);
        check("%Y", Arc::new(years), &["1999", NONE, NONE, "0001"]);
        assert!(
            by("%Y-%m")
                .periods(&(Arc::new(Int32Array::from(vec![1999])) as ArrayRef))
                .is_err()
        );
    }

    #[test]
    fn text_is_read_as_a_date_or_not_at_all() {
        let text = vec![
            "2024-02-29",
            "2023-02-29",
            " 2024-02-28 ",
            "2024-02-28T23:30:00-05:00",
            "2024-02-28 23:30:00",
            "2024-02-28T23:30:00.123",
            "2024-02",
            "2024",
            "today",
            "",
            "2024/02/28",
            "é024-02-28",
            "0000-02-28",
        ];
        let array = || Arc::new(StringArray::from(text.clone()));
        let day = "2024-02-28";
        let expected = [
            "2024-02-29",
            NONE,
            day,
            "2024-02-29",
            day,
            day,
            NONE,
            NONE,
            NONE,
            NONE,
            NONE,
            NONE,
            NONE,
        ];
        check("%Y-%m-%d", array(), &expected);
        let last = vec!["9999-12-31T23:59:59Z", "9999-12-31T23:59:59-01:00"];
        check(
            "%Y-%m-%d",
            Arc::new(StringArray::from(last)),
            &["9999-12-31", NONE],
        );
        let year = "2024";
        let expected = [
            year, NONE, year, year, year, year, year, year, NONE, NONE, NONE, NONE, NONE,
        ];
        check("%Y", array(), &expected);
    }

    #[test]
    fn near_counts_days_between_periods() {
        let day = by("%Y-%m-%d");
        let (a, b) = (day.period("2024-01-31"), day.period("2024-02-02"));
        assert!(day.near(a, a, 0) && !day.near(a, b, 1) && day.near(a, b, 2) && day.near(b, a, 2));
        let month = by("%Y-%m");
        let (a, b) = (month.period("2024-01"), month.period("2024-02"));
        assert!(!month.near(a, b, 0) && month.near(b, a, 1));
        let none = day.period("x");
        assert!(day.near(none, none, 0) && !day.near(none, day.period("2024-01-01"), 9999));
    }
}
