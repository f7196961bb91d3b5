//! The types a column can have, how config names them, and how a text becomes a value.
use std::fmt;

use crate::builder::{BoolBuilder, Builder, FixedBuilder, SpanBuilder};
use crate::contract::Field;
use crate::numbers;
use crate::time::{self, Pattern};

/// `string`, `int`, `long`, `double`, `boolean`, `decimal(P,S)`, `date`, `date(pattern)`, `timestamp`,
/// `timestamp(pattern)`.
#[derive(Debug, Clone, PartialEq)]
pub enum Type {
    Text,
    Int,
    Long,
    Double,
    Bool,
    Decimal(u8, u8),
    Date(Pattern),
    Timestamp(Pattern),
}

/// A value of any of the types, for comparing.
#[derive(Debug, Clone, Copy, PartialEq, PartialOrd)]
pub enum Value<'a> {
    Text(&'a str),
    Int(i32),
    Long(i64),
    Double(f64),
    Bool(bool),
    /// Unscaled.
    Decimal(i128),
    /// Days since 1970-01-01.
    Date(i32),
    /// Microseconds since 1970-01-01T00:00Z.
    Timestamp(i64),
}

pub const NAMES: &str = "string, int, long, double, boolean, decimal(P,S), date, date(pattern), \
                         timestamp, timestamp(pattern)";

impl Type {
    pub fn parse(spec: &str) -> Result<Self, String> {
        let spec = spec.trim();
        let (name, inside) = match spec.strip_suffix(')').and_then(|s| s.split_once('(')) {
            Some((name, inside)) => (name.trim(), Some(inside.trim())),
            None => (spec, None),
        };
        match (name, inside) {
            ("string", None) => Ok(Self::Text),
            ("int" | "integer", None) => Ok(Self::Int),
            ("long" | "bigint", None) => Ok(Self::Long),
            ("double", None) => Ok(Self::Double),
            ("bool" | "boolean", None) => Ok(Self::Bool),
            ("decimal", Some(inside)) => decimal_type(inside),
            ("date", pattern) => Pattern::compile(pattern.unwrap_or(Pattern::DATE)).map(Self::Date),
            ("timestamp", pattern) => {
                Pattern::compile(pattern.unwrap_or(Pattern::TIMESTAMP)).map(Self::Timestamp)
            }
            _ => Err(format!("`{spec}` is no type; there are: {NAMES}")),
        }
    }

    /// The type of a flat column; nothing where it is none of ours.
    pub fn of_format(format: &str) -> Option<Self> {
        let date = || Pattern::compile(Pattern::DATE);
        let timestamp = || Pattern::compile(Pattern::TIMESTAMP);
        match format {
            "u" => Some(Self::Text),
            "i" => Some(Self::Int),
            "l" => Some(Self::Long),
            "g" => Some(Self::Double),
            "b" => Some(Self::Bool),
            "tdD" => date().ok().map(Self::Date),
            "tsu:" | "tsu:UTC" => timestamp().ok().map(Self::Timestamp),
            _ => decimal_type(format.strip_prefix("d:")?).ok(),
        }
    }

    /// Arrow's format string.
    pub fn format(&self) -> String {
        match self {
            Self::Text => "u".into(),
            Self::Int => "i".into(),
            Self::Long => "l".into(),
            Self::Double => "g".into(),
            Self::Bool => "b".into(),
            Self::Decimal(precision, scale) => format!("d:{precision},{scale}"),
            Self::Date(_) => "tdD".into(),
            Self::Timestamp(_) => "tsu:UTC".into(),
        }
    }

    /// A flat, nullable column of this type.
    pub fn field(&self, name: &str) -> Field {
        Field {
            name: name.into(),
            format: self.format(),
            nullable: true,
            children: 0,
            extension: None,
        }
    }

    pub fn builder(&self) -> Builder {
        match self {
            Self::Text => Builder::Span(SpanBuilder::default()),
            Self::Int | Self::Date(_) => Builder::Four(FixedBuilder::default()),
            Self::Long | Self::Double | Self::Timestamp(_) => {
                Builder::Eight(FixedBuilder::default())
            }
            Self::Decimal(..) => Builder::Sixteen(FixedBuilder::default()),
            Self::Bool => Builder::Bool(BoolBuilder::default()),
        }
    }

    /// `bad_int`, `bad_date`, …: the code of a text that is none.
    pub fn code(&self) -> &'static str {
        match self {
            Self::Text => "bad_string",
            Self::Int => "bad_int",
            Self::Long => "bad_long",
            Self::Double => "bad_double",
            Self::Bool => "bad_boolean",
            Self::Decimal(..) => "bad_decimal",
            Self::Date(_) => "bad_date",
            Self::Timestamp(_) => "bad_timestamp",
        }
    }

    /// The value of `text`, which must be the whole of it: blanks around it are the caller's to trim.
    #[inline]
    pub fn read<'a>(&self, text: &'a [u8]) -> Option<Value<'a>> {
        match self {
            Self::Text => str::from_utf8(text).ok().map(Value::Text),
            Self::Int => i32::try_from(numbers::integer(text)?).ok().map(Value::Int),
            Self::Long => numbers::integer(text).map(Value::Long),
            Self::Double => numbers::double(text).map(Value::Double),
            Self::Bool => numbers::boolean(text).map(Value::Bool),
            Self::Decimal(precision, scale) => {
                numbers::decimal(text, *precision, *scale).map(Value::Decimal)
            }
            Self::Date(pattern) => pattern.date(text).map(Value::Date),
            Self::Timestamp(pattern) => pattern.timestamp(text).map(Value::Timestamp),
        }
    }
}

impl Type {
    /// What was expected where `read` found no value in `text`: the type, and why the text is none where that cannot be
    /// seen at once.
    #[cold]
    pub fn expected(&self, text: &[u8]) -> String {
        let why = match self {
            Self::Double => numbers::why_no_double(text),
            Self::Date(pattern) => pattern.why_no_date(text),
            Self::Timestamp(pattern) => pattern.why_no_timestamp(text),
            _ => None,
        };
        match why {
            Some(why) => format!("{self}: {why}"),
            None => self.to_string(),
        }
    }

    /// `read`, of a number as JSON writes it: `1e3` and `1.0` are whole numbers too.
    #[inline]
    pub fn read_number<'a>(&self, text: &'a [u8]) -> Option<Value<'a>> {
        self.read(text).or_else(|| self.read_scaled(text))
    }

    #[cold]
    fn read_scaled(&self, text: &[u8]) -> Option<Value<'static>> {
        match self {
            Self::Int => i32::try_from(numbers::scaled(text, 0)?)
                .ok()
                .map(Value::Int),
            Self::Long => i64::try_from(numbers::scaled(text, 0)?)
                .ok()
                .map(Value::Long),
            Self::Decimal(precision, scale) => numbers::scaled(text, *scale)
                .filter(|n| n.unsigned_abs() < 10u128.pow(u32::from(*precision)))
                .map(Value::Decimal),
            _ => None,
        }
    }

    /// `read`, for values that outlive their text: every type but `string`.
    pub fn read_static(&self, text: &[u8]) -> Option<Value<'static>> {
        match self.read(text)? {
            Value::Text(_) => None,
            Value::Int(v) => Some(Value::Int(v)),
            Value::Long(v) => Some(Value::Long(v)),
            Value::Double(v) => Some(Value::Double(v)),
            Value::Bool(v) => Some(Value::Bool(v)),
            Value::Decimal(v) => Some(Value::Decimal(v)),
            Value::Date(v) => Some(Value::Date(v)),
            Value::Timestamp(v) => Some(Value::Timestamp(v)),
        }
    }

    /// `value`, which is of this type, as a person writes it.
    pub fn show(&self, value: Value<'_>) -> String {
        match (value, self) {
            (Value::Text(v), _) => v.to_owned(),
            (Value::Int(v), _) => v.to_string(),
            (Value::Long(v), _) => v.to_string(),
            (Value::Double(v), _) if v.is_infinite() => if v > 0.0 { "INF" } else { "-INF" }.into(),
            (Value::Double(v), _) => v.to_string(),
            (Value::Bool(v), _) => v.to_string(),
            (Value::Date(v), _) => time::show_date(i64::from(v)),
            (Value::Timestamp(v), _) => time::show_timestamp(v),
            (Value::Decimal(v), Self::Decimal(_, scale @ 1..)) => {
                let scale = usize::from(*scale);
                let digits = format!("{:0>width$}", v.unsigned_abs(), width = scale + 1);
                let (whole, fraction) = digits.split_at(digits.len() - scale);
                format!("{}{whole}.{fraction}", if v < 0 { "-" } else { "" })
            }
            (Value::Decimal(v), _) => v.to_string(),
        }
    }
}

impl fmt::Display for Type {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Text => f.write_str("string"),
            Self::Int => f.write_str("int"),
            Self::Long => f.write_str("long"),
            Self::Double => f.write_str("double"),
            Self::Bool => f.write_str("boolean"),
            Self::Decimal(precision, scale) => write!(f, "decimal({precision},{scale})"),
            Self::Date(pattern) => write!(f, "date({pattern})"),
            Self::Timestamp(pattern) => write!(f, "timestamp({pattern})"),
        }
    }
}

impl Builder {
    /// `value` must be of the builder's type; one that is not leaves a null.
    #[inline]
    pub fn push(&mut self, value: Value<'_>) {
        match (self, value) {
            (Self::Span(b), Value::Text(v)) => b.push(v.as_bytes()),
            (Self::Four(b), Value::Int(v) | Value::Date(v)) => b.push(v.to_le_bytes()),
            (Self::Eight(b), Value::Long(v) | Value::Timestamp(v)) => b.push(v.to_le_bytes()),
            (Self::Eight(b), Value::Double(v)) => b.push(v.to_le_bytes()),
            (Self::Sixteen(b), Value::Decimal(v)) => b.push(v.to_le_bytes()),
            (Self::Bool(b), Value::Bool(v)) => b.push(v),
            (other, _) => other.push_null(),
        }
    }

    /// `push`, or a null.
    #[inline]
    pub fn put(&mut self, value: Option<Value<'_>>) {
        match value {
            Some(value) => self.push(value),
            None => self.push_null(),
        }
    }
}

fn decimal_type(inside: &str) -> Result<Type, String> {
    let numbers = inside.split_once(',').and_then(|(precision, scale)| {
        Some((precision.trim().parse().ok()?, scale.trim().parse().ok()?))
    });
    match numbers {
        Some((precision @ 1..=38, scale)) if scale <= precision => {
            Ok(Type::Decimal(precision, scale))
        }
        _ => Err(format!(
            "decimal({inside}): expected decimal(P,S) with 1 ≤ P ≤ 38 and S ≤ P"
        )),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_are_shown_as_they_are_written() {
        for (spec, text) in [
            ("date", "2024-02-29"),
            ("date", "0001-01-01"),
            ("timestamp", "1969-12-31T23:59:59.000001Z"),
            ("decimal(9,2)", "-0.05"),
            ("decimal(9,0)", "7"),
            ("long", "-3"),
            ("double", "-INF"),
            ("double", "NaN"),
        ] {
            let kind = Type::parse(spec).unwrap();
            assert_eq!(kind.show(kind.read(text.as_bytes()).unwrap()), text);
        }
    }

    #[test]
    fn what_cannot_be_seen_is_said() {
        let out = "it is outside of the years 0001 to 9999 in UTC";
        let none = "there is no such day or time";
        for (spec, text, why) in [
            ("double", "1e309", "it is beyond the largest, 1.8e308"),
            ("double", "-1e-400", "it is not 0, but would become 0"),
            ("double", "one", ""),
            ("double", "Infinity", ""),
            ("date", "2023-02-29", none),
            ("date", "0000-01-01", out),
            ("date", "noon", ""),
            (
                "date(yyyy-MM-dd HH)",
                "2023-02-28 24",
                "24:00:00 belongs to the next day",
            ),
            ("timestamp", "2023-02-28T25:00:00Z", none),
            ("timestamp", "9999-12-31T23:59:59-05:00", out),
            ("timestamp", "0000-12-31T23:59:59Z", out),
            (
                "timestamp",
                "2023-02-28T00:00:00.123456789Z",
                "digits beyond microseconds must be zeros",
            ),
            ("timestamp", "2023-02-28", ""),
            ("int", "1.5", ""),
        ] {
            let kind = Type::parse(spec).unwrap();
            assert_eq!(kind.read(text.as_bytes()), None, "{spec} {text}");
            let expected = kind.expected(text.as_bytes());
            let said = match why {
                "" => kind.to_string(),
                why => format!("{kind}: {why}"),
            };
            assert_eq!(expected, said, "{spec} {text}");
        }
    }

    #[test]
    fn a_type_and_its_format_agree() {
        for spec in [
            "string",
            "int",
            "long",
            "double",
            "boolean",
            "decimal(10,2)",
            "date",
            "timestamp",
        ] {
            let kind = Type::parse(spec).unwrap();
            assert_eq!(Type::of_format(&kind.format()), Some(kind));
        }
        for bad in [
            "text",
            "decimal",
            "decimal(39,1)",
            "decimal(2,3)",
            "date(HH)",
            "int(3)",
            "",
        ] {
            assert!(Type::parse(bad).is_err(), "{bad}");
        }
    }
}
