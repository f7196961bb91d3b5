//! Avro object container files. Names that Avro does not allow get `_` for each character that it does not have; a column that
//! may be null is a union with null.

use std::collections::HashMap;
use std::fmt;
use std::io::{self, Write};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};

use arrow_array::cast::AsArray;
use arrow_array::{Array, ArrayRef, ListArray, RecordBatch, StructArray, UInt32Array};
use arrow_avro::compression::CompressionCodec;
use arrow_avro::errors::AvroError;
use arrow_avro::schema::AVRO_NAME_METADATA_KEY;
use arrow_avro::writer::format::AvroOcfFormat;
use arrow_avro::writer::{Writer, WriterBuilder};
use arrow_schema::{DataType, Field, FieldRef, Fields, Schema, SchemaRef};
use arrow_select::concat::concat_batches;
use arrow_select::take::take;

use super::written;
use crate::chain::Column;
use crate::config::{Compression, Files};
use crate::error::{Error, Kind, Result};
use crate::zone::file::{Out, Tally, Written, column_bytes, store_failed};

/// Bytes of rows in memory that become one block. Readers decode a block at a time.
const BLOCK_BYTES: usize = 256 << 10;

pub struct AvroFile {
    pub(super) tally: Tally,
    columns: Vec<usize>,
    /// With the names that are in the file.
    schema: SchemaRef,
    writer: Writer<Shown, AvroOcfFormat>,
    /// Rows of the next block.
    waiting: Vec<RecordBatch>,
    /// Of these rows.
    bytes: usize,
    seen: Arc<Seen>,
}

/// What the writer writes to. The writer does not let it be looked at.
struct Shown {
    out: Out,
    seen: Arc<Seen>,
}

/// As of the last write.
#[derive(Default)]
struct Seen {
    bytes: AtomicU64,
    held: AtomicUsize,
}

impl Write for Shown {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let n = self.out.write(bytes)?;
        self.seen.bytes.store(self.out.bytes(), Ordering::Relaxed);
        self.seen.held.store(self.out.held(), Ordering::Relaxed);
        Ok(n)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.out.flush()
    }
}

impl AvroFile {
    pub(super) fn begin(out: Out, tally: Tally, files: &Files, table: &str) -> Result<AvroFile> {
        let (columns, schema) = schema_of(tally.schema(), files, table)?;
        let seen = Arc::new(Seen::default());
        let out = Shown {
            out,
            seen: seen.clone(),
        };
        let codec = match files.compression {
            Compression::Snappy => Some(CompressionCodec::Snappy),
            Compression::Gzip(_) => Some(CompressionCodec::Deflate),
            Compression::Zstd(_) => Some(CompressionCodec::ZStandard),
            Compression::None | Compression::Lz4 => None,
        };
        let writer = WriterBuilder::new(schema.as_ref().clone())
            .with_compression(codec)
            .build::<Shown, AvroOcfFormat>(out)
            .map_err(unfit)?;
        Ok(AvroFile {
            tally,
            columns,
            schema,
            writer,
            waiting: Vec::new(),
            bytes: 0,
            seen,
        })
    }

    pub fn write(&mut self, columns: &[Column], rows: usize) -> Result<()> {
        self.tally.add(columns, rows)?;
        let own = self.columns.iter().filter_map(|at| columns.get(*at));
        let mut bytes = 0;
        let mut arrays = Vec::with_capacity(self.columns.len());
        for (column, field) in own.zip(self.schema.fields()) {
            bytes += column_bytes(column);
            let values = match column.constant {
                true => take(&column.values, &UInt32Array::from(vec![0; rows]), None)
                    .map_err(|e| bug("rows cannot be repeated").source(e))?,
                false => column.values.clone(),
            };
            arrays.push(named_as(&values, field.data_type())?);
        }
        let batch = RecordBatch::try_new(self.schema.clone(), arrays)
            .map_err(|e| bug("columns do not fit their schema").source(e))?;
        self.waiting.push(batch);
        self.bytes += bytes;
        if self.bytes < BLOCK_BYTES {
            return Ok(());
        }
        self.block()
    }

    fn block(&mut self) -> Result<()> {
        if self.waiting.is_empty() {
            return Ok(());
        }
        let rows = concat_batches(&self.schema, &self.waiting)
            .map_err(|e| bug("rows cannot be joined").source(e))?;
        self.waiting.clear();
        self.bytes = 0;
        self.writer.write(&rows).map_err(unfit)
    }

    /// Rows in memory count as the bytes that they are before they are compressed.
    pub fn size(&self) -> u64 {
        self.seen.bytes.load(Ordering::Relaxed) + self.bytes as u64
    }

    /// Rows that wait, the same again where they become a block, and what the store's writer holds back.
    pub fn memory(&self) -> usize {
        2 * self.bytes.max(BLOCK_BYTES / 4) + self.seen.held.load(Ordering::Relaxed)
    }

    pub fn close(mut self) -> Result<Written> {
        self.block()?;
        self.writer.finish().map_err(unfit)?;
        Ok(self.tally.written(self.writer.into_inner().out))
    }
}

/// Why rows of these columns cannot be Avro.
pub(super) fn check(schema: &SchemaRef, files: &Files) -> Result<()> {
    let (_, schema) = schema_of(schema, files, "rows")?;
    let writer = WriterBuilder::new(schema.as_ref().clone());
    let writer = writer.build::<io::Sink, AvroOcfFormat>(io::sink());
    writer.map(drop).map_err(unfit)
}

/// Which columns are written, and under which names.
fn schema_of(schema: &SchemaRef, files: &Files, table: &str) -> Result<(Vec<usize>, SchemaRef)> {
    let columns = written(schema, files)?;
    let fields = schema.fields();
    let fields = columns.iter().filter_map(|at| fields.get(*at));
    let fields = renamed(fields, "")?;
    let named = HashMap::from([(AVRO_NAME_METADATA_KEY.to_owned(), table.to_owned())]);
    let schema = Arc::new(Schema::new_with_metadata(fields, named));
    Ok((columns, schema))
}

/// A letter of ASCII or `_`, then such letters, digits and `_`.
fn avro_name(name: &str) -> String {
    let legal = |c: char| c.is_ascii_alphanumeric() || c == '_';
    let mut out = String::with_capacity(name.len() + 1);
    if name.chars().next().is_none_or(|c| c.is_ascii_digit()) {
        out.push('_');
    }
    out.extend(name.chars().map(|c| if legal(c) { c } else { '_' }));
    out
}

/// The fields of one record. `of`: its own name and a dot.
fn renamed<'a>(fields: impl Iterator<Item = &'a FieldRef>, of: &str) -> Result<Fields> {
    let mut taken: HashMap<String, &str> = HashMap::new();
    let mut out: Vec<Field> = Vec::new();
    for field in fields {
        let name = avro_name(field.name());
        if let Some(other) = taken.insert(name.clone(), field.name()) {
            let message = format!(
                "columns `{of}{other}` and `{of}{}` would both be `{name}` in Avro",
                field.name()
            );
            return Err(Error::new(Kind::ConfigInvalid, "zone.write", message).hint(RENAME));
        }
        let inside = format!("{of}{}.", field.name());
        let kind = renamed_in(field.data_type(), &inside)?;
        out.push(Field::new(name, kind, field.is_nullable()));
    }
    Ok(Fields::from(out))
}

fn renamed_in(kind: &DataType, of: &str) -> Result<DataType> {
    Ok(match kind {
        DataType::Struct(fields) => DataType::Struct(renamed(fields.iter(), of)?),
        DataType::List(item) => {
            let kind = renamed_in(item.data_type(), of)?;
            DataType::List(Arc::new(item.as_ref().clone().with_data_type(kind)))
        }
        other => other.clone(),
    })
}

/// The same values, where fields have other names.
fn named_as(values: &ArrayRef, kind: &DataType) -> Result<ArrayRef> {
    if values.data_type() == kind {
        return Ok(values.clone());
    }
    let unlike = |e| bug("values do not fit their column").source(e);
    match (values.data_type(), kind) {
        (DataType::Struct(_), DataType::Struct(fields)) => {
            let values = values.as_struct();
            let inner = values.columns().iter().zip(fields);
            let inner = inner.map(|(values, field)| named_as(values, field.data_type()));
            let (inner, nulls) = (inner.collect::<Result<_>>()?, values.nulls().cloned());
            let named = StructArray::try_new(fields.clone(), inner, nulls).map_err(unlike)?;
            Ok(Arc::new(named))
        }
        (DataType::List(_), DataType::List(item)) => {
            let values = values.as_list::<i32>();
            let inner = named_as(values.values(), item.data_type())?;
            let (offsets, nulls) = (values.offsets().clone(), values.nulls().cloned());
            let named = ListArray::try_new(item.clone(), offsets, inner, nulls).map_err(unlike)?;
            Ok(Arc::new(named))
        }
        _ => Err(bug("values do not fit their column")),
    }
}

const RENAME: &str =
    "give the column another name or type in a transform, or write another sink.format";

fn unfit(error: AvroError) -> Error {
    if let AvroError::IoError(_, error) = error {
        return store_failed(error);
    }
    let message = format!("the rows cannot be written as Avro: {error}");
    Error::new(Kind::ConfigInvalid, "zone.write", message).hint(RENAME)
}

fn bug(message: &str) -> Error {
    Error::new(Kind::Bug, "zone.write", message)
}

impl fmt::Debug for AvroFile {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("AvroFile")
            .field("tally", &self.tally)
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use arrow_array::{Int32Array, StringArray};
    use arrow_avro::reader::ReaderBuilder;

    use super::*;

    fn field(name: &str, kind: DataType) -> FieldRef {
        Arc::new(Field::new(name, kind, true))
    }

    /// Structs in lists in structs: names change on each level, values on none.
    #[test]
    fn names_change_on_every_level_and_values_on_none() {
        let inner = Fields::from(vec![
            field("a-b", DataType::Int32),
            field("2", DataType::Utf8),
        ]);
        let item = field("item", DataType::Struct(inner.clone()));
        let list = field("li st", DataType::List(item.clone()));
        let whole = field("w.x", DataType::Struct(Fields::from(vec![list.clone()])));
        let structs = StructArray::new(
            inner,
            vec![
                Arc::new(Int32Array::from(vec![Some(1), None, Some(3)])),
                Arc::new(StringArray::from(vec!["x", "y", "z"])),
            ],
            Some(vec![true, true, false].into()),
        );
        let offsets = arrow_buffer::OffsetBuffer::new(vec![0, 2, 2, 3].into());
        let lists = ListArray::new(
            item,
            offsets,
            Arc::new(structs),
            Some(vec![true, false, true].into()),
        );
        let values = StructArray::new(vec![list].into(), vec![Arc::new(lists)], None);
        let values: ArrayRef = Arc::new(values);
        let schema: SchemaRef = Arc::new(Schema::new(vec![whole]));
        let (columns, named) = schema_of(&schema, &Files::default(), "my-table").unwrap();
        assert_eq!(columns, [0]);
        let kind = named.field(0).data_type();
        let text = kind.to_string();
        for name in ["\"li_st\"", "\"a_b\"", "\"_2\""] {
            assert!(text.contains(name), "{name}: {text}");
        }
        let batch = RecordBatch::try_new(named.clone(), vec![named_as(&values, kind).unwrap()]);
        let batch = batch.unwrap();
        let mut writer = WriterBuilder::new(named.as_ref().clone())
            .build::<Vec<u8>, AvroOcfFormat>(Vec::new())
            .unwrap();
        writer.write(&batch).unwrap();
        writer.finish().unwrap();
        let bytes = writer.into_inner();
        let reader = ReaderBuilder::new().build(io::Cursor::new(bytes)).unwrap();
        let read: Vec<RecordBatch> = reader.map(|batch| batch.unwrap()).collect();
        assert_eq!(read.len(), 1);
        let back = read[0].column(0).as_struct().column(0).as_list::<i32>();
        assert_eq!(read[0].schema().field(0).name(), "w_x");
        assert_eq!(
            (back.value_length(0), back.is_null(1), back.value_length(2)),
            (2, true, 1)
        );
        let last = back.value(2);
        let texts = back.values().as_struct().column(1).as_string::<i32>();
        assert!(last.is_null(0) && texts.value(0) == "x" && texts.value(1) == "y");
    }

    #[test]
    fn two_names_that_become_one_are_refused_on_every_level() {
        let inner = Fields::from(vec![
            field("a-b", DataType::Int32),
            field("a.b", DataType::Int32),
        ]);
        let schema = |field: FieldRef| -> SchemaRef { Arc::new(Schema::new(vec![field])) };
        let told = check(
            &schema(field("s", DataType::Struct(inner))),
            &Files::default(),
        );
        let told = told.unwrap_err().to_string();
        assert!(
            told.contains("`s.a-b` and `s.a.b` would both be `a_b`"),
            "{told}"
        );
        for (name, expected) in [
            ("", "_"),
            ("1", "_1"),
            ("é", "_"),
            ("a b", "a_b"),
            ("_x1", "_x1"),
        ] {
            assert_eq!(avro_name(name), expected);
            assert_eq!(avro_name(expected), expected);
        }
    }
}
