//! Columns of a decoder become columns of the types that plugins and zones know.
//!
//! ```text
//! enum, uuid, time of day  → text          float → double            fixed → bytes
//! timestamp of any unit    → microseconds  decimal of more than 38 digits → 38, if the value has no more
//! map                      → list of structs of key and value
//! ```

use std::sync::Arc;

use arrow_array::builder::StringBuilder;
use arrow_array::cast::AsArray;
use arrow_array::types::{Decimal128Type, DecimalType};
use arrow_array::{Array, ArrayRef, ListArray, StructArray, new_null_array};
use arrow_buffer::OffsetBuffer;
use arrow_cast::{CastOptions, cast_with_options};
use arrow_schema::{DataType, Field, FieldRef, Fields, TimeUnit};

use crate::error::{Error, Kind, Result};
use crate::record::timestamp_type;

/// Digits of the widest decimal.
const DIGITS: u8 = 38;

/// The column that is written for this one; `Err` says why there is none.
pub fn field(from: &Field) -> std::result::Result<Field, String> {
    let to = data_type(from)?;
    // A column of nothing but nulls is one of text.
    let nullable = from.is_nullable() || *from.data_type() == DataType::Null;
    Ok(Field::new(from.name(), to, nullable))
}

fn data_type(from: &Field) -> std::result::Result<DataType, String> {
    let of = |item: &FieldRef| field(item).map(Arc::new);
    Ok(match from.data_type() {
        DataType::Boolean
        | DataType::Int32
        | DataType::Int64
        | DataType::Float64
        | DataType::Utf8
        | DataType::Binary
        | DataType::Date32
        | DataType::Decimal128(..) => from.data_type().clone(),
        DataType::Int8 | DataType::Int16 => DataType::Int32,
        DataType::Float32 => DataType::Float64,
        DataType::FixedSizeBinary(16) if is_uuid(from) => DataType::Utf8,
        DataType::FixedSizeBinary(_) => DataType::Binary,
        DataType::Dictionary(..) | DataType::Time32(_) | DataType::Time64(_) | DataType::Null => {
            DataType::Utf8
        }
        DataType::Timestamp(_, Some(_)) => timestamp_type(),
        DataType::Timestamp(_, None) => DataType::Timestamp(TimeUnit::Microsecond, None),
        DataType::Decimal256(_, scale) if (0..=DIGITS as i8).contains(scale) => {
            DataType::Decimal128(DIGITS, *scale)
        }
        DataType::List(item) => DataType::List(of(item)?),
        DataType::Struct(fields) => {
            let fields: std::result::Result<Vec<FieldRef>, String> =
                fields.iter().map(of).collect();
            DataType::Struct(fields?.into())
        }
        DataType::Map(entries, _) => match entries.data_type() {
            DataType::Struct(_) => {
                DataType::List(Arc::new(Field::new("item", data_type(entries)?, false)))
            }
            other => return Err(format!("`{}` is a map of {other}", from.name())),
        },
        DataType::Union(..) => {
            return Err(format!(
                "`{}` is a union of several types, and a column has one",
                from.name()
            ));
        }
        other => return Err(format!("`{}` is a {other}, and no column is", from.name())),
    })
}

fn is_uuid(field: &Field) -> bool {
    field
        .metadata()
        .get("logicalType")
        .is_some_and(|t| t == "uuid")
}

/// The values in the type of `to`; `None`: one of them has no place in it.
pub fn column(values: &ArrayRef, to: &Field) -> Result<Option<ArrayRef>> {
    if values.data_type() == to.data_type() && !holds_decimals(to.data_type()) {
        return Ok(Some(values.clone()));
    }
    match (values.data_type(), to.data_type()) {
        // Nobody else counts the digits: a file would keep the lowest bits of a number that has more.
        (DataType::Decimal128(digits, from), DataType::Decimal128(of, to))
            if (digits, from) == (of, to) =>
        {
            Ok(counted(values, *digits))
        }
        (DataType::Null, _) => Ok(Some(new_null_array(to.data_type(), values.len()))),
        (DataType::FixedSizeBinary(16), DataType::Utf8) => Ok(Some(uuids(values))),
        (DataType::List(_), DataType::List(target)) => {
            let list = values.as_list::<i32>();
            let Some(items) = column(list.values(), target)? else {
                return Ok(None);
            };
            let list = ListArray::try_new(
                target.clone(),
                list.offsets().clone(),
                items,
                list.nulls().cloned(),
            );
            list.map(|list| Some(Arc::new(list) as ArrayRef))
                .map_err(broken)
        }
        (DataType::Map(..), DataType::List(target)) => {
            let map = values.as_map();
            let items: ArrayRef = Arc::new(map.entries().clone());
            let Some(items) = column(&items, target)? else {
                return Ok(None);
            };
            let list = ListArray::try_new(
                target.clone(),
                map.offsets().clone(),
                items,
                map.nulls().cloned(),
            );
            list.map(|list| Some(Arc::new(list) as ArrayRef))
                .map_err(broken)
        }
        (DataType::Struct(_), DataType::Struct(targets)) => {
            let rows = values.as_struct();
            same_fields(rows, to, targets)?;
            let mut columns = Vec::with_capacity(targets.len());
            for (child, target) in rows.columns().iter().zip(targets) {
                match column(child, target)? {
                    Some(child) => columns.push(child),
                    None => return Ok(None),
                }
            }
            let rows = match columns.is_empty() {
                true => Ok(StructArray::new_empty_fields(
                    rows.len(),
                    rows.nulls().cloned(),
                )),
                false => StructArray::try_new(targets.clone(), columns, rows.nulls().cloned()),
            };
            rows.map(|rows| Some(Arc::new(rows) as ArrayRef))
                .map_err(broken)
        }
        _ => cast(values, to.data_type()),
    }
}

/// The rows of these values that [`column`] has no place for.
pub fn misfits(values: &ArrayRef, to: &Field) -> Result<Vec<bool>> {
    Ok(match (values.data_type(), to.data_type()) {
        (from, to) if from == to && !holds_decimals(to) => vec![false; values.len()],
        (DataType::Decimal128(digits, from), DataType::Decimal128(of, to))
            if (digits, from) == (of, to) =>
        {
            let numbers = values.as_primitive::<Decimal128Type>().iter();
            let fits = |n| Decimal128Type::validate_decimal_precision(n, *digits, *from).is_ok();
            numbers.map(|n| n.is_some_and(|n| !fits(n))).collect()
        }
        (DataType::Null, _) | (DataType::FixedSizeBinary(16), DataType::Utf8) => {
            vec![false; values.len()]
        }
        (DataType::List(_), DataType::List(target)) => {
            let list = values.as_list::<i32>();
            of_lists(list.offsets(), &misfits(list.values(), target)?)
        }
        (DataType::Map(..), DataType::List(target)) => {
            let map = values.as_map();
            let entries: ArrayRef = Arc::new(map.entries().clone());
            of_lists(map.offsets(), &misfits(&entries, target)?)
        }
        (DataType::Struct(_), DataType::Struct(targets)) => {
            let mut all = vec![false; values.len()];
            for (child, target) in values.as_struct().columns().iter().zip(targets) {
                for (row, bad) in all.iter_mut().zip(misfits(child, target)?) {
                    *row |= bad;
                }
            }
            all
        }
        (_, to) => {
            let cast = cast_with_options(values, to, &CastOptions::default()).map_err(broken)?;
            let is_lost = |row| cast.is_null(row) && !values.is_null(row);
            (0..values.len()).map(is_lost).collect()
        }
    })
}

/// The lists in which one of the items is bad.
fn of_lists(ends: &OffsetBuffer<i32>, items: &[bool]) -> Vec<bool> {
    let lists = ends.windows(2).map(|ends| match ends {
        [from, to] => items.get(*from as usize..*to as usize),
        _ => None,
    });
    lists
        .map(|items| items.unwrap_or_default().contains(&true))
        .collect()
}

/// Why [`column`] has none.
pub fn no_place(to: &Field) -> String {
    format!("`{}` has no place in {}", to.name(), to.data_type())
}

/// `None`: a number has more digits.
fn counted(values: &ArrayRef, digits: u8) -> Option<ArrayRef> {
    let numbers = values.as_primitive::<Decimal128Type>();
    let fits = numbers.validate_decimal_precision(digits).is_ok();
    fits.then(|| values.clone())
}

fn same_fields(rows: &StructArray, to: &Field, targets: &Fields) -> Result<()> {
    let names = targets.iter().map(|field| field.name());
    if rows.column_names().into_iter().eq(names) {
        return Ok(());
    }
    let message = format!("the fields of `{}` are not those in force", to.name());
    Err(Error::new(Kind::Bug, "convert.fit", message))
}

/// Not every number of such a type is a value.
fn holds_decimals(of: &DataType) -> bool {
    match of {
        DataType::Decimal128(..) => true,
        DataType::List(item) => holds_decimals(item.data_type()),
        DataType::Struct(fields) => fields.iter().any(|f| holds_decimals(f.data_type())),
        _ => false,
    }
}

/// A value that does not fit becomes a null, of which there must not be more than before.
fn cast(values: &ArrayRef, to: &DataType) -> Result<Option<ArrayRef>> {
    let cast = cast_with_options(values, to, &CastOptions::default()).map_err(broken)?;
    Ok((cast.logical_null_count() == values.logical_null_count()).then_some(cast))
}

fn uuids(values: &ArrayRef) -> ArrayRef {
    let bytes = values.as_fixed_size_binary();
    let mut texts = StringBuilder::with_capacity(bytes.len(), bytes.len() * 36);
    for value in bytes.iter() {
        texts.append_option(value.map(|value| {
            let hex = crate::hash::hex(value);
            let part = |range| hex.get(range).unwrap_or_default();
            [
                part(0..8),
                part(8..12),
                part(12..16),
                part(16..20),
                part(20..32),
            ]
            .join("-")
        }));
    }
    Arc::new(texts.finish())
}

fn broken(error: arrow_schema::ArrowError) -> Error {
    Error::new(Kind::Bug, "convert.fit", "a column cannot be made").source(error)
}
