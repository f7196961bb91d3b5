//! Values of columns as JSON text, for sinks that send rows to other systems.
//!
//! Numbers are written with all their digits (a reader may keep fewer than a `long` or a decimal has); `NaN` and the infinities,
//! which JSON does not have, are null. Dates and times are ISO 8601. Bytes that are text are a string, others `{"base64": …}`.

use std::io::Write as _;

use arrow_array::Array;
use arrow_array::cast::AsArray;
use arrow_array::types::{Date32Type, Float64Type, Int32Type, Int64Type, TimestampMicrosecondType};
use arrow_cast::display::{ArrayFormatter, FormatOptions};
use arrow_schema::{DataType, TimeUnit};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

use crate::instant;

/// The value in `row`.
pub fn write_value(out: &mut Vec<u8>, array: &dyn Array, row: usize) {
    if array.is_null(row) {
        out.extend_from_slice(b"null");
        return;
    }
    match array.data_type() {
        DataType::Boolean => {
            let text: &[u8] = if array.as_boolean().value(row) {
                b"true"
            } else {
                b"false"
            };
            out.extend_from_slice(text);
        }
        DataType::Int32 => write_number(out, array.as_primitive::<Int32Type>().value(row)),
        DataType::Int64 => write_number(out, array.as_primitive::<Int64Type>().value(row)),
        DataType::Float64 => match array.as_primitive::<Float64Type>().value(row) {
            number if number.is_finite() => write_float(out, number),
            _ => out.extend_from_slice(b"null"),
        },
        DataType::Utf8 => write_string(out, array.as_string::<i32>().value(row)),
        DataType::Binary => match std::str::from_utf8(array.as_binary::<i32>().value(row)) {
            Ok(text) => write_string(out, text),
            Err(_) => {
                out.extend_from_slice(b"{\"base64\":");
                write_string(out, &STANDARD.encode(array.as_binary::<i32>().value(row)));
                out.push(b'}');
            }
        },
        DataType::List(_) => {
            let items = array.as_list::<i32>().value(row);
            out.push(b'[');
            for item in 0..items.len() {
                comma(out, item);
                write_value(out, &items, item);
            }
            out.push(b']');
        }
        DataType::Struct(fields) => {
            out.push(b'{');
            let columns = array.as_struct().columns();
            for (at, (field, column)) in fields.iter().zip(columns).enumerate() {
                comma(out, at);
                write_string(out, field.name());
                out.push(b':');
                write_value(out, column, row);
            }
            out.push(b'}');
        }
        DataType::Timestamp(TimeUnit::Microsecond, zone) => {
            let micros = array.as_primitive::<TimestampMicrosecondType>().value(row);
            write_string(out, &instant::text(micros, zone.is_some()));
        }
        DataType::Decimal128(..) => out.extend_from_slice(shown(array, row).as_bytes()),
        _ => write_string(out, &shown(array, row)),
    }
}

/// A string with its quotation marks.
pub fn write_string(out: &mut Vec<u8>, text: &str) {
    if has_special(text.as_bytes()) {
        let _unfailing = serde_json::to_writer(out, text);
        return;
    }
    out.reserve(text.len() + 2);
    out.push(b'"');
    out.extend_from_slice(text.as_bytes());
    out.push(b'"');
}

/// Whether some byte cannot stand in a JSON string as it is. Most texts have none, and eight bytes are looked at together.
fn has_special(bytes: &[u8]) -> bool {
    const ONES: u64 = u64::MAX / 255;
    const HIGH: u64 = ONES * 128;
    let special = |byte: u8| byte < 0x20 || byte == b'"' || byte == b'\\';
    let zero = |word: u64| word.wrapping_sub(ONES) & !word & HIGH;
    let (words, rest) = bytes.as_chunks::<8>();
    let found = |word: &[u8; 8]| {
        let word = u64::from_ne_bytes(*word);
        let below = word.wrapping_sub(ONES * 0x20) & !word & HIGH;
        below | zero(word ^ (ONES * u64::from(b'"'))) | zero(word ^ (ONES * u64::from(b'\\'))) != 0
    };
    words.iter().any(found) || rest.iter().copied().any(special)
}

/// The text as it is written inside a JSON string.
pub fn write_escaped(out: &mut Vec<u8>, text: &str) {
    let from = out.len();
    write_string(out, text);
    out.pop();
    out.remove(from);
}

/// The value as text without quotation marks, for the inside of a string in a template. Empty for null; JSON for lists, structs
/// and bytes that are no text.
pub fn plain(array: &dyn Array, row: usize) -> String {
    if array.is_null(row) {
        return String::new();
    }
    match array.data_type() {
        DataType::Utf8 => array.as_string::<i32>().value(row).to_owned(),
        DataType::Binary => match std::str::from_utf8(array.as_binary::<i32>().value(row)) {
            Ok(text) => text.to_owned(),
            Err(_) => as_json(array, row),
        },
        DataType::Timestamp(TimeUnit::Microsecond, zone) => {
            let micros = array.as_primitive::<TimestampMicrosecondType>().value(row);
            instant::text(micros, zone.is_some())
        }
        DataType::List(_) | DataType::Struct(_) => as_json(array, row),
        _ => shown(array, row),
    }
}

fn as_json(array: &dyn Array, row: usize) -> String {
    let mut out = Vec::new();
    write_value(&mut out, array, row);
    String::from_utf8_lossy(&out).into()
}

fn comma(out: &mut Vec<u8>, at: usize) {
    if at > 0 {
        out.push(b',');
    }
}

fn write_number(out: &mut Vec<u8>, number: impl std::fmt::Display) {
    let _unfailing = write!(out, "{number}");
}

/// The shortest text that reads back as the same number, with a point or an exponent so that it stays a double.
fn write_float(out: &mut Vec<u8>, number: f64) {
    let _unfailing = write!(out, "{number:?}");
}

/// As Arrow writes it: `12.30`, `2020-02-29`. A day that has no date is its number.
fn shown(array: &dyn Array, row: usize) -> String {
    let options = FormatOptions::default();
    let formatter = match ArrayFormatter::try_new(array, &options) {
        Ok(formatter) => formatter,
        Err(e) => return format!("({e})"),
    };
    let text = formatter.value(row).try_to_string();
    text.unwrap_or_else(|e| match array.as_primitive_opt::<Date32Type>() {
        Some(days) => days.value(row).to_string(),
        None => format!("({e})"),
    })
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use arrow_array::{
        ArrayRef, BinaryArray, Date32Array, Decimal128Array, Float64Array, Int64Array, StringArray,
        TimestampMicrosecondArray,
    };

    use super::*;

    fn text(array: &dyn Array) -> Vec<String> {
        let one = |row| {
            let mut out = Vec::new();
            write_value(&mut out, array, row);
            String::from_utf8(out).unwrap()
        };
        (0..array.len()).map(one).collect()
    }

    #[test]
    fn every_type_is_json_that_reads_back() {
        let decimals = Decimal128Array::from(vec![Some(1230), None]);
        let decimals = decimals.with_precision_and_scale(10, 2).unwrap();
        let times = TimestampMicrosecondArray::from(vec![1_700_000_000_000_000]);
        let cases: Vec<(ArrayRef, Vec<&str>)> = vec![
            (
                Arc::new(Int64Array::from(vec![i64::MAX])),
                vec!["9223372036854775807"],
            ),
            (
                Arc::new(Float64Array::from(vec![1.0, f64::NAN, 1e300])),
                vec!["1.0", "null", "1e300"],
            ),
            (
                Arc::new(StringArray::from(vec!["a\"\\\n\u{1}é"])),
                vec!["\"a\\\"\\\\\\n\\u0001é\""],
            ),
            (
                Arc::new(BinaryArray::from(vec![&b"x"[..], &b"\xff"[..]])),
                vec!["\"x\"", "{\"base64\":\"/w==\"}"],
            ),
            (Arc::new(decimals), vec!["12.30", "null"]),
            (
                Arc::new(Date32Array::from(vec![18321, 2_932_897, i32::MAX])),
                vec!["\"2020-02-29\"", "\"+10000-01-01\"", "\"2147483647\""],
            ),
            (
                Arc::new(times.with_timezone("UTC")),
                vec!["\"2023-11-14T22:13:20Z\""],
            ),
        ];
        for (array, expected) in cases {
            let found = text(&array);
            assert_eq!(found, expected);
            for one in found {
                serde_json::from_str::<serde_json::Value>(&one).unwrap();
            }
        }
    }
}
