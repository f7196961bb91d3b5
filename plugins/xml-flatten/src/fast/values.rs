//! Writes a row's cells to its columns: common forms of common types directly, everything else like `Type::read`.
use weir_sdk::Type;
use weir_sdk::builder::Builder;
use weir_sdk::time::Pattern;

use super::lanes::Source;
use crate::plan::{Layout, Repeat};
use crate::rows::{Cell, Rows};
use crate::strict;

/// How a column takes its text.
#[derive(Debug, Clone, Copy)]
enum Sink {
    Text,
    Int,
    /// Scale, 10 to the scale, 10 to the precision; of at most 18 digits.
    Decimal(usize, i64, i64),
    /// `yyyy-MM-dd`.
    Date,
    Other,
}

#[derive(Debug)]
pub struct Sinks {
    list: Vec<Sink>,
    /// A column collects its values as JSON.
    pub json: bool,
}

/// Digits of a decimal that are read here.
const MAX_DIGITS: u8 = 18;

impl Sinks {
    pub fn new(layout: &Layout) -> Self {
        let sink = |kind: &Type| match kind {
            Type::Text => Sink::Text,
            Type::Int => Sink::Int,
            Type::Decimal(precision, scale) if *precision <= MAX_DIGITS && *scale <= 8 => {
                let ten = |power: &u8| 10i64.pow(u32::from(*power));
                Sink::Decimal(usize::from(*scale), ten(scale), ten(precision))
            }
            Type::Date(pattern)
                if ["yyyy-MM-dd", Pattern::DATE].contains(&pattern.to_string().as_str()) =>
            {
                Sink::Date
            }
            _ => Sink::Other,
        };
        Self {
            list: layout
                .columns
                .iter()
                .map(|column| sink(&column.kind))
                .collect(),
            json: layout
                .columns
                .iter()
                .any(|column| column.repeat == Repeat::Json),
        }
    }

    /// Appends the row's cells. False, with nothing appended that the caller would not cut back, if one is not of its
    /// type.
    pub fn append(&self, layout: &Layout, rows: &mut Rows, source: Source<'_>) -> bool {
        let Rows {
            builders,
            cells,
            scratch,
            ..
        } = rows;
        for (((sink, builder), cell), column) in self
            .list
            .iter()
            .zip(builders)
            .zip(cells.iter())
            .zip(&layout.columns)
        {
            let (bytes, mut from, mut to) = match *cell {
                Cell::Missing | Cell::Nil => {
                    builder.push_null();
                    continue;
                }
                Cell::Message(from, to) => (source.bytes(), from as usize, to as usize),
                Cell::Scratch(from, to) => (scratch.as_slice(), from as usize, to as usize),
            };
            if layout.trim && from < to && (bytes[from] <= b' ' || bytes[to - 1] <= b' ') {
                while from < to && strict::is_blank(bytes[from]) {
                    from += 1;
                }
                while from < to && strict::is_blank(bytes[to - 1]) {
                    to -= 1;
                }
            }
            let null = from == to && (layout.empty_as_null || !matches!(sink, Sink::Text));
            if null
                || layout
                    .null_value
                    .as_deref()
                    .is_some_and(|null| *null == bytes[from..to])
            {
                builder.push_null();
                continue;
            }
            let done = match (sink, &mut *builder) {
                (Sink::Text, Builder::Span(b)) => {
                    b.push_over(&bytes[from..], to - from);
                    continue;
                }
                (Sink::Int, Builder::Four(b)) => {
                    number(bytes, from, to).map(|n| b.push((n as i32).to_le_bytes()))
                }
                (&Sink::Decimal(scale, power, most), Builder::Sixteen(b)) => {
                    let unscaled = decimal(bytes, from, to, scale, power);
                    unscaled
                        .filter(|n| *n < most)
                        .map(|n| b.push(i128::from(n).to_le_bytes()))
                }
                (Sink::Date, Builder::Four(b)) => {
                    date(bytes, from, to).map(|days| b.push(days.to_le_bytes()))
                }
                _ => None,
            };
            if done.is_none() {
                match column.kind.read(&bytes[from..to]) {
                    Some(value) => builder.push(value),
                    None => return false,
                }
            }
        }
        rows.cells.fill(Cell::Missing);
        true
    }
}

const ZEROS: u64 = 0x3030_3030_3030_3030;
const UPPER: u64 = 0xF0F0_F0F0_F0F0_F0F0;

/// Eight digits, the first one lowest.
#[inline(always)]
fn eight(digits: u64) -> Option<u64> {
    let above = digits.wrapping_add(0x0606_0606_0606_0606);
    if (digits & UPPER) | ((above & UPPER) >> 4) != 0x3333_3333_3333_3333 {
        return None;
    }
    let ones = digits - ZEROS;
    let pairs = ones.wrapping_mul(10).wrapping_add(ones >> 8);
    let low = (pairs & 0x0000_00FF_0000_00FF).wrapping_mul(100 + (1_000_000 << 32));
    let high = (pairs >> 16 & 0x0000_00FF_0000_00FF).wrapping_mul(1 + (10_000 << 32));
    Some(low.wrapping_add(high) >> 32)
}

/// One to eight digits, nothing else.
#[inline(always)]
fn number(bytes: &[u8], from: usize, to: usize) -> Option<u64> {
    let len = to.wrapping_sub(from);
    if len.wrapping_sub(1) >= 8 {
        return None;
    }
    let word = u64::from_le_bytes(*bytes.get(from..)?.first_chunk()?);
    let shift = 64 - 8 * len as u32;
    // Behind zeros: shifting by 64 is not needed, as there is a digit.
    let zeros = if shift == 0 { 0 } else { ZEROS >> (64 - shift) };
    eight(word << shift | zeros)
}

/// Digits without a sign, with a point before exactly `scale` of them, or with none.
#[inline(always)]
fn decimal(bytes: &[u8], from: usize, to: usize, scale: usize, power: i64) -> Option<i64> {
    let point = to.wrapping_sub(1 + scale);
    if scale > 0 && point > from && point < to && bytes[point] == b'.' {
        return Some(
            number(bytes, from, point)? as i64 * power + number(bytes, point + 1, to)? as i64,
        );
    }
    Some(number(bytes, from, to)? as i64 * power)
}

/// Days since 1970-01-01 of `yyyy-MM-dd`, for days that every month has.
#[inline(always)]
fn date(bytes: &[u8], from: usize, to: usize) -> Option<i32> {
    if to.wrapping_sub(from) != 10 {
        return None;
    }
    let text: &[u8; 16] = bytes.get(from..)?.first_chunk()?;
    let text = u128::from_le_bytes(*text);
    let (first, last) = (text as u64, (text >> 64) as u64);
    if first & 0xFF00_00FF_0000_0000 != u64::from_le_bytes(*b"\0\0\0\0-\0\0-") {
        return None;
    }
    let month = first >> 8 & 0x0000_FFFF_0000_0000;
    let number = eight(first & 0xFFFF_FFFF | month | last << 48)? as u32;
    let (year, month, day) = (number / 10_000, number / 100 % 100, number % 100);
    if year == 0 || month.wrapping_sub(1) >= 12 || day.wrapping_sub(1) >= 28 {
        return None;
    }
    // March is the first month, so that the leap day ends a year.
    let year = year - u32::from(month <= 2);
    let of_year = (153 * ((month + 9) % 12) + 2) / 5 + day - 1;
    let century = year / 100;
    let days = year * 365 + year / 4 - century + century / 4 + of_year;
    Some(days as i32 - 719_468)
}

#[cfg(test)]
mod tests {
    use super::*;
    use weir_sdk::Value;

    const TEXTS: [&str; 45] = [
        "",
        "0",
        "7",
        "12",
        "123",
        "12345678",
        "123456789",
        "-1",
        "+1",
        "1a",
        "a",
        "/",
        ":",
        "1 2",
        "1234567/",
        "12345678.99",
        "123456789.99",
        "0.5",
        ".5",
        "5.",
        "5.5",
        "5.55",
        "5.555",
        "5.500",
        "1..2",
        "1.2.3",
        "99999999.99",
        "100000000.00",
        "00000000.00",
        "12.3x",
        "x2.34",
        "1-1",
        "2021-03-11",
        "2021-02-28",
        "2021-02-29",
        "2020-02-29",
        "1970-01-01",
        "1969-12-31",
        "0001-01-01",
        "2021-03-11Z",
        "0000-01-01",
        "9999-12-28",
        "2021-13-01",
        "2021/03/11",
        "2021-00-10",
    ];

    #[test]
    fn what_is_read_here_is_what_the_type_reads() {
        let types = [
            "decimal(10,2)",
            "decimal(3,2)",
            "decimal(18,0)",
            "decimal(18,8)",
        ]
        .map(|t| Type::parse(t).unwrap());
        let date_type = Type::parse("date").unwrap();
        let mut here = [0; 3];
        for text in TEXTS {
            for behind in ["0123456789012345", "................", "ab"] {
                let bytes = format!("-{text}{behind}");
                let (bytes, to) = (bytes.as_bytes(), 1 + text.len());
                if let Some(n) = number(bytes, 1, to) {
                    assert_eq!(
                        Type::Int.read(text.as_bytes()),
                        Some(Value::Int(n as i32)),
                        "{text}"
                    );
                    here[0] += 1;
                }
                for kind in &types {
                    let &Type::Decimal(precision, scale) = kind else {
                        continue;
                    };
                    let unscaled = decimal(
                        bytes,
                        1,
                        to,
                        usize::from(scale),
                        10i64.pow(u32::from(scale)),
                    );
                    if let Some(n) = unscaled.filter(|n| *n < 10i64.pow(u32::from(precision))) {
                        assert_eq!(
                            kind.read(text.as_bytes()),
                            Some(Value::Decimal(n.into())),
                            "{text} {kind}"
                        );
                        here[1] += 1;
                    }
                }
                if let Some(days) = date(bytes, 1, to) {
                    assert_eq!(
                        date_type.read(text.as_bytes()),
                        Some(Value::Date(days)),
                        "{text}"
                    );
                    here[2] += 1;
                }
            }
        }
        // The common forms are read here, not elsewhere.
        assert_eq!(here.map(|n| n >= 10), [true; 3], "{here:?}");
    }

    #[test]
    fn days_are_right_in_every_year() {
        let kind = Type::parse("date").unwrap();
        for year in 1..10_000 {
            for day in ["-01-01", "-02-28", "-03-01", "-12-28"] {
                let text = format!("{year:04}{day}      ");
                let expected = kind.read(&text.as_bytes()[..10]);
                assert_eq!(
                    date(text.as_bytes(), 0, 10).map(Value::Date),
                    expected,
                    "{text}"
                );
            }
        }
    }
}
