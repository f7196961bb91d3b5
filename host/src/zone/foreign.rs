//! Parquet files that others wrote, row by row as JSON objects.
//!
//! Columns are read page by page, so memory does not grow with the file. Names are those of the file; values are what JSON has
//! for them: decimals are numbers with all their digits, bytes are base64, dates and instants ISO 8601 texts, and what is no
//! JSON number (NaN, infinity) is a text.

use std::fmt;
use std::io::{self, Read};
use std::sync::Arc;

use arrow_array::cast::AsArray;
use arrow_array::types::{
    Date32Type, Float32Type, Float64Type, Int8Type, Int16Type, Int32Type, Int64Type,
    TimestampMicrosecondType, TimestampMillisecondType, TimestampNanosecondType,
    TimestampSecondType, UInt8Type, UInt16Type, UInt32Type, UInt64Type,
};
use arrow_array::{Array, RecordBatch};
use arrow_cast::display::array_value_to_string;
use arrow_schema::{DataType, TimeUnit};
use base64::Engine as _;
use bytes::Bytes;
use parquet::arrow::arrow_reader::{
    ArrowReaderOptions, ParquetRecordBatchReader, ParquetRecordBatchReaderBuilder,
};
use parquet::errors::ParquetError;
use parquet::file::reader::{ChunkReader, Length};

use crate::error::{Error, Result};
use crate::instant;

/// Rows decoded at a time.
const BATCH_ROWS: usize = 1024;
/// Bytes fetched at a time where pages follow each other.
const FETCH_BYTES: usize = 256 << 10;
/// Lists and structs inside each other, as JSON readers have it.
const DEPTH_MAX: usize = 100;

/// Gives bytes of a file from a place on, at most so many; none at its end.
pub type Fetch = Box<dyn Fn(u64, usize) -> Result<Bytes> + Send + Sync>;

/// Why there is no row.
#[derive(Debug)]
pub enum Unreadable {
    /// The store did not give the bytes.
    Store(Error),
    /// They are no Parquet that can be read.
    Bytes(String),
}

pub struct ForeignRows {
    reader: ParquetRecordBatchReader,
    batch: Option<RecordBatch>,
    row: usize,
}

impl fmt::Debug for ForeignRows {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "ForeignRows(row {} of a batch)", self.row)
    }
}

impl ForeignRows {
    /// From a row on.
    pub fn open(fetch: Fetch, size: u64, from: u64) -> Result<ForeignRows, Unreadable> {
        let file = Fetched {
            fetch: fetch.into(),
            size,
        };
        // What another writer noted about its own memory does not count.
        let options = ArrowReaderOptions::new().with_skip_arrow_metadata(true);
        let builder = ParquetRecordBatchReaderBuilder::try_new_with_options(file, options)
            .map_err(unreadable)?;
        let offset = usize::try_from(from).unwrap_or(usize::MAX);
        let reader = builder
            .with_batch_size(BATCH_ROWS)
            .with_offset(offset)
            .build()
            .map_err(unreadable)?;
        Ok(ForeignRows {
            reader,
            batch: None,
            row: 0,
        })
    }

    /// Writes the next row into `out`, in the place of what is there. False: there is none.
    pub fn next(&mut self, out: &mut Vec<u8>) -> Result<bool, Unreadable> {
        loop {
            if let Some(batch) = &self.batch
                && self.row < batch.num_rows()
            {
                out.clear();
                object(batch, self.row, out).map_err(Unreadable::Bytes)?;
                self.row += 1;
                return Ok(true);
            }
            match self.reader.next() {
                None => return Ok(false),
                Some(Ok(batch)) => {
                    self.batch = Some(batch);
                    self.row = 0;
                }
                Some(Err(e)) => return Err(of_arrow(e)),
            }
        }
    }
}

fn of_arrow(e: arrow_schema::ArrowError) -> Unreadable {
    match e {
        arrow_schema::ArrowError::ParquetError(text) => Unreadable::Bytes(not_readable(&text)),
        arrow_schema::ArrowError::ExternalError(inner) => match inner.downcast::<Error>() {
            Ok(error) => Unreadable::Store(*error),
            Err(inner) => Unreadable::Bytes(not_readable(&inner)),
        },
        e => Unreadable::Bytes(not_readable(&e)),
    }
}

fn unreadable(e: ParquetError) -> Unreadable {
    match e {
        ParquetError::External(inner) => match inner.downcast::<Error>() {
            Ok(error) => Unreadable::Store(*error),
            Err(inner) => Unreadable::Bytes(not_readable(&inner)),
        },
        e => Unreadable::Bytes(not_readable(&e)),
    }
}

fn not_readable(e: &dyn fmt::Display) -> String {
    format!("it is no readable Parquet file: {e}")
}

#[derive(Clone)]
struct Fetched {
    fetch: Arc<dyn Fn(u64, usize) -> Result<Bytes> + Send + Sync>,
    size: u64,
}

impl Length for Fetched {
    fn len(&self) -> u64 {
        self.size
    }
}

impl ChunkReader for Fetched {
    type T = Pages;

    fn get_read(&self, start: u64) -> Result<Self::T, ParquetError> {
        Ok(Pages {
            file: self.clone(),
            at: start,
            waiting: Bytes::new(),
        })
    }

    fn get_bytes(&self, start: u64, length: usize) -> Result<Bytes, ParquetError> {
        let end = start.saturating_add(length as u64);
        if end > self.size {
            let message = format!("{end} is past the end, {}", self.size);
            return Err(ParquetError::EOF(message));
        }
        let mut got = Vec::with_capacity(length);
        while got.len() < length {
            let from = start + got.len() as u64;
            let bytes = (self.fetch)(from, length - got.len());
            let bytes = bytes.map_err(|e| ParquetError::External(Box::new(e)))?;
            if bytes.is_empty() {
                return Err(ParquetError::EOF(format!("the file ends at {from}")));
            }
            got.extend_from_slice(&bytes);
        }
        Ok(got.into())
    }
}

/// Bytes one after the other.
struct Pages {
    file: Fetched,
    at: u64,
    waiting: Bytes,
}

impl Read for Pages {
    fn read(&mut self, space: &mut [u8]) -> io::Result<usize> {
        if self.waiting.is_empty() {
            let left = self.file.size.saturating_sub(self.at);
            let most = usize::try_from(left).unwrap_or(usize::MAX).min(FETCH_BYTES);
            self.waiting = (self.file.fetch)(self.at, most).map_err(io::Error::other)?;
            self.at += self.waiting.len() as u64;
        }
        let n = space.len().min(self.waiting.len());
        let given = self.waiting.split_to(n);
        if let Some(space) = space.get_mut(..n) {
            space.copy_from_slice(&given);
        }
        Ok(n)
    }
}

// ------------------------------------------------------------------------ JSON

fn object(batch: &RecordBatch, row: usize, out: &mut Vec<u8>) -> Result<(), String> {
    out.push(b'{');
    let schema = batch.schema_ref();
    for (n, (field, column)) in schema.fields().iter().zip(batch.columns()).enumerate() {
        if n > 0 {
            out.push(b',');
        }
        text(field.name(), out)?;
        out.push(b':');
        value(column.as_ref(), row, 0, out)?;
    }
    out.push(b'}');
    Ok(())
}

fn text(text: &str, out: &mut Vec<u8>) -> Result<(), String> {
    serde_json::to_writer(out, text).map_err(|e| e.to_string())
}

fn number<T: fmt::Display>(number: T, out: &mut Vec<u8>) {
    out.extend_from_slice(number.to_string().as_bytes());
}

fn float(number: f64, shown: &str, out: &mut Vec<u8>) -> Result<(), String> {
    match number.is_finite() {
        true => {
            out.extend_from_slice(shown.as_bytes());
            Ok(())
        }
        false => text(shown, out),
    }
}

fn value(array: &dyn Array, row: usize, depth: usize, out: &mut Vec<u8>) -> Result<(), String> {
    if array.is_null(row) || array.data_type() == &DataType::Null {
        out.extend_from_slice(b"null");
        return Ok(());
    }
    if depth > DEPTH_MAX {
        return Err(format!(
            "more than {DEPTH_MAX} lists and structs lie inside each other"
        ));
    }
    match array.data_type() {
        DataType::Boolean => number(array.as_boolean().value(row), out),
        DataType::Int8 => number(array.as_primitive::<Int8Type>().value(row), out),
        DataType::Int16 => number(array.as_primitive::<Int16Type>().value(row), out),
        DataType::Int32 => number(array.as_primitive::<Int32Type>().value(row), out),
        DataType::Int64 => number(array.as_primitive::<Int64Type>().value(row), out),
        DataType::UInt8 => number(array.as_primitive::<UInt8Type>().value(row), out),
        DataType::UInt16 => number(array.as_primitive::<UInt16Type>().value(row), out),
        DataType::UInt32 => number(array.as_primitive::<UInt32Type>().value(row), out),
        DataType::UInt64 => number(array.as_primitive::<UInt64Type>().value(row), out),
        DataType::Float32 => {
            let number = array.as_primitive::<Float32Type>().value(row);
            return float(number.into(), &format!("{number:?}"), out);
        }
        DataType::Float64 => {
            let number = array.as_primitive::<Float64Type>().value(row);
            return float(number, &format!("{number:?}"), out);
        }
        DataType::Decimal32(..)
        | DataType::Decimal64(..)
        | DataType::Decimal128(..)
        | DataType::Decimal256(..) => number(shown(array, row)?, out),
        DataType::Utf8 => return text(array.as_string::<i32>().value(row), out),
        DataType::LargeUtf8 => return text(array.as_string::<i64>().value(row), out),
        DataType::Utf8View => return text(array.as_string_view().value(row), out),
        DataType::Binary => return base64(array.as_binary::<i32>().value(row), out),
        DataType::LargeBinary => return base64(array.as_binary::<i64>().value(row), out),
        DataType::BinaryView => return base64(array.as_binary_view().value(row), out),
        DataType::FixedSizeBinary(_) => {
            return base64(array.as_fixed_size_binary().value(row), out);
        }
        DataType::Date32 => {
            let days = array.as_primitive::<Date32Type>().value(row);
            return text(&date(days.into()), out);
        }
        DataType::Timestamp(unit, zone) => {
            return text(&time(array, row, *unit, zone.is_some()), out);
        }
        DataType::List(_) => return list(&array.as_list::<i32>().value(row), depth, out),
        DataType::LargeList(_) => return list(&array.as_list::<i64>().value(row), depth, out),
        DataType::FixedSizeList(..) => {
            return list(&array.as_fixed_size_list().value(row), depth, out);
        }
        DataType::Struct(fields) => {
            out.push(b'{');
            for (n, (field, column)) in fields.iter().zip(array.as_struct().columns()).enumerate() {
                if n > 0 {
                    out.push(b',');
                }
                text(field.name(), out)?;
                out.push(b':');
                value(column.as_ref(), row, depth + 1, out)?;
            }
            out.push(b'}');
        }
        DataType::Map(..) => return map(&array.as_map().value(row), depth, out),
        _ => return text(&shown(array, row)?, out),
    }
    Ok(())
}

fn shown(array: &dyn Array, row: usize) -> Result<String, String> {
    array_value_to_string(array, row).map_err(|e| e.to_string())
}

fn base64(bytes: &[u8], out: &mut Vec<u8>) -> Result<(), String> {
    text(
        &base64::engine::general_purpose::STANDARD.encode(bytes),
        out,
    )
}

fn date(days: i64) -> String {
    let date = instant::civil(days.saturating_mul(86_400_000_000));
    date.map_or_else(|| days.to_string(), |time| time.date().to_string())
}

/// With a `Z` where the column says that its times are instants.
fn time(array: &dyn Array, row: usize, unit: TimeUnit, is_instant: bool) -> String {
    let micros = match unit {
        TimeUnit::Second => {
            let seconds = array.as_primitive::<TimestampSecondType>().value(row);
            seconds.saturating_mul(1_000_000)
        }
        TimeUnit::Millisecond => {
            let millis = array.as_primitive::<TimestampMillisecondType>().value(row);
            millis.saturating_mul(1_000)
        }
        TimeUnit::Microsecond => array.as_primitive::<TimestampMicrosecondType>().value(row),
        TimeUnit::Nanosecond => {
            let nanos = array.as_primitive::<TimestampNanosecondType>().value(row);
            nanos.div_euclid(1_000)
        }
    };
    let text = instant::utc(micros, 6);
    match is_instant {
        true => text,
        false => text.trim_end_matches('Z').to_owned(),
    }
}

fn list(items: &dyn Array, depth: usize, out: &mut Vec<u8>) -> Result<(), String> {
    out.push(b'[');
    for n in 0..items.len() {
        if n > 0 {
            out.push(b',');
        }
        value(items, n, depth + 1, out)?;
    }
    out.push(b']');
    Ok(())
}

/// Keys are texts in JSON.
fn map(entries: &arrow_array::StructArray, depth: usize, out: &mut Vec<u8>) -> Result<(), String> {
    let [keys, values] = entries.columns() else {
        return Err("a map without keys and values".to_owned());
    };
    out.push(b'{');
    for n in 0..entries.len() {
        if n > 0 {
            out.push(b',');
        }
        text(&shown(keys.as_ref(), n)?, out)?;
        out.push(b':');
        value(values.as_ref(), n, depth + 1, out)?;
    }
    out.push(b'}');
    Ok(())
}
