//! The table of dead letters: one row per refused record or piece, with every reason; the original bytes are stored
//! once.
//!
//! Dead letters of one record follow each other in one file. The first has the record's bytes and `holds_bytes`; the
//! others have no value, no key and no headers, so that a message with thousands of bad pieces is stored only once. A
//! whole refused record has no `_row`. `code`, `field` and `message` are those of the first reason, `errors` holds all.
//! A refused row of a zone that was read has its coordinates there, and its columns as JSON for a value.
//! Dead letters are a table of the zone, sealed and committed together with the rows of the same records.

mod read;

use std::sync::Arc;

use arrow_array::builder::StringBuilder;
use arrow_array::cast::AsArray;
use arrow_array::{
    ArrayRef, BinaryArray, BooleanArray, Int32Array, ListArray, RecordBatch, StringArray,
    StructArray, UInt32Array, new_null_array,
};
use arrow_buffer::OffsetBuffer;
use arrow_schema::{ArrowError, DataType, Field, FieldRef, Fields, Schema, SchemaRef};
use arrow_select::take::take;

pub use read::{Counts, Filter, Original, StoredDeadLetter, StoredReason, counts, read};

use crate::chain::{DeadLetter, Reason};
use crate::error::{Error, Kind, Result};
use crate::record::{
    Batch, HEADERS, KEY, OFFSET, PARTITION, ROW, TIMESTAMP, TOPIC, VALUE, headers_type,
    input_schema, timestamp_type,
};
use crate::sink::json;
use crate::zone::is_system;

/// Columns of the dead-letter table, in file order. A format: columns may be added, never changed.
pub fn schema() -> SchemaRef {
    let text = |name: &str| Field::new(name, DataType::Utf8, false);
    Arc::new(Schema::new(vec![
        Field::new(VALUE, DataType::Binary, true),
        Field::new(KEY, DataType::Binary, true),
        Field::new(HEADERS, headers_type(), false),
        text(TOPIC),
        Field::new(PARTITION, DataType::Int32, false),
        Field::new(OFFSET, DataType::Int64, false),
        Field::new(TIMESTAMP, timestamp_type(), true),
        Field::new(ROW, DataType::Int32, true),
        text("transform"),
        text("plugin"),
        text("version"),
        text("component"),
        text("config"),
        text("code"),
        Field::new("field", DataType::Utf8, true),
        text("message"),
        Field::new("errors", DataType::List(error_item()), false),
        Field::new(HOLDS_BYTES, DataType::Boolean, false),
    ]))
}

/// True: this row has the record's bytes. False: the record's first row in the same file has them.
const HOLDS_BYTES: &str = "holds_bytes";

fn error_fields() -> Fields {
    Fields::from(vec![
        Field::new("code", DataType::Utf8, false),
        Field::new("field", DataType::Utf8, true),
        Field::new("message", DataType::Utf8, false),
    ])
}

fn error_item() -> FieldRef {
    Arc::new(Field::new("item", DataType::Struct(error_fields()), false))
}

/// One row per dead letter, in their order, which is that of their records. Dead letters name records of `batch`.
pub fn rows(batch: &Batch, letters: &[DeadLetter]) -> Result<RecordBatch> {
    let wrong = |e| {
        Error::new(
            Kind::Bug,
            "deadletter.rows",
            "these dead letters are not of this batch",
        )
        .source(e)
    };
    let records = UInt32Array::from_iter_values(letters.iter().map(|letter| letter.record));
    let first = |at: usize| at == 0 || letters[at - 1].record != letters[at].record;
    let holds: Vec<bool> = (0..letters.len()).map(first).collect();
    let holders = letters.iter().zip(&holds);
    let holders = UInt32Array::from_iter(holders.map(|(l, holds)| holds.then_some(l.record)));
    let mut columns: Vec<ArrayRef> = Vec::new();
    for (field, (values, constant)) in input_schema().fields().iter().zip(batch.columns()) {
        let values = match field.name().as_str() {
            _ if constant => take(&values, &UInt32Array::from(vec![0; letters.len()]), None),
            VALUE | KEY => take(&values, &holders, None),
            HEADERS => take(&values, &holders, None).and_then(|taken| without_nulls(&taken)),
            _ => take(&values, &records, None),
        };
        columns.push(values.map_err(wrong)?);
    }
    let piece = |letter: &DeadLetter| letter.piece.map(|p| i32::try_from(p).unwrap_or(i32::MAX));
    columns.push(Arc::new(Int32Array::from_iter(letters.iter().map(piece))));
    columns.extend(decisions(letters, holds).map_err(wrong)?);
    RecordBatch::try_new(schema(), columns).map_err(wrong)
}

/// The columns behind the coordinates: who refused, and why.
fn decisions(letters: &[DeadLetter], holds: Vec<bool>) -> Result<Vec<ArrayRef>, ArrowError> {
    let text = |of: fn(&DeadLetter) -> &str| -> ArrayRef {
        Arc::new(StringArray::from_iter_values(letters.iter().map(of)))
    };
    let field = |l: &DeadLetter| l.reasons.first().and_then(|r| r.field.clone());
    Ok(vec![
        text(|l| &l.by.transform),
        text(|l| &l.by.plugin),
        text(|l| &l.by.version),
        text(|l| &l.by.digest),
        text(|l| &l.by.config_digest),
        text(|l| l.reasons.first().map_or("unknown", |r| &r.code)),
        Arc::new(StringArray::from_iter(letters.iter().map(field))),
        text(|l| l.reasons.first().map_or("", |r| &r.message)),
        errors(letters)?,
        Arc::new(BooleanArray::from(holds)),
    ])
}

/// Name of the header with the path of the file in which a refused row of a zone lies.
pub const FILE: &str = "weir.file";

/// One row per dead letter of rows of a zone, which lie in `file`; a letter's record is the number of its row. Each has the columns
/// of its row, but for those of the host, as a JSON object.
pub fn of_rows(rows: &RecordBatch, file: &str, letters: &[DeadLetter]) -> Result<RecordBatch> {
    let wrong = |e| {
        let message = "these dead letters are not of these rows";
        Error::new(Kind::Bug, "deadletter.rows", message).source(e)
    };
    let picks = UInt32Array::from_iter_values(letters.iter().map(|letter| letter.record));
    let taken = |name: &'static str| {
        let column = rows.column_by_name(name).ok_or_else(|| {
            let message = format!("rows of a zone without their column `{name}`");
            Error::new(Kind::LogCorrupt, "deadletter.rows", message).with("file", file)
        });
        take(column?, &picks, None).map_err(wrong)
    };
    let objects = letters.iter().map(|l| object(rows, l.record as usize));
    let columns: Vec<ArrayRef> = vec![
        Arc::new(BinaryArray::from_iter_values(objects)),
        new_null_array(&DataType::Binary, letters.len()),
        one_header(FILE, file, letters.len()).map_err(wrong)?,
        taken(TOPIC)?,
        taken(PARTITION)?,
        taken(OFFSET)?,
        taken(TIMESTAMP)?,
        taken(ROW)?,
    ];
    let all = decisions(letters, vec![true; letters.len()]).map_err(wrong)?;
    let columns = columns.into_iter().chain(all).collect();
    RecordBatch::try_new(schema(), columns).map_err(wrong)
}

fn object(rows: &RecordBatch, row: usize) -> Vec<u8> {
    let mut out = vec![b'{'];
    for (field, column) in rows.schema_ref().fields().iter().zip(rows.columns()) {
        if is_system(field.name()) {
            continue;
        }
        if out.len() > 1 {
            out.push(b',');
        }
        json::write_string(&mut out, field.name());
        out.push(b':');
        json::write_value(&mut out, column, row);
    }
    out.push(b'}');
    out
}

/// The same header for all rows.
fn one_header(name: &str, value: &str, rows: usize) -> Result<ArrayRef, ArrowError> {
    let DataType::List(item) = headers_type() else {
        return Err(ArrowError::SchemaError("headers are no list".into()));
    };
    let DataType::Struct(fields) = item.data_type().clone() else {
        return Err(ArrowError::SchemaError("a header is no struct".into()));
    };
    let names: ArrayRef = Arc::new(StringArray::from(vec![name; rows]));
    let values: ArrayRef = Arc::new(BinaryArray::from(vec![value.as_bytes(); rows]));
    let items = StructArray::try_new(fields, vec![names, values], None)?;
    let offsets = OffsetBuffer::from_lengths(std::iter::repeat_n(1, rows));
    let list = ListArray::try_new(item, offsets, Arc::new(items), None)?;
    Ok(Arc::new(list))
}

/// Lists that are null become empty: the column has no nulls.
fn without_nulls(lists: &ArrayRef) -> Result<ArrayRef, ArrowError> {
    let (item, offsets, values, nulls) = lists.as_list::<i32>().clone().into_parts();
    let length = |(i, pair): (usize, &[i32])| match nulls.as_ref().is_some_and(|n| n.is_null(i)) {
        true => 0,
        false => (pair[1] - pair[0]) as usize,
    };
    let lengths = OffsetBuffer::from_lengths(offsets.windows(2).enumerate().map(length));
    if lengths.last() != offsets.last() {
        return Err(ArrowError::ComputeError("a null list with values".into()));
    }
    Ok(Arc::new(ListArray::try_new(item, lengths, values, None)?))
}

fn errors(letters: &[DeadLetter]) -> Result<ArrayRef, ArrowError> {
    let (mut codes, mut fields, mut messages) = (
        StringBuilder::new(),
        StringBuilder::new(),
        StringBuilder::new(),
    );
    for Reason {
        code,
        field,
        message,
    } in letters.iter().flat_map(|l| &l.reasons)
    {
        codes.append_value(code);
        fields.append_option(field.as_ref());
        messages.append_value(message);
    }
    let reasons: Vec<ArrayRef> = vec![
        Arc::new(codes.finish()),
        Arc::new(fields.finish()),
        Arc::new(messages.finish()),
    ];
    let items = StructArray::try_new(error_fields(), reasons, None)?;
    let offsets = OffsetBuffer::from_lengths(letters.iter().map(|l| l.reasons.len()));
    let list = ListArray::try_new(error_item(), offsets, Arc::new(items), None)?;
    Ok(Arc::new(list))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::chain::Identity;
    use crate::record::{BatchBuilder, Covers, OffsetRange, SplitId, TopicPartition};
    use arrow_array::Array;
    use arrow_array::types::Int64Type;

    #[test]
    fn letters_carry_bytes_coordinates_and_every_reason() {
        let mut builder = BatchBuilder::new();
        builder.push(5, None, Some(b"k"), Some(b"<a"), std::iter::empty());
        builder.push(9, Some(1), None, None, [("h", Some(&b"v"[..]))].into_iter());
        let batch = builder.finish(Covers {
            split: SplitId::kafka("c", "t", 3),
            epoch: 0,
            tp: TopicPartition {
                topic: "t".into(),
                partition: 3,
            },
            range: OffsetRange { from: 5, to: 10 },
        });
        let by = Arc::new(Identity {
            transform: "rules".into(),
            plugin: "validate".into(),
            version: "0.1.0".into(),
            digest: "sha256:a".into(),
            config_digest: "sha256:b".into(),
        });
        let reason = |code: &str, field: Option<&str>| Reason {
            code: code.into(),
            field: field.map(str::to_owned),
            message: format!("{code}!"),
        };
        let letters = [
            DeadLetter {
                record: 0,
                piece: None,
                by: by.clone(),
                reasons: vec![reason("bad_xml", None)],
            },
            DeadLetter {
                record: 1,
                piece: Some(2),
                by: by.clone(),
                reasons: vec![reason("type", Some("year")), reason("required", Some("id"))],
            },
            DeadLetter {
                record: 1,
                piece: Some(3),
                by,
                reasons: vec![reason("type", Some("year"))],
            },
        ];
        let rows = rows(&batch, &letters).expect("fits");
        assert_eq!(rows.schema(), schema());
        let column = |name: &str| rows.column_by_name(name).expect("column").clone();
        assert_eq!(
            column(OFFSET).as_primitive::<Int64Type>().values(),
            &[5, 9, 9]
        );
        assert_eq!(column(VALUE).as_binary::<i32>().value(0), b"<a");
        assert!(column(VALUE).is_null(1) && column(ROW).is_null(0) && column("field").is_null(0));
        assert_eq!(column("code").as_string::<i32>().value(1), "type");
        let errors = column("errors");
        assert_eq!(errors.as_list::<i32>().value(1).len(), 2);
        let headers = column(HEADERS);
        let headers = headers.as_list::<i32>();
        assert!(headers.value(0).is_empty() && headers.value(2).is_empty());
        assert_eq!(headers.value(1).len(), 1);
        let holds = column(HOLDS_BYTES);
        let holds: Vec<_> = holds.as_boolean().iter().map(Option::unwrap).collect();
        assert_eq!(holds, [true, true, false], "once for each record");
    }
}
