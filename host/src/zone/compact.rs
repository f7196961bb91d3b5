//! Writes the rows of several files of one directory into one: as a stream, a row group of each input at a time.
//!
//! Files that say that they are sorted as wanted are merged in that order; others follow each other, and are sorted by row
//! group if an order is wanted. The rows stay what they are, with their coordinates: the digest of the new file must be the
//! sum of those of the inputs.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BinaryHeap};
use std::sync::Arc;

use arrow_array::{Array, RecordBatch};
use arrow_row::{OwnedRow, RowConverter, Rows};
use arrow_schema::{ArrowError, SchemaRef};
use arrow_select::interleave::interleave;

use super::file::{Birth, Order, Plain, RowsFile, SORTED};
use super::keys::{KeyStream, scheme_of, write_key_stream};
use super::read::{FileRows, Located};
use super::sorting::converter;
use super::write::plain_columns;
use super::{ParquetOptions, layout::Partition};
use crate::chain::Column;
use crate::commit::{AddedFile, FileRange, LogName, Role, new_file_id};
use crate::config::SortBy;
use crate::error::{Error, Kind, Result};
use crate::sink::Finish as _;
use crate::store::Store;

const OP: &str = "zone.compact";

/// Rows that are taken from the inputs and encoded at a time.
const CHUNK_ROWS: usize = 8192;

/// Least rows of an input that are decoded at a time.
const ROWS_LEAST: usize = 64;
/// Decoded rows take about so many times their bytes in a file.
const DECODED_SHARE: u64 = 8;

/// What is merged, and how.
#[derive(Debug)]
pub struct Merge<'a> {
    pub store: &'a Arc<dyn Store>,
    pub name: &'a LogName,
    pub parquet: &'a ParquetOptions,
    /// Order of the rows; empty: as they come.
    pub sort: &'a [SortBy],
    /// Bytes of decoded rows that sorted files may have in memory while they are merged, about.
    pub memory: u64,
}

/// A new file, sealed, and its key sidecar if the inputs have them.
#[derive(Debug)]
pub struct Merged {
    pub rows: AddedFile,
    pub keys: Option<AddedFile>,
}

impl Merge<'_> {
    /// `inputs`: files of one directory and schema, in the order in which they were committed, each with its sidecar.
    /// `go_on` is asked now and then; an error of it ends the work. `made`: the ids of files that are durable, also after an error;
    /// then an entry has to collect them (W8).
    pub fn write(
        &self,
        inputs: &[(AddedFile, Option<AddedFile>)],
        go_on: &mut dyn FnMut() -> Result<()>,
        made: &mut Vec<String>,
    ) -> Result<Merged> {
        let Some((first, _)) = inputs.first() else {
            return Err(bug("nothing to merge"));
        };
        let mut files = Vec::new();
        for (file, _) in inputs {
            let located = Located::find(self.store, self.name, file)?;
            files.push(FileRows::open(located, |_| true)?);
        }
        let schema = files.first().map_or_else(
            || Arc::new(arrow_schema::Schema::empty()),
            |file| file.schema().clone(),
        );
        let sort = match first.role {
            Role::Rows => self.sort,
            _ => &[],
        };
        let note = sorted_note(sort);
        let sorted = !sort.is_empty() && files.iter().all(|file| file.note(SORTED) == Some(&note));
        let order = match (sort.is_empty(), sorted) {
            (true, _) => Order::Any,
            (false, true) => Order::Given(sort),
            (false, false) => Order::Sort(sort),
        };
        let birth = self.birth(first, None);
        let mut out = RowsFile::in_order(
            self.store,
            birth,
            &schema,
            self.parquet,
            Plain::new(),
            order,
        )?;
        for range in ranges(inputs) {
            out.cover(&range.split, range.from, range.to, range.rows);
        }
        match sorted {
            true => {
                let at_once = rows_at_once(inputs, self.memory);
                let files = files.into_iter().map(|file| file.at_once(at_once));
                let mut merging = Merging::new(files.collect(), &schema, sort)?;
                while let Some((columns, rows)) = merging.chunk()? {
                    go_on()?;
                    out.write(&columns, rows)?;
                }
            }
            false => {
                for batch in files.into_iter().flatten() {
                    go_on()?;
                    let batch = batch?;
                    out.write(&plain_columns(&batch), batch.num_rows())?;
                }
            }
        }
        let (mut written, _) = out.close()?;
        let keys = self.keys(inputs, &written.added_mut().ranges.clone(), made)?;
        written.added_mut().keys = keys.as_ref().map(|keys| keys.id.clone());
        made.push(written.added_mut().id.clone());
        let rows = Box::new(written).finish()?;
        same_rows(inputs.iter().map(|(rows, _)| rows), &rows)?;
        Ok(Merged { rows, keys })
    }

    /// A file beside the first input, with its name's tail; or its sidecar.
    fn birth(&self, of: &AddedFile, keys: Option<&str>) -> Birth {
        let id = new_file_id();
        let (dir, name) = of.path.rsplit_once('/').unwrap_or(("", &of.path));
        let tail = name.split_once('.').map_or("parquet", |(_, tail)| tail);
        let path = match keys {
            Some(_) => self.name.keys(&id),
            None => format!("{dir}/{id}.{tail}"),
        };
        Birth {
            place: self.name.place(&id, &path),
            role: keys.map_or(of.role, |_| Role::Keys),
            partition: of
                .partition_values
                .iter()
                .map(|(name, value)| (name.clone(), value.clone()))
                .collect::<Partition>(),
            pipeline: self.name.pipeline.clone(),
        }
    }

    fn keys(
        &self,
        inputs: &[(AddedFile, Option<AddedFile>)],
        ranges: &[FileRange],
        made: &mut Vec<String>,
    ) -> Result<Option<AddedFile>> {
        let sidecars: Vec<&AddedFile> = inputs
            .iter()
            .filter_map(|(_, keys)| keys.as_ref())
            .collect();
        let (Some(first), Some((rows, _))) = (sidecars.first(), inputs.first()) else {
            return Ok(None);
        };
        let scheme = scheme_of(Located::find(self.store, self.name, first)?)?;
        let mut streams = Vec::new();
        for sidecar in &sidecars {
            let located = Located::find(self.store, self.name, sidecar)?;
            streams.push(KeyStream::open(located, sidecar, &scheme)?);
        }
        let birth = self.birth(rows, Some(&first.id));
        let keys = MergedKeys::new(streams)?;
        let mut written = write_key_stream(self.store, birth, &scheme, keys, ranges.to_vec())?;
        made.push(written.added_mut().id.clone());
        let written = Box::new(written).finish()?;
        same_rows(sidecars.into_iter(), &written)?;
        Ok(Some(written))
    }
}

/// Rows of each input that are decoded at a time.
fn rows_at_once(inputs: &[(AddedFile, Option<AddedFile>)], memory: u64) -> usize {
    let sum = |of: fn(&AddedFile) -> u64| inputs.iter().map(|(file, _)| of(file)).sum::<u64>();
    let row = sum(|file| file.bytes) * DECODED_SHARE / sum(|file| file.rows).max(1) + 1;
    let rows = memory / row / inputs.len().max(1) as u64;
    usize::try_from(rows)
        .unwrap_or(CHUNK_ROWS)
        .clamp(ROWS_LEAST, CHUNK_ROWS)
}

/// The note of a file whose rows are in this order from its first to its last.
pub fn sorted_note(sort: &[SortBy]) -> String {
    let text = |by: &SortBy| match by.descending {
        true => format!("{} desc", by.column),
        false => by.column.clone(),
    };
    let sort: Vec<String> = sort.iter().map(text).collect();
    serde_json::to_string(&sort).unwrap_or_default()
}

/// The cover of all inputs, by split.
fn ranges(inputs: &[(AddedFile, Option<AddedFile>)]) -> Vec<FileRange> {
    let mut all: BTreeMap<&str, FileRange> = BTreeMap::new();
    for range in inputs.iter().flat_map(|(file, _)| &file.ranges) {
        let sum = all
            .entry(range.split.as_str())
            .or_insert_with(|| FileRange {
                rows: 0,
                ..range.clone()
            });
        sum.from = sum.from.min(range.from);
        sum.to = sum.to.max(range.to);
        sum.rows += range.rows;
    }
    all.into_values().collect()
}

/// An error where a row or a value was lost, doubled or changed on the way.
fn same_rows<'a>(inputs: impl Iterator<Item = &'a AddedFile>, made: &AddedFile) -> Result<()> {
    let number = |file: &AddedFile| {
        let hex = file.row_digest.split_once(':').map(|(_, hex)| hex);
        hex.and_then(|hex| u128::from_str_radix(hex, 16).ok())
    };
    let (mut rows, mut digest) = (0, Some(0u128));
    for input in inputs {
        rows += input.rows;
        digest = digest.and_then(|sum| Some(sum.wrapping_add(number(input)?)));
    }
    if made.rows == rows && digest.is_some() && number(made) == digest {
        return Ok(());
    }
    let message = format!(
        "the files hold {} rows that are not the {rows} rows of their entries",
        made.rows
    );
    Err(Error::new(Kind::LogCorrupt, OP, message)
        .with("file", &made.path)
        .hint("`weir zone verify` says which file differs; nothing was changed"))
}

// === rows ===

/// Rows of sorted files, in order.
struct Merging {
    converter: RowConverter,
    at: Vec<usize>,
    sources: Vec<Source>,
    /// Batches with rows that were picked or are to come; those of each source that it reads from are the last it put here.
    parts: Vec<RecordBatch>,
    /// The next row of each source that has one.
    next: BinaryHeap<Reverse<(OwnedRow, usize)>>,
}

struct Source {
    rows: FileRows,
    /// Its batch, in `parts`.
    part: usize,
    keys: Option<Rows>,
    /// Rows of the batch that were taken.
    taken: usize,
    last: Option<OwnedRow>,
}

impl Merging {
    fn new(files: Vec<FileRows>, schema: &SchemaRef, sort: &[SortBy]) -> Result<Merging> {
        let at = sort
            .iter()
            .filter_map(|by| schema.index_of(&by.column).ok());
        let mut merging = Merging {
            converter: converter(schema, sort)?,
            at: at.collect(),
            next: BinaryHeap::with_capacity(files.len()),
            sources: Vec::with_capacity(files.len()),
            parts: Vec::new(),
        };
        for (index, rows) in files.into_iter().enumerate() {
            merging.sources.push(Source {
                rows,
                part: 0,
                keys: None,
                taken: 0,
                last: None,
            });
            merging.refill(index)?;
        }
        Ok(merging)
    }

    /// Reads the next batch of a source whose rows were all taken.
    fn refill(&mut self, index: usize) -> Result<()> {
        let Some(source) = self.sources.get_mut(index) else {
            return Ok(());
        };
        loop {
            let Some(batch) = source.rows.next().transpose()? else {
                (source.keys, source.taken) = (None, 0);
                return Ok(());
            };
            if batch.num_rows() == 0 {
                continue;
            }
            let keys: Vec<_> = self.at.iter().map(|at| batch.column(*at).clone()).collect();
            source.keys = Some(self.converter.convert_columns(&keys).map_err(failed)?);
            (source.part, source.taken) = (self.parts.len(), 0);
            self.parts.push(batch);
            break;
        }
        self.offer(index)
    }

    /// Puts the next row of a source into the heap.
    fn offer(&mut self, index: usize) -> Result<()> {
        let Some(source) = self.sources.get_mut(index) else {
            return Ok(());
        };
        let Some(keys) = &source.keys else {
            return Ok(());
        };
        let row = keys.row(source.taken).owned();
        if source.last.as_ref().is_some_and(|last| *last > row) {
            let error = Error::new(Kind::LogCorrupt, OP, "a file is not sorted as it says");
            return Err(error.hint("`weir zone verify` looks at every file; nothing was changed"));
        }
        source.last = Some(row.clone());
        self.next.push(Reverse((row, index)));
        Ok(())
    }

    /// The next rows; `None`: there are no more.
    fn chunk(&mut self) -> Result<Option<(Vec<Column>, usize)>> {
        let mut picked: Vec<(usize, usize)> = Vec::new();
        while picked.len() < CHUNK_ROWS {
            let Some(Reverse((_, index))) = self.next.pop() else {
                break;
            };
            let Some(source) = self.sources.get_mut(index) else {
                break;
            };
            picked.push((source.part, source.taken));
            source.taken += 1;
            let rows = source.keys.as_ref().map_or(0, Rows::num_rows);
            match source.taken == rows {
                true => self.refill(index)?,
                false => self.offer(index)?,
            }
        }
        if picked.is_empty() {
            return Ok(None);
        }
        let columns = self.columns(&picked).map_err(failed)?;
        self.forget();
        Ok(Some((columns, picked.len())))
    }

    /// Keeps only the batches that sources still read from.
    fn forget(&mut self) {
        let parts = std::mem::take(&mut self.parts);
        for source in self.sources.iter_mut().filter(|s| s.keys.is_some()) {
            if let Some(part) = parts.get(source.part) {
                source.part = self.parts.len();
                self.parts.push(part.clone());
            }
        }
    }

    fn columns(&self, picked: &[(usize, usize)]) -> Result<Vec<Column>, ArrowError> {
        let width = self.parts.first().map_or(0, RecordBatch::num_columns);
        let column = |column: usize| {
            let parts = self.parts.iter().map(|part| part.column(column).as_ref());
            let parts: Vec<&dyn Array> = parts.collect();
            Ok(Column {
                values: interleave(&parts, picked)?,
                constant: false,
            })
        };
        (0..width).map(column).collect()
    }
}

// === keys ===

/// The keys of several sidecars, ascending. A key that two of them have is an error: no batch writes it twice.
struct MergedKeys {
    streams: Vec<KeyStream>,
    next: BinaryHeap<Reverse<(u128, usize)>>,
    last: Option<u128>,
}

impl MergedKeys {
    fn new(streams: Vec<KeyStream>) -> Result<MergedKeys> {
        let mut keys = MergedKeys {
            next: BinaryHeap::with_capacity(streams.len()),
            streams,
            last: None,
        };
        for index in 0..keys.streams.len() {
            keys.offer(index)?;
        }
        Ok(keys)
    }

    fn offer(&mut self, index: usize) -> Result<()> {
        let stream = self.streams.get_mut(index);
        if let Some(key) = stream.and_then(Iterator::next).transpose()? {
            self.next.push(Reverse((key, index)));
        }
        Ok(())
    }

    fn advance(&mut self) -> Result<Option<u128>> {
        let Some(Reverse((key, index))) = self.next.pop() else {
            return Ok(None);
        };
        self.offer(index)?;
        if self.last.replace(key) == Some(key) {
            let message = "two files of one partition have a row of the same key";
            return Err(Error::new(Kind::LogCorrupt, OP, message)
                .hint("they were written without each other's keys, perhaps under another sink.dedup.key; they stay as they are"));
        }
        Ok(Some(key))
    }
}

impl Iterator for MergedKeys {
    type Item = Result<u128>;

    fn next(&mut self) -> Option<Self::Item> {
        self.advance().transpose()
    }
}

fn failed(e: ArrowError) -> Error {
    bug("merging rows failed").source(e)
}

fn bug(message: &str) -> Error {
    Error::new(Kind::Bug, OP, message)
}
