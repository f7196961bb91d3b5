//! Converts one value to another type. Nothing is rounded, cut off or overflows: a value that the type cannot hold
//! exactly is refused. The exceptions are named in `convert`.
use weir_sdk::time::{OUT_OF_RANGE, is_day, is_instant};
use weir_sdk::{Type, Value};

const MICROS_PER_DAY: i64 = 86_400_000_000;
/// 2⁶³: the first whole double that is no `long`.
const BEYOND_LONG: f64 = 9_223_372_036_854_775_808.0;

/// The target of a column.
#[derive(Debug, Clone, PartialEq)]
pub struct Target {
    pub kind: Type,
    /// Microseconds of one unit, where whole numbers count time since 1970.
    pub epoch: Option<i64>,
}

impl Target {
    /// A type, or `timestamp(epoch-seconds)`, `-millis` or `-micros`.
    pub fn parse(spec: &str) -> Result<Self, String> {
        let inside = spec
            .trim()
            .strip_prefix("timestamp(")
            .and_then(|rest| rest.strip_suffix(')'));
        let epoch = match inside.map(str::trim) {
            Some("epoch-seconds") => Some(1_000_000),
            Some("epoch-millis") => Some(1000),
            Some("epoch-micros") => Some(1),
            _ => None,
        };
        let kind = Type::parse(if epoch.is_some() { "timestamp" } else { spec })?;
        Ok(Self { kind, epoch })
    }

    /// Whether some value of `from` can become one of this type.
    pub fn takes(&self, from: &Type) -> bool {
        use Type::{Bool, Date, Decimal, Double, Int, Long, Text, Timestamp};
        match (from, &self.kind) {
            (Text | Int | Long, Timestamp(_)) if self.epoch.is_some() => true,
            (_, Timestamp(_)) if self.epoch.is_some() => false,
            (Text, _) | (_, Text) => true,
            (Int | Long | Double | Decimal(..), Int | Long | Double | Decimal(..)) => true,
            (Bool, Int | Long | Bool) | (Int | Long, Bool) => true,
            (Date(_) | Timestamp(_), Date(_) | Timestamp(_)) => true,
            _ => false,
        }
    }

    /// The value of a text, blanks around it trimmed by the caller.
    pub fn read<'a>(&self, text: &'a [u8]) -> Option<Value<'a>> {
        match self.epoch {
            Some(micros) => match Type::Long.read(text)? {
                Value::Long(count) => since(count, micros),
                _ => None,
            },
            None => self.kind.read(text),
        }
    }

    /// What was expected where `read` found no value.
    pub fn expected(&self, text: &[u8]) -> String {
        match self.epoch {
            Some(micros) if Type::Long.read(text).is_some() => Self::out_of(micros),
            Some(micros) => Self::counted(micros).to_owned(),
            None => self.kind.expected(text),
        }
    }

    /// What was expected where `convert` made no value of one of type `from`.
    pub fn expected_of(&self, from: &Type) -> String {
        match (self.epoch, &self.kind, from) {
            (Some(micros), ..) => Self::out_of(micros),
            (None, Type::Date(_) | Type::Timestamp(_), Type::Date(_) | Type::Timestamp(_)) => {
                format!("{}: {OUT_OF_RANGE}", self.kind)
            }
            _ => self.kind.to_string(),
        }
    }

    fn out_of(micros: i64) -> String {
        format!("{}: {OUT_OF_RANGE}", Self::counted(micros))
    }

    fn counted(micros: i64) -> &'static str {
        match micros {
            1_000_000 => "seconds since 1970",
            1000 => "milliseconds since 1970",
            _ => "microseconds since 1970",
        }
    }

    /// The value of `from` as this type, which `takes` it and is no text.
    ///
    /// Not exact, because no other result could be meant: a decimal becomes the nearest double, a double the decimal
    /// that it is written as, a timestamp its day in UTC.
    pub fn convert(&self, value: Value<'_>, from: &Type) -> Option<Value<'static>> {
        match (value, &self.kind) {
            (Value::Int(v), _) => self.whole(v.into()),
            (Value::Long(v), _) => self.whole(v),
            (Value::Bool(v), Type::Int | Type::Long | Type::Bool) => self.whole(v.into()),
            (Value::Double(v), Type::Double) => Some(Value::Double(v)),
            (Value::Double(v), Type::Decimal(..)) if v.is_finite() => {
                self.kind.read_static(v.to_string().as_bytes())
            }
            (Value::Double(v), Type::Int | Type::Long) => {
                let whole = v.trunc() == v && (-BEYOND_LONG..BEYOND_LONG).contains(&v);
                whole.then_some(v as i64).and_then(|v| self.whole(v))
            }
            (Value::Decimal(v), Type::Double) => self
                .kind
                .read_static(from.show(Value::Decimal(v)).as_bytes()),
            (Value::Decimal(v), Type::Decimal(precision, scale)) => {
                let from = scale_of(from);
                rescaled(v, from, *scale, *precision).map(Value::Decimal)
            }
            (Value::Decimal(v), Type::Int | Type::Long) => {
                let whole = rescaled(v, scale_of(from), 0, 38)?;
                self.whole(i64::try_from(whole).ok()?)
            }
            (Value::Date(v), Type::Date(_)) => is_day(v.into()).then_some(Value::Date(v)),
            (Value::Date(v), Type::Timestamp(_)) => since(v.into(), MICROS_PER_DAY),
            (Value::Timestamp(v), Type::Timestamp(_)) => {
                is_instant(v).then_some(Value::Timestamp(v))
            }
            (Value::Timestamp(v), Type::Date(_)) if is_instant(v) => {
                let day = v.div_euclid(MICROS_PER_DAY);
                i32::try_from(day).ok().map(Value::Date)
            }
            _ => None,
        }
    }

    fn whole(&self, v: i64) -> Option<Value<'static>> {
        match &self.kind {
            Type::Int => i32::try_from(v).ok().map(Value::Int),
            Type::Long => Some(Value::Long(v)),
            Type::Bool => matches!(v, 0 | 1).then_some(Value::Bool(v == 1)),
            Type::Double => {
                let double = v as f64;
                (double as i128 == i128::from(v)).then_some(Value::Double(double))
            }
            Type::Decimal(precision, scale) => {
                rescaled(v.into(), 0, *scale, *precision).map(Value::Decimal)
            }
            Type::Timestamp(_) => since(v, self.epoch?),
            Type::Text | Type::Date(_) => None,
        }
    }
}

fn since(count: i64, micros: i64) -> Option<Value<'static>> {
    let instant = count.checked_mul(micros)?;
    is_instant(instant).then_some(Value::Timestamp(instant))
}

fn scale_of(kind: &Type) -> u8 {
    match kind {
        Type::Decimal(_, scale) => *scale,
        _ => 0,
    }
}

/// An unscaled number at another scale, if it is whole there and has at most `precision` digits.
fn rescaled(v: i128, from: u8, to: u8, precision: u8) -> Option<i128> {
    let power = |digits: u8| 10i128.checked_pow(digits.into());
    let moved = if to >= from {
        v.checked_mul(power(to - from)?)?
    } else {
        let unit = power(from - to)?;
        (v % unit == 0).then_some(v / unit)?
    };
    (moved.unsigned_abs() < power(precision)?.unsigned_abs()).then_some(moved)
}
