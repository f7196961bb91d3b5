//! A column in another type, where every value stays what it is: casting it back gives the same value.

use std::sync::Arc;

use arrow_array::cast::AsArray;
use arrow_array::types::{Int32Type, Int64Type, TimestampMicrosecondType};
use arrow_array::{Array, ArrayRef, RecordBatch};
use arrow_cast::display::array_value_to_string;
use arrow_cast::{CastOptions, can_cast_types, cast_with_options};
use arrow_schema::{ArrowError, DataType, Field, TimeUnit};

use crate::error::{Error, Kind, Result};
use crate::record::{OFFSET, PARTITION, ROW, TOPIC};

/// Longest text of a value in a message.
const SHOWN_CHARS: usize = 60;
const OP: &str = "zone.cast";
const NEW_COLUMN: &str =
    "source.on.type.change = \"new-column\" writes values of the new type to a column of their own";

/// Whether there can be such values at all.
pub fn castable(from: &DataType, to: &DataType) -> bool {
    can_cast_types(from, to) && can_cast_types(to, from)
}

/// All values in the target's type, or the first row whose value would not come back as it was.
pub fn exactly(column: &ArrayRef, target: &Field, rows: &RecordBatch) -> Result<ArrayRef> {
    let options = CastOptions {
        safe: true,
        ..CastOptions::default()
    };
    let cast = |column: &ArrayRef, to: &DataType| {
        let column = relabelled(column, &offset_zone(column.data_type()));
        let done = cast_with_options(&column, &offset_zone(to), &options)?;
        Ok::<_, ArrowError>(relabelled(&done, to))
    };
    let failed = |e: ArrowError| {
        let message = format!(
            "column `{}`: {} cannot be cast to {}",
            target.name(),
            column.data_type(),
            target.data_type()
        );
        Error::new(Kind::ConfigInvalid, OP, message)
            .source(e)
            .hint(NEW_COLUMN)
    };
    let there = cast(column, target.data_type()).map_err(failed)?;
    let back = cast(&there, column.data_type()).map_err(failed)?;
    let differs = arrow_ord::cmp::distinct(&back, column).map_err(failed)?;
    let Some(at) = (0..differs.len()).find(|i| differs.value(*i)) else {
        return Ok(there);
    };
    let plain = relabelled(column, &offset_zone(column.data_type()));
    let shown = array_value_to_string(&plain, at).unwrap_or_default();
    let mut cut: String = shown.chars().take(SHOWN_CHARS).collect();
    if cut.len() < shown.len() {
        cut.push('…');
    }
    let message = format!(
        "column `{}`: {cut:?} of type {} is not exact as {}",
        target.name(),
        column.data_type(),
        target.data_type()
    );
    Err(Error::new(Kind::ConfigInvalid, OP, message)
        .with("row", coordinate(rows, at))
        .hint(NEW_COLUMN))
}

/// Casts know zones by their offset only.
fn offset_zone(data_type: &DataType) -> DataType {
    match data_type {
        DataType::Timestamp(unit, Some(zone)) if &**zone == "UTC" => {
            DataType::Timestamp(*unit, Some("+00:00".into()))
        }
        other => other.clone(),
    }
}

/// The same values of a time, in another name of its zone.
fn relabelled(column: &ArrayRef, to: &DataType) -> ArrayRef {
    match (column.data_type(), to) {
        (
            DataType::Timestamp(_, Some(_)),
            DataType::Timestamp(TimeUnit::Microsecond, Some(zone)),
        ) => match column.as_primitive_opt::<TimestampMicrosecondType>() {
            Some(times) => Arc::new(times.clone().with_timezone(zone.clone())),
            None => column.clone(),
        },
        _ => column.clone(),
    }
}

/// `topic/partition@offset#row`
fn coordinate(rows: &RecordBatch, at: usize) -> String {
    let column = |name: &str| rows.column_by_name(name);
    let topic = column(TOPIC).and_then(|c| c.as_string_opt::<i32>());
    let offset = column(OFFSET).and_then(|c| c.as_primitive_opt::<Int64Type>());
    let int = |name| column(name).and_then(|c| c.as_primitive_opt::<Int32Type>());
    match (topic, int(PARTITION), offset, int(ROW)) {
        (Some(topic), Some(partition), Some(offset), Some(row)) => format!(
            "{}/{}@{} row {}",
            topic.value(at),
            partition.value(at),
            offset.value(at),
            row.value(at)
        ),
        _ => format!("number {at}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::record::timestamp_type;
    use arrow_array::TimestampMicrosecondArray;
    use arrow_array::{BooleanArray, Float64Array, Int64Array, StringArray};
    use arrow_schema::Schema;

    #[test]
    fn a_value_is_cast_where_it_comes_back_the_same() {
        let texts = |values: &[&str]| Arc::new(StringArray::from(values.to_vec())) as ArrayRef;
        let longs = |values: &[i64]| Arc::new(Int64Array::from(values.to_vec())) as ArrayRef;
        let doubles = |values: &[f64]| Arc::new(Float64Array::from(values.to_vec())) as ArrayRef;
        let times = |micros: &[i64]| {
            let times = TimestampMicrosecondArray::from(micros.to_vec());
            Arc::new(times.with_timezone("UTC")) as ArrayRef
        };
        let flags = Arc::new(BooleanArray::from(vec![true, false])) as ArrayRef;
        let decimal = DataType::Decimal128(10, 2);
        let cases: Vec<(ArrayRef, DataType, bool)> = vec![
            (longs(&[1, -7]), DataType::Utf8, true),
            (longs(&[1, -7]), DataType::Int32, true),
            (longs(&[3_000_000_000]), DataType::Int32, false),
            (longs(&[1 << 53]), DataType::Float64, true),
            (longs(&[(1 << 53) + 1]), DataType::Float64, false),
            (longs(&[i64::MAX]), DataType::Float64, false),
            (texts(&["1", "20"]), DataType::Int32, true),
            (texts(&["007"]), DataType::Int32, false),
            (texts(&["x"]), DataType::Int32, false),
            (doubles(&[1.0, -2.0]), DataType::Int64, true),
            (doubles(&[1.5]), DataType::Int64, false),
            (doubles(&[-0.0]), DataType::Int64, false),
            (doubles(&[f64::NAN]), DataType::Int64, false),
            (doubles(&[0.1, 1e300]), DataType::Utf8, true),
            (doubles(&[1.25]), decimal.clone(), true),
            (doubles(&[1.255]), decimal, false),
            (flags, DataType::Utf8, true),
            (texts(&["2024-02-29"]), DataType::Date32, true),
            (texts(&["2024-02-30"]), DataType::Date32, false),
            (texts(&["2024-02-29T01:02:03Z"]), timestamp_type(), true),
            (
                texts(&["2024-02-29T01:02:03+01:00"]),
                timestamp_type(),
                false,
            ),
            (times(&[1_700_000_000_123_456]), DataType::Utf8, true),
            (times(&[0]), DataType::Date32, true),
            (times(&[1]), DataType::Date32, false),
        ];
        for (column, to, exact) in cases {
            let rows = RecordBatch::try_new(
                Arc::new(Schema::new(vec![Field::new(
                    "a",
                    column.data_type().clone(),
                    true,
                )])),
                vec![column.clone()],
            )
            .expect("rows");
            let done = exactly(&column, &Field::new("a", to.clone(), true), &rows);
            assert_eq!(done.is_ok(), exact, "{column:?} to {to}: {done:?}");
        }
    }
}
