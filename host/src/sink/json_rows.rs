//! Rows of a table as JSON objects, one a line, for files: what [`super::json`] writes, with each column looked at once for all of
//! its rows.

use arrow_array::cast::AsArray;
use arrow_array::types::{
    Date32Type, Decimal128Type, Float64Type, Int32Type, Int64Type, TimestampMicrosecondType,
};
use arrow_array::{
    Array, ArrayRef, BinaryArray, BooleanArray, PrimitiveArray, StringArray, StructArray,
};
use arrow_schema::{DataType, TimeUnit};

use super::json;

/// A column, ready to be written row by row.
#[derive(Debug)]
pub struct JsonColumn<'a> {
    /// `"name":`
    member: Vec<u8>,
    /// One value for all rows.
    constant: bool,
    values: Values<'a>,
}

#[derive(Debug)]
enum Values<'a> {
    Bool(&'a BooleanArray),
    Int(&'a PrimitiveArray<Int32Type>),
    Long(&'a PrimitiveArray<Int64Type>),
    Double(&'a PrimitiveArray<Float64Type>),
    Text(&'a StringArray),
    /// A text, or bytes, that is JSON already.
    Json(&'a StringArray),
    JsonBytes(&'a BinaryArray),
    Time(&'a PrimitiveArray<TimestampMicrosecondType>, bool),
    Date(&'a PrimitiveArray<Date32Type>),
    Decimal(&'a PrimitiveArray<Decimal128Type>, i8),
    Struct(&'a StructArray, Vec<(Vec<u8>, Values<'a>)>),
    /// Lists, and types that are rare.
    Other(&'a dyn Array),
}

impl<'a> JsonColumn<'a> {
    /// `is_json`: texts and bytes are JSON, and are written as they are, on one line.
    pub fn new(name: &str, values: &'a ArrayRef, constant: bool, is_json: bool) -> JsonColumn<'a> {
        let values = match values.data_type() {
            DataType::Utf8 if is_json => Values::Json(values.as_string()),
            DataType::Binary if is_json => Values::JsonBytes(values.as_binary()),
            _ => Values::of(values.as_ref()),
        };
        JsonColumn {
            member: member(name),
            constant,
            values,
        }
    }

    /// The value alone.
    pub fn write(&self, out: &mut Vec<u8>, row: usize) {
        self.values.write(out, if self.constant { 0 } else { row });
    }
}

/// One row as an object.
pub fn write_object(out: &mut Vec<u8>, columns: &[JsonColumn<'_>], row: usize) {
    out.push(b'{');
    for (n, column) in columns.iter().enumerate() {
        if n > 0 {
            out.push(b',');
        }
        out.extend_from_slice(&column.member);
        column.write(out, row);
    }
    out.push(b'}');
}

fn member(name: &str) -> Vec<u8> {
    let mut member = Vec::new();
    json::write_string(&mut member, name);
    member.push(b':');
    member
}

impl<'a> Values<'a> {
    fn of(array: &'a dyn Array) -> Values<'a> {
        match array.data_type() {
            DataType::Boolean => Values::Bool(array.as_boolean()),
            DataType::Int32 => Values::Int(array.as_primitive()),
            DataType::Int64 => Values::Long(array.as_primitive()),
            DataType::Float64 => Values::Double(array.as_primitive()),
            DataType::Utf8 => Values::Text(array.as_string()),
            DataType::Timestamp(TimeUnit::Microsecond, zone) => {
                Values::Time(array.as_primitive(), zone.is_some())
            }
            DataType::Date32 => Values::Date(array.as_primitive()),
            DataType::Decimal128(_, scale) => Values::Decimal(array.as_primitive(), *scale),
            DataType::Struct(fields) => {
                let of = array.as_struct();
                let columns = fields.iter().zip(of.columns());
                let columns = columns
                    .map(|(field, column)| (member(field.name()), Values::of(column.as_ref())));
                Values::Struct(of, columns.collect())
            }
            _ => Values::Other(array),
        }
    }

    fn is_null(&self, row: usize) -> bool {
        match self {
            Values::Bool(of) => of.is_null(row),
            Values::Int(of) => of.is_null(row),
            Values::Long(of) => of.is_null(row),
            Values::Double(of) => of.is_null(row),
            Values::Text(of) | Values::Json(of) => of.is_null(row),
            Values::JsonBytes(of) => of.is_null(row),
            Values::Time(of, _) => of.is_null(row),
            Values::Date(of) => of.is_null(row),
            Values::Decimal(of, _) => of.is_null(row),
            Values::Struct(of, _) => of.is_null(row),
            Values::Other(of) => of.is_null(row),
        }
    }

    fn write(&self, out: &mut Vec<u8>, row: usize) {
        if self.is_null(row) {
            return out.extend_from_slice(b"null");
        }
        match self {
            Values::Bool(of) if of.value(row) => out.extend_from_slice(b"true"),
            Values::Bool(_) => out.extend_from_slice(b"false"),
            Values::Int(of) => integer(out, of.value(row).into()),
            Values::Long(of) => integer(out, of.value(row)),
            Values::Double(of) => json::write_value(out, of, row),
            Values::Text(of) => json::write_string(out, of.value(row)),
            Values::Json(of) => one_line(out, of.value(row).as_bytes()),
            Values::JsonBytes(of) => one_line(out, of.value(row)),
            Values::Time(of, utc) => time(out, of.value(row), *utc),
            Values::Date(of) => match date(out, i64::from(of.value(row))) {
                true => {}
                false => json::write_value(out, of, row),
            },
            Values::Decimal(of, scale) => decimal(out, of.value(row), *scale),
            Values::Struct(_, columns) => {
                out.push(b'{');
                for (n, (member, values)) in columns.iter().enumerate() {
                    if n > 0 {
                        out.push(b',');
                    }
                    out.extend_from_slice(member);
                    values.write(out, row);
                }
                out.push(b'}');
            }
            Values::Other(of) => json::write_value(out, *of, row),
        }
    }
}

/// JSON without the line ends and other white space between its parts. A line end inside a JSON string is written `\n`, so all that
/// are there stand between parts.
fn one_line(out: &mut Vec<u8>, text: &[u8]) {
    if !text.iter().any(|byte| matches!(byte, b'\n' | b'\r')) {
        return out.extend_from_slice(text.trim_ascii());
    }
    let (mut inside, mut escaped) = (false, false);
    for byte in text {
        match byte {
            _ if escaped => escaped = false,
            b'\\' if inside => escaped = true,
            b'"' => inside = !inside,
            b' ' | b'\t' | b'\n' | b'\r' if !inside => continue,
            _ => {}
        }
        out.push(*byte);
    }
}

const PAIRS: &[u8; 200] = b"0001020304050607080910111213141516171819\
2021222324252627282930313233343536373839\
4041424344454647484950515253545556575859\
6061626364656667686970717273747576777879\
8081828384858687888990919293949596979899";

fn pair(n: u64) -> [u8; 2] {
    let at = (n as usize % 100) * 2;
    [PAIRS[at], PAIRS[at + 1]]
}

fn integer(out: &mut Vec<u8>, number: i64) {
    if number < 0 {
        out.push(b'-');
    }
    digits(out, number.unsigned_abs());
}

fn digits(out: &mut Vec<u8>, mut number: u64) {
    let mut buffer = [0; 20];
    let mut at = buffer.len();
    while number >= 100 {
        at -= 2;
        buffer[at..at + 2].copy_from_slice(&pair(number));
        number /= 100;
    }
    if number >= 10 {
        at -= 2;
        buffer[at..at + 2].copy_from_slice(&pair(number));
    } else {
        at -= 1;
        buffer[at] = b'0' + number as u8;
    }
    out.extend_from_slice(&buffer[at..]);
}

/// With all digits of its scale: `12.30`.
fn decimal(out: &mut Vec<u8>, number: i128, scale: i8) {
    if number < 0 {
        out.push(b'-');
    }
    let digits = number.unsigned_abs().to_string();
    let Ok(scale) = usize::try_from(scale) else {
        out.extend_from_slice(digits.as_bytes());
        let zeros = usize::from(scale.unsigned_abs());
        return out.resize(out.len() + zeros, b'0');
    };
    if scale == 0 {
        return out.extend_from_slice(digits.as_bytes());
    }
    let whole = digits.len().saturating_sub(scale);
    match whole {
        0 => out.push(b'0'),
        _ => out.extend_from_slice(&digits.as_bytes()[..whole]),
    }
    out.push(b'.');
    let fraction = &digits.as_bytes()[whole..];
    out.resize(out.len() + scale - fraction.len(), b'0');
    out.extend_from_slice(fraction);
}

const DAY: i64 = 86_400_000_000;
/// 0001-01-01 and 10000-01-01, in days since 1970.
const DAYS: std::ops::Range<i64> = -719_162..2_932_897;

/// `"2020-02-29"`; `false`: outside of the calendar, and nothing is written.
fn date(out: &mut Vec<u8>, days: i64) -> bool {
    if !DAYS.contains(&days) {
        return false;
    }
    out.push(b'"');
    day(out, days);
    out.push(b'"');
    true
}

/// Days of the proleptic Gregorian calendar, counted from a 1st of March.
fn day(out: &mut Vec<u8>, days: i64) {
    let from = days + 719_468;
    let era = from.div_euclid(146_097);
    let of_era = from.rem_euclid(146_097);
    let year_of_era = (of_era - of_era / 1460 + of_era / 36_524 - of_era / 146_096) / 365;
    let of_year = of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let from_march = (5 * of_year + 2) / 153;
    let of_month = of_year - (153 * from_march + 2) / 5 + 1;
    let month = if from_march < 10 {
        from_march + 3
    } else {
        from_march - 9
    };
    let year = (year_of_era + era * 400 + i64::from(month <= 2)) as u64;
    out.extend_from_slice(&pair(year / 100));
    out.extend_from_slice(&pair(year));
    out.push(b'-');
    out.extend_from_slice(&pair(month as u64));
    out.push(b'-');
    out.extend_from_slice(&pair(of_month as u64));
}

/// As `instant::text` writes it, with quotation marks.
fn time(out: &mut Vec<u8>, micros: i64, utc: bool) {
    let days = micros.div_euclid(DAY);
    if !DAYS.contains(&days) {
        return json::write_string(out, &crate::instant::text(micros, utc));
    }
    let rest = micros.rem_euclid(DAY);
    let (seconds, fraction) = ((rest / 1_000_000) as u64, (rest % 1_000_000) as u64);
    out.push(b'"');
    day(out, days);
    out.push(b'T');
    out.extend_from_slice(&pair(seconds / 3600));
    out.push(b':');
    out.extend_from_slice(&pair(seconds / 60 % 60));
    out.push(b':');
    out.extend_from_slice(&pair(seconds % 60));
    if fraction > 0 {
        out.push(b'.');
        let from = out.len();
        out.extend_from_slice(&pair(fraction / 10_000));
        out.extend_from_slice(&pair(fraction / 100));
        out.extend_from_slice(&pair(fraction));
        while out.len() > from && out.last() == Some(&b'0') {
            out.pop();
        }
    }
    if utc {
        out.push(b'Z');
    }
    out.push(b'"');
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use arrow_array::{
        BinaryArray, Date32Array, Decimal128Array, Float64Array, Int32Array, Int64Array, ListArray,
        TimestampMicrosecondArray,
    };
    use arrow_schema::Field;

    use super::*;

    /// Every value, as this module and as the plain one writes it.
    fn both(values: &ArrayRef) -> Vec<(String, String)> {
        let column = JsonColumn::new("x", values, false, false);
        let text = |write: &dyn Fn(&mut Vec<u8>)| {
            let mut out = Vec::new();
            write(&mut out);
            String::from_utf8(out).unwrap()
        };
        let one = |row: usize| {
            (
                text(&|out| column.write(out, row)),
                text(&|out| json::write_value(out, values, row)),
            )
        };
        (0..values.len()).map(one).collect()
    }

    #[test]
    fn all_types_are_written_as_elsewhere() {
        let days: Vec<i32> = (0..7300)
            .map(|n| n * 401 - 719_162)
            .chain([-1, 0, 59, 60, 11_016, 2_932_896, 2_932_897, -719_163])
            .collect();
        let micros: Vec<i64> = (0..5000_i64)
            .map(|n| n * 12_345_678_987_654 - 30_000_000_000_000_000)
            .chain([0, -1, 1, 120_000, 86_399_999_999, i64::MAX, i64::MIN])
            .collect();
        let times = TimestampMicrosecondArray::from(micros);
        let decimals = vec![
            Some(1230),
            None,
            Some(-5),
            Some(0),
            Some(i128::MAX / 10),
            Some(100),
        ];
        let decimal = |scale| {
            let decimals = Decimal128Array::from(decimals.clone());
            let decimals = decimals.with_precision_and_scale(38, scale).unwrap();
            Arc::new(decimals) as ArrayRef
        };
        let lists = ListArray::from_iter_primitive::<Int32Type, _, _>([
            Some(vec![Some(1), None]),
            None,
            Some(vec![]),
        ]);
        let texts = [
            "",
            "plain",
            "a\"\\\n\u{1}é\u{7f}\u{2028}",
            "\u{8}\u{c}\r\t/",
        ];
        let structs = StructArray::from(vec![
            (
                Arc::new(Field::new("a\"", DataType::Int32, true)),
                Arc::new(Int32Array::from(vec![Some(1), None])) as ArrayRef,
            ),
            (
                Arc::new(Field::new("t", DataType::Utf8, true)),
                Arc::new(StringArray::from(vec!["x", "y"])) as ArrayRef,
            ),
        ]);
        let arrays: Vec<ArrayRef> = vec![
            Arc::new(BooleanArray::from(vec![Some(true), Some(false), None])),
            Arc::new(Int32Array::from(vec![
                0,
                7,
                -10,
                99,
                100,
                i32::MIN,
                i32::MAX,
            ])),
            Arc::new(Int64Array::from(vec![
                Some(i64::MIN),
                Some(i64::MAX),
                None,
                Some(12_345),
            ])),
            Arc::new(Float64Array::from(vec![1.0, f64::NAN, 1e300, -0.0, 0.1])),
            Arc::new(StringArray::from(texts.to_vec())),
            Arc::new(BinaryArray::from(vec![&b"x"[..], &b"\xff"[..]])),
            Arc::new(Date32Array::from(days)),
            Arc::new(times.clone()),
            Arc::new(times.with_timezone("UTC")),
            decimal(2),
            decimal(0),
            decimal(38),
            Arc::new(lists),
            Arc::new(structs),
        ];
        for values in arrays {
            for (here, there) in both(&values) {
                assert_eq!(here, there, "{}", values.data_type());
            }
        }
    }

    #[test]
    fn json_goes_on_one_line_and_is_otherwise_as_it_was() {
        let texts = [
            ("{\"a\": 1}", "{\"a\": 1}"),
            (
                " {\n  \"a b\" : [1,\r\n 2],\t\"c\\\" \\n\": \"x  y\"\n}\n",
                "{\"a b\":[1,2],\"c\\\" \\n\":\"x  y\"}",
            ),
            ("\"text\"", "\"text\""),
        ];
        for (given, expected) in texts {
            let values: ArrayRef = Arc::new(StringArray::from(vec![given]));
            let column = JsonColumn::new("v", &values, false, true);
            let mut out = Vec::new();
            column.write(&mut out, 0);
            assert_eq!(String::from_utf8(out).unwrap(), expected);
        }
    }
}
