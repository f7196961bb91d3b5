//! Files of rows that are no Parquet: JSON lines, CSV, the bytes of a column ([`lines`]) and Avro ([`avro`]). They are written for
//! other programs; nothing here reads them back.
//!
//! Digest and schema of their entry are those of the rows that were handed to the writer, as of a Parquet file; the sha256 is that of
//! the bytes.

mod avro;
mod lines;

use std::sync::Arc;

use arrow_schema::{FieldRef, SchemaRef};

use super::file::{Birth, Order, Plain, RowsFile, Tally, Written};
use super::schema::is_system;
use super::{ParquetOptions, file};
use crate::chain::Column;
use crate::config::{FileFormat, Files};
use crate::error::{Error, Kind, Result};
use crate::record::SplitId;
use crate::store::Store;

use avro::AvroFile;
use lines::LinesFile;
pub use lines::packing_bytes;

/// A file of rows or of dead letters that is being written.
#[derive(Debug)]
pub enum AnyFile {
    Parquet(Box<RowsFile>),
    Lines(Box<LinesFile>),
    Avro(Box<AvroFile>),
}

/// Whether a file of a zone is Parquet: its name says so, and no other format may have that ending.
pub fn is_parquet(path: &str) -> bool {
    path.ends_with(".parquet")
}

/// Nothing reads other files back.
pub fn not_read_back(path: &str) -> Error {
    let message = "a zone's file is no Parquet, and only Parquet is read back";
    Error::new(Kind::ConfigInvalid, "zone.read", message)
        .with("file", path)
        .hint("let the pipeline that writes the zone have sink.format = \"parquet\", into a table of its own")
}

impl AnyFile {
    pub fn parquet(
        store: &Arc<dyn Store>,
        birth: Birth,
        schema: &SchemaRef,
        options: &ParquetOptions,
        (plain, order): (Plain, Order<'_>),
    ) -> Result<AnyFile> {
        let file = RowsFile::in_order(store, birth, schema, options, plain, order)?;
        Ok(AnyFile::Parquet(Box::new(file)))
    }

    /// Of a format that is not Parquet. `table`: names the records of Avro.
    pub fn other(
        store: &Arc<dyn Store>,
        birth: Birth,
        schema: &SchemaRef,
        files: &Files,
        table: &str,
    ) -> Result<AnyFile> {
        let out = file::Out::create(store, &birth.place)?;
        let tally = Tally::new(birth, schema)?;
        Ok(match files.format {
            FileFormat::Avro => AnyFile::Avro(Box::new(AvroFile::begin(out, tally, files, table)?)),
            _ => AnyFile::Lines(Box::new(LinesFile::begin(out, tally, files)?)),
        })
    }

    /// See [`RowsFile::write`].
    pub fn write(&mut self, columns: &[Column], rows: usize) -> Result<()> {
        match self {
            AnyFile::Parquet(file) => file.write(columns, rows),
            AnyFile::Lines(file) => file.write(columns, rows),
            AnyFile::Avro(file) => file.write(columns, rows),
        }
    }

    /// See [`Tally::cover`].
    pub fn cover(&mut self, split: &SplitId, from: i64, to: i64, rows: u64) {
        match self {
            AnyFile::Parquet(file) => file.cover(split, from, to, rows),
            AnyFile::Lines(file) => file.tally.cover(split, from, to, rows),
            AnyFile::Avro(file) => file.tally.cover(split, from, to, rows),
        }
    }

    pub fn schema(&self) -> &SchemaRef {
        match self {
            AnyFile::Parquet(file) => file.schema(),
            AnyFile::Lines(file) => file.tally.schema(),
            AnyFile::Avro(file) => file.tally.schema(),
        }
    }

    pub fn rows(&self) -> u64 {
        match self {
            AnyFile::Parquet(file) => file.rows(),
            AnyFile::Lines(file) => file.tally.rows(),
            AnyFile::Avro(file) => file.tally.rows(),
        }
    }

    /// Bytes written, and an estimate of those still to be written.
    pub fn size(&self) -> u64 {
        match self {
            AnyFile::Parquet(file) => file.size(),
            AnyFile::Lines(file) => file.size(),
            AnyFile::Avro(file) => file.size(),
        }
    }

    pub fn memory(&self) -> usize {
        match self {
            AnyFile::Parquet(file) => file.memory(),
            AnyFile::Lines(file) => file.memory(),
            AnyFile::Avro(file) => file.memory(),
        }
    }

    /// Writes the end. The bytes are durable only after [`Finish::finish`](crate::sink::Finish::finish).
    pub fn close(self) -> Result<(Written, Plain)> {
        match self {
            AnyFile::Parquet(file) => file.close(),
            AnyFile::Lines(file) => Ok((file.close()?, Plain::new())),
            AnyFile::Avro(file) => Ok((file.close()?, Plain::new())),
        }
    }
}

/// Why rows of these columns cannot be files of this kind, with the key that says so. Parquet takes all.
pub fn unfit_columns(schema: &SchemaRef, files: &Files) -> Option<(&'static str, Error)> {
    let named = written(schema, files).err();
    if let Some(error) = named {
        return Some(("sink.file.column", error));
    }
    let error = match files.format {
        FileFormat::Avro => avro::check(schema, files).err()?,
        _ => return None,
    };
    Some(("sink.format", error))
}

/// Positions of the columns that are written.
fn written(schema: &SchemaRef, files: &Files) -> Result<Vec<usize>> {
    if let Some(column) = &files.column {
        let at = schema.index_of(column).map_err(|_| {
            let names: Vec<&str> = schema.fields().iter().map(|f| f.name().as_str()).collect();
            let message =
                format!("sink.file.column names `{column}`, which is not a column of the rows");
            Error::new(Kind::ConfigInvalid, "zone.write", message)
                .with("columns", names.join(","))
                .hint("name one of the columns, or take the key out")
        })?;
        return Ok(vec![at]);
    }
    let wanted = |(_, field): &(usize, &FieldRef)| files.system || !is_system(field.name());
    let fields = schema.fields().iter().enumerate().filter(wanted);
    Ok(fields.map(|(at, _)| at).collect())
}
