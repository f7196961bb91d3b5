//! Parquet files that others wrote, row by row as JSON objects.
//!
//! Columns are read page by page, so memory does not grow with the file. Names are those of the file; values are what JSON has
//! for them: decimals are numbers with all their digits, bytes are base64, dates and instants ISO 8601 texts, and what is no
//! JSON number (NaN, infinity) is a text.

use std::fmt;
use std::io::{self, Read};
use std::sync::{Arc, Mutex};

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
use parquet::file::metadata::ParquetMetaData;
use parquet::file::reader::{ChunkReader, Length};

use crate::error::{Error, Result};
use crate::instant;
use crate::lock::lock;

/// Rows decoded at a time, at most.
const BATCH_ROWS: usize = 1024;
/// Bytes of the rows that are decoded at a time, as far as the file says how large they are.
const BATCH_BYTES: u64 = 8 << 20;
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
    failed: Failed,
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
        let failed = Failed::default();
        let file = Fetched {
            fetch: fetch.into(),
            failed: failed.clone(),
            last: Arc::default(),
            size,
        };
        // What another writer noted about its own memory does not count.
        let options = ArrowReaderOptions::new().with_skip_arrow_metadata(true);
        let builder = ParquetRecordBatchReaderBuilder::try_new_with_options(file, options)
            .map_err(|e| unreadable(&failed, &e))?;
        let rows = rows_at_once(builder.metadata());
        let offset = usize::try_from(from).unwrap_or(usize::MAX);
        let reader = builder
            .with_batch_size(rows)
            .with_offset(offset)
            .build()
            .map_err(|e| unreadable(&failed, &e))?;
        Ok(ForeignRows {
            failed,
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
                Some(Err(e)) => return Err(unreadable(&self.failed, &e)),
            }
        }
    }
}

/// So few that their bytes stay bounded. Where a writer does not say how much its texts take (dictionaries repeat them), what
/// they take in the file counts.
fn rows_at_once(about: &ParquetMetaData) -> usize {
    let large = about.row_groups().iter().map(|group| {
        let columns = group.columns().iter();
        let bytes: i64 = columns
            .map(|column| {
                let texts = column.unencoded_byte_array_data_bytes().unwrap_or(0);
                column.uncompressed_size().max(texts)
            })
            .fold(0, i64::saturating_add);
        let rows = u64::try_from(group.num_rows()).unwrap_or(0).max(1);
        u64::try_from(bytes).unwrap_or(0) / rows
    });
    let rows = BATCH_BYTES / large.max().unwrap_or(0).max(1);
    usize::try_from(rows).map_or(BATCH_ROWS, |rows| rows.clamp(1, BATCH_ROWS))
}

/// The first error of the store: the reader above makes a text of it, which would look like bytes that cannot be read.
type Failed = Arc<Mutex<Option<Error>>>;

fn unreadable(failed: &Failed, e: &dyn fmt::Display) -> Unreadable {
    match lock(failed).take() {
        Some(error) => Unreadable::Store(error),
        None => Unreadable::Bytes(format!("it is no readable Parquet file: {e}")),
    }
}

#[derive(Clone)]
struct Fetched {
    fetch: Arc<dyn Fn(u64, usize) -> Result<Bytes> + Send + Sync>,
    failed: Failed,
    /// What was fetched last from one place on: a page follows its header, which is small.
    last: Arc<Mutex<(u64, Bytes)>>,
    size: u64,
}

impl Fetched {
    /// From a place on, as many bytes as are fetched at a time or fewer; kept for whoever asks for a part of them.
    fn get_ahead(&self, from: u64) -> Result<Bytes, String> {
        if let Some(bytes) = self.kept(from) {
            return Ok(bytes);
        }
        let left = self.size.saturating_sub(from);
        let most = usize::try_from(left).unwrap_or(usize::MAX).min(FETCH_BYTES);
        let bytes = self.get(from, most)?;
        *lock(&self.last) = (from, bytes.clone());
        Ok(bytes)
    }

    fn kept(&self, from: u64) -> Option<Bytes> {
        let (at, bytes) = lock(&self.last).clone();
        let skip = usize::try_from(from.checked_sub(at)?).ok()?;
        (skip < bytes.len()).then(|| bytes.slice(skip..))
    }

    /// Fails with a text; the error itself is kept.
    fn get(&self, from: u64, most: usize) -> Result<Bytes, String> {
        (self.fetch)(from, most).map_err(|error| {
            let text = error.to_string();
            lock(&self.failed).get_or_insert(error);
            text
        })
    }
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
            let bytes = match self.kept(from) {
                Some(bytes) => bytes.slice(..bytes.len().min(length - got.len())),
                None => self
                    .get(from, length - got.len())
                    .map_err(ParquetError::General)?,
            };
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
            self.waiting = self.file.get_ahead(self.at).map_err(io::Error::other)?;
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
    // A transform refuses what is finer than it can keep; nothing is cut off before.
    let mut finer = 0;
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
            finer = nanos.rem_euclid(1_000);
            nanos.div_euclid(1_000)
        }
    };
    let text = instant::utc(micros, 6);
    let text = text.trim_end_matches('Z');
    let finer = if finer > 0 {
        format!("{finer:03}")
    } else {
        String::new()
    };
    let zone = if is_instant { "Z" } else { "" };
    format!("{text}{finer}{zone}")
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

#[cfg(test)]
pub(crate) mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};

    use arrow_array::{ArrayRef, StringArray};
    use parquet::arrow::ArrowWriter;

    use super::*;
    use crate::error::Kind;

    pub(crate) fn foreign_file(batch: &RecordBatch) -> Vec<u8> {
        let mut out = Vec::new();
        let mut writer = ArrowWriter::try_new(&mut out, batch.schema(), None).expect("writer");
        writer.write(batch).expect("written");
        writer.close().expect("closed");
        out
    }

    /// Two row groups, without dictionaries, so that each has bytes of its own.
    fn written() -> Bytes {
        let column = |n: usize| -> ArrayRef {
            let texts = (0..2000).map(|row| format!("{n}/{row}/{}", "x".repeat(500)));
            Arc::new(StringArray::from_iter_values(texts))
        };
        let batch = |n| RecordBatch::try_from_iter([("a", column(n))]).expect("batch");
        let mut out = Vec::new();
        let mut writer = ArrowWriter::try_new(&mut out, batch(0).schema(), None).expect("writer");
        for n in 0..2 {
            writer.write(&batch(n)).expect("written");
            writer.flush().expect("a row group");
        }
        writer.close().expect("closed");
        out.into()
    }

    /// Rows until the end or the first error, where the store fails once, at a request.
    fn rows(bytes: &Bytes, fails_at: usize) -> (usize, Option<Unreadable>, usize) {
        let requests = Arc::new(AtomicUsize::new(0));
        let (counted, file) = (requests.clone(), bytes.clone());
        let fetch = move |from: u64, most: usize| {
            if counted.fetch_add(1, Ordering::Relaxed) == fails_at {
                return Err(Error::new(
                    Kind::StoreUnavailable,
                    "store.read",
                    "no answer",
                ));
            }
            let from = usize::try_from(from).expect("small");
            Ok(file.slice(from..file.len().min(from + most)))
        };
        let mut rows = 0;
        let mut out = Vec::new();
        let ended = match ForeignRows::open(Box::new(fetch), bytes.len() as u64, 0) {
            Err(error) => Some(error),
            Ok(mut reader) => loop {
                match reader.next(&mut out) {
                    Ok(true) => rows += 1,
                    Ok(false) => break None,
                    Err(error) => break Some(error),
                }
            },
        };
        (rows, ended, requests.load(Ordering::Relaxed))
    }

    #[test]
    fn rows_are_decoded_in_few_bytes_and_nanoseconds_are_kept() {
        let large = "x".repeat(2 << 20);
        let texts: ArrayRef = Arc::new(StringArray::from_iter_values((0..12).map(|_| &large)));
        let times = (0..12).map(|n| 1_700_000_000_123_456_000 + n);
        let times: ArrayRef = Arc::new(arrow_array::TimestampNanosecondArray::from_iter_values(
            times,
        ));
        let batch = RecordBatch::try_from_iter([("a", texts), ("t", times)]).expect("batch");
        let file = Bytes::from(foreign_file(&batch));
        let all = file.clone();
        let fetch = move |from: u64, most: usize| {
            let from = usize::try_from(from).expect("small");
            Ok(all.slice(from..all.len().min(from + most)))
        };
        let mut rows = ForeignRows::open(Box::new(fetch), file.len() as u64, 0).expect("open");
        let mut row = Vec::new();
        for n in 0..12 {
            assert!(rows.next(&mut row).expect("a row"));
            let decoded = rows.batch.as_ref().expect("a batch").num_rows();
            // A dictionary holds the text once.
            assert!(decoded <= 4, "{decoded} rows of 2 MiB at once");
            let finer = if n == 0 {
                String::new()
            } else {
                format!("{n:03}")
            };
            let time = format!("\"t\":\"2023-11-14T22:13:20.123456{finer}\"}}");
            assert!(row.ends_with(time.as_bytes()), "{time}");
        }
        assert!(!rows.next(&mut row).expect("the end"));
    }

    #[test]
    fn a_store_that_fails_is_no_bad_file() {
        let bytes = written();
        let (all, ended, requests) = rows(&bytes, usize::MAX);
        assert!(all == 4000 && ended.is_none() && requests > 4, "{requests}");
        let mut given = Vec::new();
        for at in 0..requests {
            let (rows, ended, _) = rows(&bytes, at);
            given.push(rows);
            match ended {
                Some(Unreadable::Store(error)) => assert_eq!(error.kind(), Kind::StoreUnavailable),
                ended => panic!("request {at}: {ended:?}"),
            }
        }
        assert!(
            given.first() == Some(&0) && given.iter().any(|rows| *rows > 0),
            "{given:?}"
        );
        let cut = bytes.slice(..bytes.len() - 1);
        assert!(matches!(
            rows(&cut, usize::MAX).1,
            Some(Unreadable::Bytes(_))
        ));
    }
}
