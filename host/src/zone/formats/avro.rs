//! Avro object container files. Names that Avro does not allow get `_` for each character that it does not have; a column that
//! may be null is a union with null.

use std::collections::HashMap;
use std::fmt;
use std::sync::Arc;

use arrow_array::{RecordBatch, UInt32Array};
use arrow_avro::compression::CompressionCodec;
use arrow_avro::errors::AvroError;
use arrow_avro::schema::AVRO_NAME_METADATA_KEY;
use arrow_avro::writer::format::AvroOcfFormat;
use arrow_avro::writer::{Writer, WriterBuilder};
use arrow_schema::{FieldRef, Schema, SchemaRef};
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
    schema: SchemaRef,
    writer: Writer<Out, AvroOcfFormat>,
    /// Rows of the next block.
    waiting: Vec<RecordBatch>,
    bytes: usize,
    /// Bytes of the file so far; the writer does not show them.
    written: u64,
}

impl AvroFile {
    pub(super) fn begin(out: Out, tally: Tally, files: &Files, table: &str) -> Result<AvroFile> {
        let columns = written(tally.schema(), files)?;
        let fields = tally.schema().fields();
        let fields: Vec<FieldRef> = columns
            .iter()
            .filter_map(|at| fields.get(*at).cloned())
            .collect();
        let named = HashMap::from([(AVRO_NAME_METADATA_KEY.to_owned(), table.to_owned())]);
        let schema = Arc::new(Schema::new_with_metadata(fields, named));
        let codec = match files.compression {
            Compression::Snappy => Some(CompressionCodec::Snappy),
            Compression::Gzip(_) => Some(CompressionCodec::Deflate),
            Compression::Zstd(_) => Some(CompressionCodec::ZStandard),
            Compression::None | Compression::Lz4 => None,
        };
        let writer = WriterBuilder::new(schema.as_ref().clone())
            .with_compression(codec)
            .build::<Out, AvroOcfFormat>(out)
            .map_err(unfit)?;
        Ok(AvroFile {
            tally,
            columns,
            schema,
            writer,
            waiting: Vec::new(),
            bytes: 0,
            written: 0,
        })
    }

    pub fn write(&mut self, columns: &[Column], rows: usize) -> Result<()> {
        self.tally.add(columns, rows)?;
        let own = self.columns.iter().filter_map(|at| columns.get(*at));
        let mut bytes = 0;
        let mut arrays = Vec::with_capacity(self.columns.len());
        for column in own {
            bytes += column_bytes(column);
            arrays.push(match column.constant {
                true => take(&column.values, &UInt32Array::from(vec![0; rows]), None)
                    .map_err(|e| bug("rows cannot be repeated").source(e))?,
                false => column.values.clone(),
            });
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
        self.written += self.bytes as u64;
        self.bytes = 0;
        self.writer.write(&rows).map_err(unfit)
    }

    /// Rows in memory count as the bytes that they are before they are compressed.
    pub fn size(&self) -> u64 {
        self.written + self.bytes as u64
    }

    pub fn memory(&self) -> usize {
        2 * self.bytes.max(BLOCK_BYTES / 4)
    }

    pub fn close(mut self) -> Result<Written> {
        self.block()?;
        self.writer.finish().map_err(unfit)?;
        Ok(self.tally.written(self.writer.into_inner()))
    }
}

fn unfit(error: AvroError) -> Error {
    if let AvroError::IoError(_, error) = error {
        return store_failed(error);
    }
    let message = format!("the rows cannot be written as Avro: {error}");
    Error::new(Kind::ConfigInvalid, "zone.write", message)
        .hint("give the column another name or type in a transform, or write another sink.format")
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
