//! The columns of the rows that a zone's sink writes: those of the transforms, the original bytes, and the system columns.

use std::sync::Arc;

use arrow_array::{ArrayRef, Int32Array, StringArray, UInt32Array};
use arrow_schema::{DataType, Field, FieldRef};
use arrow_select::take::take;

use super::{ZoneSink, bug};
use crate::chain::{Applied, Column};
use crate::error::{Error, Kind, Result};
use crate::record::{Batch, headers_type};
use crate::zone::schema::{is_system, system_fields};

pub const ORIGINAL_VALUE: &str = "_value";
pub const ORIGINAL_KEY: &str = "_key";
pub const ORIGINAL_HEADERS: &str = "_headers";
/// What `sink.keep.value` adds to each row.
pub const ORIGINALS: [&str; 3] = [ORIGINAL_VALUE, ORIGINAL_KEY, ORIGINAL_HEADERS];

impl ZoneSink {
    /// Columns of the rows file, in order.
    pub(super) fn columns(
        &self,
        batch: &Batch,
        applied: &Applied,
    ) -> Result<(Vec<FieldRef>, Vec<Column>)> {
        let (mut fields, mut columns) = self.made(applied)?;
        let origin = Origin::of(batch, applied);
        if self.options.keep_value {
            fields.extend(original_fields());
            columns.push(origin.per_record(Arc::new(batch.value.clone()))?);
            columns.push(origin.per_record(Arc::new(batch.key.clone()))?);
            let (headers, constant) = batch.columns().swap_remove(2);
            columns.push(match constant {
                true => Column {
                    values: headers,
                    constant,
                },
                false => origin.per_record(headers)?,
            });
        }
        let pieces = applied
            .piece
            .iter()
            .map(|p| i32::try_from(*p).unwrap_or(i32::MAX));
        fields.extend(system_fields());
        columns.extend([
            Column {
                values: Arc::new(StringArray::from(vec![batch.covers.tp.topic.as_ref()])),
                constant: true,
            },
            Column {
                values: Arc::new(Int32Array::from(vec![batch.covers.tp.partition])),
                constant: true,
            },
            origin.per_record(Arc::new(batch.offset.clone()))?,
            Column {
                values: Arc::new(Int32Array::from_iter_values(pieces)),
                constant: false,
            },
            origin.per_record(Arc::new(batch.timestamp.clone()))?,
        ]);
        Ok((fields, columns))
    }

    /// Columns that the rules made, without system columns, which are written from the batch.
    fn made(&self, applied: &Applied) -> Result<(Vec<FieldRef>, Vec<Column>)> {
        let system = system_fields();
        let (mut fields, mut columns) = (Vec::new(), Vec::new());
        let made = applied.table.schema.fields().iter();
        for (field, column) in made.zip(&applied.table.columns) {
            if is_system(field.name()) {
                refuse_false_system(field, &system)?;
                continue;
            }
            let name = field.name().as_str();
            if self.options.keep_value && ORIGINALS.contains(&name) {
                return Err(reserved(
                    name,
                    "sink.keep.value writes the original bytes under it",
                ));
            }
            fields.push(field.clone());
            columns.push(column.clone());
        }
        Ok((fields, columns))
    }
}

/// Which record each row is from.
struct Origin {
    records: UInt32Array,
    /// Row n is from record n, and there are no others.
    one_to_one: bool,
}

impl Origin {
    fn of(batch: &Batch, applied: &Applied) -> Origin {
        let mut records = applied.record.iter().enumerate();
        let one_to_one = applied.record.len() == batch.len()
            && records.all(|(row, record)| row == *record as usize);
        Origin {
            records: UInt32Array::from(applied.record.clone()),
            one_to_one,
        }
    }

    /// Converts a column of the batch to a column of the rows.
    fn per_record(&self, values: ArrayRef) -> Result<Column> {
        let values = match self.one_to_one {
            true => values,
            false => take(&values, &self.records, None)
                .map_err(|e| bug("rows name no record").source(e))?,
        };
        Ok(Column {
            values,
            constant: false,
        })
    }
}

/// What the host adds to the columns of the rules in RAW.
pub fn host_fields(keep_value: bool) -> Vec<FieldRef> {
    let originals = original_fields().into_iter().filter(|_| keep_value);
    originals.chain(system_fields()).collect()
}

fn original_fields() -> [FieldRef; 3] {
    [
        Arc::new(Field::new(ORIGINAL_VALUE, DataType::Binary, true)),
        Arc::new(Field::new(ORIGINAL_KEY, DataType::Binary, true)),
        Arc::new(Field::new(ORIGINAL_HEADERS, headers_type(), false)),
    ]
}

fn refuse_false_system(field: &Field, system: &[FieldRef]) -> Result<()> {
    let ours = system.iter().find(|ours| ours.name() == field.name());
    if ours.is_some_and(|ours| ours.data_type() == field.data_type()) {
        return Ok(());
    }
    Err(reserved(
        field.name(),
        "it is a system column of every zone, of another type",
    ))
}

fn reserved(column: &str, why: &str) -> Error {
    Error::new(
        Kind::ConfigInvalid,
        "zone.columns",
        format!("the last transform makes a column `{column}`: {why}"),
    )
    .hint("give the column another name")
}
