//! Unexpected values: empty ones, huge ones, invalid text, the ends of every range, deep nesting, noise, samples with a
//! few wrong bytes, and nulls anywhere: rows, items of lists, fields of structs. The same seed gives the same values.

use std::sync::Arc;

use arrow_array::cast::AsArray;
use arrow_array::types::{Decimal128Type, Int32Type, Int64Type};
use arrow_array::{
    Array, ArrayRef, BinaryArray, BooleanArray, Date32Array, Decimal128Array, Float64Array,
    Int32Array, Int64Array, ListArray, StringArray, StructArray, TimestampMicrosecondArray,
    UInt32Array, new_null_array,
};
use arrow_buffer::OffsetBuffer;
use arrow_schema::{DataType, Field, FieldRef};
use rand::Rng;
use rand::rngs::SmallRng;

use crate::chain::{Column, Table};

/// Rows of one batch: no more than a host sets aside before it calls a plugin broken.
const ROWS: usize = 8;
/// A long text.
const LONG: usize = 1 << 20;
/// Depth of nesting.
const DEEP: usize = 20_000;
/// Bytes of noise in one value, at most.
const NOISE: usize = 400;
/// Characters of a value that a fault shows.
const SHOWN: usize = 60;

#[derive(Clone, Copy, Debug)]
pub struct Shape {
    pub name: &'static str,
    pub batches: usize,
    make: Make,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Make {
    Nulls,
    Empty,
    Long,
    NotText,
    Extremes,
    Deep,
    Noise,
    Mutated,
    Holes,
}

pub const SHAPES: &[Shape] = &[
    shape("nulls", 1, Make::Nulls),
    shape("empty values", 1, Make::Empty),
    shape("very long values", 1, Make::Long),
    shape("what is no text", 1, Make::NotText),
    shape("the ends of every range", 1, Make::Extremes),
    shape("deep nesting", 1, Make::Deep),
    shape("noise", 64, Make::Noise),
    shape("samples with wrong bytes", 128, Make::Mutated),
    shape("nulls among values", 16, Make::Holes),
];

const fn shape(name: &'static str, batches: usize, make: Make) -> Shape {
    Shape {
        name,
        batches,
        make,
    }
}

/// Items of the rows of a list: none, one and several.
const ITEMS: [usize; ROWS] = [1, 0, 3, 0, 1, 2, 0, 1];

/// A batch of this shape with the columns of `like`. Columns that messages cannot influence (not nullable, constant)
/// keep the sample's values.
pub fn table(shape: &Shape, like: &Table, rng: &mut SmallRng) -> Table {
    let fields = like.schema.fields().iter();
    let columns = fields.zip(&like.columns).map(|(field, column)| {
        let values = match (column.constant, field.is_nullable()) {
            (true, _) => return column.clone(),
            (false, false) => sampled(&column.values, rng),
            (false, true) => values(shape.make, field, &column.values, rng),
        };
        Column {
            values,
            constant: false,
        }
    });
    Table {
        schema: Arc::clone(&like.schema),
        rows: ROWS,
        columns: columns.collect(),
    }
}

fn sampled(like: &ArrayRef, rng: &mut SmallRng) -> ArrayRef {
    let rows = u32::try_from(like.len()).unwrap_or(1).max(1);
    let rows: UInt32Array = (0..ROWS).map(|_| rng.random_range(0..rows)).collect();
    arrow_select::take::take(like, &rows, None)
        .unwrap_or_else(|_| new_null_array(like.data_type(), ROWS))
}

fn values(make: Make, field: &Field, like: &ArrayRef, rng: &mut SmallRng) -> ArrayRef {
    match make {
        Make::Nulls if field.is_nullable() => new_null_array(field.data_type(), ROWS),
        Make::Holes if field.is_nullable() => holed(&present(make, field, like, rng), rng),
        _ => present(make, field, like, rng),
    }
}

/// About a third of the values are null.
fn holed(values: &ArrayRef, rng: &mut SmallRng) -> ArrayRef {
    let kept = (0..ROWS as u32).map(|row| (rng.random_range(0..3) > 0).then_some(row));
    let kept: UInt32Array = kept.collect();
    arrow_select::take::take(values, &kept, None).unwrap_or_else(|_| ArrayRef::clone(values))
}

/// No value of this column itself is null.
fn present(make: Make, field: &Field, like: &ArrayRef, rng: &mut SmallRng) -> ArrayRef {
    let kind = field.data_type();
    match kind {
        DataType::List(item) => {
            let items = values(make, item, like.as_list::<i32>().values(), rng);
            let ends = OffsetBuffer::from_lengths(ITEMS);
            let made = ListArray::try_new(FieldRef::clone(item), ends, items, None);
            made.map_or_else(|_| new_null_array(kind, ROWS), |array| Arc::new(array))
        }
        DataType::Struct(fields) => {
            let columns = fields.iter().zip(like.as_struct().columns());
            let columns = columns.map(|(field, like)| values(make, field, like, rng));
            let made = StructArray::try_new(fields.clone(), columns.collect(), None);
            made.map_or_else(|_| new_null_array(kind, ROWS), |array| Arc::new(array))
        }
        DataType::Utf8 => Arc::new(StringArray::from_iter_values((0..ROWS).map(|n| {
            let original =
                some(like, rng).map(|row| like.as_string::<i32>().value(row).as_bytes().to_vec());
            String::from_utf8_lossy(&bytes(make, n, original, rng)).into_owned()
        }))),
        DataType::Binary => Arc::new(BinaryArray::from_iter_values((0..ROWS).map(|n| {
            let original = some(like, rng).map(|row| like.as_binary::<i32>().value(row).to_vec());
            bytes(make, n, original, rng)
        }))),
        _ => numbers(make, kind, rng),
    }
}

/// A row of the sample that has a value.
fn some(like: &ArrayRef, rng: &mut SmallRng) -> Option<usize> {
    let rows: Vec<usize> = (0..like.len()).filter(|row| like.is_valid(*row)).collect();
    (!rows.is_empty()).then(|| rows[rng.random_range(0..rows.len())])
}

fn bytes(make: Make, n: usize, original: Option<Vec<u8>>, rng: &mut SmallRng) -> Vec<u8> {
    const NOT_TEXT: [&[u8]; ROWS] = [
        b"\xff\xfe",
        b"\xc0\xaf",
        b"\xed\xa0\x80",
        b"abc\xf0\x9f\x98",
        b"\0\0\0",
        b"\xef\xbb\xbf<a/>",
        "\u{202e}\u{feff}\u{0}\u{7f}é\u{0301}👨\u{200d}👩".as_bytes(),
        b"\x1f\x8b\x08\x00\x00\x00\x00\x00",
    ];
    const EXTREMES: [&str; ROWS] = [
        "-9223372036854775809",
        "99999999999999999999999999999999999999.99",
        "1e999",
        "NaN",
        "-0",
        "9999-12-31T23:59:60Z",
        "0000-00-00",
        "٣",
    ];
    match make {
        Make::Nulls | Make::Empty => Vec::new(),
        Make::Long => {
            let fill = *b"a<[\"9 \n,".get(n).unwrap_or(&b'a');
            let mut long = vec![fill; LONG];
            // Half of them begin like a message.
            if let (true, Some(original)) = (n.is_multiple_of(2), original) {
                let head = original.len() / 2;
                long.splice(..0, original[..head].iter().copied());
            }
            long
        }
        Make::NotText => NOT_TEXT[n % ROWS].to_vec(),
        Make::Extremes => EXTREMES[n % ROWS].as_bytes().to_vec(),
        Make::Deep => match n {
            0 => b"[".repeat(DEEP),
            1 => [b"[".repeat(DEEP), b"]".repeat(DEEP)].concat(),
            2 => b"{\"a\":".repeat(DEEP),
            3 => [b"{\"a\":".repeat(DEEP), b"1".to_vec(), b"}".repeat(DEEP)].concat(),
            4 => b"<a>".repeat(DEEP),
            5 => [b"<a>".repeat(DEEP), b"</a>".repeat(DEEP)].concat(),
            6 => b"(".repeat(DEEP),
            _ => b"\"\\".repeat(DEEP),
        },
        Make::Noise => {
            let length = rng.random_range(0..NOISE);
            // Noise of characters that formats use reaches more of a parser than random bytes do.
            let signs = b"<>/=\"'{}[],:.-+eE0123456789 \n\t&;!?\\aZ\xc3\xa9\xff";
            match n % 2 {
                0 => (0..length).map(|_| rng.random()).collect(),
                _ => (0..length)
                    .map(|_| signs[rng.random_range(0..signs.len())])
                    .collect(),
            }
        }
        Make::Mutated => mutated(original.unwrap_or_default(), rng),
        Make::Holes => original.unwrap_or_default(),
    }
}

fn mutated(mut bytes: Vec<u8>, rng: &mut SmallRng) -> Vec<u8> {
    for _ in 0..rng.random_range(1..4) {
        if bytes.is_empty() {
            return bytes;
        }
        let at = rng.random_range(0..bytes.len());
        let to = rng.random_range(at..=bytes.len().min(at + 40));
        match rng.random_range(0..6) {
            0 => bytes[at] ^= 1 << rng.random_range(0..8),
            1 => bytes.truncate(at),
            2 => drop(bytes.drain(at..to)),
            3 => {
                let piece = bytes[at..to].to_vec();
                bytes.splice(at..at, piece);
            }
            4 => bytes.insert(at, rng.random()),
            _ => bytes[at] = rng.random(),
        }
    }
    bytes
}

fn numbers(make: Make, kind: &DataType, rng: &mut SmallRng) -> ArrayRef {
    let mut whole = |n: usize, low: i128, high: i128| -> i128 {
        let ends = [low, high, 0, -1, 1, low + 1, high - 1, 2];
        match make {
            Make::Noise | Make::Mutated => rng.random_range(low..=high),
            Make::Empty => 0,
            _ => ends[n % ROWS].clamp(low, high),
        }
    };
    let day = i64::from(i32::MAX);
    match kind {
        DataType::Boolean => Arc::new(BooleanArray::from_iter((0..ROWS).map(|n| Some(n % 2 == 0)))),
        DataType::Int32 => Arc::new(Int32Array::from_iter_values(
            (0..ROWS).map(|n| whole(n, i32::MIN.into(), i32::MAX.into()) as i32),
        )),
        DataType::Date32 => Arc::new(Date32Array::from_iter_values(
            (0..ROWS).map(|n| whole(n, i32::MIN.into(), day.into()) as i32),
        )),
        DataType::Int64 => Arc::new(Int64Array::from_iter_values(
            (0..ROWS).map(|n| whole(n, i64::MIN.into(), i64::MAX.into()) as i64),
        )),
        DataType::Timestamp(_, zone) => {
            let values = (0..ROWS).map(|n| whole(n, i64::MIN.into(), i64::MAX.into()) as i64);
            let array = TimestampMicrosecondArray::from_iter_values(values);
            Arc::new(array.with_timezone_opt(zone.clone()))
        }
        DataType::Float64 => {
            let ends = [
                f64::NAN,
                f64::INFINITY,
                f64::NEG_INFINITY,
                -0.0,
                f64::MIN,
                f64::MAX,
                f64::MIN_POSITIVE,
                0.1,
            ];
            Arc::new(Float64Array::from_iter_values((0..ROWS).map(
                |n| match make {
                    Make::Noise | Make::Mutated => f64::from_bits(rng.random()),
                    Make::Empty => 0.0,
                    _ => ends[n % ROWS],
                },
            )))
        }
        DataType::Decimal128(precision, scale) => {
            let most = 10i128.pow(u32::from(*precision)) - 1;
            let values = (0..ROWS).map(|n| whole(n, -most, most));
            let array = Decimal128Array::from_iter_values(values);
            match array.with_precision_and_scale(*precision, *scale) {
                Ok(array) => Arc::new(array),
                Err(_) => new_null_array(kind, ROWS),
            }
        }
        other => new_null_array(other, ROWS),
    }
}

/// The row's values, shortened: texts, and numbers that are not null.
pub fn shown(table: &Table, row: usize) -> String {
    let fields = table.schema.fields().iter();
    let told = fields.zip(&table.columns).filter_map(|(field, column)| {
        let values = &column.values;
        if column.constant || values.is_null(row) || !field.is_nullable() {
            return None;
        }
        let value = match values.data_type() {
            DataType::Binary => quoted(values.as_binary::<i32>().value(row)),
            DataType::Utf8 => quoted(values.as_string::<i32>().value(row).as_bytes()),
            DataType::Int32 => values.as_primitive::<Int32Type>().value(row).to_string(),
            DataType::Int64 => values.as_primitive::<Int64Type>().value(row).to_string(),
            DataType::Decimal128(..) => values
                .as_primitive::<Decimal128Type>()
                .value(row)
                .to_string(),
            _ => return None,
        };
        Some(format!("{}={value}", field.name()))
    });
    told.collect::<Vec<_>>().join(" ")
}

fn quoted(bytes: &[u8]) -> String {
    let text = bytes.escape_ascii().to_string();
    match text.len() > SHOWN {
        true => format!("\"{}…\" ({} bytes)", &text[..SHOWN], bytes.len()),
        false => format!("\"{text}\""),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::author::{cell, input};
    use crate::json::Json;
    use arrow_schema::Schema;
    use rand::SeedableRng;

    #[test]
    fn every_type_has_every_shape_and_a_seed_repeats_it() {
        let names = [
            "int",
            "long",
            "double",
            "boolean",
            "string",
            "binary",
            "date",
            "timestamp",
            "decimal(10,2)",
            "list(struct(name string, at list(date)))",
        ];
        let kinds = names.map(|name| cell::type_named(name).expect(name));
        let fields = kinds
            .iter()
            .zip(names)
            .map(|(kind, name)| Field::new(name, kind.clone(), true));
        let column = |kind: &DataType| Column {
            values: cell::from_json(&[Json::Null], kind).expect("null"),
            constant: false,
        };
        let like = Table {
            schema: Arc::new(Schema::new(fields.collect::<Vec<_>>())),
            rows: 1,
            columns: kinds.iter().map(column).collect(),
        };
        for shape in SHAPES {
            let make = || table(shape, &like, &mut SmallRng::seed_from_u64(7));
            for ((a, b), kind) in make().columns.iter().zip(&make().columns).zip(&kinds) {
                assert_eq!(
                    (a.values.data_type(), a.values.len()),
                    (kind, ROWS),
                    "{}",
                    shape.name
                );
                assert_eq!(&a.values, &b.values);
                if let (true, "very long values") = (kind.is_nested(), shape.name) {
                    let items = a.values.as_list::<i32>().values().as_struct();
                    assert!(items.column(0).as_string::<i32>().value(0).len() >= LONG);
                }
                if shape.name == "nulls among values" {
                    assert_holes(&a.values);
                }
            }
        }
    }

    /// Some values are null, at each level.
    fn assert_holes(values: &ArrayRef) {
        let nulls = values.null_count();
        assert!((1..values.len()).contains(&nulls), "{values:?}");
        match values.data_type() {
            DataType::List(_) => assert_holes(values.as_list::<i32>().values()),
            DataType::Struct(_) => values.as_struct().columns().iter().for_each(assert_holes),
            _ => {}
        }
    }

    #[test]
    fn what_no_message_can_bend_keeps_its_values() {
        let like = input::table(&[input::Message::default()]);
        let bent = table(&SHAPES[6], &like, &mut SmallRng::seed_from_u64(1));
        for (field, column) in like.schema.fields().iter().zip(&bent.columns) {
            assert!(
                field.is_nullable() || column.values.null_count() == 0,
                "{field}"
            );
        }
    }
}
