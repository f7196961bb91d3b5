//! Values of columns as JSON and back: for golden samples and for people.
//!
//! Exact both ways: decimals, dates, timestamps, and whole numbers that a double cannot hold are strings.

use std::sync::Arc;

use arrow_array::cast::AsArray;
use arrow_array::types::{Float64Type, Int32Type, Int64Type, TimestampMicrosecondType};
use arrow_array::{
    Array, ArrayRef, BinaryArray, Decimal128Array, Int32Array, Int64Array, ListArray, StringArray,
    StructArray, TimestampMicrosecondArray,
};
use arrow_buffer::OffsetBuffer;
use arrow_cast::display::{ArrayFormatter, FormatOptions};
use arrow_cast::{CastOptions, cast_with_options};
use arrow_schema::{DataType, Field, FieldRef, Fields, TimeUnit};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Map, Value, json};

use crate::instant;
use crate::json::{Decimal, Json};

/// Whole numbers up to here survive every JSON reader.
const EXACT: u64 = 1 << 53;

/// The value in `row`; a binary value that is text is a string, another is `{"base64": …}`.
pub fn to_json(array: &dyn Array, row: usize) -> Value {
    if array.is_null(row) {
        return Value::Null;
    }
    match array.data_type() {
        DataType::Boolean => array.as_boolean().value(row).into(),
        DataType::Int32 => array.as_primitive::<Int32Type>().value(row).into(),
        DataType::Int64 => match array.as_primitive::<Int64Type>().value(row) {
            n if n.unsigned_abs() <= EXACT => n.into(),
            n => n.to_string().into(),
        },
        DataType::Float64 => {
            let number = array.as_primitive::<Float64Type>().value(row);
            serde_json::Number::from_f64(number)
                .map_or_else(|| number.to_string().into(), Value::Number)
        }
        DataType::Utf8 => array.as_string::<i32>().value(row).into(),
        DataType::Binary => match array.as_binary::<i32>().value(row) {
            bytes if std::str::from_utf8(bytes).is_ok() => String::from_utf8_lossy(bytes).into(),
            bytes => json!({ "base64": STANDARD.encode(bytes) }),
        },
        DataType::List(_) => {
            let items = array.as_list::<i32>().value(row);
            (0..items.len()).map(|n| to_json(&items, n)).collect()
        }
        DataType::Struct(fields) => {
            let columns = array.as_struct().columns();
            let pairs = fields.iter().zip(columns);
            let pairs = pairs.map(|(field, column)| (field.name().clone(), to_json(column, row)));
            Value::Object(pairs.collect::<Map<_, _>>())
        }
        DataType::Timestamp(TimeUnit::Microsecond, zone) => {
            let micros = array.as_primitive::<TimestampMicrosecondType>().value(row);
            instant::text(micros, zone.is_some()).into()
        }
        _ => shown(array, row).into(),
    }
}

/// As Arrow writes it: `12.30`, `2020-02-29`.
fn shown(array: &dyn Array, row: usize) -> String {
    let options = FormatOptions::default();
    match ArrayFormatter::try_new(array, &options) {
        Ok(formatter) => formatter.value(row).to_string(),
        Err(e) => format!("({e})"),
    }
}

/// What [`type_named`] knows.
pub const NAMES: &str = "int, long, double, boolean, string, binary, date, timestamp, decimal(P,S), list(TYPE), struct(name TYPE, …)";
/// Lists and structs inside each other, as many as the contract allows.
const MAX_DEPTH: usize = 16;

/// The type of a name out of [`NAMES`].
pub fn type_named(name: &str) -> Option<DataType> {
    nested_named(name, 0)
}

fn nested_named(name: &str, depth: usize) -> Option<DataType> {
    let name = name.trim();
    let inside = |word: &str| {
        let inside = name.strip_prefix(word)?.strip_prefix('(')?;
        inside.strip_suffix(')').filter(|_| depth < MAX_DEPTH)
    };
    if let Some(item) = inside("list") {
        let item = nested_named(item, depth + 1)?;
        return Some(DataType::List(Arc::new(Field::new("item", item, true))));
    }
    if let Some(fields) = inside("struct") {
        let field = |text: &str| {
            let (name, kind) = text.trim().split_once(char::is_whitespace)?;
            Some(Field::new(name, nested_named(kind, depth + 1)?, true))
        };
        let fields: Option<Vec<Field>> = at_commas(fields).into_iter().map(field).collect();
        return Some(DataType::Struct(fields?.into()));
    }
    flat_named(name)
}

/// Divides at the commas that stand in no brackets.
fn at_commas(text: &str) -> Vec<&str> {
    let (mut depth, mut from, mut pieces) = (0_usize, 0, Vec::new());
    for (at, c) in text.char_indices() {
        match c {
            '(' => depth += 1,
            ')' => depth = depth.saturating_sub(1),
            ',' if depth == 0 => {
                pieces.push(&text[from..at]);
                from = at + 1;
            }
            _ => {}
        }
    }
    pieces.push(&text[from..]);
    pieces
}

fn flat_named(name: &str) -> Option<DataType> {
    Some(match name {
        "int" | "integer" => DataType::Int32,
        "long" | "bigint" => DataType::Int64,
        "double" => DataType::Float64,
        "boolean" | "bool" => DataType::Boolean,
        "string" => DataType::Utf8,
        "binary" => DataType::Binary,
        "date" => DataType::Date32,
        "timestamp" => DataType::Timestamp(TimeUnit::Microsecond, Some("UTC".into())),
        name => {
            let inside = name.strip_prefix("decimal(")?.strip_suffix(')')?;
            let (precision, scale) = inside.split_once(',')?;
            let (precision, scale): (u8, i8) =
                (precision.trim().parse().ok()?, scale.trim().parse().ok()?);
            let sound =
                (1..=38).contains(&precision) && (0..=precision.cast_signed()).contains(&scale);
            sound.then_some(DataType::Decimal128(precision, scale))?
        }
    })
}

/// The type that follows from JSON alone: text, unless all values have another type. Whole numbers that do not fit into
/// 64 bits are `decimal(38,0)`.
pub fn type_of(values: &[Json]) -> DataType {
    let all = |is: fn(&Json) -> bool| {
        let mut known = values.iter().filter(|v| **v != Json::Null).peekable();
        known.peek().is_some() && known.all(is)
    };
    if all(|v| matches!(v, Json::Bool(_))) {
        DataType::Boolean
    } else if all(|v| whole(v).is_some_and(|n| i64::try_from(n).is_ok())) {
        DataType::Int64
    } else if all(|v| whole(v).is_some()) {
        DataType::Decimal128(38, 0)
    } else if all(|v| matches!(v, Json::Number(n) if !n.is_whole() || whole(v).is_some())) {
        DataType::Float64
    } else {
        DataType::Utf8
    }
}

fn whole(value: &Json) -> Option<i128> {
    match value {
        Json::Number(number) if number.is_whole() => Decimal::parse(number.text())?.scaled(0),
        _ => None,
    }
}

/// A column of `kind`. `Err` names the row and the value that does not fit exactly.
pub fn from_json(values: &[Json], kind: &DataType) -> Result<ArrayRef, String> {
    Ok(match kind {
        DataType::Int32 => Arc::new(Int32Array::from(each(values, kind, |text| {
            i32::try_from(Decimal::parse(text)?.scaled(0)?).ok()
        })?)),
        DataType::Int64 => Arc::new(Int64Array::from(each(values, kind, |text| {
            i64::try_from(Decimal::parse(text)?.scaled(0)?).ok()
        })?)),
        DataType::Decimal128(precision, scale) => {
            let most = 10i128.pow(u32::from(*precision));
            let number = |text: &str| {
                let number = Decimal::parse(text)?.scaled(scale.unsigned_abs())?;
                (number.abs() < most).then_some(number)
            };
            let array = Decimal128Array::from(each(values, kind, number)?);
            let array = array.with_precision_and_scale(*precision, *scale);
            Arc::new(array.map_err(|e| e.to_string())?)
        }
        DataType::Timestamp(TimeUnit::Microsecond, zone) => {
            let micros = |text: &str| {
                let time = instant::parse(text, true)?;
                (time.subsec_nanosecond() % 1000 == 0).then(|| instant::micros(time))
            };
            let array = TimestampMicrosecondArray::from(each(values, kind, micros)?);
            Arc::new(array.with_timezone_opt(zone.clone()))
        }
        DataType::Binary => {
            let bytes: Result<Vec<Option<Vec<u8>>>, String> = values.iter().map(binary).collect();
            Arc::new(BinaryArray::from_iter(bytes?))
        }
        DataType::List(item) => list(values, item)?,
        DataType::Struct(fields) => object(values, fields)?,
        _ => return cast(values, kind),
    })
}

/// Items of all rows make one column, each row has some of them.
fn list(values: &[Json], item: &FieldRef) -> Result<ArrayRef, String> {
    let (mut items, mut lengths, mut there) = (Vec::new(), Vec::new(), Vec::new());
    for (row, value) in values.iter().enumerate() {
        let found = match value {
            Json::Null => &[],
            value => value
                .as_list()
                .ok_or_else(|| format!("row {row}: {value} is no list"))?,
        };
        items.extend_from_slice(found);
        lengths.push(found.len());
        there.push(*value != Json::Null);
    }
    let items = from_json(&items, item.data_type()).map_err(|e| format!("items of lists, {e}"))?;
    let offsets = OffsetBuffer::from_lengths(lengths);
    let array = ListArray::try_new(FieldRef::clone(item), offsets, items, Some(there.into()));
    Ok(Arc::new(array.map_err(|e| e.to_string())?))
}

/// A member that is missing is null; one that is no field is an error.
fn object(values: &[Json], fields: &Fields) -> Result<ArrayRef, String> {
    let mut there = Vec::new();
    for (row, value) in values.iter().enumerate() {
        there.push(*value != Json::Null);
        let members = match value {
            Json::Null => &[],
            value => value
                .as_object()
                .ok_or_else(|| format!("row {row}: {value} is no object"))?,
        };
        let known = |name: &str| fields.iter().any(|field| field.name() == name);
        if let Some((name, _)) = members.iter().find(|(name, _)| !known(name)) {
            return Err(format!("row {row}: the struct has no field {name:?}"));
        }
    }
    let column = |field: &FieldRef| {
        let values = values.iter().map(|value| value.get(field.name()).cloned());
        let values: Vec<Json> = values.map(Option::unwrap_or_default).collect();
        from_json(&values, field.data_type()).map_err(|e| format!("field {:?}, {e}", field.name()))
    };
    let columns: Result<Vec<ArrayRef>, String> = fields.iter().map(column).collect();
    let array = StructArray::try_new(fields.clone(), columns?, Some(there.into()));
    Ok(Arc::new(array.map_err(|e| e.to_string())?))
}

/// What `read` makes of each text or number.
fn each<T>(
    values: &[Json],
    kind: &DataType,
    read: impl Fn(&str) -> Option<T>,
) -> Result<Vec<Option<T>>, String> {
    let one = |(row, value): (usize, &Json)| {
        let made = match value {
            Json::Null => return Ok(None),
            Json::Text(text) => read(text.trim()),
            Json::Number(number) => read(number.text()),
            _ => None,
        };
        made.map(Some).ok_or_else(|| none_of(row, value, kind))
    };
    values.iter().enumerate().map(one).collect()
}

fn cast(values: &[Json], kind: &DataType) -> Result<ArrayRef, String> {
    let texts = StringArray::from_iter(values.iter().map(|value| match value {
        Json::Null => None,
        Json::Text(text) => Some(text.clone()),
        other => Some(other.to_string()),
    }));
    let texts: ArrayRef = Arc::new(texts);
    let options = CastOptions {
        safe: true,
        ..CastOptions::default()
    };
    let cast = cast_with_options(&texts, kind, &options).map_err(|e| e.to_string())?;
    match (0..values.len()).find(|n| cast.is_null(*n) && !texts.is_null(*n)) {
        Some(n) => Err(none_of(n, &values[n], kind)),
        None => Ok(cast),
    }
}

fn none_of(row: usize, value: &Json, kind: &DataType) -> String {
    format!("row {row}: {value} is no value of type {}", name_of(kind))
}

fn binary(value: &Json) -> Result<Option<Vec<u8>>, String> {
    match value {
        Json::Null => Ok(None),
        Json::Text(text) => Ok(Some(text.clone().into_bytes())),
        Json::Object(_) => {
            let text = value.get("base64").and_then(Json::as_text);
            let bytes = text.and_then(|text| STANDARD.decode(text).ok());
            bytes
                .map(Some)
                .ok_or_else(|| format!("{value} is no {{\"base64\": …}}"))
        }
        other => Err(format!("{other} is neither a string nor {{\"base64\": …}}")),
    }
}

/// As `types.toml` and configs name it.
pub fn name_of(kind: &DataType) -> String {
    match kind {
        DataType::Boolean => "boolean".into(),
        DataType::Int32 => "int".into(),
        DataType::Int64 => "long".into(),
        DataType::Float64 => "double".into(),
        DataType::Utf8 => "string".into(),
        DataType::Binary => "binary".into(),
        DataType::Date32 => "date".into(),
        DataType::Timestamp(..) => "timestamp".into(),
        DataType::Decimal128(precision, scale) => format!("decimal({precision},{scale})"),
        DataType::List(item) => format!("list({})", name_of(item.data_type())),
        DataType::Struct(fields) => {
            let fields = fields.iter();
            let fields = fields.map(|f| format!("{} {}", f.name(), name_of(f.data_type())));
            format!("struct({})", fields.collect::<Vec<_>>().join(", "))
        }
        other => other.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn exact(values: &Value) -> Vec<Json> {
        let parsed = Json::parse(values.to_string().as_bytes()).expect("JSON");
        parsed.as_list().expect("a list").to_vec()
    }

    #[test]
    fn values_of_every_type_survive() {
        let cases = [
            ("int", json!([1, null, -2147483648i64])),
            (
                "long",
                json!([9007199254740992i64, "9223372036854775807", null]),
            ),
            ("double", json!([1.5, null, -2.0])),
            ("boolean", json!([true, null, false])),
            ("string", json!(["é", null, ""])),
            ("binary", json!(["text", {"base64": "//4="}, null])),
            ("date", json!(["2020-02-29", null, "0001-01-01"])),
            (
                "timestamp",
                json!([
                    "2020-02-29T12:00:00Z",
                    "2020-02-29T12:00:00.000001Z",
                    null,
                    "9999-12-31T23:59:59.999999Z",
                    "0001-01-01T00:00:00Z"
                ]),
            ),
            (
                "decimal(38,2)",
                json!(["123456789012345678901234567890123456.78", "-0.01", null]),
            ),
            (
                "list(decimal(9,2))",
                json!([["1.00", null], null, [], ["-2.50"]]),
            ),
            (
                "struct(at date, tags list(struct(name string, n int)))",
                json!([
                    {"at": "2020-02-29", "tags": [{"name": "a", "n": 1}, null]},
                    null,
                    {"at": null, "tags": null}
                ]),
            ),
        ];
        for (name, values) in cases {
            let kind = type_named(name).expect(name);
            assert_eq!(name_of(&kind), name);
            let values = values.as_array().expect("array");
            let column = from_json(&exact(&json!(values)), &kind).expect(name);
            let back: Vec<Value> = (0..column.len()).map(|n| to_json(&column, n)).collect();
            assert_eq!(back, *values, "{name}");
        }
    }

    #[test]
    fn a_value_that_is_none_is_named() {
        let told = from_json(&exact(&json!(["1", "x"])), &DataType::Int32).expect_err("x");
        assert_eq!(told, "row 1: \"x\" is no value of type int");
        for (kind, value, why) in [
            ("list(int)", "1", "row 0: 1 is no list"),
            (
                "list(int)",
                "[1, \"x\"]",
                "items of lists, row 1: \"x\" is no value of type int",
            ),
            ("struct(a int)", "[]", "row 0: [] is no object"),
            (
                "struct(a int)",
                "{\"b\":1}",
                "row 0: the struct has no field \"b\"",
            ),
        ] {
            let value = Json::parse(value.as_bytes()).expect(value);
            let told = from_json(&[value], &type_named(kind).expect(kind));
            assert_eq!(told.expect_err(kind), why);
        }
        let deep = format!("{}int{}", "list(".repeat(17), ")".repeat(17));
        for bad in [
            "text",
            "decimal(39,0)",
            "decimal(2,3)",
            "",
            "list",
            "list()",
            "struct(a)",
            "struct()",
            &deep,
        ] {
            assert!(type_named(bad).is_none(), "{bad}");
        }
        let typed = |text: &str| {
            type_of(
                Json::parse(text.as_bytes())
                    .expect(text)
                    .as_list()
                    .expect(text),
            )
        };
        assert_eq!(typed("[1,null,2.5]"), DataType::Float64);
        assert_eq!(typed("[null]"), DataType::Utf8);
        assert_eq!(typed("[1,-9223372036854775808]"), DataType::Int64);
        assert_eq!(
            typed("[1,9223372036854775808]"),
            DataType::Decimal128(38, 0)
        );
        let inexact = [
            ("decimal(10,2)", "12.505"),
            ("decimal(3,0)", "1000"),
            ("int", "2147483648"),
            ("long", "1.5"),
            ("timestamp", "\"2024-01-01T00:00:00.0000001Z\""),
        ];
        for (name, value) in inexact {
            let values = Json::parse(format!("[{value}]").as_bytes()).expect(value);
            let told = from_json(
                values.as_list().expect("list"),
                &type_named(name).expect(name),
            );
            assert!(told.expect_err(value).contains(value), "{name}");
        }
    }
}
