//! Values that have no type of Rust's own: exact decimals, dates, timestamps and JSON texts. A cell of `input!` and
//! `output!` has these types.
use std::fmt;
use std::str::FromStr;
use std::sync::LazyLock;

use crate::numbers;
use crate::time::{self, Pattern};
use crate::types::{Type, Value};

/// An exact number of up to `P` digits, `S` of them behind the point: `decimal(P,S)`.
///
/// ```
/// use weir_sdk::Decimal;
///
/// let price: Decimal<18, 2> = "12.5".parse()?;
/// assert_eq!(price.unscaled(), 1250);
/// assert_eq!(price.to_string(), "12.50");
/// let sum = price.checked_add("0.01".parse()?).ok_or("too large")?;
/// assert_eq!(sum, "12.51".parse()?);
/// assert!("12.505".parse::<Decimal<18, 2>>().is_err()); // nothing is rounded in silence
/// assert_eq!(Decimal::<3, 2>::from_unscaled(1000), None); // a digit too many
/// # Ok::<(), String>(())
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Decimal<const P: u8, const S: u8>(i128);

impl<const P: u8, const S: u8> Decimal<P, S> {
    /// A type that is none does not compile.
    const SOUND: () = assert!(
        1 <= P && P <= 38 && S <= P,
        "Decimal<P, S>: 1 <= P <= 38, S <= P"
    );

    /// `unscaled` divided by ten to the `S`; nothing where it has more than `P` digits.
    pub fn from_unscaled(unscaled: i128) -> Option<Self> {
        let () = Self::SOUND;
        (unscaled.unsigned_abs() < 10u128.pow(u32::from(P))).then_some(Self(unscaled))
    }

    /// The number times ten to the `S`.
    pub fn unscaled(self) -> i128 {
        self.0
    }

    /// Nothing where the sum has too many digits.
    pub fn checked_add(self, other: Self) -> Option<Self> {
        Self::from_unscaled(self.0.checked_add(other.0)?)
    }

    /// Nothing where the difference has too many digits.
    pub fn checked_sub(self, other: Self) -> Option<Self> {
        Self::from_unscaled(self.0.checked_sub(other.0)?)
    }

    /// So many times; nothing where that has too many digits.
    pub fn checked_mul(self, times: i128) -> Option<Self> {
        Self::from_unscaled(self.0.checked_mul(times)?)
    }
}

impl<const P: u8, const S: u8> FromStr for Decimal<P, S> {
    type Err = String;

    /// Digits, at most one point, no exponent, no blanks around them.
    fn from_str(text: &str) -> Result<Self, String> {
        let () = Self::SOUND;
        let number = numbers::decimal(text.as_bytes(), P, S);
        number
            .map(Self)
            .ok_or_else(|| format!("expected decimal({P},{S})"))
    }
}

impl<const P: u8, const S: u8> fmt::Display for Decimal<P, S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&Type::Decimal(P, S).show(Value::Decimal(self.0)))
    }
}

/// A day, `date`.
///
/// ```
/// use weir_sdk::Date;
///
/// let day: Date = "2024-02-29".parse()?;
/// assert_eq!(Date::of(2024, 2, 29), Some(day));
/// assert_eq!(day.year_month_day(), (2024, 2, 29));
/// assert_eq!(Date::from_days(day.days() + 1).to_string(), "2024-03-01");
/// assert_eq!(Date::of(2023, 2, 29), None);
/// # Ok::<(), String>(())
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Date(i32);

impl Date {
    /// Days since 1970-01-01. Most readers of a zone expect the years 0001 to 9999.
    pub fn from_days(days: i32) -> Self {
        Self(days)
    }

    /// Days since 1970-01-01.
    pub fn days(self) -> i32 {
        self.0
    }

    /// Nothing where the years 0001 to 9999 have no such day.
    pub fn of(year: i32, month: i32, day: i32) -> Option<Self> {
        time::day_of(year, month, day).map(Self)
    }

    /// Months and days count from 1.
    pub fn year_month_day(self) -> (i64, i64, i64) {
        time::civil(self.0.into())
    }
}

static DATE: LazyLock<Option<Pattern>> = LazyLock::new(|| Pattern::compile(Pattern::DATE).ok());
static TIMESTAMP: LazyLock<Option<Pattern>> =
    LazyLock::new(|| Pattern::compile(Pattern::TIMESTAMP).ok());

impl FromStr for Date {
    type Err = String;

    /// `2024-02-29`. For another form keep a `time::Pattern`.
    fn from_str(text: &str) -> Result<Self, String> {
        let days = DATE.as_ref().and_then(|form| form.date(text.as_bytes()));
        days.map(Self)
            .ok_or_else(|| "expected a date such as 2024-02-29".into())
    }
}

impl fmt::Display for Date {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&time::show_date(self.0.into()))
    }
}

/// A moment to the microsecond, `timestamp`, in UTC.
///
/// ```
/// use weir_sdk::{Date, Timestamp};
///
/// let at: Timestamp = "2024-02-29T12:00:00.5+01:00".parse()?;
/// assert_eq!(at.to_string(), "2024-02-29T11:00:00.500000Z");
/// assert_eq!(Some(at.date()), Date::of(2024, 2, 29));
/// assert_eq!(Timestamp::from_micros(at.micros() + 500_000).to_string(), "2024-02-29T11:00:01Z");
/// # Ok::<(), String>(())
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Timestamp(i64);

const MICROS_PER_DAY: i64 = 86_400_000_000;

impl Timestamp {
    /// Microseconds since 1970-01-01T00:00Z. Most readers of a zone expect the years 0001 to 9999.
    pub fn from_micros(micros: i64) -> Self {
        Self(micros)
    }

    /// Microseconds since 1970-01-01T00:00Z.
    pub fn micros(self) -> i64 {
        self.0
    }

    /// The day in UTC.
    pub fn date(self) -> Date {
        Date(self.0.div_euclid(MICROS_PER_DAY) as i32) // the quotient of any i64 fits
    }
}

impl FromStr for Timestamp {
    type Err = String;

    /// `2024-02-29T12:00:00Z`, or with an offset. For another form keep a `time::Pattern`.
    fn from_str(text: &str) -> Result<Self, String> {
        let form = TIMESTAMP.as_ref();
        let micros = form.and_then(|form| form.timestamp(text.as_bytes()));
        micros
            .map(Self)
            .ok_or_else(|| "expected a timestamp such as 2024-02-29T12:00:00Z".into())
    }
}

impl fmt::Display for Timestamp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&time::show_timestamp(self.0))
    }
}

/// A text that is one JSON value: the column is marked as JSON (`arrow.json`). Nobody checks the text.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Json(pub String);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn days_and_their_names_agree_over_all_years() {
        let first = Date::of(1, 1, 1).unwrap().days();
        let last = Date::of(9999, 12, 31).unwrap().days();
        for days in (first..=last).step_by(97).chain([last]) {
            let day = Date::from_days(days);
            let (y, m, d) = day.year_month_day();
            assert_eq!(Date::of(y as i32, m as i32, d as i32), Some(day));
            assert_eq!(day.to_string().parse(), Ok(day));
        }
        for none in [
            (0, 1, 1),
            (10_000, 1, 1),
            (2000, 13, 1),
            (2000, 0, 1),
            (1900, 2, 29),
        ] {
            assert_eq!(Date::of(none.0, none.1, none.2), None, "{none:?}");
        }
        for end in [i64::MIN, i64::MAX] {
            assert!(!Timestamp::from_micros(end).to_string().is_empty());
            let day = i64::from(Timestamp::from_micros(end).date().days());
            assert_eq!(day, end.div_euclid(MICROS_PER_DAY));
        }
    }

    #[test]
    fn decimals_keep_their_digits_and_no_more() {
        type Small = Decimal<4, 2>;
        let small = |text: &str| text.parse::<Small>();
        assert_eq!(small("-99.99").map(|d| d.to_string()), Ok("-99.99".into()));
        assert!(small("100").is_err() && small("1e1").is_err() && small("").is_err());
        let most = Small::from_unscaled(9999).unwrap();
        assert_eq!(most.checked_add(Small::from_unscaled(1).unwrap()), None);
        assert_eq!(most.checked_sub(most), Some(Small::default()));
        assert_eq!(most.checked_mul(2), None);
        assert_eq!(Decimal::<38, 0>::from_unscaled(i128::MIN), None);
    }
}
