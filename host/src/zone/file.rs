//! One Parquet file, streamed to its store: row groups are bounded by bytes, digests and ranges are collected while
//! writing.
//!
//! A column whose dictionary does not pay is written without one from the next row group on, and in the next files of its
//! table ([`Plain`]): an abandoned dictionary costs more than none.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::io::{self, Write};
use std::sync::Arc;

use arrow_array::UInt32Array;
use arrow_schema::SchemaRef;
use arrow_select::take::take;
use parquet::arrow::ArrowWriter;
use parquet::arrow::arrow_writer::{
    ArrowColumnWriter, ArrowRowGroupWriterFactory, ArrowWriterOptions, compute_leaves,
};
use parquet::errors::ParquetError;
use parquet::file::metadata::KeyValue;
use parquet::file::properties::WriterProperties;
use parquet::file::writer::SerializedFileWriter;
use sha2::{Digest, Sha256};

use crate::chain::Column;
use crate::commit::{AddedFile, FileRange, Role};
use crate::config::{Encodings, SortBy};
use crate::error::{Error, Kind, Result};
use crate::hash::hex;
use crate::record::SplitId;
use crate::sink::Finish;
use crate::store::{FileWriter, Place, Store};

use super::ParquetOptions;
use super::compact::sorted_note;
use super::digest::RowDigest;
use super::format::{left_dictionary, properties, repeats_little};
use super::layout::{Partition, partition_map, unfit};
use super::schema::schema_digest;
use super::sorting::Sorter;

/// A single write adds at most one in this many parts of a row group's bytes, so that it exceeds its bound by no more.
const WRITE_SHARE: usize = 4;

/// Rows in memory take about so many times the bytes that they have in a file; for files whose rows wait to be sorted.
const ENCODED_SHARE: usize = 4;

/// Leaf columns of a table that are written without a dictionary.
pub type Plain = BTreeSet<String>;

/// Refuses a new file whose path the log or the store would not take after all bytes are written. A file that is written again keeps
/// its directory: zones of earlier builds have directories in buckets with names that none gets now.
pub fn fits(store: &dyn Store, place: &Place) -> Result<()> {
    let Some(why) = unfit(&store.path_limits(), place.path()) else {
        return Ok(());
    };
    let message = format!("a file cannot be written here: {why}");
    Err(Error::new(Kind::ConfigInvalid, "zone.write", message)
        .with("file", place.path())
        .hint("choose a shorter sink.table or sink.url; with sink.file.names = \"id\" the topic is not in the names of files"))
}

/// What is fixed when a file is begun.
#[derive(Clone, Debug)]
pub struct Birth {
    pub place: Place,
    pub role: Role,
    pub partition: Partition,
    pub pipeline: String,
}

/// Note of a file whose rows are sorted from its first to its last: the columns, as `sink.sort` names them.
pub const SORTED: &str = "weir.sorted";

/// The order of rows in a file.
#[derive(Clone, Copy, Debug)]
pub enum Order<'a> {
    /// As they come; the footer says nothing.
    Any,
    /// They come in this order, and the footer says so.
    Given(&'a [SortBy]),
    /// They are put in this order, row group by row group.
    Sort(&'a [SortBy]),
}

/// A file being written.
pub struct RowsFile {
    tally: Tally,
    options: ParquetOptions,
    order: Vec<SortBy>,
    sorter: Option<Sorter>,
    writer: SerializedFileWriter<Out>,
    group: Option<Group>,
    plain: Plain,
}

/// What an entry says of a file, while it is written: the same for every format.
#[derive(Debug)]
pub struct Tally {
    birth: Birth,
    schema: SchemaRef,
    schema_digest: String,
    rows: u64,
    ranges: BTreeMap<SplitId, FileRange>,
    digest: RowDigest,
}

impl Tally {
    pub fn new(birth: Birth, schema: &SchemaRef) -> Result<Tally> {
        Ok(Tally {
            birth,
            schema: schema.clone(),
            schema_digest: schema_digest(schema)?,
            rows: 0,
            ranges: BTreeMap::new(),
            digest: RowDigest::new(schema),
        })
    }

    pub fn add(&mut self, columns: &[Column], rows: usize) -> Result<()> {
        self.digest.add(columns, rows)?;
        self.rows += rows as u64;
        Ok(())
    }

    /// Notes that these rows belong to `split`, between `from` and `to` (exclusive).
    pub fn cover(&mut self, split: &SplitId, from: i64, to: i64, rows: u64) {
        if rows == 0 {
            return;
        }
        match self.ranges.get_mut(split) {
            Some(range) => {
                range.from = range.from.min(from);
                range.to = range.to.max(to);
                range.rows += rows;
            }
            None => {
                let split = split.clone();
                self.ranges.insert(
                    split.clone(),
                    FileRange {
                        split,
                        from,
                        to,
                        rows,
                    },
                );
            }
        }
    }

    pub fn schema(&self) -> &SchemaRef {
        &self.schema
    }

    pub fn rows(&self) -> u64 {
        self.rows
    }

    /// `out` has all bytes of the file.
    pub fn written(self, out: Out) -> Written {
        let added = AddedFile {
            id: self.birth.place.file().to_owned(),
            path: self.birth.place.path().to_owned(),
            role: self.birth.role,
            bytes: out.bytes,
            rows: self.rows,
            digest: out.sha256(),
            ranges: self.ranges.into_values().collect(),
            partition_values: partition_map(&self.birth.partition),
            schema: self.schema_digest,
            row_digest: self.digest.text(),
            keys: None,
            upload: None,
        };
        out.written(added)
    }
}

struct Group {
    columns: Vec<ArrowColumnWriter>,
    rows: usize,
}

impl RowsFile {
    pub fn create(
        store: &Arc<dyn Store>,
        birth: Birth,
        schema: &SchemaRef,
        options: &ParquetOptions,
        plain: Plain,
    ) -> Result<RowsFile> {
        RowsFile::in_order(store, birth, schema, options, plain, Order::Any)
    }

    pub fn in_order(
        store: &Arc<dyn Store>,
        birth: Birth,
        schema: &SchemaRef,
        options: &ParquetOptions,
        plain: Plain,
        order: Order<'_>,
    ) -> Result<RowsFile> {
        let tally = Tally::new(birth, schema)?;
        let birth = &tally.birth;
        let (order, sorter) = match order {
            Order::Any => (&[][..], None),
            Order::Given(order) => (order, None),
            Order::Sort([]) => (&[][..], None),
            Order::Sort(order) => {
                let sorter = Sorter::new(schema, order, options.row_group_bytes)?;
                (order, Some(sorter))
            }
        };
        let mut options = options.clone();
        // Dead letters and keys are few, or have one column: what reads them needs nothing new.
        if tally.birth.role != Role::Rows {
            options.encodings = Encodings::Plain;
        }
        let out = Out::create(store, &birth.place)?;
        let properties = properties(&options, schema, &plain, birth, order);
        let (mut writer, _) = arrow_writer(out, schema, properties)?;
        if sorter.is_none() && !order.is_empty() {
            let note = KeyValue::new(SORTED.to_owned(), sorted_note(order));
            writer.append_key_value_metadata(note);
        }
        Ok(RowsFile {
            tally,
            options,
            order: order.to_vec(),
            sorter,
            writer,
            group: None,
            plain,
        })
    }

    /// Writes `rows` rows; columns are in the order of the schema. Call [`cover`](Self::cover) to say which rows these
    /// are.
    pub fn write(&mut self, columns: &[Column], rows: usize) -> Result<()> {
        self.tally.add(columns, rows)?;
        let Some(sorter) = &mut self.sorter else {
            return self.encode(columns, rows);
        };
        sorter.push(columns, rows)?;
        match sorter.is_full() {
            true => self.write_sorted(),
            false => Ok(()),
        }
    }

    /// Writes the rows that wait to be sorted as a row group, or as several.
    fn write_sorted(&mut self) -> Result<()> {
        let Some(mut sorter) = self.sorter.take() else {
            return Ok(());
        };
        sorter.drain(|columns, rows| self.encode(columns, rows))?;
        self.sorter = Some(sorter);
        self.close_group().map_err(write_failed)
    }

    fn encode(&mut self, columns: &[Column], rows: usize) -> Result<()> {
        let bytes: usize = columns.iter().map(column_bytes).sum();
        let share = self.options.row_group_bytes / WRITE_SHARE;
        let step = (rows * share / bytes.max(1)).clamp(1, rows.max(1));
        let mut from = 0;
        while from < rows {
            let len = step.min(rows - from);
            self.write_slice(columns, from, len).map_err(write_failed)?;
            from += len;
        }
        Ok(())
    }

    fn write_slice(
        &mut self,
        columns: &[Column],
        from: usize,
        rows: usize,
    ) -> Result<(), ParquetError> {
        if self.group.is_none() {
            self.look_at(columns);
            let (options, plain) = (&self.options, &self.plain);
            let (birth, schema) = (&self.tally.birth, &self.tally.schema);
            let properties = properties(options, schema, plain, birth, &self.order);
            let (_, factory) = arrow_writer(io::sink(), schema, properties)?;
            let index = self.writer.flushed_row_groups().len();
            let columns = factory.create_column_writers(index)?;
            self.group = Some(Group { columns, rows: 0 });
        }
        let Some(group) = &mut self.group else {
            return Ok(());
        };
        let mut leaves = group.columns.iter_mut();
        for (field, column) in self.tally.schema.fields().iter().zip(columns) {
            let values = if column.constant {
                take(&column.values, &UInt32Array::from(vec![0; rows]), None)?
            } else {
                column.values.slice(from, rows)
            };
            for leaf in compute_leaves(field, &values)? {
                match leaves.next() {
                    Some(writer) => writer.write(&leaf)?,
                    None => return Err(ParquetError::General("more leaves than columns".into())),
                }
            }
        }
        group.rows += rows;
        if group.size() >= self.options.row_group_bytes {
            self.close_group()?;
        }
        Ok(())
    }

    /// Columns that begin without a dictionary.
    fn look_at(&mut self, columns: &[Column]) {
        if self.options.encodings == Encodings::Plain {
            return;
        }
        for (field, column) in self.tally.schema.fields().iter().zip(columns) {
            if !column.constant
                && !self.plain.contains(field.name())
                && repeats_little(&column.values)
            {
                self.plain.insert(field.name().clone());
            }
        }
    }

    fn close_group(&mut self) -> Result<(), ParquetError> {
        let Some(group) = self.group.take() else {
            return Ok(());
        };
        let mut out = self.writer.next_row_group()?;
        for column in group.columns {
            column.close()?.append_to_row_group(&mut out)?;
        }
        let closed = out.close()?;
        self.plain
            .extend(left_dictionary(&closed, self.options.encodings));
        Ok(())
    }

    /// Adds a note for readers of the file to the metadata in its footer.
    pub fn note(&mut self, key: &str, value: String) {
        let note = KeyValue::new(key.to_owned(), value);
        self.writer.append_key_value_metadata(note);
    }

    /// See [`Tally::cover`].
    pub fn cover(&mut self, split: &SplitId, from: i64, to: i64, rows: u64) {
        self.tally.cover(split, from, to, rows);
    }

    pub fn schema(&self) -> &SchemaRef {
        &self.tally.schema
    }

    pub fn rows(&self) -> u64 {
        self.tally.rows
    }

    /// Bytes written, and an estimate of those still to be written.
    pub fn size(&self) -> u64 {
        let open = self.group.as_ref().map_or(0, Group::size);
        let waiting = self.sorter.as_ref().map_or(0, Sorter::bytes) / ENCODED_SHARE;
        (self.writer.bytes_written() + open + waiting) as u64
    }

    /// Memory of the row group, of rows that wait to be sorted, and of the bytes that the store's writer holds back.
    pub fn memory(&self) -> usize {
        let store = self.writer.inner().held();
        let group = |g: &Group| g.columns.iter().map(|c| c.memory_size()).sum();
        let waiting = self.sorter.as_ref().map_or(0, Sorter::bytes);
        store + waiting + self.group.as_ref().map_or(0, group)
    }

    /// Writes the footer. The bytes are durable only after [`Finish::finish`].
    pub fn close(mut self) -> Result<(Written, Plain)> {
        self.write_sorted()?;
        self.close_group().map_err(write_failed)?;
        let out = self.writer.into_inner().map_err(write_failed)?;
        Ok((self.tally.written(out), self.plain))
    }
}

impl fmt::Debug for RowsFile {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RowsFile")
            .field("birth", &self.tally.birth)
            .field("rows", &self.tally.rows)
            .finish_non_exhaustive()
    }
}

impl Group {
    fn size(&self) -> usize {
        self.columns
            .iter()
            .map(|c| c.get_estimated_total_bytes())
            .sum()
    }
}

pub fn column_bytes(column: &Column) -> usize {
    // `get_slice_memory_size` counts the slice, not the whole array.
    let data = column.values.to_data();
    data.get_slice_memory_size().unwrap_or(0)
}

type Writer<W> = (SerializedFileWriter<W>, ArrowRowGroupWriterFactory);

fn arrow_writer<W: Write + Send>(
    out: W,
    schema: &SchemaRef,
    properties: WriterProperties,
) -> Result<Writer<W>, ParquetError> {
    let options = ArrowWriterOptions::new().with_properties(properties);
    ArrowWriter::try_new_with_options(out, schema.clone(), options)?.into_serialized_writer()
}

pub fn write_failed(error: ParquetError) -> Error {
    if let ParquetError::External(e) = error {
        return match e.downcast::<io::Error>() {
            Ok(e) => store_failed(*e),
            Err(e) => failed(ParquetError::External(e)),
        };
    }
    failed(error)
}

/// Passes on the error of the store's writer unchanged: a missing right is no outage.
pub(super) fn store_failed(error: io::Error) -> Error {
    const MESSAGE: &str = "writing a file failed";
    let told = error.get_ref().and_then(|e| e.downcast_ref::<Error>());
    let kind = told.map_or(Kind::StoreUnavailable, Error::kind);
    let hint = told.and_then(Error::hint_text).map(str::to_owned);
    let failed = Error::new(kind, "zone.write", MESSAGE).source(error);
    match hint {
        Some(hint) => failed.hint(hint),
        None => failed,
    }
}

fn failed(error: ParquetError) -> Error {
    Error::new(Kind::Bug, "zone.write", "writing a Parquet file failed").source(error)
}

impl From<ParquetError> for Error {
    fn from(error: ParquetError) -> Error {
        write_failed(error)
    }
}

// === impl Out ===

/// Counts and digests the bytes that go to the store.
pub struct Out {
    inner: Box<dyn FileWriter>,
    sha: Sha256,
    bytes: u64,
}

impl Out {
    pub fn create(store: &Arc<dyn Store>, place: &Place) -> Result<Out> {
        Ok(Out {
            inner: store.begin(place)?,
            sha: Sha256::new(),
            bytes: 0,
        })
    }

    pub fn bytes(&self) -> u64 {
        self.bytes
    }

    /// Memory of what the store's writer holds back.
    pub fn held(&self) -> usize {
        self.inner.held()
    }

    fn sha256(&self) -> String {
        format!("sha256:{}", hex(&self.sha.clone().finalize()))
    }

    pub fn written(self, added: AddedFile) -> Written {
        Written {
            added,
            state: State::Open(self.inner),
        }
    }
}

impl Write for Out {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let n = self.inner.write(bytes)?;
        self.sha.update(&bytes[..n]);
        self.bytes += n as u64;
        Ok(n)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.inner.flush()
    }
}

// === impl Written ===

/// A complete file; durable after `finish`. If it is dropped before, nothing that counts is left.
pub struct Written {
    added: AddedFile,
    state: State,
}

enum State {
    Open(Box<dyn FileWriter>),
    Sealed,
}

impl Written {
    /// Finishes now and closes the handle; `finish` has then nothing left to do.
    pub fn settle(mut self) -> Result<Written> {
        if let State::Open(writer) = std::mem::replace(&mut self.state, State::Sealed) {
            let seal = writer.seal()?;
            if seal.bytes != self.added.bytes {
                let (wrote, took) = (self.added.bytes, seal.bytes);
                return Err(Error::new(
                    Kind::StoreUnavailable,
                    "zone.finish",
                    format!("wrote {wrote} bytes, the store took {took}"),
                )
                .with("file", &self.added.path));
            }
            self.added.upload = seal.upload;
        }
        Ok(self)
    }

    pub fn added_mut(&mut self) -> &mut AddedFile {
        &mut self.added
    }
}

impl Finish for Written {
    fn added(&self) -> &AddedFile {
        &self.added
    }

    fn finish(self: Box<Self>) -> Result<AddedFile> {
        Ok(self.settle()?.added)
    }

    fn abandon(self: Box<Self>) {}
}

impl fmt::Debug for Written {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Written")
            .field("added", &self.added)
            .finish_non_exhaustive()
    }
}
