//! What a refused record looks like: one row per refused record or piece, with the original bytes and every reason.
//!
//! A whole refused record has no `_row`. `code`, `field` and `message` are those of the first reason, `errors` holds all.
//! Dead letters are a table of the zone, sealed and committed together with the rows of the same records.

mod read;

use std::sync::Arc;

use arrow_array::builder::StringBuilder;
use arrow_array::{
    ArrayRef, Int32Array, ListArray, RecordBatch, StringArray, StructArray, UInt32Array,
};
use arrow_buffer::OffsetBuffer;
use arrow_schema::{DataType, Field, FieldRef, Fields, Schema, SchemaRef};
use arrow_select::take::take;

pub use read::{Counts, Filter, Stored, StoredReason, counts, read};

use crate::chain::{Letter, Reason};
use crate::error::{Error, Kind, Result};
use crate::record::{
    Batch, HEADERS, KEY, OFFSET, PARTITION, ROW, TIMESTAMP, TOPIC, VALUE, headers_type,
    timestamp_type,
};

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
        text("digest"),
        text("config_digest"),
        text("code"),
        Field::new("field", DataType::Utf8, true),
        text("message"),
        Field::new("errors", DataType::List(error_item()), false),
    ]))
}

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

/// One row per letter, in their order. Letters name records of `batch`.
pub fn rows(batch: &Batch, letters: &[Letter]) -> Result<RecordBatch> {
    let records = UInt32Array::from_iter_values(letters.iter().map(|letter| letter.record));
    let wrong =
        |e| Error::new(Kind::Bug, "deadletter.rows", "letters do not fit the batch").source(e);
    let mut columns: Vec<ArrayRef> = Vec::new();
    for (values, constant) in batch.columns() {
        let zeros = || UInt32Array::from(vec![0; letters.len()]);
        let at = if constant { zeros() } else { records.clone() };
        columns.push(take(&values, &at, None).map_err(wrong)?);
    }
    let piece = |letter: &Letter| letter.piece.map(|p| i32::try_from(p).unwrap_or(i32::MAX));
    columns.push(Arc::new(Int32Array::from_iter(letters.iter().map(piece))));
    let text = |of: fn(&Letter) -> &str| -> ArrayRef {
        Arc::new(StringArray::from_iter_values(letters.iter().map(of)))
    };
    columns.push(text(|l| &l.by.transform));
    columns.push(text(|l| &l.by.plugin));
    columns.push(text(|l| &l.by.version));
    columns.push(text(|l| &l.by.digest));
    columns.push(text(|l| &l.by.config_digest));
    columns.push(text(|l| l.reasons.first().map_or("unknown", |r| &r.code)));
    let field = |l: &Letter| l.reasons.first().and_then(|r| r.field.clone());
    columns.push(Arc::new(StringArray::from_iter(letters.iter().map(field))));
    columns.push(text(|l| l.reasons.first().map_or("", |r| &r.message)));
    columns.push(errors(letters).map_err(wrong)?);
    RecordBatch::try_new(schema(), columns).map_err(wrong)
}

fn errors(letters: &[Letter]) -> Result<ArrayRef, arrow_schema::ArrowError> {
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
    use crate::record::{BatchBuilder, ChainId, Covers, OffsetRange, TopicPartition};
    use arrow_array::Array;
    use arrow_array::cast::AsArray;
    use arrow_array::types::Int64Type;

    #[test]
    fn letters_carry_bytes_coordinates_and_every_reason() {
        let mut builder = BatchBuilder::new();
        builder.push(5, None, Some(b"k"), Some(b"<a"), std::iter::empty());
        builder.push(9, Some(1), None, None, [("h", Some(&b"v"[..]))].into_iter());
        let batch = builder.finish(Covers {
            chain: ChainId::kafka("c", "t", 3),
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
            Letter {
                record: 0,
                piece: None,
                by: by.clone(),
                reasons: vec![reason("bad_xml", None)],
            },
            Letter {
                record: 1,
                piece: Some(2),
                by,
                reasons: vec![reason("type", Some("year")), reason("required", Some("id"))],
            },
        ];
        let rows = rows(&batch, &letters).expect("fits");
        assert_eq!(rows.schema(), schema());
        let column = |name: &str| rows.column_by_name(name).expect("column").clone();
        assert_eq!(column(OFFSET).as_primitive::<Int64Type>().values(), &[5, 9]);
        assert_eq!(column(VALUE).as_binary::<i32>().value(0), b"<a");
        assert!(column(VALUE).is_null(1) && column(ROW).is_null(0) && column("field").is_null(0));
        assert_eq!(column("code").as_string::<i32>().value(1), "type");
        let errors = column("errors");
        assert_eq!(errors.as_list::<i32>().value(1).len(), 2);
        assert_eq!(column(HEADERS).as_list::<i32>().value(1).len(), 1);
    }
}
