//! Reads committed files back: rows by coordinate, whole files, and the check that a file is what its entry says.
//!
//! A row group is fetched with one request and decoded from memory; groups whose statistics exclude the wanted offsets
//! are not fetched. A file is read where its store says that it can be read, which may be before it is published; a
//! live file that is nowhere, or has another size, stops the pipeline.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::io::{self, Cursor, Read};
use std::ops::Range;
use std::sync::{Arc, Mutex};

use arrow_array::cast::AsArray;
use arrow_array::types::{Int32Type, Int64Type};
use arrow_array::{Array, BooleanArray, RecordBatch};
use arrow_schema::SchemaRef;
use arrow_select::filter::filter_record_batch;
use bytes::{Buf, Bytes};
use parquet::arrow::arrow_reader::{
    ArrowReaderMetadata, ArrowReaderOptions, ParquetRecordBatchReader,
    ParquetRecordBatchReaderBuilder,
};
use parquet::errors::ParquetError;
use parquet::file::metadata::{ColumnChunkMetaData, RowGroupMetaData};
use parquet::file::reader::{ChunkReader, Length};
use parquet::file::statistics::Statistics;
use sha2::{Digest, Sha256};

use crate::commit::{AddedFile, LogName, Role};
use crate::error::{Error, Kind, Result};
use crate::hash::hex;
use crate::record::{OFFSET, PARTITION, SplitId, TOPIC};
use crate::store::{Place, Readable, Store};

use super::digest::RowDigest;
use super::fitting::{Changed, Fitting};
use super::formats::{is_parquet, not_read_back};
use super::schema::schema_digest;

/// Rows decoded at a time …
const BATCH_ROWS: usize = 8192;
/// … or as many as have about these bytes, if they are wide.
const BATCH_BYTES: u64 = 2 << 20;
/// Bytes fetched at a time when a whole file is read.
const CHUNK_BYTES: u64 = 1 << 20;
/// The same for remote stores: fewer requests.
const CHUNK_BYTES_FAR: u64 = 8 << 20;
/// A row group of more bytes, which is as large as whoever wrote it wished, is not fetched whole but in windows, as many
/// as it has columns.
/// Tests read files of some KiB in the same two ways.
const GROUP_BYTES: u64 = if cfg!(test) { 4 << 10 } else { 4 << 20 };
/// The same for remote stores: fewer requests.
const GROUP_BYTES_FAR: u64 = 32 << 20;
/// Least bytes of a window.
const WINDOW_MIN: u64 = if cfg!(test) { 512 } else { 128 << 10 };
/// What a page's header has at most.
const HEADER_BYTES: u64 = 16 << 10;
/// Bytes at a file's end that are fetched in one request: they contain the whole footer of most files; a larger footer
/// takes two more requests.
const TAIL_BYTES: u64 = 64 << 10;

/// `[from, to)` of a split, and the coordinates its rows carry.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SplitRange {
    pub split: SplitId,
    pub topic: Arc<str>,
    pub partition: i32,
    pub from: i64,
    pub to: i64,
}

/// Rows in the schema of the whole reading.
#[derive(Clone, Debug)]
pub struct Rows {
    /// Of each row: the index of its range among those that are read.
    pub splits: Vec<u32>,
    pub batch: RecordBatch,
    /// Path of the file that they are in.
    pub file: Arc<str>,
}

/// Streams rows of many files. Order: files as passed, then rows as written.
pub struct RowReader {
    store: Arc<dyn Store>,
    name: LogName,
    fitting: Fitting,
    changed: Changed,
    files: VecDeque<(AddedFile, Vec<Part>)>,
    current: Option<(FileRows, Vec<Part>)>,
    /// Path of that file.
    path: Arc<str>,
}

/// A range of which a file has rows, and its index among all that are read.
type Part = (u32, SplitRange);

/// The files of role `rows` that hold rows of the ranges.
pub fn overlapping(files: &[AddedFile], ranges: &[SplitRange]) -> Vec<AddedFile> {
    let files = with_parts(files, ranges).into_iter();
    files.map(|(file, _)| file).collect()
}

/// The same files, each with the ranges of which it has rows.
fn with_parts(files: &[AddedFile], ranges: &[SplitRange]) -> VecDeque<(AddedFile, Vec<Part>)> {
    let numbered = (0..).zip(ranges);
    let by_split: BTreeMap<&SplitId, Part> = numbered
        .map(|(i, range)| (&range.split, (i, range.clone())))
        .collect();
    let mut wanted = VecDeque::new();
    for file in files.iter().filter(|file| file.role == Role::Rows) {
        let overlap = file.ranges.iter().filter_map(|of| {
            let part = by_split.get(&of.split)?;
            let range = &part.1;
            (of.from < range.to && range.from < of.to).then(|| part.clone())
        });
        let overlap: Vec<Part> = overlap.collect();
        if !overlap.is_empty() {
            wanted.push_back((file.clone(), overlap));
        }
    }
    wanted
}

/// The schemas of files, each once with the first file that has it; in the order of the files.
pub fn schemas(
    store: &Arc<dyn Store>,
    name: &LogName,
    files: &[AddedFile],
) -> Result<Vec<(String, SchemaRef)>> {
    let mut seen = BTreeSet::new();
    let first = files
        .iter()
        .filter(|file| seen.insert(file.schema.as_str()));
    let schema = |file: &AddedFile| {
        let metadata = Located::find(store, name, file)?.metadata()?;
        Ok((file.path.clone(), metadata.schema().clone()))
    };
    first.map(schema).collect()
}

/// The rows of `files` (those of role `rows`) whose coordinates lie in `ranges`, in the columns of `fitting`, which
/// must know the [`schemas`] of all these files.
pub fn read_rows(
    store: &Arc<dyn Store>,
    name: &LogName,
    files: &[AddedFile],
    ranges: &[SplitRange],
    fitting: Fitting,
) -> RowReader {
    RowReader {
        store: store.clone(),
        name: name.clone(),
        fitting,
        changed: Changed::new(),
        files: with_parts(files, ranges),
        current: None,
        path: "".into(),
    }
}

impl RowReader {
    /// The schema of every batch to come.
    pub fn schema(&self) -> &SchemaRef {
        self.fitting.schema()
    }

    /// Values whose column or type was changed so far.
    pub fn changed(&self) -> &Changed {
        &self.changed
    }

    fn advance(&mut self) -> Result<Option<Rows>> {
        loop {
            if let Some((file, ranges)) = &mut self.current {
                let Some(batch) = file.next() else {
                    self.current = None;
                    continue;
                };
                let rows = select(&batch?, ranges, &self.fitting, &mut self.changed)?;
                if let Some((splits, batch)) = rows {
                    let file = self.path.clone();
                    return Ok(Some(Rows {
                        splits,
                        batch,
                        file,
                    }));
                }
            } else if let Some((file, ranges)) = self.files.pop_front() {
                let located = Located::find(&self.store, &self.name, &file)?;
                self.path = file.path.as_str().into();
                let file = FileRows::open(located, |group| {
                    ranges.iter().any(|(_, range)| may_hold(group, range))
                })?;
                self.current = Some((file, ranges));
            } else {
                return Ok(None);
            }
        }
    }
}

impl Iterator for RowReader {
    type Item = Result<Rows>;

    fn next(&mut self) -> Option<Self::Item> {
        self.advance().transpose()
    }
}

impl std::fmt::Debug for RowReader {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("RowReader")
            .field("files_left", &self.files.len())
            .finish_non_exhaustive()
    }
}

/// The rows of a batch that lie in one of the ranges, and the index of each one's range.
fn select(
    batch: &RecordBatch,
    parts: &[Part],
    fitting: &Fitting,
    changed: &mut Changed,
) -> Result<Option<(Vec<u32>, RecordBatch)>> {
    let column = |name: &str| batch.column_by_name(name).map(|c| c.as_ref() as &dyn Array);
    let topics = column(TOPIC).and_then(|c| c.as_string_opt::<i32>());
    let partitions = column(PARTITION).and_then(|c| c.as_primitive_opt::<Int32Type>());
    let offsets = column(OFFSET).and_then(|c| c.as_primitive_opt::<Int64Type>());
    let (Some(topics), Some(partitions), Some(offsets)) = (topics, partitions, offsets) else {
        return Err(Error::new(
            Kind::LogCorrupt,
            "zone.read",
            "a rows file without the columns _topic, _partition and _offset",
        ));
    };
    let (partitions, offsets) = (partitions.values(), offsets.values());
    let holds = |(_, range): &Part, i: usize| {
        partitions[i] == range.partition
            && (range.from..range.to).contains(&offsets[i])
            && topics.value(i) == &*range.topic
    };
    let mut splits = Vec::with_capacity(batch.num_rows());
    let mut mask = Vec::with_capacity(batch.num_rows());
    // Rows of one split mostly follow each other.
    let mut last = parts.first();
    for i in 0..batch.num_rows() {
        let found = last.filter(|part| holds(part, i));
        let found = found.or_else(|| parts.iter().find(|part| holds(part, i)));
        mask.push(found.is_some());
        splits.extend(found.map(|(index, _)| *index));
        last = found.or(last);
    }
    let batch = match splits.len() {
        0 => return Ok(None),
        n if n == batch.num_rows() => batch.clone(),
        _ => filter_record_batch(batch, &BooleanArray::from(mask))
            .map_err(|e| decode_failed(e, ""))?,
    };
    Ok(Some((splits, fitting.fit(&batch, changed)?)))
}

/// False only where statistics prove that the group has no row of the range.
fn may_hold(group: &RowGroupMetaData, range: &SplitRange) -> bool {
    let statistics = |name: &str| {
        let column = group
            .columns()
            .iter()
            .find(|c| c.column_path().parts() == [name]);
        column.and_then(|c| c.statistics())
    };
    let partitions = match statistics(PARTITION) {
        Some(Statistics::Int32(s)) => s.min_opt().zip(s.max_opt()),
        _ => None,
    };
    let offsets = match statistics(OFFSET) {
        Some(Statistics::Int64(s)) => s.min_opt().zip(s.max_opt()),
        _ => None,
    };
    partitions.is_none_or(|(min, max)| (*min..=*max).contains(&range.partition))
        && offsets.is_none_or(|(min, max)| *min < range.to && range.from <= *max)
}

/// All rows of one file, in its own schema.
pub fn read_file(store: &Arc<dyn Store>, name: &LogName, file: &AddedFile) -> Result<FileRows> {
    FileRows::open(Located::find(store, name, file)?, |_| true)
}

/// Rows of a file, one row group in memory at a time.
pub struct FileRows {
    file: Located,
    metadata: ArrowReaderMetadata,
    groups: VecDeque<usize>,
    reader: Option<ParquetRecordBatchReader>,
    /// Rows decoded at a time.
    at_once: usize,
    /// The request for the next group's bytes: only one, so that at most two groups are in memory.
    ahead: Option<Ahead>,
}

type Ahead = std::thread::JoinHandle<Result<Chunk>>;

impl FileRows {
    pub(super) fn open(
        file: Located,
        keep: impl Fn(&RowGroupMetaData) -> bool,
    ) -> Result<FileRows> {
        let metadata = file.metadata()?;
        let groups = metadata.metadata().row_groups().iter().enumerate();
        let groups = groups
            .filter(|(_, group)| keep(group))
            .map(|(i, _)| i)
            .collect();
        Ok(FileRows {
            file,
            metadata,
            groups,
            reader: None,
            at_once: BATCH_ROWS,
            ahead: None,
        })
    }

    /// Decodes so many rows at a time.
    #[must_use]
    pub(super) fn at_once(mut self, rows: usize) -> FileRows {
        self.at_once = rows;
        self
    }

    pub fn schema(&self) -> &SchemaRef {
        self.metadata.schema()
    }

    /// The value of this key in the file's metadata.
    pub(super) fn note(&self, key: &str) -> Option<&str> {
        let notes = self.metadata.metadata().file_metadata();
        let mut notes = notes.key_value_metadata()?.iter();
        let found = notes.rfind(|note| note.key == key)?;
        found.value.as_deref()
    }

    fn bytes_of(&self, index: usize) -> Range<u64> {
        let group = self.metadata.metadata().row_group(index);
        let spans = group.columns().iter().map(|column| column.byte_range());
        let (from, to) = spans.fold((u64::MAX, 0), |(from, to), (start, len)| {
            (from.min(start), to.max(start.saturating_add(len)))
        });
        from..to
    }

    /// On remote stores, fetches the next group while this one is decoded. If no thread can be started, it is fetched
    /// when it is needed.
    fn ask_ahead(&mut self) {
        let Some(index) = self.groups.front().filter(|_| self.file.store.is_far()) else {
            return;
        };
        let (file, range) = (self.file.clone(), self.bytes_of(*index));
        if range.end - range.start > self.file.group_bytes() {
            return;
        }
        let thread = std::thread::Builder::new().name("read ahead".to_owned());
        self.ahead = thread.spawn(move || file.chunk(range)).ok();
    }

    fn advance(&mut self) -> Result<Option<RecordBatch>> {
        loop {
            if let Some(batch) = self.reader.as_mut().and_then(Iterator::next) {
                return batch
                    .map(Some)
                    .map_err(|e| decode_failed(e, self.file.path()));
            }
            let Some(index) = self.groups.pop_front() else {
                return Ok(None);
            };
            let bytes = self.bytes_of(index);
            let reader = if bytes.end - bytes.start > self.file.group_bytes() {
                let columns = self.metadata.metadata().row_group(index).num_columns();
                self.decode(Windows::new(&self.file, columns), index)?
            } else {
                let chunk = match self.ahead.take().and_then(|ahead| ahead.join().ok()) {
                    Some(chunk) => chunk?,
                    None => self.file.chunk(bytes)?,
                };
                self.ask_ahead();
                self.decode(chunk, index)?
            };
            self.reader = Some(reader);
        }
    }

    fn decode(
        &self,
        bytes: impl ChunkReader + 'static,
        index: usize,
    ) -> Result<ParquetRecordBatchReader> {
        let rows = batch_rows(self.metadata.metadata().row_group(index)).min(self.at_once);
        ParquetRecordBatchReaderBuilder::new_with_metadata(bytes, self.metadata.clone())
            .with_row_groups(vec![index])
            .with_batch_size(rows)
            .build()
            .map_err(|e| decode_failed(e, self.file.path()))
    }
}

/// By the width of the group's rows in memory. Texts of one value may be stored once and be as many in memory as rows,
/// which only their own count of bytes says.
fn batch_rows(group: &RowGroupMetaData) -> usize {
    let bytes = |column: &ColumnChunkMetaData| {
        let stored = column.uncompressed_size().max(0);
        let texts = column.unencoded_byte_array_data_bytes().unwrap_or(0);
        stored.max(texts) as u64
    };
    let bytes: u64 = group.columns().iter().map(bytes).sum();
    let rows = group.num_rows().max(1) as u64;
    let width = (bytes / rows).max(1);
    ((BATCH_BYTES / width) as usize).clamp(1, BATCH_ROWS)
}

impl Iterator for FileRows {
    type Item = Result<RecordBatch>;

    fn next(&mut self) -> Option<Self::Item> {
        self.advance().transpose()
    }
}

impl std::fmt::Debug for FileRows {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("FileRows")
            .field("file", &self.file.path())
            .finish_non_exhaustive()
    }
}

/// What differs between a file and its entry; empty when the file is what the log says it is.
pub fn verify_file(
    store: &Arc<dyn Store>,
    name: &LogName,
    file: &AddedFile,
) -> Result<Vec<String>> {
    let located = Located::find(store, name, file)?;
    let mut wrong = Vec::new();
    let mut differ = |what: &str, said: &str, found: &str| {
        if said != found {
            wrong.push(format!("{what}: the log says {said}, the file {found}"));
        }
    };
    let sha256 = located.sha256()?;
    differ("sha256", &file.digest, &sha256);
    // Rows of other formats are what their bytes are.
    if sha256 != file.digest || !is_parquet(&file.path) {
        return Ok(wrong);
    }
    let rows = FileRows::open(located, |_| true)?;
    differ("schema", &file.schema, &schema_digest(rows.schema())?);
    let mut digest = RowDigest::new(rows.schema());
    let mut count = 0;
    for batch in rows {
        let batch = batch?;
        digest.add_batch(&batch)?;
        count += batch.num_rows() as u64;
    }
    differ("rows", &file.rows.to_string(), &count.to_string());
    differ("row digest", &file.row_digest, &digest.text());
    Ok(wrong)
}

// === impl Located ===

/// A live file, where it was found.
#[derive(Clone, Debug)]
pub struct Located {
    store: Arc<dyn Store>,
    place: Place,
    found: Readable,
}

impl Located {
    pub fn find(store: &Arc<dyn Store>, name: &LogName, file: &AddedFile) -> Result<Located> {
        let place = file.place(name);
        let Some(found) = store.readable(&place)? else {
            return Err(match file.upload {
                Some(_) => not_yet(&file.path),
                None => lost(&file.path),
            });
        };
        if found.bytes != file.bytes {
            let (bytes, said) = (found.bytes, file.bytes);
            return Err(Error::new(
                Kind::LogCorrupt,
                "zone.read",
                format!("a committed file has {bytes} bytes, its entry says {said}"),
            )
            .with("file", &found.path)
            .hint("restore the file, or rewind to before its commit while the source still has the records"));
        }
        Ok(Located {
            store: store.clone(),
            place,
            found,
        })
    }

    fn size(&self) -> u64 {
        self.found.bytes
    }

    pub fn path(&self) -> &str {
        self.place.path()
    }

    /// A file may be published between two reads, and is then under another path.
    pub fn get(&self, range: Range<u64>) -> Result<Bytes> {
        match self.store.get_range(&self.found.path, range.clone()) {
            Ok(bytes) => Ok(bytes),
            Err(e) => match self.store.readable(&self.place)? {
                Some(now) if now.path != self.found.path => self.store.get_range(&now.path, range),
                Some(_) => Err(e),
                None => Err(lost(self.path())),
            },
        }
    }

    /// The digest of all bytes, in the form of an entry.
    pub fn sha256(&self) -> Result<String> {
        let mut sha = Sha256::new();
        for chunk in self.chunks() {
            sha.update(&chunk?);
        }
        Ok(format!("sha256:{}", hex(&sha.finalize())))
    }

    /// Rows by the file's footer.
    pub(super) fn counted_rows(&self) -> Result<u64> {
        let metadata = self.metadata()?;
        let rows = metadata.metadata().file_metadata().num_rows();
        Ok(u64::try_from(rows).unwrap_or(0))
    }

    pub fn chunks(&self) -> impl Iterator<Item = Result<Bytes>> + '_ {
        let step = match self.store.is_far() {
            true => CHUNK_BYTES_FAR,
            false => CHUNK_BYTES,
        };
        let starts = (0..self.size()).step_by(step as usize);
        starts.map(move |from| self.get(from..self.size().min(from + step)))
    }

    /// Bytes of a row group that are in memory at a time.
    fn group_bytes(&self) -> u64 {
        match self.store.is_far() {
            true => GROUP_BYTES_FAR,
            false => GROUP_BYTES,
        }
    }

    fn chunk(&self, range: Range<u64>) -> Result<Chunk> {
        Ok(Chunk {
            from: range.start,
            bytes: self.get(range)?,
            size: self.size(),
        })
    }

    fn metadata(&self) -> Result<ArrowReaderMetadata> {
        if !is_parquet(self.path()) {
            return Err(not_read_back(self.path()));
        }
        let from = self.size().saturating_sub(TAIL_BYTES);
        let tail = Tail {
            file: self,
            end: self.chunk(from..self.size())?,
        };
        ArrowReaderMetadata::load(&tail, ArrowReaderOptions::new()).map_err(|e| match e {
            ParquetError::External(e) => match e.downcast::<Error>() {
                Ok(e) => *e,
                Err(e) => decode_failed(ParquetError::External(e), self.path()),
            },
            e => decode_failed(e, self.path()),
        })
    }
}

fn lost(path: &str) -> Error {
    Error::new(
        Kind::LogCorrupt,
        "zone.read",
        "a committed file is nowhere in its store",
    )
    .with("file", path)
    .hint("restore the file, or rewind to before its commit while the source still has the records")
}

/// O8.
fn not_yet(path: &str) -> Error {
    Error::new(
        Kind::StoreUnavailable,
        "zone.read",
        "a committed file is not published yet, and cannot be read before",
    )
    .with("file", path)
    .hint("its pipeline publishes it; start it if it does not run")
}

fn decode_failed(e: impl std::error::Error + Send + Sync + 'static, path: &str) -> Error {
    Error::new(
        Kind::LogCorrupt,
        "zone.read",
        "a committed file cannot be decoded",
    )
    .with("file", path)
    .source(e)
}

impl Length for Located {
    fn len(&self) -> u64 {
        self.found.bytes
    }
}

impl ChunkReader for Located {
    type T = Box<dyn Read + Send>;

    fn get_read(&self, start: u64) -> Result<Self::T, ParquetError> {
        let bytes = self.get_bytes(start, (self.size() - start.min(self.size())) as usize)?;
        Ok(Box::new(Cursor::new(bytes)))
    }

    fn get_bytes(&self, start: u64, length: usize) -> Result<Bytes, ParquetError> {
        let end = start.saturating_add(length as u64);
        if end > self.size() {
            return Err(ParquetError::EOF(format!(
                "{end} is past the end, {}",
                self.size()
            )));
        }
        self.get(start..end)
            .map_err(|e| ParquetError::External(Box::new(e)))
    }
}

/// A file whose last bytes are in memory.
struct Tail<'a> {
    file: &'a Located,
    end: Chunk,
}

impl Length for Tail<'_> {
    fn len(&self) -> u64 {
        self.file.size()
    }
}

impl ChunkReader for Tail<'_> {
    type T = Box<dyn Read + Send>;

    fn get_read(&self, start: u64) -> Result<Self::T, ParquetError> {
        match start >= self.end.from {
            true => Ok(Box::new(self.end.get_read(start)?)),
            false => self.file.get_read(start),
        }
    }

    fn get_bytes(&self, start: u64, length: usize) -> Result<Bytes, ParquetError> {
        match start >= self.end.from {
            true => self.end.get_bytes(start, length),
            false => self.file.get_bytes(start, length),
        }
    }
}

/// A file of which some windows are in memory: each column of a group is read from its own, one page after the other.
struct Windows {
    file: Located,
    window: u64,
    most: usize,
    /// The one that was used last is at the end.
    held: Mutex<Vec<Chunk>>,
}

impl Windows {
    fn new(file: &Located, columns: usize) -> Windows {
        Windows {
            file: file.clone(),
            window: (file.group_bytes() / columns.max(1) as u64).max(WINDOW_MIN),
            most: columns + 1,
            held: Mutex::new(Vec::new()),
        }
    }
}

impl Length for Windows {
    fn len(&self) -> u64 {
        self.file.size()
    }
}

impl ChunkReader for Windows {
    type T = bytes::buf::Reader<Bytes>;

    fn get_read(&self, start: u64) -> Result<Self::T, ParquetError> {
        let left = self.file.size().saturating_sub(start);
        let bytes = self.get_bytes(start, left.min(HEADER_BYTES) as usize)?;
        Ok(bytes.reader())
    }

    fn get_bytes(&self, start: u64, length: usize) -> Result<Bytes, ParquetError> {
        let mut held = self.held.lock().unwrap_or_else(|e| e.into_inner());
        let has = |chunk: &Chunk| chunk.place(start, length).is_ok();
        let chunk = match held.iter().position(has) {
            Some(at) => held.remove(at),
            None => {
                let most = self.file.size().saturating_sub(start);
                let wanted = (length as u64).max(self.window.min(most));
                let chunk = self.file.chunk(start..start.saturating_add(wanted));
                if held.len() >= self.most {
                    held.remove(0);
                }
                chunk.map_err(|e| ParquetError::External(Box::new(e)))?
            }
        };
        let bytes = chunk.get_bytes(start, length);
        held.push(chunk);
        bytes
    }
}

/// One row group's bytes, addressed by their offsets in the file.
struct Chunk {
    from: u64,
    bytes: Bytes,
    size: u64,
}

impl Length for Chunk {
    fn len(&self) -> u64 {
        self.size
    }
}

impl ChunkReader for Chunk {
    type T = bytes::buf::Reader<Bytes>;

    fn get_read(&self, start: u64) -> Result<Self::T, ParquetError> {
        let at = self.place(start, 0)?;
        Ok(self.bytes.slice(at..).reader())
    }

    fn get_bytes(&self, start: u64, length: usize) -> Result<Bytes, ParquetError> {
        let at = self.place(start, length)?;
        Ok(self.bytes.slice(at..at + length))
    }
}

impl Chunk {
    fn place(&self, start: u64, length: usize) -> Result<usize, ParquetError> {
        let at = start
            .checked_sub(self.from)
            .and_then(|at| usize::try_from(at).ok());
        at.filter(|at| {
            at.checked_add(length)
                .is_some_and(|end| end <= self.bytes.len())
        })
        .ok_or_else(|| io::Error::other("a page outside of its row group").into())
    }
}
